"""An exponential moving average of the weights, which evaluation uses."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor, nn

from segframe.contracts import Batch
from segframe.ranges import BelowOne
from segframe.sharding import local, part_like

KEY = "ema_state_dict"


def ema(decay: BelowOne | None = None) -> Callback | None:
    """Returns the callback that averages weights, or None without a decay."""
    return None if decay is None else Ema(decay)


class Ema(Callback):
    """Averages the weights after every step and lends the average to the net while it is evaluated.

    ``average = d * average + (1 - d) * weight`` with ``d = min(decay, (1 + step) / (10 + step))``, so
    that the first steps do not linger. Buffers (BatchNorm's statistics) are those of the last step.
    Checkpoints hold both: the weights under ``state_dict``, the average under ``ema_state_dict``.

    Args:
        decay: The share of the old average that a step keeps.
    """

    def __init__(self, decay: BelowOne) -> None:
        self._decay = decay
        self._average: list[Tensor] | None = None
        self._weights: list[nn.Parameter] = []
        self._loaded: dict[str, Tensor] | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Starts from the weights as they are, or from the average of a checkpoint."""
        names = [name for name, _ in pl_module.named_parameters()]
        # Kept from here on: a strategy that shards them shows others while the net runs.
        self._weights = list(pl_module.parameters())
        self._average = [p.detach().clone() for p in self._weights]
        if self._loaded is not None:
            for name, average in zip(names, self._average, strict=True):
                local(average).copy_(local(part_like(self._loaded[name], average)))
            self._loaded = None

    @torch.no_grad()
    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Moves the average towards the weights."""
        assert self._average is not None
        step = trainer.global_step
        decay = min(self._decay, (1 + step) / (10 + step))
        # Those of other ranks' layers have no data, and mixed lists are taken for having none at all.
        held = [i for i, p in enumerate(self._weights) if not p.is_meta]
        weights = [local(self._weights[i].detach()) for i in held]
        torch._foreach_lerp_([local(self._average[i]) for i in held], weights, 1 - decay)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Gives the net the average."""
        self._swap()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Gives the net its weights back."""
        self._swap()

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Adds the average under the parameters' names."""
        assert self._average is not None
        names = [name for name, _ in pl_module.named_parameters()]
        strategy: Any = trainer.strategy
        checkpoint[KEY] = strategy.whole(dict(zip(names, self._average, strict=True)))

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Keeps the average of the checkpoint for the start of training."""
        self._loaded = checkpoint.get(KEY)

    @torch.no_grad()
    def _swap(self) -> None:
        if self._average is None:
            return
        for parameter, average in zip(self._weights, self._average, strict=True):
            # Values, not memory: a strategy may hold on to the memory of its parameters.
            own, other = local(parameter.detach()), local(average)
            kept = own.clone()
            own.copy_(other)
            other.copy_(kept)
