"""The progress bar of a training run."""

from __future__ import annotations

import io
import shutil
import sys
import time
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from tqdm import tqdm

from segframe.contracts import Batch
from segframe.ranges import Positive

_LOG_FILE_S = 30.0  # seconds between lines where the output is no terminal


class ProgressBar(Callback):
    """One bar over the whole run with loss, mIoU and images/s, and a line per evaluation.

    On a terminal the bar is redrawn in place; in a log file it is a line every half minute.

    Args:
        refresh_s: Seconds between redraws on a terminal.
    """

    def __init__(self, refresh_s: Positive = 0.2) -> None:
        self._on_terminal = sys.stderr.isatty()
        self._refresh_s = refresh_s if self._on_terminal else _LOG_FILE_S
        self._bar: Any = None
        self._drawn_at, self._drawn_step = 0.0, 0
        self._miou = "-"

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draws the bar, at the step that a resumed run starts from."""
        if not trainer.is_global_zero:
            return
        total = trainer.estimated_stepping_batches
        self._bar = tqdm(
            desc=_epoch(trainer),
            total=None if total == float("inf") else int(total),
            initial=trainer.global_step,
            file=sys.stderr if self._on_terminal else io.StringIO(),
            # Not dynamic_ncols: a pseudo-terminal without a size would hide the bar.
            ncols=min(120, shutil.get_terminal_size((120, 24)).columns - 1),
            bar_format="{desc} {percentage:3.0f}%|{bar}| step {n_fmt}/{total_fmt} [{elapsed}<{remaining}]",
        )
        self._drawn_at, self._drawn_step = time.perf_counter(), trainer.global_step

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Batch, batch_idx: int) -> None:
        """Redraws when the last drawing is old enough."""
        now = time.perf_counter()
        if self._bar is None or now - self._drawn_at < self._refresh_s:
            return
        step = trainer.global_step
        speed = (step - self._drawn_step) * len(batch.names) * trainer.strategy.data_size / (now - self._drawn_at)
        loss = float(pl_module.step_loss)
        self._draw(trainer, f"{_epoch(trainer)}  loss {loss:.3f}  mIoU {self._miou}  {speed:.1f} images/s")

    def on_validation_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Batch, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Shows how far the evaluation is."""
        if self._bar is not None and time.perf_counter() - self._drawn_at >= self._refresh_s:
            self._draw(trainer, f"{_epoch(trainer)}  evaluating {batch_idx}/{trainer.num_val_batches[0]}")

    def on_validation_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Writes the line of an evaluation."""
        if self._bar is None:
            return
        metrics = trainer.callback_metrics
        self._miou = f"{float(metrics['val/miou']):.3f}"
        line = (
            f"{_epoch(trainer)}  step {trainer.global_step}  train loss {float(pl_module.step_loss):.3f}  "
            f"val loss {float(metrics['val/loss']):.3f}  mIoU {self._miou}{_speed(trainer)}"
        )
        if self._on_terminal:
            self._bar.clear()
        print(line, file=sys.stderr, flush=True)
        if self._on_terminal:
            self._draw(trainer, f"{_epoch(trainer)}  mIoU {self._miou}")

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Ends the bar."""
        self._close(trainer)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Ends the bar before an error is printed."""
        self._close(trainer)

    def _draw(self, trainer: pl.Trainer, text: str) -> None:
        self._bar.n = trainer.global_step
        self._bar.set_description_str(text, refresh=self._on_terminal)
        if not self._on_terminal:
            print(self._bar, file=sys.stderr, flush=True)
        self._drawn_at, self._drawn_step = time.perf_counter(), trainer.global_step

    def _close(self, trainer: pl.Trainer) -> None:
        if self._bar is not None:
            self._bar.n = trainer.global_step
            self._bar.close()
            self._bar = None


def _epoch(trainer: pl.Trainer) -> str:
    if trainer.max_epochs is None or trainer.max_epochs < 0:
        return f"epoch {trainer.current_epoch + 1}"
    return f"epoch {min(trainer.current_epoch + 1, trainer.max_epochs)}/{trainer.max_epochs}"


def _speed(trainer: Any) -> str:
    speed = next((s for s in (getattr(c, "images_per_s", None) for c in trainer.callbacks) if s), None)
    return f"  {speed:.1f} images/s" if speed else ""
