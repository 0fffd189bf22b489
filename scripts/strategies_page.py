"""Writes docs/strategies_cost.md and its pictures from what `segframe benchmark strategies` has measured.

Usage: make bench-strategies, bench-rows or bench-pipelines, or
       python scripts/strategies_page.py [--strategies DIR] [--rows DIR ...] [--pipelines DIR]

DIR is the out= of a benchmark; its JSON is kept in benchmarks/. Of what isn't given, the kept file is shown.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from segframe import runfolder
from segframe.cost.table import cells, goal_line, headings, note
from segframe.figures.strategy_costs import strategy_costs

HERE = Path(__file__).parents[1]
LOOP, LARGEST = HERE / "benchmarks/cpu.json", HERE / "benchmarks/largest_image_cpu.json"
PAGE = HERE / "docs/strategies_cost.md"
INTRODUCTION = """# What strategies cost and bring

Written by `scripts/strategies_page.py` from `segframe benchmark strategies`; the files in `benchmarks/` hold every
rank's numbers. CUDA: {cuda}.

"""
SECTIONS = {
    "strategies": (
        "Time, memory and traffic (`make bench-strategies`)",
        "One core and one thread a rank. `model_sharded` cuts its batch into 4 micro-batches, the others don't.",
    ),
    "rows": (
        "Large images: 512 x 1024, a batch of 2 (`make bench-rows`)",
        "A training step, both passes and the optimizer, whose memory and bytes are counted; its time isn't. Halo: "
        "rows of other ranks that layers look at. The minimum is counted from the net's operations alone.",
    ),
    "pipelines": (
        "Pipelines: 8 micro-batches of 2 images (`make bench-pipelines`)",
        "`single` keeps the activations of one micro-batch; with GPipe the first rank keeps those of all, with 1F1B "
        "of as many as there are stages.",
    ),
}


def main() -> None:
    """Keeps the JSON files, draws the pictures, writes the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in SECTIONS:
        parser.add_argument(f"--{name}", type=Path, nargs="+", help="out= of a benchmark, or of one per model")
    options = parser.parse_args()
    parts = []
    for name in SECTIONS:
        kept = HERE / f"benchmarks/{name}_cpu.json"
        if folders := getattr(options, name):
            runfolder.write_json(kept, merged([read(folder / "strategies.json") for folder in folders]))
        if kept.exists():
            strategy_costs(read(kept), picture(name))
            parts.append(section(name, read(kept)))
    first = read(HERE / "benchmarks/strategies_cpu.json")
    text = INTRODUCTION.format(**first) + "".join(parts) + largest() + overhead(read(LOOP)) + meaning(first)
    PAGE.write_text(text, encoding="utf-8")
    print(f"written: {PAGE.relative_to(HERE)}")


def read(path: Path) -> dict[str, Any]:
    """Returns what a JSON file holds."""
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def picture(name: str) -> Path:
    """Returns where the picture of a section is."""
    return HERE / f"docs/{name}_cost.png"


def merged(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Returns results of several benchmarks as one; of a case that more than one has measured, the first."""
    found = {(c["model"], c["strategy"], c["ranks"]): c for result in reversed(results) for c in result["cases"]}
    order = dict.fromkeys((c["model"], c["strategy"], c["ranks"]) for result in results for c in result["cases"])
    cases = sorted((found[key] for key in order), key=lambda case: case["model"])
    goals = [goal for result in results for goal in result["goals"]]
    words = [result["words"] for result in results]
    return {**results[0], "words": words if len(words) > 1 else words[0], "cases": cases, "goals": goals}


def section(name: str, result: dict[str, Any]) -> str:
    """Returns the table, the picture and the goals of a result."""
    title, told = SECTIONS[name]
    rows = [headings(), ["---"] * len(headings())]
    rows += [[cell.replace("\n", " ") for cell in cells(row)] for row in result["cases"]]
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    goals = "\n".join(f"- {goal_line(goal)}" for goal in result["goals"])
    halos = "\n".join(f"- {line}" for line in map(halo, result["cases"]) if line)
    head = f"## {title}\n\n{told}\n\n![memory, traffic and speed]({picture(name).name})\n\n{table}\n\n"
    kept = "\n".join(f"- {line}" for line in map(activations, result["cases"]) if line) if name == "pipelines" else ""
    return "\n\n".join(filter(None, (f"{head}In the table: {note(result)}", goals, halos, kept))) + "\n\n"


def activations(row: dict[str, Any]) -> str:
    """Returns a line on what each rank of a case keeps, since the fullest rank may be full of parameters."""
    if "error" in row:
        return ""
    each = ", ".join(f"{rank['activations'] / 2**20:.1f}" for rank in row["per_rank"])
    return f"{row['model']} {row['strategy']} x {row['ranks']}: MiB of activations on each rank: {each}"


def halo(row: dict[str, Any]) -> str:
    """Returns a line on the rows that a case has exchanged, nothing for one without rows."""
    if "error" in row or not row["traffic"].get("halo"):
        return ""
    traffic = row["traffic"]
    ratio = "" if traffic["halo_ratio"] is None else f", sent {traffic['halo_ratio']:.3f} of it"
    return f"{row['model']} {row['strategy']} x {row['ranks']}: halo {traffic['halo'] / 2**20:.1f} MiB per rank{ratio}"


def largest() -> str:
    """Returns the section on the largest image, once it has been measured."""
    if not LARGEST.exists():
        return ""
    result = read(LARGEST)
    lines = [
        f"- {case['strategy'].replace('+', ' ')}, {case['ranks']} rank(s): {case['height']} x {2 * case['height']}"
        for case in result["cases"]
    ]
    told = (
        f"{result['model']}, a batch of 4 in 2 micro-batches, {result['limit_bytes'] / 2**20:.0f} MiB on the fullest "
        "rank for parameters, gradients, optimizer state, activations and gathered parameters. Heights are multiples "
        f"of {result['step']}; each size was trained on for two steps."
    )
    image = "![the largest image under each strategy](largest_image.png)"
    return f"## The largest image (`make bench-largest`)\n\n{told}\n\n{image}\n\n" + "\n".join(lines) + "\n\n"


def overhead(loop: dict[str, Any]) -> str:
    """Returns how much longer a step takes under segframe on one rank than in a bare loop."""
    lines = [
        f"- {name}, `strategy={strategy}`: {row['ratio']:.3f} of the bare loop's {row['bare_ms']:.1f} ms "
        f"({row['overhead_ms']:+.2f} ms a step)"
        for name, strategies in loop["loop"].items()
        for strategy, row in strategies.items()
    ]
    return "## One rank against a bare loop (`make bench`)\n\n" + "\n".join(lines) + "\n\n"


def meaning(result: dict[str, Any]) -> str:
    """Returns what the keys of the JSON files mean."""
    lines = [f"- `{key}`: {text}" for key, text in result["meaning"].items()]
    return "## What the numbers mean\n\n" + "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
