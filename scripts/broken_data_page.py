"""Writes docs/broken_data.md: what `segframe data check` says of every broken data set that the tests make.

Usage: python scripts/broken_data_page.py [--out FILE]

The rows are those of tests/integration/test_broken_inputs.py, which also checks that training says the same.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import io
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from tqdm import tqdm

from segframe.cli import main as segframe

TABLE = Path(__file__).parents[1] / "tests/integration/test_broken_inputs.py"
INTRODUCTION = """# Broken data, and what is said of it

Written by `scripts/broken_data_page.py` from the rows of `tests/integration/test_broken_inputs.py`: each is a small
data set that was broken in one way, and what `segframe data check` says first of it (paths shortened). Where training
stops too, it does so before a net is made, with the same words; where it goes on, the matter is one to judge.

| what is broken | data check | training | what is said |
|---|---|---|---|
"""


def main() -> None:
    """Breaks, checks and writes the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("docs/broken_data.md"), help="the page")
    options = parser.parse_args()
    table = _table()
    lines = []
    for name, row in tqdm(table.ROWS.items(), desc="checking", unit="set"):
        said = " ".join(_first_finding(table, row).split()).replace("|", "\\|")
        lines.append(f"| {name} | {_verdict(row.check)} | {_verdict(row.train)} | {said} |\n")
    options.out.write_text(INTRODUCTION + "".join(lines), encoding="utf-8")
    print(f"wrote {len(lines)} rows to {options.out}")


def _table() -> Any:
    spec = importlib.util.spec_from_file_location("broken_inputs", TABLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _verdict(code: int) -> str:
    return "error" if code else "goes on"


def _first_finding(table: Any, row: Any) -> str:
    """Returns what is said first of a broken set, with the severest."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["SEGFRAME_CACHE"] = f"{folder}/cache"
        root = Path(folder) / "set"
        table.SETS[row.of].write_fake(root) if row.of in table.SETS else table.write_set(root)
        row.do(root)
        classes = ["dataset.classes=[a,b,c]"] if row.of == "folder" else []
        words = [f"dataset={row.of}", f"dataset.root={root}", *classes, *row.words, f"out={folder}/report"]
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            segframe(["data", "check", *words])
        report = json.loads(Path(folder, "report/report.json").read_text(encoding="utf-8"))
        order = ("error", "warning", "note")
        finding = min(report["findings"], key=lambda finding: order.index(finding["severity"]))
        return _as_text(finding).replace(f"{root}/", "").replace(str(root), "ROOT").replace(folder, "PARENT")


def _as_text(finding: dict[str, Any]) -> str:
    files = ", ".join(file for file in finding["files"][:2] if file not in finding["what"])
    line = f"`{finding['line']}`" if finding["line"] else ""
    return " ".join(part for part in (finding["what"], f"({files})" if files else "", finding["cause"], line) if part)


if __name__ == "__main__":
    main()
