"""Finds micro-batches that fit the memory, so that the batch keeps its numbers."""

from __future__ import annotations

import sys
from typing import Any

import torch
from pytorch_lightning.callbacks import Callback

from segframe.contracts import Batch


class AutoBatch(Callback):
    """Before training, halves the micro-batches until a whole step of the global batch fits.

    The global batch and so the loss normalisation stay as they are; only BatchNorm sees fewer images
    at once. Needs a failed allocation that PyTorch reports: on a CPU without a memory limit of its
    own the operating system ends the process instead.
    """

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Sets the trainer's number of micro-batches, and says so when it changed.

        Raises:
            MemoryError: If even single images don't fit.
            ValueError: If there are several ranks, which would each find a number of their own.
        """
        if trainer.world_size > 1:
            raise ValueError(
                f"trainer.auto_batch=true tries batches on one rank and this run has {trainer.world_size}; find the "
                "number with one rank's share of data.batch_size, then set trainer.accumulate_grad_batches to it."
            )
        # A loader of its own: the run's own one would go on behind this batch.
        batch = trainer.strategy.batch_to_device(next(iter(trainer.datamodule.train_dataloader())))
        size = len(batch.names)
        least = getattr(pl_module.net, "minimum_train_batch", 1)
        for parts in _divisors(size, trainer.num_micro_batches):
            if size // parts < least:
                continue
            trainer.num_micro_batches = parts
            if self._fits(trainer, pl_module, batch):
                break
        else:
            raise MemoryError(
                f"trainer.auto_batch=true: not even {least} image(s) of {tuple(batch.image.shape[-2:])} fit. "
                "Lower augment.sample.crop_size, or set task.activation_checkpointing=true."
            )
        if trainer.is_global_zero:
            print(
                f"trainer.auto_batch: {size} images per rank run as {parts} micro-batch(es) of {size // parts}",
                file=sys.stderr,
            )

    @staticmethod
    def _fits(trainer: Any, pl_module: Any, batch: Batch) -> bool:
        """Runs forward and backward once, and leaves buffers and gradients as they were."""
        buffers = [(buffer, buffer.clone()) for buffer in pl_module.net.buffers()]
        try:
            # Adam keeps two numbers per parameter from its first step on, which is not taken here.
            reserved = [torch.zeros_like(p) for p in pl_module.parameters() if p.requires_grad for _ in range(2)]
            with torch.enable_grad(), trainer.precision_plugin.train_step_context():
                loss = pl_module.training_step(batch, 0)
            loss.backward()
            del reserved
            return True
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            return False
        finally:
            for buffer, before in buffers:
                buffer.copy_(before)
            pl_module.zero_grad(set_to_none=True)
            if torch.cuda.is_available():
                torch.cuda.empty_cache()


def is_out_of_memory(error: BaseException) -> bool:
    """Returns whether a device or the machine had no memory left."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and any(
        sign in text for sign in ("can't allocate memory", "out of memory", "DefaultCPUAllocator")
    )


def _divisors(size: int, start: int) -> list[int]:
    """Returns the numbers of equal micro-batches from ``start`` on, each at least twice the one before."""
    found = [start]
    for parts in range(start + 1, size + 1):
        if size % parts == 0 and (parts >= 2 * found[-1] or parts == size):
            found.append(parts)
    return found
