"""Trains the same run under several strategies and shows that the numbers are the same.

Usage: python scripts/same_numbers.py --camvid FOLDER [--ranks N] [--strategies single,ddp,...] [--out FOLDER]

20 steps of PSPNet on small crops of CamVid in fp64, each run a `train.py` as a user would start it. Keys of a strategy
stand behind it with a plus: hybrid+data=2+spatial=2. All runs cut their batch into 2 micro-batches, since a pipeline
lives on them, and BatchNorm sees one micro-batch at a time everywhere. Writes ``same_numbers.json`` with every loss,
the commands and the largest difference, and ``same_numbers.png``. Takes some 8 minutes on two idle cores.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from segframe import runfolder
from segframe.figures.same_numbers import same_numbers
from segframe.planning import AXES

ROOT = Path(__file__).parents[1]
STRATEGIES = "single,ddp,fsdp,spatial,model_sharded,hybrid+data=2+spatial=2"
WORDS = (
    "model=pspnet",
    "dataset=camvid",
    "dataset.crop_size=[96,96]",
    "trainer=cpu",
    "trainer.precision=64-true",
    "trainer.accumulate_grad_batches=2",
    "trainer.max_epochs=-1",
    "trainer.log_every_n_steps=1",
    "data.batch_size=8",  # micro-batches of 4: BatchNorm over 2 values, behind the 1 x 1 pooling, magnifies rounding
    "data.num_workers=0",
)


def main() -> None:
    """Runs every strategy, compares, draws and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--camvid", type=Path, required=True, help="the folder of CamVid")
    parser.add_argument("--ranks", type=int, default=2, help="processes of a strategy that takes any number")
    parser.add_argument("--strategies", default=STRATEGIES, help="the first is compared with")
    parser.add_argument("--steps", type=int, default=20, help="optimizer steps of each run")
    parser.add_argument("--val-images", type=int, default=7, help="evaluated at the end; two ranks don't divide seven")
    parser.add_argument("--out", type=Path, default=ROOT / "docs", help="the folder of the picture and the JSON file")
    options = parser.parse_args()
    runs = {name.replace("+", " "): train(name, options) for name in options.strategies.split(",")}
    first = next(iter(runs.values()))
    for name, run in runs.items():
        run["largest_difference"] = max(abs(a - b) for a, b in zip(run["loss"], first["loss"], strict=True))
        scores = "  ".join(f"{key} {value:.9f}" for key, value in run["metrics"].items())
        print(f"{name:26s} {scores}  largest difference of a step's loss {run['largest_difference']:.1e}")
    same_numbers({name: run["loss"] for name, run in runs.items()}, options.out / "same_numbers.png")
    content = {"versions": runfolder.versions(), "git": runfolder.git_state(), "runs": runs}
    runfolder.write_json(options.out / "same_numbers.json", content)
    print(f"written to {options.out}/same_numbers.json and {options.out}/same_numbers.png")


def train(strategy: str, options: argparse.Namespace) -> dict[str, Any]:
    """Returns the losses and scores of a run."""
    name, *keys = strategy.split("+")
    sizes = [int(size) for axis, _, size in (key.partition("=") for key in keys) if axis in AXES]
    ranks = 1 if name == "single" else math.prod(sizes) if sizes else options.ranks
    words = [f"strategy={name}", *(f"strategy.{key}" for key in keys), f"trainer.devices={ranks}", *WORDS]
    words += [f"trainer.max_steps={options.steps}", f"trainer.limit_val_batches={options.val_images}"]
    print(f"python train.py {' '.join(words)} dataset.root=...", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        command = [sys.executable, str(ROOT / "train.py"), *words, f"dataset.root={options.camvid}", f"run.dir={run}"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=ROOT)
        with (run / "metrics.csv").open(newline="", encoding="utf-8") as file:
            loss = [float(row["train/loss"]) for row in csv.DictReader(file) if row["train/loss"]]
        metrics = json.loads((run / "results.json").read_text(encoding="utf-8"))["metrics"]
    kept = {key: metrics[key]["final"] for key in ("val/loss", "val/miou")}
    return {"words": words, "ranks": ranks, "loss": loss, "metrics": kept}


if __name__ == "__main__":
    main()
