"""Which parts of a net are gathered and freed together when parameters are sharded."""

from __future__ import annotations

import copy
from collections import Counter

import torch
from torch import nn

_LARGEST_SHARE = 8  # a unit holds at most an eighth of the net, unless a single layer holds more
_SMALLEST_SHARE = 200  # what is smaller goes with the root: a gather of its own would cost more than it frees


def shard_units(net: nn.Module) -> list[str]:
    """Returns the names of the modules that are sharded as a unit each, in the order of the net.

    A unit's parameters are whole only while its forward or backward pass runs. It must be a module that is
    called, and once per pass: the net is run on tensors without data to find out. Everything that is in
    no unit is whole for as long as the net runs.

    Args:
        net: Any net; it is not changed.
    """
    calls = _calls(net)
    total = sum(p.numel() for p in net.parameters())
    found: list[str] = []
    _collect(net, "", calls, total, found)
    return found


def _collect(module: nn.Module, name: str, calls: Counter[str], total: int, found: list[str]) -> None:
    size = sum(p.numel() for p in module.parameters())
    if size * _SMALLEST_SHARE < total:
        return
    children = [
        (child, inner) for child, inner in module.named_children() if next(inner.parameters(), None) is not None
    ]
    if name and calls[name] == 1 and (size * _LARGEST_SHARE <= total or not children):
        found.append(name)
        return
    for child, inner in children:
        _collect(inner, f"{name}.{child}" if name else child, calls, total, found)


def _calls(net: nn.Module) -> Counter[str]:
    """Counts how often each module is called in a training pass; none where the net takes no such image."""
    convolution = next((m for m in net.modules() if isinstance(m, nn.Conv2d)), None)
    if convolution is None:
        return Counter()
    twin = copy.deepcopy(net).to("meta").train()
    calls: Counter[str] = Counter()
    for name, module in twin.named_modules():
        module.register_forward_hook(lambda *_, name=name: calls.update([name]))
    try:
        with torch.no_grad():
            twin(torch.empty(2, convolution.in_channels, 128, 128, device="meta"))
    except (RuntimeError, NotImplementedError, ValueError):
        return Counter()  # the whole net is one unit, which is right for any net
    return calls
