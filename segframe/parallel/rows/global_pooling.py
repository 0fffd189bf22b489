"""Sums over all rows of an image, and pooling to grids, of maps whose rows are split over ranks.

What comes out is the same on all ranks. Each rank sends its gradient of it back, and these are partial: they add up
to the whole gradient, so that the backward pass of a sum over ranks is the sum over ranks.
Shape suffixes: B batch, C channels, H rows, W columns, g rows and h columns of a grid.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from segframe.parallel.rows.exchange import memory_format_of
from segframe.parallel.rows.group import Rows
from segframe.parallel.rows.replicated import Replicated
from segframe.parallel.rows.tensor import RowTensor, UnsplittableError, rule


def sum_over_ranks_of_rows(part: Tensor, rows: Rows) -> Replicated:
    """Returns the sum of the ranks' tensors on each of them; keeps nothing for the backward pass (collective).

    Args:
        part: This rank's summand, of the same shape on all ranks.
        rows: The ranks.
    """
    summed: Tensor = _Sum.apply(part, rows)
    return Replicated.of(summed, rows)


class _Sum(Function):
    @staticmethod
    def forward(ctx: Any, part: Tensor, rows: Rows) -> Tensor:
        ctx.rows = rows
        return _summed(part, rows)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return _summed(gradient, ctx.rows), None


def _summed(x: Tensor, rows: Rows, operation: Any = dist.ReduceOp.SUM) -> Tensor:
    total = x.clone(memory_format=torch.contiguous_format)
    if rows.size > 1 and not x.is_meta:
        dist.all_reduce(total, operation, group=rows.group)
    return total


def sum_over_rows(x: RowTensor, dims: Sequence[int], keepdim: bool, dtype: torch.dtype | None = None) -> Replicated:
    """Returns the sum over dimensions, that of rows among them (collective).

    Args:
        x: Split rows.
        dims: Dimensions, counted from the first one.
        keepdim: Whether they stay, with one value each.
        dtype: The type of the result; None as ``torch.sum`` has it.
    """
    wanted = dtype or torch.empty(0, dtype=x.dtype).sum().dtype
    part = x.local.sum(list(dims), keepdim=keepdim, dtype=_summable(wanted))
    return _cast(sum_over_ranks_of_rows(part, x.rows), wanted)


def mean_over_rows(x: RowTensor, dims: Sequence[int], keepdim: bool, dtype: torch.dtype | None = None) -> Replicated:
    """Returns the mean over dimensions, that of rows among them (collective); arguments as in ``sum_over_rows``."""
    wanted = dtype or x.dtype
    part = x.local.sum(list(dims), keepdim=keepdim, dtype=_summable(wanted))
    count = 1
    for dim in dims:
        count *= x.shape[dim]
    return _cast(sum_over_ranks_of_rows(part / count, x.rows), wanted)


def _summable(dtype: torch.dtype) -> torch.dtype:
    return torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype


def _cast(x: Replicated, dtype: torch.dtype) -> Replicated:
    return x if x.dtype == dtype else Replicated.of(x.as_subclass(Tensor).to(dtype), x.rows)


def largest_over_rows(x: RowTensor, dims: Sequence[int], keepdim: bool) -> Replicated:
    """Returns the largest values over dimensions, that of rows among them (collective).

    As with ``torch.amax``, values that are equally large share the gradient.
    """
    found: Tensor = _Largest.apply(x.local, list(dims), x.rows)
    return Replicated.of(found if keepdim else found.squeeze(list(dims)), x.rows)


class _Largest(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, dims: list[int], rows: Rows) -> Tensor:
        largest = _summed(x.amax(dims, keepdim=True), rows, dist.ReduceOp.MAX)
        ctx.save_for_backward(x, largest)
        ctx.dims, ctx.rows = dims, rows
        return largest

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, largest = ctx.saved_tensors
        hit = x == largest
        count = hit.sum(ctx.dims, keepdim=True)
        dtype = _summable(x.dtype)
        both = _summed(torch.stack((gradient.to(dtype), count.to(dtype))), ctx.rows)
        return hit * (both[0] / both[1]).to(x.dtype), None, None


def pool_rows_to_grids(x: RowTensor, grids: Sequence[tuple[int, int]]) -> list[Replicated]:
    """Pools adaptively by averages, to several grids at once (collective).

    Args:
        x: (B, C, H, W), its rows split.
        grids: Rows and columns of each grid.

    Returns:
        One (B, C, rows, columns) for each, equal to ``F.adaptive_avg_pool2d``.
    """
    wanted = x.dtype
    with _no_autocast(x.local):
        parts = [part.flatten(2) for part in _own_parts(x, grids)]
        whole = sum_over_ranks_of_rows(torch.cat(parts, dim=2), x.rows)
        starts = itertools.accumulate((g * h for g, h in grids), initial=0)
        # Not by split, whose parts can't be changed in place.
        pieces = [whole.narrow(2, start, g * h) for start, (g, h) in zip(starts, grids, strict=False)]
        return [_cast(p.unflatten(2, g), wanted) for p, g in zip(pieces, grids, strict=True)]  # type: ignore[no-untyped-call]


def _own_parts(x: RowTensor, grids: Sequence[tuple[int, int]]) -> list[Tensor]:
    """(B, C, g, h) for each grid: what the own rows add to the averages of its cells."""
    dtype, width = _summable(x.dtype), x.shape[3]
    if list(grids) == [(1, 1)]:
        return [x.local.sum((2, 3), keepdim=True, dtype=dtype) / (x.height * width)]
    first, stop = x.rows.own(x.height)
    shares_gH = torch.cat([_shares(x.height, g, dtype, x.device) for g, _ in grids])[:, first:stop]
    columns = [_shares(width, h, dtype, x.device) for _, h in grids]
    sizes, local = [g for g, _ in grids], x.local.to(dtype)
    if memory_format_of(local) == torch.channels_last:  # one product, and no copy
        sums_BgWC = (shares_gH @ local.permute(0, 2, 3, 1).flatten(2)).unflatten(2, (width, -1))  # type: ignore[no-untyped-call]
        return [(c @ p).permute(0, 3, 1, 2) for p, c in zip(torch.split(sums_BgWC, sizes, 1), columns, strict=True)]
    parts = torch.split(shares_gH @ local, sizes, 2)
    return [part @ c.T for part, c in zip(parts, columns, strict=True)]


def _shares(length: int, bins: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """(bins, length): how much each position adds to the average of each bin; bins may overlap."""
    position = torch.arange(length, device=device)
    starts, stops = zip(*_bins(length, bins), strict=True)
    start, stop = (torch.tensor(bounds, device=device)[:, None] for bounds in (starts, stops))
    return ((position >= start) & (position < stop)).to(dtype) / (stop - start).to(dtype)


def _bins(length: int, bins: int) -> list[tuple[int, int]]:
    return [(i * length // bins, -((i + 1) * length // -bins)) for i in range(bins)]


def _no_autocast(x: Tensor) -> Any:
    return torch.autocast("cpu" if x.is_meta else x.device.type, enabled=False)


def _grid(size: Any, x: RowTensor) -> tuple[int, int]:
    g, h = (size, size) if isinstance(size, int) else size
    return x.height if g is None else g, x.shape[3] if h is None else h


@rule(F.adaptive_avg_pool2d)
def adaptive_avg_pool2d(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Replicated:
    """Averages over the cells of a grid."""
    x: RowTensor = args[0]
    size = args[1] if len(args) > 1 else kwargs["output_size"]
    return pool_rows_to_grids(x, [_grid(size, x)])[0]


@rule("segframe.models.pspnet.pool_to_grids")
def pool_to_grids(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Replicated]:
    """Averages over the cells of several grids, in one exchange."""
    x, sizes = (*args, *kwargs.values())
    return pool_rows_to_grids(x, [(g, g) for g in sizes])


@rule(F.adaptive_max_pool2d)
def adaptive_max_pool2d(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Replicated:
    """Takes the largest value of each cell of a grid, the first of equal ones."""
    x: RowTensor = args[0]
    if kwargs.get("return_indices"):
        raise UnsplittableError("F.adaptive_max_pool2d with indices has no exact rule for rows split over ranks.")
    g, h = _grid(args[1] if len(args) > 1 else kwargs["output_size"], x)
    first, stop = x.rows.own(x.height)
    lines = []
    for top, bottom in _bins(x.height, g):
        own = x.local[:, :, max(top, first) - first : max(0, min(bottom, stop) - first)]
        nothing = x.local.new_full((*x.shape[:2], 1, h), float("-inf"))
        lines.append(F.adaptive_max_pool2d(own, (1, h)) if own.shape[2] else nothing)
    found: Tensor = _First.apply(torch.cat(lines, dim=2), x.rows)
    return Replicated.of(found, x.rows)


class _First(Function):
    """The largest of the ranks' values; the first rank that has it gets the gradient."""

    @staticmethod
    def forward(ctx: Any, own: Tensor, rows: Rows) -> Tensor:
        own = own.contiguous()
        of_rank = [torch.empty_like(own) for _ in range(rows.size)]
        if not own.is_meta:
            dist.all_gather(of_rank, own, group=rows.group)
        stacked = torch.stack(of_rank)
        largest = stacked.amax(0)
        is_largest = stacked == largest
        ctx.save_for_backward(is_largest[rows.rank] & ~is_largest[: rows.rank].any(0))
        ctx.rows = rows
        return largest

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (is_own,) = ctx.saved_tensors
        return _summed(gradient, ctx.rows) * is_own, None
