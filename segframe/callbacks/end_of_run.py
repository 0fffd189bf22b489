"""Where a run ends: after its last step, with an evaluation, and not beyond where early stopping ended it."""

from __future__ import annotations

from typing import Any

from pytorch_lightning.callbacks import Callback, EarlyStopping


class EndOfRun(Callback):
    """Stops at the trainer's ``step_limit``, and sees to it that a run ends with an evaluation.

    Lightning's own ``max_steps`` counts a cut-off epoch as done, so its checkpoint could not go on.
    """

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Ends a resumed run at once that has no step left, or that early stopping had ended."""
        ended = any(c.wait_count >= c.patience for c in trainer.callbacks if isinstance(c, EarlyStopping))
        trainer.should_stop = trainer.should_stop or ended or self._limit_reached(trainer)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Stops after the last step."""
        stops = self._limit_reached(trainer)
        trainer.should_stop = trainer.should_stop or stops
        if stops or trainer.current_epoch + 1 == trainer.max_epochs:
            trainer.check_val_every_n_epoch = 1

    @staticmethod
    def _limit_reached(trainer: Any) -> bool:
        limit: int | None = trainer.step_limit
        return limit is not None and trainer.global_step >= limit
