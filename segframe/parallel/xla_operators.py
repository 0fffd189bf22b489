"""What XLA computes otherwise than PyTorch, or not at all, put right for its devices.

Measured with torch_xla 2.9: bilinear resizing with ``align_corners=True`` is wrong at some sizes (8 to 64, 16 to 256).
BatchNorm takes its variance as a difference of squares, which in fp32 is wrong by 5e-3 where a mean is 100 standard
deviations; it rounds epsilon to fp32 in fp64 too, and moves its running variance by the biased one. The backward pass
of every resizing, and adaptive pooling to sizes that don't divide the map's, run on the CPU, for which the graph of a
step is cut in pieces.

Shape suffixes: B batch, C channels, H rows, W columns; h and w before resizing; N of one axis after, n before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from typing import Any

import torch
from torch import Tensor

_aten = torch.ops.aten
_Operator = Callable[..., Tensor]


@cache
def register_operators() -> Any:
    """Makes PyTorch use this file's forms of operators for tensors on XLA devices; a second call does nothing.

    Every net, loss and inference gets them, in training and in evaluation, since they stand below all of these. What
    is on other devices is computed as before.

    Returns:
        The library that holds them; they are gone with it.
    """
    forms: dict[str, _Operator] = {
        "_adaptive_avg_pool2d": _adaptive_avg_pool2d,
        "batch_norm": _batch_norm,
        "feature_dropout": _feature_dropout,
    }
    forms |= {name: _by_products(getattr(_aten, name)) for name in ("upsample_bilinear2d", "upsample_bicubic2d")}
    forms |= {name: _by_copies(getattr(_aten, name)) for name in ("upsample_nearest2d", "_upsample_nearest_exact2d")}
    library: Any = torch.library.Library("aten", "IMPL")  # type: ignore[no-untyped-call]
    for name, form in forms.items():
        library.impl(name, form, "AutogradXLA")
    return library


def _by_products(operator: _Operator) -> _Operator:
    """Resizing as a matrix product per axis; its backward pass is two more."""

    def resize(
        x_BChw: Tensor,
        size: Sequence[int],
        align_corners: bool,
        scale_h: float | None = None,
        scale_w: float | None = None,
    ) -> Tensor:
        rows = _Axis(operator, x_BChw.shape[2], size[0], (align_corners, scale_h))
        columns = _Axis(operator, x_BChw.shape[3], size[1], (align_corners, scale_w))
        return _product(x_BChw, rows, columns)

    return resize


def _by_copies(operator: _Operator) -> _Operator:
    """Resizing by repeating rows and columns, so that what is infinite stays where it is."""

    def resize(
        x_BChw: Tensor, size: Sequence[int], scale_h: float | None = None, scale_w: float | None = None
    ) -> Tensor:
        for dim, scale in ((2, scale_h), (3, scale_w)):
            x_BChw = _copied(x_BChw, dim, _sources(operator, x_BChw.shape[dim], size[dim - 2], scale))
        return x_BChw

    return resize


def _adaptive_avg_pool2d(x_BChw: Tensor, size: Sequence[int]) -> Tensor:
    axes = [_Axis(_aten._adaptive_avg_pool2d, x_BChw.shape[dim], size[dim - 2], ()) for dim in (2, 3)]
    return _product(x_BChw, *axes)


def _batch_norm(
    x: Tensor,
    weight_C: Tensor | None,
    bias_C: Tensor | None,
    mean_C: Tensor | None,
    variance_C: Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool,
) -> Tensor:
    """BatchNorm by the mean of squared distances from the mean, and moving by the unbiased variance."""
    per_channel = (1, -1, *[1] * (x.dim() - 2))
    wide = x.to(torch.promote_types(x.dtype, torch.float32))  # halves are summed in fp32
    if training:
        y, batch_mean_C, batch_variance_C = _Standardise.apply(wide, eps)
        with torch.no_grad():
            if mean_C is not None and variance_C is not None:
                count = x.numel() // x.shape[1]
                mean_C.copy_((1 - momentum) * mean_C + momentum * batch_mean_C)
                variance_C.copy_((1 - momentum) * variance_C + momentum * count / (count - 1) * batch_variance_C)
    else:
        assert mean_C is not None
        assert variance_C is not None
        y = (wide - mean_C.view(per_channel)) * (variance_C + eps).rsqrt().view(per_channel)
    y = y if weight_C is None else y * weight_C.view(per_channel)
    y = y if bias_C is None else y + bias_C.view(per_channel)
    result: Tensor = y.to(x.dtype)
    return result


class _Standardise(torch.autograd.Function):
    """x -> (x - mean) / sqrt(variance + eps) of each channel, with mean and variance."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
        axes = [axis for axis in range(x.dim()) if axis != 1]
        mean = x.mean(axes, keepdim=True)
        apart = x - mean
        variance = (apart * apart).mean(axes, keepdim=True)
        inverse = (variance + eps).rsqrt()
        y = apart * inverse
        mean_C, variance_C = mean.flatten(), variance.flatten()
        ctx.save_for_backward(y, inverse)
        ctx.mark_non_differentiable(mean_C, variance_C)
        return y, mean_C, variance_C

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor, None]:
        y, inverse = ctx.saved_tensors
        axes = [axis for axis in range(y.dim()) if axis != 1]
        return inverse * (grad - grad.mean(axes, keepdim=True) - y * (grad * y).mean(axes, keepdim=True)), None


