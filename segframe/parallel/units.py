"""Which parts of a net are gathered and freed together when parameters are sharded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from segframe.parallel.twin import image_for, twin_of

_LARGEST_SHARE = 8  # a unit holds at most an eighth of the net, unless a single layer holds more
_SMALLEST_SHARE = 200  # what is smaller goes with the root: a gather of its own would cost more than it frees


def shard_units(net: nn.Module) -> list[str]:
    """Returns the names of the modules that are sharded as a unit each, in the order of the net.

    A unit's parameters are whole only while its forward or backward pass runs. It must be a module that is
    called, and once per pass, and nothing outside may use its parameters: the net is run on tensors without
    data to find out. Everything that is in no unit is whole for as long as the net runs.

    Args:
        net: Any net; it is not changed.
    """
    uses = _uses(net)
    total = sum(p.numel() for p in net.parameters())
    found: list[str] = []
    _collect(net, "", uses, total, found)
    return found


def _collect(module: nn.Module, name: str, uses: _Uses, total: int, found: list[str]) -> None:
    size = sum(p.numel() for p in module.parameters())
    if size * _SMALLEST_SHARE < total:
        return
    children = [
        (child, inner) for child, inner in module.named_children() if next(inner.parameters(), None) is not None
    ]
    if name and uses.are_inside(name) and (size * _LARGEST_SHARE <= total or not children):
        found.append(name)
        return
    for child, inner in children:
        _collect(inner, f"{name}.{child}" if name else child, uses, total, found)


@dataclass
class _Uses:
    """What was seen of a training pass.

    Attributes:
        calls: How often each module was called.
        apart: Names of modules with parameters that something outside of them holds or uses.
    """

    calls: Counter[str] = field(default_factory=Counter)
    apart: set[str] = field(default_factory=set)

    def are_inside(self, name: str) -> bool:
        return self.calls[name] == 1 and name not in self.apart


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes for each use of a parameter whether the modules that hold it are being called."""

    def __init__(self, holders: Mapping[int, set[str]]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.uses, self.running = _Uses(), Counter[str]()
        self._holders = holders

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for leaf in tree_leaves((args, kwargs)):
            if isinstance(leaf, Tensor):
                self.uses.apart |= {name for name in self._holders.get(id(leaf), ()) if not self.running[name]}
        return func(*args, **(kwargs or {}))

    def follow(self, name: str, module: nn.Module) -> None:
        def begin(*_: Any) -> None:
            self.uses.calls[name] += 1
            self.running[name] += 1

        def end(*_: Any) -> None:
            self.running[name] -= 1

        module.register_forward_pre_hook(begin)
        module.register_forward_hook(end)


def _uses(net: nn.Module) -> _Uses:
    """Watches a training pass; nothing is seen where the net takes no such image or can't be copied."""
    try:
        twin = twin_of(net)
        watch = _Watch(_holders(twin))
        for name, module in twin.named_modules():
            watch.follow(name, module)
        with torch.no_grad(), watch:
            twin(image_for(twin))
    except Exception:  # whatever a net's own code raises for such an image
        return _Uses()  # the whole net is one unit, which is right for any net
    watch.uses.apart |= _sharing(net)  # not the twin, which has a parameter of its own for each
    return watch.uses


def _holders(net: nn.Module) -> dict[int, set[str]]:
    """Returns for each parameter's id the names of the modules that hold it, directly or in a part."""
    found: dict[int, set[str]] = {}
    for name, module in net.named_modules():
        for parameter in module.parameters():
            found.setdefault(id(parameter), set()).add(name)
    return found


def _sharing(net: nn.Module) -> set[str]:
    """Returns the names of modules with a parameter that a module outside of them has too."""
    owners: dict[int, list[str]] = {}
    for name, module in net.named_modules(remove_duplicate=False):
        for parameter in module.parameters(recurse=False):
            owners.setdefault(id(parameter), []).append(name)
    return {
        name
        for name, module in net.named_modules()
        for parameter in module.parameters()
        if not all(f"{owner}.".startswith(f"{name}.") for owner in owners[id(parameter)])
    } - {""}
