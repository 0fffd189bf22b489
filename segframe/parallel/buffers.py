"""Buffers that every rank has a copy of, and that may have become different."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.distributed as dist
from torch import Tensor

_ROUNDING = 1e-6  # relative: what another order of additions does to fp32


def take_from_rank_0(buffers: Mapping[str, Tensor], device: torch.device) -> list[str]:
    """Gives every rank those buffers of rank 0 that are not the same on all (collective).

    Args:
        buffers: By name, the same names on every rank; changed in place.
        device: Where the ranks exchange values.

    Returns:
        The names of those that were different.
    """
    if not buffers:
        return []
    sums = torch.stack([x for buffer in buffers.values() for x in _fingerprint(buffer, device)])
    largest = torch.cat((sums, -sums))
    dist.all_reduce(largest, dist.ReduceOp.MAX)
    upper, lower = largest.chunk(2)
    apart = ((upper + lower) > _ROUNDING * torch.maximum(upper.abs(), lower.abs())).view(-1, 2).any(1)
    names = [name for name, differs in zip(buffers, apart.tolist(), strict=True) if differs]
    for name in names:
        buffer = buffers[name]
        real = torch.view_as_real(buffer) if buffer.is_complex() else buffer
        value = (real.byte() if real.dtype == torch.bool else real).to(device).contiguous()
        dist.broadcast(value, 0)
        real.copy_(value)
    return names


def _fingerprint(buffer: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
    """Returns two sums of a buffer's values, of which one notices those that changed places."""
    values = torch.view_as_real(buffer) if buffer.is_complex() else buffer
    values = values.detach().to(device).double().flatten()
    weights = torch.arange(1, len(values) + 1, dtype=torch.float64, device=device) / max(1, len(values))
    return values.sum(), values @ weights
