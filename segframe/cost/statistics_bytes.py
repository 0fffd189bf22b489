"""What shared BatchNorm sends per step beside gradients and parameters."""

from __future__ import annotations

import torch
from torch import nn

from segframe.parallel.batch_norm import SharedBatchNorm


def statistics_bytes(net: nn.Module, num_micro_batches: int) -> int:
    """Returns the bytes that a rank sends for the statistics of a step, each collective over a ring.

    Per call of a layer of C channels on N ranks: an all-gather of 2 C + 1 values per rank in the forward pass, of
    which a rank passes N - 1 on, and an all-reduce of 2 C values in the backward pass, which is 2 (N - 1) / N of them.

    Args:
        net: Whose layers have been shared; each is called once per micro-batch.
        num_micro_batches: Passes per step.
    """
    total = 0.0
    for module in net.modules():
        if isinstance(module, SharedBatchNorm):
            # Of a net whose maps are split into rows: nearly all of its layers see such maps.
            ranks, channels = getattr(module, "ranks_of_rows", module.ranks).size, module.num_features
            values = (ranks - 1) * (2 * channels + 1) + 2 * (ranks - 1) / ranks * 2 * channels
            total += values * _itemsize(module)
    return int(total * num_micro_batches)


def _itemsize(module: SharedBatchNorm) -> int:
    """Returns the bytes of a statistic, which is summed in fp32 or better."""
    known = module.running_mean if module.running_mean is not None else module.weight
    dtype = torch.float32 if known is None else torch.promote_types(known.dtype, torch.float32)
    return dtype.itemsize
