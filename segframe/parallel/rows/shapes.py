"""Other shapes of tensors whose rows stay together: moved, added, dropped and regrouped dimensions."""

from __future__ import annotations

from math import prod
from typing import Any

import torch
from torch import Tensor

from segframe.parallel.rows.tensor import RowTensor, UnsplittableError, name_of, rule


def place_of_rows(x: RowTensor) -> int:
    """Returns the dimension of rows, counted from the first one."""
    return x.ndim + x.axis


def moved(x: RowTensor, local: Tensor, place: int) -> RowTensor:
    """Returns own rows in a tensor of another shape, as many in all as before.

    Args:
        x: Where they come from.
        local: The own rows.
        place: Their dimension, counted from the first one.
    """
    return RowTensor(local, x.height, x.rows, place - local.dim())


@rule(torch.permute, Tensor.permute, any_shape=True)
def permute(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> RowTensor:
    """Moves dimensions."""
    x: RowTensor = args[0]
    given = args[1:] if len(args) > 1 else (kwargs["dims"],)
    dims = [d % x.ndim for d in (given[0] if isinstance(given[0], list | tuple) else given)]
    return moved(x, x.local.permute(dims), dims.index(place_of_rows(x)))


@rule(torch.transpose, Tensor.transpose, torch.swapaxes, Tensor.swapaxes, any_shape=True)
def transpose(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> RowTensor:
    """Swaps two dimensions."""
    x: RowTensor = args[0]
    a, b = (d % x.ndim for d in (*args[1:], *kwargs.values()))
    place = place_of_rows(x)
    return moved(x, x.local.transpose(a, b), {a: b, b: a}.get(place, place))


@rule(torch.unsqueeze, Tensor.unsqueeze, any_shape=True)
def unsqueeze(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> RowTensor:
    """Adds a dimension."""
    x: RowTensor = args[0]
    dim = (args[1] if len(args) > 1 else kwargs["dim"]) % (x.ndim + 1)
    place = place_of_rows(x)
    return moved(x, x.local.unsqueeze(dim), place + (dim <= place))


@rule(torch.squeeze, Tensor.squeeze, any_shape=True)
def squeeze(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> RowTensor:
    """Drops dimensions of one value; that of rows stays."""
    x: RowTensor = args[0]
    given = args[1] if len(args) > 1 else kwargs.get("dim", range(x.ndim))
    asked = {d % x.ndim for d in ((given,) if isinstance(given, int) else given)}
    place = place_of_rows(x)
    gone = [d for d in sorted(asked) if d != place and x.shape[d] == 1]
    return moved(x, x.local.squeeze(gone) if gone else x.local, place - sum(d < place for d in gone))


@rule(Tensor.view, Tensor.reshape, torch.reshape, torch.flatten, Tensor.flatten, any_shape=True)
def reshape(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> RowTensor:
    """Regroups dimensions before and behind that of the rows."""
    x: RowTensor = args[0]
    shape = _flat(x, args, kwargs) if function in (torch.flatten, Tensor.flatten) else _asked(x, args, kwargs)
    place = place_of_rows(x)
    behind = prod(x.shape[place + 1 :])
    fits = [d for d, size in enumerate(shape) if size == x.height and prod(shape[d + 1 :]) == behind]
    if not fits:
        raise UnsplittableError(
            f"{name_of(function)} makes {tuple(shape)} of {tuple(x.shape)}, whose dimension {x.axis} is that of rows "
            "split over ranks, and rows would be mixed with other dimensions. Attention over all positions does so. "
            "Choose a model without it, or a strategy that leaves the rows of an image together."
        )
    shape[fits[0]] = x.local.shape[x.axis]
    local = x.local.view(shape) if function is Tensor.view else x.local.reshape(shape)
    return moved(x, local, fits[0])


def _asked(x: RowTensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[int]:
    given = args[1:] or tuple(kwargs.values())
    if isinstance(given[0], torch.dtype):
        raise UnsplittableError("Tensor.view of another type has no exact rule for rows split over ranks; use to().")
    shape = list(given[0] if isinstance(given[0], list | tuple) else given)
    if -1 in shape:
        rest = -prod(shape)
        shape[shape.index(-1)] = x.numel() // rest if rest else 0
    return shape


def _flat(x: RowTensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[int]:
    limits = dict(zip(("start_dim", "end_dim"), args[1:], strict=False)) | kwargs
    first, last = limits.get("start_dim", 0) % x.ndim, limits.get("end_dim", -1) % x.ndim
    return [*x.shape[:first], prod(x.shape[first : last + 1]), *x.shape[last + 1 :]]