def _feature_dropout(x: Tensor, p: float, train: bool) -> Tensor:
    """Dropout of whole channels, drawn on the CPU as a run on the CPU draws them: these are few numbers."""
    if not train or p == 0:
        return x
    kept = torch.empty((*x.shape[:2], *[1] * (x.dim() - 2)), dtype=x.dtype)
    kept = torch.zeros_like(kept) if p == 1 else kept.bernoulli_(1 - p).div_(1 - p)
    return x * kept.to(x.device)


class _Axis:
    """The linear map that an operator applies along one axis."""

    def __init__(self, operator: _Operator, before: int, after: int, options: tuple[Any, ...]) -> None:
        self.key = (operator, before, after, options)

    def matrix(self, dtype: torch.dtype, device: torch.device) -> Tensor:
        return _matrix(*self.key, dtype, device)


@lru_cache(maxsize=256)
def _matrix(
    operator: _Operator, before: int, after: int, options: tuple[Any, ...], dtype: torch.dtype, device: torch.device
) -> Tensor:
    """Returns (N, n): what PyTorch's own operator makes of each unit vector on the CPU."""
    units_1nn1 = torch.eye(before, dtype=dtype)[None, :, :, None]
    # options are of one axis; those of the other, which has one value, are left out
    mapped_1nN1 = operator(units_1nn1, [after, 1], *options)
    return mapped_1nN1[0, :, :, 0].T.contiguous().to(device)


def _product(x_BChw: Tensor, rows: _Axis, columns: _Axis) -> Tensor:
    """Applies a map to the rows and one to the columns; halves are summed in fp32."""
    dtype = torch.promote_types(x_BChw.dtype, torch.float32)
    x_BChW = x_BChw.to(dtype) @ columns.matrix(dtype, x_BChw.device).T
    x_BCWH = x_BChW.transpose(2, 3) @ rows.matrix(dtype, x_BChw.device).T
    return x_BCWH.transpose(2, 3).to(x_BChw.dtype)


@lru_cache(maxsize=256)
def _sources(operator: _Operator, before: int, after: int, scale: float | None) -> tuple[int, ...]:
    """Returns of which of n values each of N is a copy, as PyTorch's own operator says on the CPU."""
    numbers_11n1 = torch.arange(before, dtype=torch.float64)[None, None, :, None]
    return tuple(int(number) for number in operator(numbers_11n1, [after, 1], scale).flatten())


def _copied(x: Tensor, dim: int, sources: tuple[int, ...]) -> Tensor:
    times, rest = divmod(len(sources), x.shape[dim])
    if rest == 0 and sources == tuple(i // times for i in range(len(sources))):
        # its backward pass is a sum, where that of picking is a scattering
        return x.unsqueeze(dim + 1).expand(*x.shape[: dim + 1], times, *x.shape[dim + 1 :]).flatten(dim, dim + 1)
    return x.index_select(dim, torch.tensor(sources, device=x.device))
