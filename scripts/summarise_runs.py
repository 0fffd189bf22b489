"""The table of several runs of one recipe: val mIoU by seed, time, speed, memory.

Usage: python scripts/summarise_runs.py RUN [RUN ...] [--out FILE.json]
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

import yaml


def main() -> None:
    """Prints a Markdown table and writes the same as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", help="run folders")
    parser.add_argument("--out", type=Path, help="a JSON file to write")
    options = parser.parse_args()
    rows = [summary(run) for run in options.runs]
    print("| seed | val mIoU | pixel accuracy | minutes | images/s | GiB |\n|---|---|---|---|---|---|")
    for row in rows:
        print(
            f"| {row['seed']} | {row['miou']:.4f} | {row['pixel_accuracy']:.4f} | {row['wall_s'] / 60:.1f} "
            f"| {row['images_per_s']:.1f} | {row['peak_memory_gib']:.2f} |"
        )
    if len(rows) > 1:
        scores = [row["miou"] for row in rows]
        print(f"\nval mIoU {statistics.mean(scores):.4f} +- {statistics.stdev(scores):.4f} (standard deviation)")
    if options.out:
        options.out.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


def summary(run: Path) -> dict[str, Any]:
    """Returns what the table says of a run; the final values, not the best."""
    results = json.loads((run / "results.json").read_text(encoding="utf-8"))
    config = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    environment = json.loads((run / "environment.json").read_text(encoding="utf-8"))
    return {
        "seed": config["seed"],
        "miou": results["metrics"]["val/miou"]["final"],
        "pixel_accuracy": results["metrics"]["val/pixel_accuracy"]["final"],
        **{key: results[key] for key in ("wall_s", "images_per_s", "peak_memory_gib", "config_hash", "versions")},
        "git": environment["git"],
    }


if __name__ == "__main__":
    main()
