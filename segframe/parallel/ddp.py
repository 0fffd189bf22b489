"""`strategy=ddp`: the batch is split over ranks, and their gradients are averaged."""

from __future__ import annotations

from datetime import timedelta

from pytorch_lightning.strategies import DDPStrategy, Strategy

from segframe.ranges import Positive


def ddp(timeout_s: Positive = 1800) -> Strategy:
    """Returns DistributedDataParallel for the net as it is: no parameter goes without a gradient.

    Li et al., "PyTorch Distributed: Experiences on Accelerating Data Parallel Training", VLDB 2020.

    Args:
        timeout_s: How long a rank waits for the others.
    """
    return DDPStrategy(find_unused_parameters=False, gradient_as_bucket_view=True, timeout=timedelta(seconds=timeout_s))
