"""Parts of tensors whose rows are split over ranks: windows, chunks, and what is put together of them.

A part of the rows is a tensor of its own height, split over the ranks by the rule that holds everywhere. It is a
copy: unlike a view of a plain tensor it writes to the whole only by assignment, ``x[..., rows, columns] = part``, and
whatever else would write to both is refused (see windows.py).
Shape suffixes: B batch, C channels, H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from segframe.parallel.rows.elementwise import own_rows
from segframe.parallel.rows.exchange import fetch
from segframe.parallel.rows.group import Range
from segframe.parallel.rows.shapes import moved, place_of_rows
from segframe.parallel.rows.tensor import RowTensor, UnsplittableError, name_of, rule, split_among
from segframe.parallel.rows.windows import take


@rule(Tensor.__getitem__)
def get(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> RowTensor:
    """Takes a window, ``x[..., rows, columns]``."""
    x, index = args
    first, second, rows, columns = _slices(x, index)
    return _rows_of(x.like(x.local[first, second, :, columns]), rows, x)


def _rows_of(x: RowTensor, rows: slice, source: RowTensor) -> RowTensor:
    start, stop, step = rows.indices(x.height)
    height = len(range(start, stop, step))
    if (start, height, step) == (0, x.height, 1):
        return x
    x.rows.check(height, f"a window of the rows {start} to {stop}")
    need = [(start + a * step, start + (b - 1) * step + 1) for a, b in x.rows.spans(height)]
    fetched = fetch(x.local, x.rows.spans(x.height), need, x.rows)
    if fetched is not x.local:
        take(fetched, source)
    return x.like(fetched[:, :, ::step], height)


@rule(Tensor.__setitem__)
def put(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Writes a window, ``x[..., rows, columns] = part``."""
    x, index, part = args
    if not isinstance(x, RowTensor):
        raise UnsplittableError(
            "a part whose rows are split over ranks can't be written into a tensor that is whole on each of them; "
            "make that tensor from the split one (new_zeros, zeros_like)."
        )
    first, second, rows, columns = _slices(x, index)
    start, stop, step = rows.indices(x.height)
    height = len(range(start, stop, step))
    wanted = [_within(span, start, step, height) for span in x.rows.spans(x.height)]
    low, high = wanted[x.rows.rank]
    begin = start + low * step - x.rows.own(x.height)[0]
    place = slice(begin, begin + max(0, (high - low - 1) * step + 1), step) if low < high else slice(0, 0)
    # Also where no row is written: in the backward pass every rank answers the others.
    x.local[first, second, place, columns] = _rows_to_write(part, wanted, height, x)


def _rows_to_write(part: Any, wanted: Sequence[Range], height: int, x: RowTensor) -> Any:
    low, high = wanted[x.rows.rank]
    if isinstance(part, RowTensor):
        if part.height != height:
            raise ValueError(f"a part of {part.height} rows was to be written to {height} rows of {tuple(x.shape)}.")
        return fetch(part.local, part.rows.spans(height), wanted, x.rows)
    if isinstance(part, Tensor) and part.dim() > 1 and part.shape[-2] == height > 1:
        return part[..., low:high, :]
    return part


