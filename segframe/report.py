"""What a run shows at its end: the table per class, the pictures, where everything is."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from rich.console import Console
from rich.markup import escape

from segframe import figures, runfolder
from segframe.callbacks.checkpoints import Checkpoints
from segframe.callbacks.ema import Ema
from segframe.contracts import IGNORE_INDEX, Batch
from segframe.data.pool import usable_cores
from segframe.figures.panels import PanelLogger, Sample
from segframe.metrics import per_image
from segframe.metrics.scores import iou, summary
from segframe.metrics.table import class_table
from segframe.wording import pasted

if TYPE_CHECKING:
    from segframe.build import Run

NUM_FIRST, NUM_WORST = 3, 3
HIGH_STALL_PERCENT = 20
PROFILE_LINES = 16


def finish(run: Run, samples: list[Sample], speed: dict[str, float | None]) -> None:
    """Closes a trained run: results.json, pictures, panels, and what the user reads last.

    Args:
        run: A run whose training has ended with an evaluation.
        samples: What ``collect_samples`` has predicted.
        speed: Seconds per step and of the whole run, images per second, peak memory.
    """
    per_image.write(per_image.path_of(run.folder, "final"), run.task)
    results = runfolder.write_results(run.folder, run.values, "finished", **speed)
    figures.curves(run.folder / "metrics.csv", run.folder / "curves.png")
    console = Console()
    if run.task.evaluated_step < 0:
        console.print("trainer.limit_val_batches=0: nothing was evaluated, so there is no table and no prediction")
    else:
        matrix = run.task.confusion.compute()
        _show_predictions(run, samples, matrix)
        console.print(class_table(matrix, run.task.classes, run.task.absent))
    _show_profile(console, run.folder)
    _say_where(console, run, results)


def evaluated(run: Run, checkpoint: Path) -> None:
    """Shows and writes what an evaluation of a checkpoint found."""
    matrix = run.task.confusion.compute()
    console = Console()
    console.print(class_table(matrix, run.task.classes, run.task.absent))
    images = {"num_images": len(run.task.per_image), "of": run.data.num_val}
    metrics = {f"val/{key}": value for key, value in summary(matrix, run.task.absent).items()}
    path = run.folder / f"evaluation-{checkpoint.stem}.json"
    per_image.write(per_image.path_of(run.folder, path.stem), run.task)
    content = {
        "checkpoint": str(checkpoint),
        "config_hash": runfolder.config_hash(run.values),
        "config": json.loads(json.dumps(run.values), parse_constant=str),  # JSON has no infinity
        "images": images,
        "metrics": metrics,
        "matrix": matrix.tolist(),
    }
    runfolder.write_json(path, content)
    console.print(
        f"checkpoint {escape(str(checkpoint))}: val/miou {metrics['val/miou']:.4f} over {images['num_images']} of "
        f"{images['of']} images, written to {escape(str(path))}",
        soft_wrap=True,
        highlight=False,
    )


def collect_samples(run: Run) -> list[Sample]:
    """Returns predictions for the first validation images and for those of the lowest mIoU.

    Every rank calls it: a net that is split over ranks predicts on all of them together.
    """
    if run.task.evaluated_step < 0:
        return []
    worst = run.task.worst_images(NUM_WORST)
    first = [i for i in range(min(NUM_FIRST, len(run.data.val))) if i not in worst]
    return predicted_samples(run, first, worst)


@torch.no_grad()
def predicted_samples(run: Run, first: Sequence[int], worst: Sequence[int]) -> list[Sample]:
    """Returns predictions for validation images by index, the second group marked as the worst."""
    dataset, task = run.data.val, run.task
    scores = {image.position: image.miou for image in task.per_image}
    averages = [c for c in run.callbacks if isinstance(c, Ema)]
    for average in averages:
        average.on_validation_start(run.trainer, task)
    task.net.eval()
    samples = []
    for index in (*first, *worst):
        image, mask = dataset[index]
        batch = Batch(image[None].to(task.device), mask[None], [dataset.name(index)], torch.tensor([index]))
        prediction = task.predict(batch)[0].cpu().numpy()
        samples.append(
            Sample(
                name=dataset.name(index),
                image=image.permute(1, 2, 0).numpy(),
                truth=mask.numpy(),
                prediction=prediction,
                miou=scores.get(index, float("nan")),
                worst=index in worst,
            )
        )
    for average in averages:
        average.on_validation_end(run.trainer, task)
    return samples


def _show_predictions(run: Run, samples: list[Sample], matrix: torch.Tensor) -> None:
    """Draws the pictures of an evaluation, into the run folder and for loggers that take them."""
    task, folder = run.task, run.folder
    figures.predictions(samples, task.classes, task.palette, folder / "predictions.png", IGNORE_INDEX)
    figures.confusion(matrix, task.classes, folder / "confusion.png")
    mean = summary(matrix, task.absent)["miou"]
    figures.iou(iou(matrix, task.absent).tolist(), task.classes, task.palette, mean, folder / "iou.png")
    for logger in run.trainer.loggers:
        if isinstance(logger, PanelLogger):
            logger.log_segmentation(samples, matrix, task.classes, task.palette, run.trainer.global_step, IGNORE_INDEX)


def _show_profile(console: Console, folder: Path) -> None:
    """Shows the top of what trainer.profiler has written, of several ranks' the first's."""
    for path in sorted(folder.glob("fit-profile*.txt"))[:1]:
        lines = [line.rstrip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        for line in lines[:PROFILE_LINES]:
            console.print(escape(line), soft_wrap=True, highlight=False)
        console.print(f"... the whole table: {escape(str(path))}", soft_wrap=True, highlight=False)


def _longer(run: Run) -> str:
    again, limit = pasted("resume", run.folder), run.trainer.step_limit
    if limit is not None and run.trainer.global_step >= limit:
        return f"{runfolder.command()} train {again} trainer.max_steps={2 * limit}"
    return f"{runfolder.command()} train {again} trainer.max_epochs={2 * max(1, run.trainer.max_epochs or 1)}"


def _faster_data(values: dict[str, Any]) -> str:
    """Returns what to set so that steps wait less for data."""
    workers, cores = values["data"]["num_workers"], usable_cores()
    remedies = ["dataset.cache=disk"] if values["dataset"]["cache"] == "none" else []
    if workers < cores:
        remedies.append(f"data.num_workers={cores}")
    return " or ".join(remedies) or "more cores would help, or a smaller augment.sample.crop_size"


def _say_where(console: Console, run: Run, results: dict[str, object]) -> None:
    best = next((c for c in run.callbacks if isinstance(c, Checkpoints)), None)
    lines = []
    if best is not None and best.best is not None and best.best_epoch is not None:
        lines.append(f"best {best.monitor} {best.best:.4f} in epoch {best.best_epoch + 1} (checkpoints/best.ckpt)")
    speed, stall = results["images_per_s"], results["data_stall_percent"]
    if isinstance(speed, float) and isinstance(stall, float):
        memory = f"{results['peak_memory_gib']:.2f} GiB at most"
        lines.append(f"{speed:.1f} images/s, data stall {stall:.0f} %, {memory}")
        if stall > HIGH_STALL_PERCENT:
            lines.append(f"steps waited for their images: {_faster_data(run.values)}")
    names = (
        "results.json",
        "metrics.csv",
        "curves.png",
        "predictions.png",
        "confusion.png",
        "iou.png",
        "checkpoints",
    )
    lines += [f"wrote {run.folder}/", "  " + "  ".join(name for name in names if (run.folder / name).exists())]
    lines += [
        f"look further: {runfolder.command()} evaluate {pasted('run', run.folder)}",
        f"train longer: {_longer(run)}",
    ]
    for line in lines:
        console.print(escape(line), soft_wrap=True, highlight=False)
