"""From whole tensors to a rank's parts and back."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor


def full(tensor: Tensor) -> Tensor:
    """Returns a sharded tensor's whole (collective), and any other as it is."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def local(tensor: Tensor) -> Tensor:
    """Returns this rank's part of a tensor, in the same memory."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def part_like(whole: Tensor, own: Tensor) -> Tensor:
    """Returns this rank's part of a whole tensor, split as ``own`` is.

    Args:
        whole: The same values on every rank.
        own: A sharded tensor of the same global shape, or any other.
    """
    if not isinstance(own, DTensor):
        return whole
    moved = whole.to(device=own.device, dtype=own.dtype if whole.is_floating_point() else whole.dtype)
    # Every rank has the whole already: nothing is sent.
    return distribute_tensor(moved, own.device_mesh, own.placements, src_data_rank=None)


def split_like(whole: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns this rank's parts of named whole tensors; names that it has not stay whole."""
    with torch.no_grad():
        return {name: part_like(tensor, own[name]) if name in own else tensor for name, tensor in whole.items()}
