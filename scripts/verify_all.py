"""Certifies every strategy of several ranks with every model, and writes benchmarks/certificate_cpu.json and docs.

python scripts/verify_all.py [ranks=2,3,4] [models=NAME,...] [strategies=NAME,...] [precisions=fp64] [out=FILE.json]
                             [docs=FILE.md] [WORD]

In fp64, where 1e-9 is a bound; precisions=fp64,fp32 looks at fp32 too, where one process's own rounding is the
measure: of many cases one now and then lies beyond four times one draw of it.

What is already in the file for equal code and words is kept, so an interrupted matrix goes on where it stopped; what
failed without numbers is tried again. WORD is any of `segframe train`. The exit code is 0 if nothing failed, 1 if
something did, 2 for wrong words, which are found before anything runs.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from tqdm import tqdm

from segframe.certificate.report import Report
from segframe.certificate.run import PRECISIONS, RankError, certify, check
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

_OWN_WORDS = {"ranks", "models", "strategies", "precisions", "out", "docs"}
_MARKS = "<!-- table -->", "<!-- end of table -->"


def main(words: list[str]) -> int:
    """Runs the matrix.

    Args:
        words: The command line.

    Returns:
        1 if a certificate failed, 2 for wrong words, 130 after Ctrl-C, otherwise 0.
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    try:
        return _run(_Matrix(words))
    except ConfigError as error:
        print(f"verify_all: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("verify_all: interrupted; the same command goes on with what is missing", file=sys.stderr)
        return 130


class _Matrix:
    """What a command line asks for.

    Attributes:
        cases: The words of a strategy, a model and a number of ranks each.
        precisions: What each of them is certified in.
        extra: Words for all of them.
        out: The file of results.
        docs: The page with the table.
    """

    def __init__(self, words: list[str]) -> None:
        if wrong := [word for word in words if "=" not in word]:
            raise ConfigError(f"{wrong[0]} is no KEY=VALUE; expected words such as ranks=2,3 models=unet,pspnet")
        given = dict(word.split("=", 1) for word in words)
        self.extra = [f"{name}={value}" for name, value in given.items() if name not in _OWN_WORDS]
        strategies = _chosen(given.get("strategies"), "strategy", _LEFT_OUT)
        models = _chosen(given.get("models"), "model", set())
        ranks = [_number(text) for text in given.get("ranks", "2,3,4").split(",")]
        self.precisions = given.get("precisions", "fp64").split(",")
        if unknown := set(self.precisions) - set(PRECISIONS):
            raise ConfigError(f"precisions={unknown.pop()} is not allowed; allowed: {', '.join(PRECISIONS)}")
        self.cases = [(s, m, n) for m in models for n in ranks for s in _words(strategies, n)]
        if not self.cases:
            raise ConfigError(f"ranks={given['ranks']} makes up no grid of {', '.join(strategies)}, which take 4")
        self.out = Path(given.get("out", ROOT / "benchmarks/certificate_cpu.json"))
        self.docs = Path(given.get("docs", ROOT / "docs/certificate.md"))
        if not self.out.parent.is_dir():
            raise ConfigError(f"out={self.out}: there is no folder {self.out.parent}")
        if not self.docs.is_file() or any(self.docs.read_text(encoding="utf-8").count(m) != 1 for m in _MARKS):
            raise ConfigError(f"docs={self.docs} is no page with the lines {' and '.join(_MARKS)}, once each")

    def words(self, strategy: str, model: str, count: int) -> list[str]:
        """Returns the words of a case."""
        return [*f"strategy={strategy}".split(), f"model={model}", *_size(count), *self.extra]


def _run(matrix: _Matrix) -> int:
    rows = _kept(matrix)
    done = {(row["strategy"], row["model"], row["ranks"]) for row in rows}
    wanted = [case for case in matrix.cases if case not in done]
    # Words are right or wrong for a strategy on some ranks and for a model, whatever stands beside them.
    checked = {(s, n): (s, m, n) for s, m, n in wanted} | {m: (s, m, n) for s, m, n in wanted}
    for case in tqdm(dict.fromkeys(checked.values()), desc="words", leave=False):
        check(matrix.words(*case), case[2])
    with tempfile.TemporaryDirectory(prefix="segframe-references-") as folder:
        total = len(matrix.cases)
        for case in (bar := tqdm(wanted, initial=total - len(wanted), total=total)):
            strategy, model, count = case
            bar.set_description(f"{strategy}, {model}, {count} ranks")
            made_by = {"strategy": strategy, "model": model, "ranks": count, **_made_by(matrix)}
            rows.append({**made_by, **_certified(matrix, case, folder)})
            write_json(matrix.out, {"versions": versions(), "git": git_state(), "rows": rows})
    _write_table(matrix.docs, rows)
    failed = [row for row in rows if row["verdict"] == "FAIL"]
    print(f"{len(rows) - len(failed)} of {len(rows)} did not fail; wrote {matrix.out}")
    return 1 if failed else 0


def _number(text: str) -> int:
    if not text.isdecimal() or int(text) < 2:
        raise ConfigError(f"ranks={text} is not allowed; allowed: integers >= 2 with commas between, such as 2,3,4")
    return int(text)


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


def _kept(matrix: _Matrix) -> list[dict[str, Any]]:
    """Returns the rows that need not be made again."""
    if not matrix.out.is_file():
        return []
    content = json.loads(matrix.out.read_text(encoding="utf-8"))
    if content["versions"] != versions():
        return []
    made_by = _made_by(matrix)
    rows: list[dict[str, Any]] = content["rows"]
    alike = [row for row in rows if all(row.get(key) == value for key, value in made_by.items())]
    return [row for row in alike if row["verdict"] == "refused" or "report" in row]


def _made_by(matrix: _Matrix) -> dict[str, Any]:
    """Returns what rows must have in common to stand in one table."""
    return {"words": matrix.extra, "precisions": matrix.precisions, "code": _code()}


@cache  # what runs is what was there at the start
def _code() -> str:
    """Returns a digest of all that decides numbers; a commit would be another for each file that is written here."""
    files = sorted([*(ROOT / "segframe").rglob("*.py"), *(ROOT / "conf").rglob("*.yaml")])
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.relative_to(ROOT)}\0".encode() + file.read_bytes())
    return digest.hexdigest()[:16]


def _certified(matrix: _Matrix, case: tuple[str, str, int], folder: str) -> dict[str, Any]:
    """Returns a row of the matrix; what is refused or fails without numbers says why."""
    try:
        report = certify(matrix.words(*case), case[2], None, matrix.precisions, reference_dir=Path(folder))
    except RankError as error:
        return {"verdict": "refused" if error.is_refusal else "FAIL", "why": str(error).strip()}
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
        # Of a traceback the last line.
        told = ": ".join([row["verdict"], *row.get("why", "").splitlines()[-1:]])
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
