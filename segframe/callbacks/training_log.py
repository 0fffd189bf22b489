"""The rows that a training run logs, and how fast it is."""

from __future__ import annotations

import sys
import time
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from tqdm import tqdm

from segframe.contracts import Batch


class TrainingLog(Callback):
    """Logs the mean loss over every ``trainer.log_every_n_steps`` steps, and measures speed and data stall.

    Data stall is the share of the time in which the step waited for its batch, in percent.

    The window of the mean goes into checkpoints, so a resumed run logs the very same values.
    """

    def __init__(self) -> None:
        self.num_empty_batches = 0
        # What steps gave stays where it is until it is logged: adding it up on a device is work of its own there.
        self._window_losses: list[torch.Tensor | float] = []
        self._window_empties: list[torch.Tensor | int] = []
        self._window_steps = self._window_images = 0
        self._window_started, self._waited_before_s = time.perf_counter(), 0.0
        self._busy_s, self._stalled_s, self._timed_steps, self._timed_images = 0.0, 0.0, 0, 0
        self._warm_up_s: float | None = None
        self._lr = 0.0

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Starts the clock; time spent on evaluation and checkpoints at epoch ends does not count."""
        self._window_started, self._waited_before_s = time.perf_counter(), _waited_s(trainer)
        self._window_images = 0

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        """Notes the rate of the step, before the schedule moves on."""
        self._lr = trainer.optimizers[0].param_groups[0]["lr"]

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Batch, batch_idx: int) -> None:
        """Adds the step to the window, and logs the window when it is full or the epoch ends."""
        self._window_losses.append(pl_module.step_loss)
        self._window_empties.append(pl_module.step_empty)
        self._window_steps += 1
        self._window_images += len(batch.names) * trainer.strategy.data_size
        step = trainer.global_step
        if step % trainer.log_every_n_steps == 0 or trainer.fit_loop.epoch_loop._num_ready_batches_reached():
            self._log(trainer, step)

    @property
    def seconds_per_step(self) -> float | None:
        """Mean seconds per optimizer step, data loading included; the first logged window is warm-up."""
        return self._busy_s / self._timed_steps if self._timed_steps else None

    @property
    def images_per_s(self) -> float | None:
        """Mean training images per second over all ranks."""
        return self._timed_images / self._busy_s if self._timed_steps else None

    @property
    def data_stall_percent(self) -> float | None:
        """Share of the time in which steps waited for their batch; the first logged window is warm-up."""
        return 100 * self._stalled_s / self._busy_s if self._timed_steps else None

    def state_dict(self) -> dict[str, Any]:
        """Returns the window's sums."""
        return {
            "loss": self._loss_sum() if self._window_losses else None,
            "empty": self._num_empty(),
            "steps": self._window_steps,
            "num_empty_batches": self.num_empty_batches,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes the window up again."""
        loss = state_dict["loss"]
        self._window_losses = [] if loss is None else [loss]
        self._window_empties = [state_dict["empty"]]
        self._window_steps = state_dict["steps"]
        self.num_empty_batches = state_dict["num_empty_batches"]

    def _loss_sum(self) -> float:
        """Adds one by one in float64, so that a window that went through a checkpoint sums to the same value."""
        total = 0.0
        for loss in self._window_losses:
            total += float(loss)  # sum() would compensate for rounding
        return total

    def _num_empty(self) -> int:
        return sum(map(int, self._window_empties))

    def _log(self, trainer: Any, step: int) -> None:
        loss, empty = self._loss_sum() / self._window_steps, self._num_empty()
        now = time.perf_counter()
        elapsed, stalled = now - self._window_started, _waited_s(trainer) - self._waited_before_s
        row = {
            "epoch": trainer.current_epoch,
            "train/loss": loss,
            "train/empty_batches": empty,
            "lr": self._lr,
            "images_per_s": self._window_images / elapsed,
            "data_stall_percent": 100 * stalled / elapsed,
        }
        for logger in trainer.loggers:
            logger.log_metrics(row, step=step)
        self._count_time(elapsed, stalled)
        self._report_empty(trainer, step, empty)
        self._window_losses, self._window_empties = [], []
        self._window_steps = self._window_images = 0
        self._window_started, self._waited_before_s = now, self._waited_before_s + stalled

    def _count_time(self, elapsed: float, stalled: float) -> None:
        if self._warm_up_s is None:
            self._warm_up_s = elapsed
            return
        self._busy_s += elapsed
        self._stalled_s += stalled
        self._timed_steps += self._window_steps
        self._timed_images += self._window_images

    def _report_empty(self, trainer: pl.Trainer, step: int, empty: int) -> None:
        if empty and not self.num_empty_batches and trainer.is_global_zero:
            tqdm.write(
                f"a batch before step {step} held only ignored pixels: its loss is 0 and it teaches nothing. "
                "They are counted as train/empty_batches.",
                file=sys.stderr,
            )
        self.num_empty_batches += empty


def _waited_s(trainer: Any) -> float:
    """Returns how long a run has waited for training batches so far; 0 with a loader that doesn't measure it."""
    return float(getattr(trainer.train_dataloader, "waited_s", 0.0))
