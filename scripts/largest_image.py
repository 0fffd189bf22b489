"""Finds the largest image that trains within a given memory per rank, under several strategies.

Usage: python scripts/largest_image.py [--limit-mib N] [--cases STRATEGY:RANKS ...] [--step N] [--out FOLDER]

Every size that counts has really been trained on for two optimizer steps: a batch of 4 in 2 micro-batches, images twice
as wide as high. What is counted on the fullest rank: parameters, gradients, optimizer state, activations that autograd
keeps, and gathered parameters. Buffers of single operations don't count; the most resident memory of each process is
written beside it. Writes ``benchmarks/largest_image_cpu.json`` and ``docs/largest_image.png``. Takes some 7 minutes on
two idle cores.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from segframe import runfolder
from segframe.cost.case import run
from segframe.cost.plan import plan
from segframe.cost.summary import summarise
from segframe.figures.largest_image import largest_image

ROOT = Path(__file__).parents[1]
CASES = ("single:1", "spatial:2", "spatial:4", "model_sharded:2", "model_sharded:4", "hybrid+fsdp=2+spatial=2:4")
WORDS = (
    "dataset=synthetic",
    "dataset.train.num_images=4",
    "dataset.val.num_images=4",
    "trainer=cpu",
    "data.batch_size=4",
    "trainer.accumulate_grad_batches=2",
    "check=none",
)
_COUNTED = ("parameters", "gradients", "optimizer_state", "activations", "gathered")
_MIB = 2**20


def main() -> None:
    """Searches for every case, draws and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--limit-mib", type=int, default=512, help="what the fullest rank may hold")
    parser.add_argument("--model", default="pspnet", help="an option of conf/model")
    parser.add_argument("--cases", nargs="+", default=list(CASES), help="strategy and ranks, as in STRATEGY:RANKS")
    parser.add_argument("--step", type=int, default=32, help="heights are multiples of this")
    parser.add_argument("--out", type=Path, default=ROOT, help="the folder of benchmarks/ and docs/")
    options = parser.parse_args()
    for folder in ("benchmarks", "docs"):
        (options.out / folder).mkdir(parents=True, exist_ok=True)
    found = []
    for name in options.cases:
        strategy, _, ranks = name.rpartition(":")
        tried: dict[int, dict[str, Any]] = {}

        def counted(height: int, strategy: str = strategy, ranks: int = int(ranks), tried: Any = tried) -> int:
            tried[height] = measured(options.model, strategy, ranks, height)
            print(
                f"{strategy} x {ranks}: {height} x {2 * height}: {tried[height]['counted'] / _MIB:.0f} MiB", flush=True
            )
            return int(tried[height]["counted"])

        height = largest(counted, options.limit_mib * _MIB, options.step)
        found.append({"strategy": strategy, "ranks": int(ranks), "height": height, "tried": tried})
    content = {
        "model": options.model,
        "limit_bytes": options.limit_mib * _MIB,
        "step": options.step,
        "words": WORDS,
        "versions": runfolder.versions(),
        "cases": found,
    }
    runfolder.write_json(options.out / "benchmarks/largest_image_cpu.json", content)
    largest_image(content, options.out / "docs/largest_image.png")
    print(f"written to {options.out}/benchmarks/largest_image_cpu.json and {options.out}/docs/largest_image.png")


def measured(model: str, strategy: str, ranks: int, height: int) -> dict[str, Any]:
    """Returns what one training step on images of a height takes on the fullest rank, in bytes."""
    size = (f"dataset.train.height={height}", f"dataset.train.width={2 * height}")
    words = (*WORDS, *size, f"dataset.crop_size=[{height},{2 * height}]")
    cases, batch = plan([model], [strategy], [ranks], words)
    with tempfile.TemporaryDirectory() as folder:
        row = run(cases[0], 0, Path(folder))
    if "error" in row:
        sys.exit(f"error: {strategy} x {ranks} at {height} x {2 * height}: {row['error']}")
    memory = summarise([row], batch, ranks)[0]["memory"]
    resident = max(rank["peak_resident_bytes"] for rank in row["per_rank"])
    return {
        "counted": sum(memory[key] for key in _COUNTED),
        **{key: memory[key] for key in _COUNTED},
        "peak_resident_bytes": resident,
    }


def largest(counted: Callable[[int], int], limit: int, step: int) -> int:
    """Returns the largest multiple of ``step`` whose bytes are within a limit, 0 if there is none.

    Bisection between a height that fits and one that doesn't; where to cut is guessed from bytes that grow with the
    square of the height, so that few sizes have to be tried.

    Args:
        counted: Returns the bytes of a height.
        limit: In bytes.
        step: In rows.
    """
    found: dict[int, int] = {0: 0}
    guess = 2 * step
    while True:
        found[guess] = counted(guess)
        fits = max(height for height, size in found.items() if size <= limit)
        above = min((height for height, size in found.items() if size > limit), default=None)
        if above is not None and above - fits <= step:
            return fits
        guess = _guess(found, limit, step)
        guess = max(guess, fits + step)
        guess = min(guess, 4 * max(found)) if above is None else min(guess, above - step)


def _guess(found: dict[int, int], limit: int, step: int) -> int:
    """Returns where the line through the two largest sizes, over the square of the height, meets the limit."""
    heights = sorted(found)
    if len(heights) < 3:
        return 2 * heights[-1]
    low, high = heights[-2:]
    slope = (found[high] - found[low]) / (high**2 - low**2)
    square = high**2 + (limit - found[high]) / max(slope, 1e-9)
    return int(math.sqrt(max(square, 0))) // step * step


if __name__ == "__main__":
    main()
