"""Convolutions of tensors whose rows are split over ranks: no row is computed twice, and little is kept.

Each rank fetches the few rows beyond its own that its rows of the output need. What is kept for the backward pass
are the own rows, which the layer before keeps anyway, and the fetched ones; the input is put together again there.
Shape suffixes: B batch, C channels, H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from segframe.parallel.rows.exchange import Exchange, plan_exchange
from segframe.parallel.rows.group import Range
from segframe.parallel.rows.tensor import RowTensor, UnsplittableError, rule

Pair = tuple[int, int]


@rule(torch.conv2d, torch.nn.functional.conv2d)
def _convolve(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> RowTensor:
    return _conv2d(*args, **kwargs)


def _conv2d(
    input: RowTensor,  # noqa: A002
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] | str = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> RowTensor:
    x = _only_input("conv2d", input, weight, bias)
    strides, dilations = pair(stride), pair(dilation)
    reach = tuple(step * (size - 1) for step, size in zip(dilations, weight.shape[2:], strict=True))
    above, below, left, right = _borders(padding, strides, reach)
    height = (x.height + above + below - reach[0] - 1) // strides[0] + 1
    x.rows.check(height, f"conv2d with a kernel of {tuple(weight.shape[2:])} and a stride of {strides}")
    if left != right:  # torch, too, pads such columns beforehand
        x, left = x.like(F.pad(x.local, (left, right))), 0
    need = [(first * strides[0] - above, (stop - 1) * strides[0] - above + reach[0] + 1)
            for first, stop in x.rows.spans(height)]  # fmt: skip
    how = _Convolution(strides, (0, left), dilations, groups)
    return x.like(_apply(x, weight, bias, need, how), height)


@rule(torch.conv_transpose2d, torch.nn.functional.conv_transpose2d)
def _convolve_transposed(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> RowTensor:
    return _conv_transpose2d(*args, **kwargs)


def _conv_transpose2d(
    input: RowTensor,  # noqa: A002
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,
    output_padding: int | Sequence[int] = 0,
    groups: int = 1,
    dilation: int | Sequence[int] = 1,
) -> RowTensor:
    x = _only_input("conv_transpose2d", input, weight, bias)
    strides, paddings, extras, dilations = (pair(value) for value in (stride, padding, output_padding, dilation))
    step, border, reach = strides[0], paddings[0], dilations[0] * (weight.shape[2] - 1)
    height = (x.height - 1) * step - 2 * border + reach + extras[0] + 1
    x.rows.check(height, f"conv_transpose2d with a kernel of {tuple(weight.shape[2:])} and a stride of {strides}")
    need = []
    for first, stop in x.rows.spans(height):
        # Row i of the input reaches the rows i * step - border up to reach further.
        low = max(0, -((reach - first - border) // step))
        need.append((low, max(low, min(x.height, (stop - 1 + border) // step + 1))))
    (first, stop), (low, high) = x.rows.own(height), need[x.rows.rank]
    made = (low * step - border, (high - 1) * step - border + reach + 1)
    crop = (first - made[0], made[1] - stop)
    how = _Convolution(strides, (0, paddings[1]), dilations, groups, True, (0, extras[1]), crop)
    return x.like(_apply(x, weight, bias, need, how), height)


@dataclass(frozen=True)
class _Convolution:
    """How the fetched rows are convolved; the rows of ``crop`` above and below are not this rank's to give."""

    stride: Pair
    padding: Pair
    dilation: Pair
    groups: int
    is_transposed: bool = False
    output_padding: Pair = (0, 0)
    crop: Pair = (0, 0)

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if not x.shape[2]:
            y = self._untouched(x, weight)
        elif min(self.crop) >= 0:
            y = torch.ops.aten.convolution(x, weight, bias, *self._arguments)
            return F.pad(y, (0, 0, -self.crop[0], -self.crop[1])) if self.crop != (0, 0) else y
        else:
            y = torch.ops.aten.convolution(x, weight, None, *self._arguments)
            y = F.pad(y, (0, 0, -self.crop[0], -self.crop[1]))
        # Rows that no row of the input reaches are the bias alone.
        return y if bias is None else y + bias.view(-1, 1, 1)

    def backward(self, dy: Tensor, x: Tensor, weight: Tensor, mask: list[bool]) -> Sequence[Tensor | None]:
        """Returns the gradients of input and weight that ``mask`` asks for."""
        if not x.shape[2]:
            return torch.zeros_like(x), torch.zeros_like(weight)
        result: Sequence[Tensor | None] = torch.ops.aten.convolution_backward(
            dy, x, weight, None, *self._arguments, [*mask, False]
        )
        return result

    def uncrop(self, dy: Tensor) -> Tensor:
        return F.pad(dy, (0, 0, *self.crop)) if self.crop != (0, 0) else dy

    @property
    def _arguments(self) -> tuple[Any, ...]:
        return self.stride, self.padding, self.dilation, self.is_transposed, self.output_padding, self.groups

    def _untouched(self, x: Tensor, weight: Tensor) -> Tensor:
        one = x.new_empty((*x.shape[:2], 1, x.shape[3]), device="meta")
        y = torch.ops.aten.convolution(one, weight.to("meta"), None, *self._arguments)
        return x.new_zeros((*y.shape[:2], y.shape[2] - self.stride[0] - sum(self.crop), y.shape[3]))


