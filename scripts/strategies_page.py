"""Writes docs/strategies_cost.md and its picture from what `segframe benchmark strategies` has measured.

Usage: make bench-strategies, or python scripts/strategies_page.py [FOLDER]

FOLDER is the benchmark's out=; its JSON is kept in benchmarks/. Without it the page is written from the kept file.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

from segframe.cost.table import cells, goal_line, headings, note
from segframe.figures.strategy_costs import strategy_costs

HERE = Path(__file__).parents[1]
KEPT = HERE / "benchmarks/strategies_cpu.json"
LOOP = HERE / "benchmarks/cpu.json"
PAGE, PICTURE = HERE / "docs/strategies_cost.md", HERE / "docs/strategies_cost.png"
INTRODUCTION = """# What strategies cost and bring

Written by `make bench-strategies` (`segframe benchmark strategies`, then `scripts/strategies_page.py`) from
`benchmarks/strategies_cpu.json`, which holds every rank's numbers. CUDA: {cuda}.

![memory, traffic and speed of every case](strategies_cost.png)

"""


def main() -> None:
    """Keeps the JSON, draws the picture, writes the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", help="the benchmark's out=")
    options = parser.parse_args()
    if options.folder:
        shutil.copyfile(options.folder / "strategies.json", KEPT)
    result = json.loads(KEPT.read_text(encoding="utf-8"))
    strategy_costs(result, PICTURE)
    PAGE.write_text(page(result, json.loads(LOOP.read_text(encoding="utf-8"))), encoding="utf-8")
    print(f"written: {PAGE.relative_to(HERE)}, {PICTURE.relative_to(HERE)}")


def page(result: dict[str, Any], loop: dict[str, Any]) -> str:
    """Returns the page of a result, and of the measurement of the loop beside it."""
    rows = [headings(), ["---"] * len(headings())]
    rows += [[cell.replace("\n", " ") for cell in cells(row)] for row in result["cases"]]
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    goals = "\n".join(f"- {goal_line(goal)}" for goal in result["goals"])
    meaning = "\n".join(f"- `{key}`: {text}" for key, text in result["meaning"].items())
    head = f"{INTRODUCTION.format(**result)}{table}\n\nIn the table: {note(result)}\n"
    return f"{head}\n## Goals\n\n{goals}\n\n{overhead(loop)}## What the numbers mean\n\n{meaning}\n"


def overhead(loop: dict[str, Any]) -> str:
    """Returns how much longer a step takes under segframe on one rank than in a bare loop."""
    lines = [
        f"- {name}, `strategy={strategy}`: {row['ratio']:.3f} of the bare loop's {row['bare_ms']:.1f} ms "
        f"({row['overhead_ms']:+.2f} ms a step)"
        for name, strategies in loop["loop"].items()
        for strategy, row in strategies.items()
    ]
    return "## One rank against a bare loop (`make bench`)\n\n" + "\n".join(lines) + "\n\n"


if __name__ == "__main__":
    main()
