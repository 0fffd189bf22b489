"""What segframe's loop costs over a bare one, its metric against torchmetrics, and how soon it starts.

Usage: python scripts/benchmark.py [--rounds N] [--out FOLDER]

Every ratio is measured within one run; the two loops take turns round by round, and medians count. Writes
``cpu.json`` (or the GPU's name) and prints the same as a table.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from segframe import build, runfolder
from segframe.config.compose import compose

CASES = {
    "short step": ["model=tiny", "data.batch_size=2", "augment.sample.crop_size=[32,32]"],
    "long step": ["model=pspnet", "data.batch_size=4"],
}
STRATEGIES = ("single", "ddp")  # each on one rank
STEPS = {"short step": 200, "long step": 20}
WARM_UP = 5


def main() -> None:
    """Runs all measurements."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="how often each pair is measured")
    parser.add_argument("--out", type=Path, default=Path("benchmarks"), help="the folder of the JSON file")
    options = parser.parse_args()
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    result = {
        "device": device,
        "threads": torch.get_num_threads(),
        "versions": runfolder.versions(),
        "loop": {name: measure_loop(name, options.rounds) for name in CASES},
        "confusion": measure_confusion(options.rounds),
        "start_up": measure_start_up(options.rounds),
    }
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / f"{device.replace(' ', '-').lower()}.json"
    path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    show(result)
    print(f"written to {path}")


def measure_loop(name: str, rounds: int) -> dict[str, Any]:
    """Times ``train.py``'s loop, with bar and logging, under each strategy, and a bare loop over the same net and data.

    All take turns, each round beginning with another one.
    """
    times: dict[str, list[float]] = {way: [] for way in ("bare", *STRATEGIES)}
    for number in range(rounds):
        order = list(times)[number % len(times) :] + list(times)[: number % len(times)]
        for way in order:
            times[way].append(bare_seconds(name) if way == "bare" else lightning_seconds(name, way))
    return {strategy: _compared(times[strategy], times["bare"]) for strategy in STRATEGIES}


def _compared(ours: list[float], bare: list[float]) -> dict[str, Any]:
    pairs = list(zip(ours, bare, strict=True))
    return {
        "bare_ms": statistics.median(bare) * 1e3,
        "segframe_ms": statistics.median(ours) * 1e3,
        "ratio": statistics.median(a / b for a, b in pairs),
        "overhead_ms": statistics.median(a - b for a, b in pairs) * 1e3,
        "rounds_ms": [[a * 1e3, b * 1e3] for a, b in pairs],
    }


def assembled(name: str, folder: str, strategy: str = "single") -> build.Run:
    """Returns the objects of a case; evaluation is left out of both sides."""
    words = [*CASES[name], "trainer.limit_val_batches=0", "data.num_workers=0", "trainer=cpu", f"run.dir={folder}"]
    words.append(f"strategy={strategy}")
    if torch.cuda.is_available():
        words.append("trainer=gpu")
    return build.assemble(
        compose([*words, f"trainer.max_steps={STEPS[name] + WARM_UP}", "trainer.max_epochs=-1"]), Path(folder), None
    )


def lightning_seconds(name: str, strategy: str) -> float:
    """Returns the mean seconds per step of segframe's loop on one rank."""
    import pytorch_lightning as pl

    class Clock(pl.Callback):
        def __init__(self) -> None:
            self.times: list[float] = []

        def on_train_batch_start(self, *_: Any) -> None:
            self.times.append(time.perf_counter())

    with tempfile.TemporaryDirectory() as folder:
        run = assembled(name, folder, strategy)
        clock = Clock()
        run.callbacks.append(clock)
        run.trainer.fit(run.task, datamodule=run.data)
        return _per_step(clock.times)