def _within(span: Range, start: int, step: int, height: int) -> Range:
    """Returns which of the rows start, start + step, ... lie in a span: their numbers from 0 to height."""
    low, high = (min(height, max(0, -((start - edge) // step))) for edge in span)
    return low, max(low, high)


def _slices(x: RowTensor, index: Any) -> list[slice]:
    """Returns a slice for each of the four dimensions."""
    given = list(index) if isinstance(index, tuple) else [index]
    if any(i is not Ellipsis and not isinstance(i, slice) for i in given) or given.count(Ellipsis) > 1:
        raise UnsplittableError(
            f"the index {index!r} of a tensor {tuple(x.shape)} whose rows are split over ranks has no exact rule; "
            "slices have one, such as x[..., 2:8, :]."
        )
    if Ellipsis not in given:
        given.append(Ellipsis)
    place = given.index(Ellipsis)
    given[place : place + 1] = [slice(None)] * (5 - len(given))
    return given


@rule(torch.narrow, Tensor.narrow, any_shape=True)
def narrow(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> RowTensor:
    """Takes consecutive parts of a dimension."""
    x, dim, start, length = _arguments(("input", "dim", "start", "length"), args, kwargs)
    return _narrow(function, x, dim, start, length)


def _narrow(function: Any, x: RowTensor, dim: int, start: int, length: int) -> RowTensor:
    if dim % x.ndim != place_of_rows(x):
        return x.like(x.local.narrow(dim, start, length))
    if not x.is_image:
        raise UnsplittableError(f"{name_of(function)} of the rows of a tensor {tuple(x.shape)} has no exact rule.")
    start %= x.height
    return _rows_of(x, slice(start, start + length), x)


@rule(torch.chunk, Tensor.chunk, any_shape=True)
def chunk(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[RowTensor, ...]:
    """Cuts a dimension into so many parts."""
    x, chunks, dim = _arguments(("input", "chunks", "dim"), args, kwargs, 0)
    return _cut(function, x, max(1, -(-x.shape[dim] // chunks)), dim)


@rule(torch.split, Tensor.split, torch.functional.split, any_shape=True)
def split(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[RowTensor, ...]:
    """Cuts a dimension into parts of such sizes."""
    kwargs = {"split_size" if name == "split_size_or_sections" else name: value for name, value in kwargs.items()}
    x, sizes, dim = _arguments(("tensor", "split_size", "dim"), args, kwargs, 0)
    return _cut(function, x, sizes, dim)


def _cut(function: Any, x: RowTensor, sizes: int | Sequence[int], dim: int) -> tuple[RowTensor, ...]:
    length = x.shape[dim]
    if isinstance(sizes, int):
        sizes = [min(sizes, length - start) for start in range(0, length, sizes)]
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    return tuple(_narrow(function, x, dim, start, size) for start, size in zip(starts, sizes, strict=True))


@rule(torch.cat, torch.concat, torch.concatenate, any_shape=True)
def cat(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> RowTensor:
    """Joins tensors along a dimension; plain ones are taken for the same on all ranks."""
    kwargs = {"dim" if name == "axis" else name: value for name, value in kwargs.items()}
    tensors, dim = _arguments(("tensors", "dim"), args, kwargs, 0)
    x = split_among(tensors)
    if dim % x.ndim == place_of_rows(x):
        return _cat_rows(function, tensors, x)
    for other in tensors:
        if other.shape[x.axis] != x.height:
            raise ValueError(f"torch.cat got tensors of {other.shape[x.axis]} and {x.height} rows.")
    return x.like(torch.cat([own_rows(t, x) for t in tensors], dim))


def _cat_rows(function: Any, tensors: Sequence[Any], x: RowTensor) -> RowTensor:
    if any(t.dim() != 4 or (isinstance(t, RowTensor) and not t.is_image) for t in tensors):
        raise UnsplittableError(f"{name_of(function)} along the rows has no exact rule but for (B, C, H, W).")
    height = sum(t.shape[2] for t in tensors)
    offset, parts = 0, []
    for t in tensors:
        need = [_within(span, offset, 1, t.shape[2]) for span in x.rows.spans(height)]
        low, high = need[x.rows.rank]
        is_split = isinstance(t, RowTensor)
        parts.append(fetch(t.local, t.rows.spans(t.height), need, t.rows) if is_split else t[:, :, low:high])
        offset += t.shape[2]
    return x.like(torch.cat(parts, 2), height)


@rule(torch.stack, any_shape=True)
def stack(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> RowTensor:
    """Joins tensors along a new dimension."""
    tensors, dim = _arguments(("tensors", "dim"), args, kwargs, 0)
    x = split_among(tensors)
    if any(tuple(t.shape) != tuple(x.shape) for t in tensors):
        raise ValueError(f"torch.stack got tensors of unlike shapes: {[tuple(t.shape) for t in tensors]}.")
    dim, place = dim % (x.ndim + 1), place_of_rows(x)
    return moved(x, torch.stack([own_rows(t, x) for t in tensors], dim), place + (dim <= place))


@rule(torch.flip, Tensor.flip)
def flip(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> RowTensor:
    """Turns the order of dimensions round."""
    x: RowTensor = args[0]
    given = args[1:] or (kwargs["dims"],)
    dims = {d % 4 for d in (given[0] if isinstance(given[0], list | tuple) else given)}
    local = x.local.flip(list(dims))
    if 2 in dims:
        have = [(x.height - b, x.height - a) for a, b in x.rows.spans(x.height)]
        local = fetch(local, have, x.rows.spans(x.height), x.rows)
    return x.like(local)


@rule(Tensor.expand, Tensor.expand_as, Tensor.repeat)
def expand(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> RowTensor:
    """Repeats dimensions other than that of the rows."""
    x = split_among(args)
    if function is Tensor.expand_as:
        like: RowTensor = args[1]
        return like.like(own_rows(args[0], like).expand_as(like.local))
    sizes = list(args[1] if isinstance(args[1], list | tuple) else args[1:])
    kept = (1,) if function is Tensor.repeat else (-1, x.height)
    if len(sizes) != 4 or sizes[2] not in kept:
        raise UnsplittableError(f"{name_of(function)} of {tuple(x.shape)} by {sizes} would repeat rows that are split.")
    sizes[2] = 1 if function is Tensor.repeat else -1
    return x.like(function(x.local, *sizes))


def _arguments(names: Sequence[str], args: tuple[Any, ...], kwargs: dict[str, Any], last: Any = None) -> list[Any]:
    """Returns arguments in the order of their names; ``last`` where the last one isn't given."""
    given = dict(zip(names, args, strict=False)) | kwargs
    return [given[name] for name in names[:-1]] + [given.get(names[-1], last)]
