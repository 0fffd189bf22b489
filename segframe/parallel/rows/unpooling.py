"""Inverses of max pooling on split rows: by indices, and by the masks of this project's SegNet.

Shape suffixes: B batch, C channels, H rows, W columns.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from segframe.parallel.rows.exchange import Exchange, fetch, memory_format_of, plan_exchange
from segframe.parallel.rows.group import Range, Rows
from segframe.parallel.rows.pooling import PooledIndices, Windows
from segframe.parallel.rows.tensor import RowTensor, UnsplittableError, rule


@rule(F.max_unpool2d)
def _unpool(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> RowTensor:
    return _max_unpool2d(*args, **kwargs)


def _max_unpool2d(
    input: RowTensor,  # noqa: A002
    indices: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    output_size: Sequence[int] | None = None,
) -> RowTensor:
    x, windows = input, Windows.of(kernel_size, stride, padding)
    sizes = zip(x.shape[2:], windows.kernel, windows.stride, windows.padding, strict=True)
    default = [(number - 1) * step + kernel - 2 * border for number, kernel, step, border in sizes]
    height, width = default if output_size is None else output_size[-2:]
    _check_places(indices, height, width)
    x.rows.check(height, "max_unpool2d")
    seen = [indices.windows.rows(i, i + 1) for i in range(x.height)]
    starts, stops = [first for first, _ in seen], [stop for _, stop in seen]
    need = [(bisect_right(stops, first), bisect_left(starts, stop)) for first, stop in x.rows.spans(height)]
    have = x.rows.spans(x.height)
    values, places = (fetch(t, have, need, x.rows) for t in (x.local, indices.local))
    first, stop = x.rows.own(height)
    return x.like(_scatter(values, places - first * width, stop - first, width), height)


def _check_places(indices: Any, height: int, width: int) -> None:
    if not isinstance(indices, PooledIndices):
        raise UnsplittableError(
            "max_unpool2d of rows that are split over ranks takes the indices that max_pool2d returned, unchanged."
        )
    last = min(indices.pooled_size[0], indices.windows.rows(0, indices.height)[1])
    if width != indices.pooled_size[1] or height < last:
        raise UnsplittableError(
            f"max_unpool2d to {height} x {width} pixels of indices in a map of {indices.pooled_size} puts values in "
            "other places than they came from; give output_size the size of the map that was pooled."
        )


def _scatter(values: Tensor, places: Tensor, height: int, width: int) -> Tensor:
    """Puts values at places; those of other ranks' rows go to a place that is cut off."""
    end = height * width
    places = torch.where((places < 0) | (places > end), end, places).flatten(2)
    flat = values.new_zeros((*values.shape[:2], end + 1)).scatter(2, places, values.flatten(2))
    spread = flat[..., :end].reshape((*values.shape[:2], height, width))
    return spread.contiguous(memory_format=memory_format_of(values))


@rule("segframe.models.unpooling.max_pool_with_mask")
def _pool_with_mask(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[RowTensor, RowTensor]:
    (x,) = args
    height = (x.height + 1) // 2
    x.rows.check(height, "max_pool_with_mask")
    have, need = x.rows.spans(x.height), _pairs_of_rows(x.rows, x.height)
    pooled, mask = _PoolWithMask.apply(x.local, plan_exchange(have, need, x.rows), function)
    return x.like(pooled, height), x.like(fetch(mask, need, have, x.rows))


@rule("segframe.models.unpooling.max_unpool")
def _unpool_by_mask(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> RowTensor:
    x, mask = cast(tuple[RowTensor, RowTensor], args)
    have, need = mask.rows.spans(mask.height), _pairs_of_rows(mask.rows, mask.height)
    spread = function(x.local, fetch(mask.local, have, need, mask.rows))
    return mask.like(fetch(spread, need, have, mask.rows))


def _pairs_of_rows(rows: Rows, height: int) -> list[Range]:
    """Returns the rows of the 2x2 windows that each rank owns."""
    return [(2 * first, min(2 * stop, height)) for first, stop in rows.spans((height + 1) // 2)]


class _PoolWithMask(Function):
    """Keeps the mask alone, which says where each gradient goes."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, plan: Exchange, function: Any) -> tuple[Tensor, Tensor]:
        pooled, mask = function(x if plan.is_idle else plan.join(x, plan.start(x).wait()))
        ctx.plan = plan
        ctx.save_for_backward(mask)
        ctx.mark_non_differentiable(mask)
        return pooled, mask

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        plan: Exchange = ctx.plan
        (mask,) = ctx.saved_tensors
        height, width = mask.shape[2:]
        spread = F.interpolate(dy, scale_factor=2.0, mode="nearest")[..., :height, :width]
        dx = torch.where(mask, spread, dy.new_zeros(()))
        return plan.join_back(dx, plan.start_back(dx).wait()), None, None
