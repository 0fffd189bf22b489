"""What moves or copies values and changes none: every rank does so with its own rows."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from segframe.parallel.rows.tensor import RowTensor, rule

_ON_OWN_ROWS = [torch.clone, torch.detach, torch.is_floating_point, torch.is_complex] + [
    getattr(Tensor, name)
    for name in (
        *("clone", "contiguous", "detach", "detach_", "to", "type", "type_as", "float", "double", "half", "bfloat16"),
        *("bool", "int", "long", "cpu", "cuda", "requires_grad_", "retain_grad", "pin_memory"),
    )
]


@rule(*_ON_OWN_ROWS, any_shape=True)
def on_own_rows(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Applies what looks at one value after the other; a plain tensor takes type and device of split rows."""
    x = args[0]
    result = function(*(a.local if isinstance(a, RowTensor) else a for a in args), **kwargs)
    if not isinstance(result, Tensor) or not isinstance(x, RowTensor):
        return result
    return x if result is x.local else x.like(result)


@rule(Tensor.register_hook, any_shape=True)
def register_hook(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Shows a hook the gradient of all rows, so that what it computes over them is right or refused."""
    x: RowTensor
    x, hook = (*args, *kwargs.values())

    def on_rows(gradient: Tensor) -> Tensor | None:
        changed = hook(x.like(gradient))
        return changed.local if isinstance(changed, RowTensor) else changed

    return function(x.local, on_rows)


@rule(torch.numel, any_shape=True)
def numel(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
    """Counts the values of the whole tensor."""
    return int(args[0].numel())
