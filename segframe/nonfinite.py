"""A loss that is NaN or infinite ends a run, with the batch that gave it."""

from __future__ import annotations

import math

from torch import Tensor

from segframe.contracts import Batch


class NonFiniteLossError(FloatingPointError):
    """The loss of a step is NaN or infinite; carries the batch that gave it."""

    def __init__(self, message: str, batch: Batch | None, step: int) -> None:
        super().__init__(message)
        self.batch = batch
        self.step = step


class LossCheck:
    """Looks at the loss of each step: at once on the CPU, one step later on a device, so that no step waits."""

    def __init__(self) -> None:
        self._unchecked: tuple[Tensor, Batch, int] | None = None

    def note(self, loss: Tensor, batch: Batch, step: int) -> None:
        """Takes the loss of a step.

        Raises:
            NonFiniteLossError: If it is known to be not finite.
        """
        self._unchecked = (loss, batch, step)
        if loss.device.type == "cpu":
            self.check()

    def check(self) -> None:
        """Looks at the loss that was noted last, unless that is done.

        Raises:
            NonFiniteLossError: If it is not finite.
        """
        if self._unchecked is None:
            return
        (loss, batch, step), self._unchecked = self._unchecked, None
        if math.isfinite(value := loss.item()):
            return
        raise NonFiniteLossError(
            f"the loss of step {step} is {value}; its batch: {', '.join(batch.names)}. Lower the learning rate "
            "(optimizer.lr), clip gradients (trainer.gradient_clip_val=1), or train in "
            "trainer.precision=32-true where it was lower.",
            batch,
            step,
        )