def bare_seconds(name: str) -> float:
    """Returns the mean seconds per step of a plain PyTorch loop that computes the same."""
    with tempfile.TemporaryDirectory() as folder:
        run = assembled(name, folder)
        task = run.task
        run.data.setup("fit")
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        net = task.net.to(device=device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
        optimizer = task._make_optimizer(net)
        scheduler = task._make_scheduler(optimizer, STEPS[name] + WARM_UP)
        times: list[float] = []
        epoch = 0
        while len(times) <= STEPS[name] + WARM_UP:
            for batch in run.data.train_dataloader():
                times.append(time.perf_counter())
                image = task.preprocess(batch, epoch=epoch, dtype=torch.float32).contiguous(
                    memory_format=torch.channels_last
                )
                optimizer.zero_grad()
                with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
                    loss = task._terms(net(image.to(device)), batch.mask.to(device).long(), batch.height).value
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                scheduler.step()
            epoch += 1
        return _per_step(times[: STEPS[name] + WARM_UP])


def _per_step(times: list[float]) -> float:
    steps = [b - a for a, b in itertools.pairwise(times)][WARM_UP:]
    return statistics.mean(steps)


def measure_confusion(rounds: int) -> dict[str, float]:
    """Times one update with 2 x 512 x 1024 pixels and 19 classes, ours and torchmetrics'."""
    from torchmetrics.classification import MulticlassConfusionMatrix, MulticlassJaccardIndex

    from segframe.metrics.confusion import ConfusionMatrix

    torch.manual_seed(0)
    prediction, target = torch.randint(0, 19, (2, 2, 512, 1024)).unbind()
    target[:, :20] = 255
    mask = target.to(torch.uint8)
    ours = ConfusionMatrix(19, ignore_index=255)
    theirs = {
        "MulticlassConfusionMatrix": MulticlassConfusionMatrix(19, ignore_index=255),
        "MulticlassJaccardIndex": MulticlassJaccardIndex(19, ignore_index=255),
    }
    result = {"segframe_ms": _median_ms(lambda: ours.update(prediction, mask), 4 * rounds)}
    for name, metric in theirs.items():
        result[f"{name}_ms"] = _median_ms(lambda metric=metric: metric.update(prediction, target), rounds)  # type: ignore[misc]
        result[f"times_faster_than_{name}"] = result[f"{name}_ms"] / result["segframe_ms"]
    return result


def _median_ms(call: Callable[[], object], count: int) -> float:
    call()
    times = []
    for _ in range(count):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times) * 1e3


def measure_start_up(rounds: int) -> dict[str, float]:
    """Times ``--help``, a composition error, and a whole run of a single step, from the shell."""
    train = [sys.executable, str(Path(__file__).parent.parent / "train.py")]
    one_step = ["model=tiny", "trainer=debug", "trainer.max_steps=1", "trainer.limit_val_batches=0"]
    with tempfile.TemporaryDirectory() as folder:
        runs = [[*one_step, f"run.dir={folder}/{number}"] for number in range(rounds)]
        return {
            "help_s": statistics.median(_seconds([*train, "--help"], 0) for _ in range(rounds)),
            "typo_s": statistics.median(_seconds([*train, "strategy=dpp"], 2) for _ in range(rounds)),
            "one_step_run_s": statistics.median(_seconds([*train, *words], 0) for words in runs),
        }


def _seconds(command: list[str], expected: int) -> float:
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "COLUMNS": "100"})
    if done.returncode != expected:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}: {done.stderr}")
    return time.perf_counter() - start


def show(result: dict[str, Any]) -> None:
    """Prints the result as tables."""
    console = Console()
    loop = Table(
        "step", "strategy", "bare loop", "segframe", "ratio", "overhead", title=f"training loop ({result['device']})"
    )
    for name, strategies in result["loop"].items():
        for strategy, row in strategies.items():
            loop.add_row(
                name,
                strategy,
                f"{row['bare_ms']:.2f} ms",
                f"{row['segframe_ms']:.2f} ms",
                f"{row['ratio']:.3f}",
                f"{row['overhead_ms']:.2f} ms",
            )
    console.print(loop)
    other = Table("what", "value", title="metric and start-up")
    for key, value in {**result["confusion"], **result["start_up"]}.items():
        other.add_row(key, f"{value:.2f}")
    console.print(other)


if __name__ == "__main__":
    main()
