"""Operations along dimensions that are not that of the rows: softmax over classes, argmax, reductions.

Sums, means and largest values over rows too are those of all ranks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from segframe.parallel.rows.global_pooling import largest_over_rows, mean_over_rows, sum_over_rows
from segframe.parallel.rows.shapes import moved, place_of_rows
from segframe.parallel.rows.tensor import RowTensor, UnsplittableError, name_of, rule, split_among

_NO_DIM = object()


def _refuse(function: Any, x: RowTensor) -> UnsplittableError:
    return UnsplittableError(
        f"{name_of(function)} of a tensor {tuple(x.shape)} over the dimension {x.axis}, whose rows are split over "
        "ranks, has no exact rule. Choose a model without it, or a strategy that leaves the rows of an image together."
    )


def _dims(x: RowTensor, dim: Any) -> list[int]:
    """Returns dimensions counted from the first one; all of them where none is given."""
    if dim is None or dim is _NO_DIM or (not isinstance(dim, int) and not list(dim)):
        return list(range(x.ndim))
    return sorted(d % x.ndim for d in ((dim,) if isinstance(dim, int) else dim))


def _given(names: Sequence[str], args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    return dict(zip(names, args[1:], strict=False)) | kwargs


_SOFT = (F.softmax, F.log_softmax, F.softmin, torch.softmax, torch.log_softmax, Tensor.softmax, Tensor.log_softmax)
_DIM_AFTER: dict[Any, tuple[tuple[str, ...], int | None]] = {
    F.normalize: (("p", "dim"), 1),
    F.glu: (("dim",), -1),
    torch.cumsum: (("dim",), None),
    Tensor.cumsum: (("dim",), None),
    **dict.fromkeys(_SOFT, (("dim",), None)),
}
"""The arguments behind the tensor up to the dimension that is looked along, and which one that is by default."""


@rule(*_DIM_AFTER, any_shape=True)
def along(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> RowTensor:
    """Runs on the own rows what looks along one other dimension."""
    x: RowTensor = args[0]
    names, default = _DIM_AFTER[function]
    dim = _given(names, args, kwargs).get("dim", default)
    if dim is None or dim % x.ndim == place_of_rows(x):
        raise _refuse(function, x)
    return x.like(function(x.local, *args[1:], **kwargs))


@rule(F.linear, any_shape=True)
def linear(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> RowTensor:
    """Maps the last dimension."""
    x = split_among(args)
    if x is not args[0] or x.axis == -1:
        raise _refuse(function, x)
    mapped: RowTensor = x.like(function(x.local, *args[1:], **kwargs))
    return mapped


def _kept(x: RowTensor, local: Tensor, gone: Sequence[int]) -> RowTensor:
    """Returns own rows after a reduction along other dimensions, which are gone or have one value each."""
    place = place_of_rows(x)
    return moved(x, local, place if local.dim() == x.ndim else place - sum(d < place for d in gone))


@rule(torch.sum, Tensor.sum, torch.mean, Tensor.mean, any_shape=True)
def sum_or_mean(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Adds values; over rows too, the sum is that of all ranks."""
    x: RowTensor = args[0]
    given = _given(("dim", "keepdim"), args, kwargs)
    dims, keepdim, dtype = (
        _dims(x, given.get("dim", given.get("axis"))),
        given.get("keepdim", False),
        given.get("dtype"),
    )
    if place_of_rows(x) not in dims:
        return _kept(x, function(x.local, dims, keepdim=keepdim, dtype=dtype), dims)
    over_rows = mean_over_rows if function in (torch.mean, Tensor.mean) else sum_over_rows
    return over_rows(x, dims, keepdim, dtype)


@rule(torch.amax, Tensor.amax, torch.amin, Tensor.amin, any_shape=True)
def extreme(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Takes the largest or smallest values; over rows too, those of all ranks."""
    x: RowTensor = args[0]
    given = _given(("dim", "keepdim"), args, kwargs)
    dims, keepdim = _dims(x, given.get("dim")), given.get("keepdim", False)
    if place_of_rows(x) not in dims:
        return _kept(x, function(x.local, dims, keepdim=keepdim), dims)
    if function in (torch.amax, Tensor.amax):
        return largest_over_rows(x, dims, keepdim)
    return -largest_over_rows(x.like(-x.local), dims, keepdim)


_WITH_DIM = [
    getattr(owner, name)
    for owner in (torch, Tensor)
    for name in ("argmax", "argmin", "max", "min", "logsumexp", "prod", "any", "all", "var", "std", "norm")
]


@rule(*_WITH_DIM, any_shape=True)
def reduce(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Reduces the own rows along other dimensions; two tensors are compared value by value."""
    others = (*args[1:], *kwargs.values())
    x = split_among(args)
    if any(isinstance(other, RowTensor | Tensor) for other in others):
        elementwise = {"max": torch.maximum, "min": torch.minimum}[function.__name__]
        return elementwise(*args, **kwargs)
    names = ("p", "dim") if function.__name__ == "norm" else ("dim",)
    given = _given(names, args, kwargs)
    dims = _dims(x, given.get("dim", _NO_DIM))
    if place_of_rows(x) in dims:
        raise _refuse(function, x)
    result = function(x.local, *args[1:], **kwargs)
    if isinstance(result, Tensor):
        return _kept(x, result, dims)
    return type(result)([_kept(x, part, dims) for part in result])
