"""The progress bar of a training run."""

from __future__ import annotations

import sys
import time
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from tqdm import tqdm

from segframe.contracts import Batch
from segframe.ranges import Positive


class ProgressBar(Callback):
    """One bar over the whole run with loss, mIoU and images/s, and a line per evaluation.

    Args:
        refresh_s: Seconds between redraws on a terminal; a log file gets a line every 30 s instead.
    """

    def __init__(self, refresh_s: Positive = 0.2) -> None:
        self._refresh_s = refresh_s if sys.stderr.isatty() else 30.0
        self._bar: Any = None
        self._drawn_at = 0.0
        self._drawn_step = 0
        self._miou = "-"

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draws the bar, at the step that a resumed run starts from."""
        if not trainer.is_global_zero:
            return
        total = trainer.estimated_stepping_batches
        self._bar = tqdm(
            total=int(total),
            initial=trainer.global_step,
            unit="step",
            dynamic_ncols=True,
            mininterval=self._refresh_s,
            bar_format="{desc} {percentage:3.0f}%|{bar}| step {n_fmt}/{total_fmt} [{elapsed}<{remaining}] {postfix}",
        )
        self._drawn_at, self._drawn_step = time.perf_counter(), trainer.global_step

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Redraws when the last drawing is old enough."""
        now = time.perf_counter()
        if self._bar is None or now - self._drawn_at < self._refresh_s:
            return
        step = trainer.global_step
        speed = (step - self._drawn_step) * len(batch.names) * trainer.world_size / (now - self._drawn_at)
        self._bar.set_description_str(_epoch(trainer), refresh=False)
        self._bar.set_postfix_str(
            f"loss {float(pl_module.step_loss):.3f} mIoU {self._miou} {speed:.1f} images/s", refresh=False
        )
        self._bar.n = step
        self._bar.refresh()
        self._drawn_at, self._drawn_step = now, step

    def on_validation_batch_start(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Shows how far the evaluation is."""
        now = time.perf_counter()
        if self._bar is None or now - self._drawn_at < self._refresh_s:
            return
        total = trainer.num_val_batches[0]
        self._bar.set_description_str(f"{_epoch(trainer)} evaluating {batch_idx}/{total}", refresh=True)
        self._drawn_at = now

    def on_validation_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Writes the line of an evaluation."""
        if self._bar is None:
            return
        metrics = trainer.callback_metrics
        self._miou = f"{float(metrics['val/miou']):.3f}" if "val/miou" in metrics else "-"
        train = _speed(trainer)
        self._bar.clear()
        tqdm.write(
            f"{_epoch(trainer)}  step {trainer.global_step}  train loss {float(pl_module.step_loss):.3f}  "
            f"val loss {float(metrics.get('val/loss', float('nan'))):.3f}  mIoU {self._miou}{train}",
            file=sys.stderr,
        )
        self._bar.n = trainer.global_step
        self._bar.set_description_str(_epoch(trainer), refresh=True)
        self._drawn_at, self._drawn_step = time.perf_counter(), trainer.global_step

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Ends the bar."""
        self._close(trainer)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Ends the bar before an error is printed."""
        self._close(trainer)

    def _close(self, trainer: pl.Trainer) -> None:
        if self._bar is not None:
            self._bar.n = trainer.global_step
            self._bar.close()
            self._bar = None


def _epoch(trainer: pl.Trainer) -> str:
    if trainer.max_epochs is None or trainer.max_epochs < 0:
        return f"epoch {trainer.current_epoch + 1}"
    return f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}"


def _speed(trainer: Any) -> str:
    speed = next((s for s in (getattr(c, "images_per_s", None) for c in trainer.callbacks) if s), None)
    return f"  {speed:.1f} images/s" if speed else ""
