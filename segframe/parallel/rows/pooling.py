"""Pooling of tensors whose rows are split over ranks.

Beyond the image max pooling sees minus infinity. Indices of maxima count through the whole map, as without ranks.
Shape suffixes: B batch, C channels, H rows, W columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.utils._pytree import register_pytree_node

from segframe.parallel.rows.convolution import Pair, pair
from segframe.parallel.rows.exchange import Exchange, plan_exchange
from segframe.parallel.rows.group import Range, Rows
from segframe.parallel.rows.tensor import RowTensor, rule


@dataclass(frozen=True)
class Windows:
    """Where pooling windows lie; each pair is for rows and columns."""

    kernel: Pair
    stride: Pair
    padding: Pair
    dilation: Pair
    ceil_mode: bool

    @classmethod
    def of(cls, kernel: Any, stride: Any, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False) -> Windows:
        """Reads what torch's pooling functions take; no stride is that of the kernel."""
        stride = kernel if stride is None or stride == [] else stride
        return cls(pair(kernel), pair(stride), pair(padding), pair(dilation), ceil_mode)

    def number(self, length: int) -> int:
        """Returns how many windows there are down ``length`` rows."""
        step, border, reach = self.stride[0], self.padding[0], self.dilation[0] * (self.kernel[0] - 1)
        number = (length + 2 * border - reach - 1 + (step - 1 if self.ceil_mode else 0)) // step + 1
        # None begins in the padding below.
        return number - 1 if self.ceil_mode and (number - 1) * step >= length + border else number

    def rows(self, first: int, stop: int) -> Range:
        """Returns the rows that the windows ``first`` to ``stop`` see, padding included."""
        step, border, reach = self.stride[0], self.padding[0], self.dilation[0] * (self.kernel[0] - 1)
        return first * step - border, (stop - 1) * step - border + reach + 1

    def plan(self, x: RowTensor, operation: str) -> tuple[Exchange, int]:
        """Returns the exchange of rows and the number of windows.

        Raises:
            ValueError: If some rank would have no window.
        """
        height = self.number(x.height)
        x.rows.check(height, f"{operation} with a kernel of {self.kernel} and a stride of {self.stride}")
        if self.padding[0] > self.kernel[0] // 2:
            raise ValueError(f"{operation} takes a padding of half the kernel {self.kernel} at most: {self.padding}.")
        need = [self.rows(*span) for span in x.rows.spans(height)]
        return plan_exchange(x.rows.spans(x.height), need, x.rows), height


class PooledIndices(RowTensor):
    """The places of maxima, which ``max_unpool2d`` takes; what is computed from them is a ``RowTensor`` again.

    Attributes:
        windows: Where the maxima were searched.
        pooled_size: Rows and columns of the map that was pooled.
    """

    def __init__(self, local: Tensor, height: int, rows: Rows, windows: Windows, pooled_size: Pair) -> None:
        super().__init__(local, height, rows)
        self.windows, self.pooled_size = windows, pooled_size


