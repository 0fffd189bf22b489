"""What a rank's memory holds between two steps, exactly: bytes of the storages behind its tensors."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from torch import Tensor, nn
from torch.optim import Optimizer

from segframe.sharding import local


class Held(NamedTuple):
    """Bytes that a rank holds between steps.

    Attributes:
        parameters: Of the net.
        gradients: Of its parameters.
        optimizer_state: Moments and step counts.
    """

    parameters: int
    gradients: int
    optimizer_state: int


def held(net: nn.Module, optimizer: Optimizer) -> Held:
    """Returns what a rank holds behind an optimizer step, before gradients are cleared.

    Args:
        net: The net, or this rank's part of it.
        optimizer: That of the net.
    """
    parameters = list(net.parameters())
    states = (value for state in optimizer.state.values() for value in state.values() if isinstance(value, Tensor))
    gradients = (p.grad for p in parameters if p.grad is not None)
    return Held(storage_bytes(parameters), storage_bytes(gradients), storage_bytes(states))


def storage_bytes(tensors: Iterable[Tensor]) -> int:
    """Returns the bytes of this rank's storages behind tensors, each storage once.

    A view counts as what it looks into: gradients in DDP's buckets, and shards with FSDP's padding, cost what they
    cost. Tensors that have a shape and no data, such as parameters of other ranks' layers, cost nothing.

    Args:
        tensors: Plain or sharded ones.
    """
    storages = {}
    for tensor in (tensor for tensor in tensors if not tensor.is_meta):
        storage = local(tensor).untyped_storage()
        storages[storage._cdata] = storage.nbytes()
    return sum(storages.values())