def _apply(x: RowTensor, weight: Tensor, bias: Tensor | None, need: list[Range], how: _Convolution) -> Tensor:
    plan = plan_exchange(x.rows.spans(x.height), need, x.rows)
    local, weight, bias = _as_autocast(x.local, weight, bias)
    if plan.is_idle and how.crop == (0, 0) and not how.is_transposed:
        return F.conv2d(local, weight, bias, how.stride, how.padding, how.dilation, how.groups)
    y: Tensor = _Convolve.apply(local, weight, bias, plan, how)
    return y


class _Convolve(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, plan: Exchange, how: _Convolution) -> Tensor:
        pieces = plan.start(x).wait()
        ctx.plan, ctx.how = plan, how
        ctx.save_for_backward(x, weight, *pieces)
        return how.forward(plan.join(x, pieces), weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        plan: Exchange = ctx.plan
        how: _Convolution = ctx.how
        x, weight, *pieces = ctx.saved_tensors
        needs_x, needs_weight, needs_bias = ctx.needs_input_grad[:3]
        dbias = dy.sum((0, 2, 3)) if needs_bias else None
        dy, padded = how.uncrop(dy), plan.join(x, pieces)
        dx = dweight = messages = None
        if needs_x:
            dx = how.backward(dy, padded, weight, [True, False])[0]
            assert dx is not None
            messages = plan.start_back(dx)
        if needs_weight:  # while the gradients of the fetched rows are under way
            dweight = how.backward(dy, padded, weight, [False, True])[1]
        if dx is not None and messages is not None:
            dx = plan.join_back(dx, messages.wait())
        return dx, dweight, dbias, None, None


def pair(value: int | Sequence[int]) -> Pair:
    """Returns two numbers, for rows and columns, of what torch takes as either."""
    if isinstance(value, int):
        return value, value
    first, *rest = value
    return first, rest[0] if rest else first


def _borders(padding: int | Sequence[int] | str, strides: Pair, reach: Sequence[int]) -> tuple[int, int, int, int]:
    """Returns the zeros above, below, left and right."""
    if padding == "same":
        if strides != (1, 1):
            raise ValueError(f"conv2d with padding='same' takes a stride of 1, got {strides}.")
        (above, below), (left, right) = ((total // 2, total - total // 2) for total in reach)
        return above, below, left, right
    rows, columns = (0, 0) if isinstance(padding, str) else pair(padding)
    return rows, rows, columns, columns


def _only_input(operation: str, x: Any, *others: Any) -> RowTensor:
    if not isinstance(x, RowTensor) or any(isinstance(other, RowTensor) for other in others):
        raise UnsplittableError(
            f"{operation} with a weight whose rows are split over ranks has no exact rule; split its input alone."
        )
    return x


def _as_autocast(*tensors: Tensor | None) -> list[Any]:
    """Returns tensors in the type that autocast gives to a convolution."""
    kind = next(t for t in tensors if t is not None).device.type
    if kind == "meta" or not torch.is_autocast_enabled(kind):
        return list(tensors)
    dtype = torch.get_autocast_dtype(kind)
    return [t if t is None or t.dtype == torch.float64 else t.to(dtype) for t in tensors]