@rule(F.max_pool2d, torch.max_pool2d)
def _max_pool(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return _max_pool2d(*args, **kwargs)


@rule(F.max_pool2d_with_indices)
def _max_pool_with_indices(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return _max_pool2d(*args, **{**kwargs, "return_indices": True})


def _max_pool2d(
    input: RowTensor,  # noqa: A002
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    x, windows = input, Windows.of(kernel_size, stride, padding, dilation, ceil_mode)
    plan, height = windows.plan(x, "max_pool2d")
    pooled, indices = _MaxPool.apply(x.local, plan, windows)
    if not return_indices:
        return x.like(pooled, height)
    return x.like(pooled, height), PooledIndices(indices, height, x.rows, windows, (x.height, x.shape[3]))


class _MaxPool(Function):
    """Keeps the indices alone: the input is not needed for the gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, plan: Exchange, windows: Windows) -> tuple[Tensor, Tensor]:
        padded = plan.join(x, plan.start(x).wait(), float("-inf"))
        ctx.plan, ctx.arguments = plan, _arguments(windows)
        ctx.like = torch.empty_like(padded, device="meta")
        y, indices = torch.ops.aten.max_pool2d_with_indices(padded, *ctx.arguments)
        indices += plan.need[0] * x.shape[3]
        if plan.need[0] < 0:  # the first value of a window that is minus infinity throughout
            indices = torch.where(indices < 0, indices % x.shape[3], indices)
        ctx.save_for_backward(indices)
        ctx.mark_non_differentiable(indices)
        return y, indices

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        plan: Exchange = ctx.plan
        (indices,) = ctx.saved_tensors
        padded = torch.empty_like(ctx.like, device=dy.device)
        indices = indices - plan.need[0] * padded.shape[3]
        dpadded = torch.ops.aten.max_pool2d_with_indices_backward(dy, padded, *ctx.arguments, indices)
        return plan.join_back(dpadded, plan.start_back(dpadded).wait()), None, None


def _arguments(windows: Windows) -> tuple[Any, ...]:
    return windows.kernel, windows.stride, (0, windows.padding[1]), windows.dilation, windows.ceil_mode


@rule(F.avg_pool2d, torch.nn.functional.avg_pool2d)
def _avg_pool(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> RowTensor:
    return _avg_pool2d(*args, **kwargs)


def _avg_pool2d(
    input: RowTensor,  # noqa: A002
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> RowTensor:
    x, windows = input, Windows.of(kernel_size, stride, padding, 1, ceil_mode)
    plan, height = windows.plan(x, "avg_pool2d")
    size = windows.kernel[0] * windows.kernel[1]
    y: Tensor = _AvgPool.apply(x.local, plan, windows, divisor_override or size)
    if divisor_override is None and (ceil_mode or not count_include_pad):
        counts = [
            _counts(spans, length, windows.kernel[dim], windows.stride[dim], windows.padding[dim], count_include_pad)
            for dim, (spans, length) in enumerate(((x.rows.own(height), x.height), ((0, y.shape[3]), x.shape[3])))
        ]
        scale = [[size / (rows * columns) for columns in counts[1]] for rows in counts[0]]
        dtype = torch.promote_types(y.dtype, torch.float32)
        y = (y * torch.tensor(scale, dtype=dtype, device=y.device)).to(y.dtype)
    return x.like(y, height)


def _counts(span: Range, length: int, kernel: int, step: int, border: int, with_padding: bool) -> list[int]:
    """Returns over how many values of one dimension each window of ``span`` is averaged."""
    counts = []
    for start in (index * step - border for index in range(*span)):
        low, high = (start, length + border) if with_padding else (max(0, start), length)
        counts.append(min(start + kernel, high) - low)
    return counts


class _AvgPool(Function):
    """Keeps nothing."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, plan: Exchange, windows: Windows, divisor: int) -> Tensor:
        padded = plan.join(x, plan.start(x).wait())
        kernel, stride, padding, _, ceil_mode = _arguments(windows)
        ctx.plan, ctx.arguments = plan, (kernel, stride, padding, ceil_mode, True, divisor)
        ctx.like = torch.empty_like(padded, device="meta")
        y: Tensor = torch.ops.aten.avg_pool2d(padded, *ctx.arguments)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        plan: Exchange = ctx.plan
        padded = torch.empty_like(ctx.like, device=dy.device)
        dpadded = torch.ops.aten.avg_pool2d_backward(dy, padded, *ctx.arguments)
        return plan.join_back(dpadded, plan.start_back(dpadded).wait()), None, None, None


def _flatten(x: PooledIndices) -> tuple[list[Any], tuple[Any, ...]]:
    return [x.local], (x.height, x.rows, x.windows, x.pooled_size)


def _unflatten(children: Any, context: tuple[Any, ...]) -> PooledIndices:
    made = object.__new__(PooledIndices)
    (made.local,), (made.height, made.rows, made.windows, made.pooled_size) = children, context
    return made


register_pytree_node(PooledIndices, _flatten, _unflatten)
