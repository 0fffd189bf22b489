"""Two trials at once against one after another, on the same cores.

Usage: python scripts/benchmark_sweep.py [--rounds N] [--epochs N] [--out FILE]

A grid of four trainings of `synthetic` runs by `segframe sweep` with sweep.parallel=2 (half of the cores for each
trial) and with sweep.parallel=1 (all of them), in turns; medians count. Writes a JSON file and prints the same.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from segframe import runfolder
from segframe.sweep.launch.devices import cores
from segframe.sweep.trial import read_all

GRID = ("model=pspnet", "dataset=synthetic", "trainer=cpu", "data.num_workers=1", "optimizer.lr=0.01,0.02", "seed=0,1")


def main() -> None:
    """Measures and reports."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="how often each is measured")
    parser.add_argument("--epochs", type=int, default=1, help="epochs of a training")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/sweep_cpu.json"), help="the JSON file")
    options = parser.parse_args()
    found: dict[int, list[float]] = {1: [], 2: []}
    for number in range(options.rounds):
        for parallel in found:
            found[parallel].append(seconds(parallel, options.epochs))
            print(f"round {number + 1}, {parallel} at once: {found[parallel][-1]:.1f} s", file=sys.stderr, flush=True)
    alone, both = (statistics.median(found[parallel]) for parallel in (1, 2))
    result = {
        "device": platform.processor() or platform.machine(),
        "cores": len(cores()),
        "versions": runfolder.versions(),
        "command": f"segframe sweep {' '.join(GRID)} trainer.max_epochs={options.epochs}",
        "seconds": {"one after another": found[1], "two at once": found[2]},
        "two at once / one after another": both / alone,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(f"four trainings: {alone:.1f} s one after another, {both:.1f} s two at once: {both / alone:.2f} of the time")


def seconds(parallel: int, epochs: int) -> float:
    """Returns how long the grid takes, from the command to its end.

    Args:
        parallel: Trials at once.
        epochs: Epochs of a training.

    Raises:
        RuntimeError: If a trial has not finished.
    """
    with tempfile.TemporaryDirectory(prefix="segframe-bench-") as folder:
        words = [*GRID, f"trainer.max_epochs={epochs}", f"sweep.parallel={parallel}", f"sweep.dir={folder}/sweep"]
        command = [sys.executable, "-m", "segframe", "sweep", *words]
        variables = {key: text for key, text in os.environ.items() if key != "OMP_NUM_THREADS"}
        started = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, env=variables, check=False)
        taken = time.perf_counter() - started
        if done.returncode or any(trial.state != "finished" for trial in read_all(Path(folder) / "sweep")):
            raise RuntimeError(f"the sweep has not finished:\n{done.stderr}")
        return taken


if __name__ == "__main__":
    main()
