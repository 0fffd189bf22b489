"""`strategy=ddp`: the batch is split over ranks, and their gradients are averaged."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

from torch import nn
from torch.nn.parallel import DistributedDataParallel

from segframe.parallel.process_group import ProcessGroupStrategy
from segframe.ranges import Positive


class DDP(ProcessGroupStrategy):
    """DistributedDataParallel over the net as it is: no parameter goes without a gradient.

    Li et al., "PyTorch Distributed: Experiences on Accelerating Data Parallel Training", VLDB 2020.

    Args:
        sync_batchnorm: Whether BatchNorm's statistics are those of all ranks, so that numbers are those of one.
        timeout_s: How long a rank waits for the others in training.
        start_timeout_s: How long it waits for them at the start.
    """

    def __init__(
        self, sync_batchnorm: bool = True, timeout_s: Positive = 1800, start_timeout_s: Positive = 120
    ) -> None:
        super().__init__(
            sync_batchnorm,
            timeout_s,
            start_timeout_s,
            find_unused_parameters=False,
            gradient_as_bucket_view=True,
            # Equal already where statistics are shared; otherwise rank 0's are taken before an evaluation.
            broadcast_buffers=False,
        )

    def wrap(self) -> None:
        """Averages gradients in the backward pass, where there are other ranks."""
        if self.world_size > 1:
            self.configure_ddp()

    def without_sync(self) -> AbstractContextManager[Any]:
        """Returns the context in which gradients are summed here alone."""
        return self.model.no_sync() if isinstance(self.model, DistributedDataParallel) else nullcontext()

    def minimum_bytes_sent(self, net: nn.Module) -> int:
        """Returns what a ring all-reduce of the gradients sends."""
        gradients = sum(p.numel() * p.element_size() for p in net.parameters() if p.requires_grad)
        return 2 * (self.world_size - 1) * gradients // self.world_size
