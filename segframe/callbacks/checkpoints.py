"""Best and last checkpoints, written at epoch ends, by the clock and when the run is told to stop."""

from __future__ import annotations

import difflib
import os
import signal
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Checkpoint

from segframe.checkpoint_io import MARK
from segframe.metrics import per_image
from segframe.ranges import NonNegative, PositiveInt

FORMAT = 1
_SAME_S = 0.5  # one Ctrl-C may come twice: from the terminal and from the process that watches the ranks


class Checkpoints(Checkpoint):
    """Keeps ``last.ckpt``, ``previous.ckpt`` and ``best.ckpt`` in the run's ``checkpoints`` folder.

    A file is complete at every moment: the last one becomes the previous one by a hard link before a
    finished temporary file takes its place. SIGTERM and a first Ctrl-C end the run after the step at
    hand, with a checkpoint of it; a second Ctrl-C ends it at once.

    Lightning calls a ``Checkpoint`` after all other callbacks, so what they keep is in the file.

    Args:
        every_minutes: Time between checkpoints within an epoch; None writes none by the clock.
        every_n_steps: Steps between checkpoints within an epoch; None writes none by the step.
        monitor: The logged value that decides which is best.
        mode: Whether the largest or smallest is best.
    """

    def __init__(
        self,
        every_minutes: NonNegative | None = 5,
        every_n_steps: PositiveInt | None = None,
        monitor: str = "val/miou",
        mode: Literal["max", "min"] = "max",
    ) -> None:
        self._every_s = None if every_minutes is None else every_minutes * 60
        self._every_n_steps, self.monitor, self._mode = every_n_steps, monitor, mode
        self.best: float | None = None
        self.best_epoch: int | None = None
        self.stop_signal: int | None = None
        self._stopped_at = -_SAME_S
        self._mid_epoch = False
        self._written_at = time.monotonic()

    @staticmethod
    def folder(trainer: pl.Trainer) -> Path:
        """Returns where a trainer's checkpoints are."""
        return Path(trainer.default_root_dir) / "checkpoints"

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Takes over SIGTERM and SIGINT; Lightning gives them back at the end."""
        self._written_at = time.monotonic()
        if threading.current_thread() is threading.main_thread():  # others get no signals
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, self._on_signal)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Writes the last checkpoint when it is due, and stops where a signal asked for it."""
        # The last batch's checkpoint waits for the evaluation: a resumed run would leave it out.
        self._mid_epoch = not trainer.fit_loop.epoch_loop._num_ready_batches_reached()
        if not self._mid_epoch:
            return
        due, stop_signal = self._agreed(trainer, self._is_due(trainer.global_step))
        if due or stop_signal or trainer.should_stop:
            self._write_last(trainer)
        if stop_signal:
            raise Interrupted(stop_signal)

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Ends an evaluation that a signal asked to stop; the run goes on from the last checkpoint before it."""
        # Several ranks evaluate different numbers of batches, and end together after the epoch.
        if self.stop_signal is not None and trainer.world_size == 1:
            raise Interrupted(self.stop_signal, "in an evaluation; the run goes on from the last checkpoint before it")

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Writes the best checkpoint if the epoch's evaluation was the best, and the last one."""
        value = trainer.callback_metrics.get(self.monitor)
        evaluated = trainer.fit_loop.epoch_loop._should_check_val_epoch()
        if evaluated and value is None and trainer.limit_val_batches != 0:
            known = [name for name in trainer.callback_metrics if name.startswith("val/")]
            nearest = difflib.get_close_matches(self.monitor, known, 1, 0)
            raise ValueError(
                f"callbacks.checkpoints.monitor={self.monitor} is not among the evaluated values; "
                f"did you mean {nearest[0] if nearest else 'val/miou'}? They are: {', '.join(known)}."
            )
        if evaluated and value is not None and self._is_better(float(value)):
            self.best, self.best_epoch = float(value), trainer.current_epoch
            self._write_best(trainer, pl_module)
        # A run that max_steps ended within an epoch keeps the checkpoint that can go on with the epoch.
        if not self._mid_epoch:
            self._write_last(trainer)
        if stop_signal := self._agreed(trainer, False)[1]:
            raise Interrupted(stop_signal)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Marks the file as segframe's."""
        checkpoint[MARK] = {"format": FORMAT, "classes": list(getattr(pl_module, "classes", []))}

    def state_dict(self) -> dict[str, Any]:
        """Returns the best value so far."""
        return {"best": self.best, "best_epoch": self.best_epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes the best value up again."""
        self.best, self.best_epoch = state_dict["best"], state_dict["best_epoch"]

    def _write_best(self, trainer: pl.Trainer, task: Any) -> None:
        """Writes the checkpoint and what was counted with it; the counts take their place right behind it."""
        aside, counts = None, per_image.path_of(Path(trainer.default_root_dir), "best")
        if trainer.is_global_zero and task.per_image and task.evaluated_step == trainer.global_step:
            aside = per_image.write_aside(counts, task)
        trainer.save_checkpoint(self.folder(trainer) / "best.ckpt")
        if aside is not None:
            os.replace(aside, counts)

    def _write_last(self, trainer: pl.Trainer) -> None:
        last, previous = self.folder(trainer) / "last.ckpt", self.folder(trainer) / "previous.ckpt"
        if trainer.is_global_zero and last.exists():
            link = last.with_name(".previous.tmp")
            link.unlink(missing_ok=True)
            os.link(last, link)
            os.replace(link, previous)
        trainer.save_checkpoint(last)
        self._written_at = time.monotonic()

    def _agreed(self, trainer: pl.Trainer, due: bool) -> tuple[bool, int]:
        """Returns whether a checkpoint is due and the signal to stop, 0 for none, equal on all ranks.

        Their clocks differ and signals reach them at different steps; a rank that acted alone would wait
        for ever for the others.
        """
        if trainer.world_size == 1:
            return due, self.stop_signal or 0
        flags = torch.tensor([int(due), self.stop_signal or 0], device=trainer.strategy.root_device)
        torch.distributed.all_reduce(flags, torch.distributed.ReduceOp.MAX)
        any_due, any_signal = flags.tolist()
        return bool(any_due), any_signal

    def _is_due(self, step: int) -> bool:
        if self._every_n_steps is not None and step % self._every_n_steps == 0:
            return True
        return self._every_s is not None and time.monotonic() - self._written_at >= self._every_s

    def _is_better(self, value: float) -> bool:
        if self.best is None:
            return True
        return value > self.best if self._mode == "max" else value < self.best

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.stop_signal is None:
            self._stopped_at = now
        elif number == signal.SIGINT and now - self._stopped_at >= _SAME_S:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            raise KeyboardInterrupt
        self.stop_signal = number


class Interrupted(BaseException):
    """The run was told to stop and has done so where it can go on.

    Like KeyboardInterrupt it is no Exception: a signal comes anywhere, and code that takes every error of a
    file or a library for its own must not take this one.
    """

    def __init__(self, number: int, where: str = "with a checkpoint of the last step") -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}, {where}")
        self.number = number
