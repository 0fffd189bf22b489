"""Certifies every strategy of several ranks with every model, and writes benchmarks/certificate_cpu.json and docs.

python scripts/verify_all.py [ranks=2,3,4] [models=NAME,...] [strategies=NAME,...] [out=FILE.json] [docs=FILE.md] [WORD]

What is already in the file for equal code is kept, so an interrupted matrix goes on where it stopped.
"""

from __future__ import annotations

import json
import math
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from tqdm import tqdm

from segframe.certificate.report import Report
from segframe.certificate.run import RankError, certify
from segframe.config.options import ConfigError
from segframe.runfolder import git_state, versions, write_json

ROOT = Path(__file__).parents[1]
_LEFT_OUT = {"single", "auto", "xla"}  # the reference, a word for others, and what needs an environment of its own
_GRIDS = {
    "hybrid": (
        "strategy.data=2 strategy.spatial=2",
        "strategy.data=2 strategy.stages=2",
        "strategy.fsdp=2 strategy.spatial=2",
    )
}
"""The axes of strategies that split nothing by themselves."""

_LEAST_BATCH = 8  # micro-batches of 4: BatchNorm over fewer values, behind a 1 x 1 pooling, magnifies rounding

_OWN_WORDS = {"ranks", "models", "strategies", "out", "docs"}
_MARKS = "<!-- table -->", "<!-- end of table -->"


def main(words: list[str]) -> int:
    """Runs the matrix; returns 1 if a certificate failed.

    Args:
        words: The command line.
    """
    given = dict(word.split("=", 1) for word in words)
    extra = [f"{name}={value}" for name, value in given.items() if name not in _OWN_WORDS]
    strategies = _chosen(given.get("strategies"), "strategy", _LEFT_OUT)
    models = _chosen(given.get("models"), "model", set())
    ranks = [int(text) for text in given.get("ranks", "2,3,4").split(",")]
    out = Path(given.get("out", ROOT / "benchmarks/certificate_cpu.json"))
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    rows: list[dict[str, Any]] = _kept(out)
    done = {(row["strategy"], row["model"], row["ranks"]) for row in rows}
    cases = [(s, m, n) for m in models for n in ranks for s in _words(strategies, n)]
    wanted = [case for case in cases if case not in done]
    with tempfile.TemporaryDirectory(prefix="segframe-references-") as folder:
        for strategy, model, count in (bar := tqdm(wanted, initial=len(cases) - len(wanted), total=len(cases))):
            bar.set_description(f"{strategy}, {model}, {count} ranks")
            rows.append(
                {
                    "strategy": strategy,
                    "model": model,
                    "ranks": count,
                    **_certified(
                        [*f"strategy={strategy}".split(), f"model={model}", *_size(count), *extra], count, folder
                    ),
                }
            )
            write_json(out, {"versions": versions(), "git": git_state(), "rows": rows})
    _write_table(Path(given.get("docs", ROOT / "docs/certificate.md")), rows)
    failed = [row for row in rows if row["verdict"] == "FAIL"]
    print(f"{len(rows) - len(failed)} of {len(rows)} did not fail; wrote {out}")
    return 1 if failed else 0


def _words(strategies: list[str], count: int) -> list[str]:
    """Returns each strategy, with the axes that make up so many ranks where it needs some."""
    found = []
    for name in strategies:
        for axes in _GRIDS.get(name, ("",)):
            if not axes or math.prod(int(word.partition("=")[2]) for word in axes.split()) == count:
                found.append(f"{name} {axes}".strip())
    return found


def _size(count: int) -> list[str]:
    """Returns the least batch of 8 or more that so many ranks and the recipe's two micro-batches divide."""
    batch = 2 * count * math.ceil(_LEAST_BATCH / (2 * count))
    return [f"data.batch_size={batch}", f"dataset.train.num_images={2 * batch}"]


def _chosen(text: str | None, group: str, left_out: set[str]) -> list[str]:
    if text:
        return text.split(",")
    return sorted({file.stem for file in (ROOT / "conf" / group).glob("*.yaml")} - left_out)


def _kept(out: Path) -> list[dict[str, Any]]:
    if not out.is_file():
        return []
    content = json.loads(out.read_text(encoding="utf-8"))
    rows: list[dict[str, Any]] = content["rows"]
    return rows if content["git"] == git_state() and content["versions"] == versions() else []


def _certified(words: list[str], count: int, folder: str) -> dict[str, Any]:
    """Returns a row of the matrix; what is refused says why."""
    try:
        report = certify(words, count, reference_dir=Path(folder))
    except (ConfigError, RankError) as error:
        text = str(error).strip()
        is_refused = isinstance(error, ConfigError) or "Traceback" not in text
        return {"verdict": "refused" if is_refused else "FAIL", "why": text}
    tqdm.write(report.verdict(), file=sys.stderr)
    return {"verdict": "PASS" if report.passed else "FAIL", **_worst(report), "report": report.as_json()}


def _worst(report: Report) -> dict[str, Any]:
    """Returns for each precision and quantity the difference; null where it is not finite."""
    content = report.as_json()["rows"]
    return {"differences": {f"{row['precision']} {row['name']}": row["difference"] for row in content}}


def _write_table(page: Path, rows: list[dict[str, Any]]) -> None:
    """Replaces the table of the page."""
    head = "| model | strategy | ranks | loss | gradients | parameters | BatchNorm | pixels | fp32 loss | |\n"
    lines = [head, "|---|---|---|---|---|---|---|---|---|---|\n"]
    for row in sorted(rows, key=lambda r: (r["model"], r["strategy"], r["ranks"])):
        found = row.get("differences", {})
        names = ("loss", "gradients", "parameters", "BatchNorm buffers", "confusion matrix")
        cells = [_cell(found.get(f"fp64 {name}"), name) for name in names] + [_cell(found.get("fp32 loss"), "loss")]
        told = f"{row['verdict']}: {row['why']}" if row["verdict"] == "refused" else row["verdict"]
        told = " ".join(told.replace("|", "/").split())
        name = row["strategy"].replace("strategy.", "")
        lines.append(f"| {row['model']} | {name} | {row['ranks']} | {' | '.join(cells)} | {told} |\n")
    text = page.read_text(encoding="utf-8")
    before, rest = text.split(_MARKS[0])
    after = rest.split(_MARKS[1])[1]
    page.write_text(f"{before}{_MARKS[0]}\n\n{''.join(lines)}\n{_MARKS[1]}{after}", encoding="utf-8")


def _cell(value: float | None, name: str) -> str:
    if value is None:
        return "-"
    return f"{value:.0f}" if name == "confusion matrix" else f"{value:.0e}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
