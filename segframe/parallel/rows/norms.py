"""Normalisation of maps whose rows are split over ranks.

BatchNorm in training is batch_norm.py's. Shape suffixes: B images, C channels, H own rows, W columns, G groups of
channels, g channels of a group.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from segframe.parallel.rows.group import Rows
from segframe.parallel.rows.tensor import RowTensor, UnsplittableError, rule


@rule(F.batch_norm)
def batch_norm(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> RowTensor:
    """Normalises the own rows by running statistics."""
    x: RowTensor = args[0]
    training = args[5] if len(args) > 5 else kwargs.get("training", False)
    if training and x.rows.size > 1 and not x.local.is_meta:  # in a trial without data, shapes are all there is
        raise UnsplittableError(
            "F.batch_norm in training would normalise by the rows of this rank alone. Use nn.BatchNorm2d, which is "
            "made to share its statistics (strategy.sync_batchnorm=true)."
        )
    return x.like(function(x.local, *args[1:], **kwargs))


@rule(F.layer_norm, any_shape=True)
def layer_norm(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> RowTensor:
    """Normalises each pixel of the own rows by its channels."""
    x: RowTensor = args[0]
    shape = args[1] if len(args) > 1 else kwargs["normalized_shape"]
    if len(shape) >= -x.axis:
        raise UnsplittableError(
            f"F.layer_norm over the last {len(shape)} dimensions of {tuple(x.shape)} looks at all rows, which are "
            "split over ranks. Normalise over channels alone (permute them to the end), or use nn.GroupNorm."
        )
    return x.like(function(x.local, *args[1:], **kwargs))


@rule(F.group_norm)
def group_norm(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> RowTensor:
    """Normalises by the statistics of all rows of an image and a group of channels."""
    names = ("input", "num_groups", "weight", "bias", "eps")
    given = dict(zip(names, args, strict=False)) | kwargs
    return _normalized(given["input"], given["num_groups"], given.get("weight"), given.get("bias"), given.get("eps"))


@rule(F.instance_norm)
def instance_norm(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> RowTensor:
    """Normalises by the statistics of all rows of an image and a channel."""
    names = ("input", "running_mean", "running_var", "weight", "bias", "use_input_stats", "momentum", "eps")
    given = dict(zip(names, args, strict=False)) | kwargs
    x: RowTensor = given["input"]
    if given.get("running_mean") is not None:
        raise UnsplittableError(
            "F.instance_norm with running statistics has no exact rule for rows that are split over ranks; make "
            "nn.InstanceNorm2d with track_running_stats=False."
        )
    return _normalized(x, x.shape[1], given.get("weight"), given.get("bias"), given.get("eps"))


def _normalized(
    x: RowTensor, num_groups: int, weight_C: Tensor | None, bias_C: Tensor | None, eps: float | None
) -> RowTensor:
    if x.shape[1] % num_groups:
        raise ValueError(f"{x.shape[1]} channels can't be cut into {num_groups} groups of equal size.")
    local = x.local
    kind = "cpu" if local.is_meta else local.device.type
    if torch.is_autocast_enabled(kind):
        local = local.to(F.group_norm(torch.zeros(1, 1, 1, 2, dtype=x.dtype, device=kind), 1).dtype)
    eps = 1e-5 if eps is None else eps
    return x.like(_GroupNorm.apply(local, weight_C, bias_C, num_groups, eps, x.rows, x.height))


class _GroupNorm(Function):
    """(x - mean) / sqrt(variance + eps) * weight + bias with the moments of all rows of an image's group of channels.

    Wu and He 2018 (arXiv:1803.08494). It keeps for the backward pass what plain GroupNorm keeps.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight_C: Tensor | None,
        bias_C: Tensor | None,
        num_groups: int,
        eps: float,
        rows: Rows,
        height: int,
    ) -> Tensor:
        mean_BG, variance_BG = _moments(x, num_groups, rows, height)
        invstd_BG = torch.rsqrt(variance_BG + eps)
        ctx.save_for_backward(x, weight_C, mean_BG, invstd_BG)
        ctx.rows, ctx.count = rows, x.shape[1] // num_groups * height * x.shape[3]
        slope_BC = _times(_per_channel(invstd_BG, x.shape[1]), weight_C)
        shift_BC = -_per_channel(mean_BG, x.shape[1]) * slope_BC
        if bias_C is not None:
            shift_BC = shift_BC + bias_C.to(shift_BC.dtype)
        return _affine(x, slope_BC, shift_BC)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight_C, mean_BG, invstd_BG = ctx.saved_tensors
        channels, num_groups = x.shape[1], mean_BG.shape[1]
        mean_BC, invstd_BC = _per_channel(mean_BG, channels), _per_channel(invstd_BG, channels)
        dy_BC = _sum(dy)
        dyx_BC = (_sum(_wide(dy) * x) - mean_BC * dy_BC) * invstd_BC
        dx = None
        if ctx.needs_input_grad[0]:
            sums = torch.stack((_times(dy_BC, weight_C), _times(dyx_BC, weight_C)))
            sums = sums.view(2, len(x), num_groups, -1).sum(3)
            if ctx.rows.size > 1 and not sums.is_meta:
                dist.all_reduce(sums, group=ctx.rows.group)
            first_BG, second_BG = sums / ctx.count
            of_x_BG = -second_BG * invstd_BG.square()
            constant_BG = -first_BG * invstd_BG - of_x_BG * mean_BG
            of_dy_BC = _times(invstd_BC, weight_C)
            dx = _affine(x, _per_channel(of_x_BG, channels), _per_channel(constant_BG, channels))
            dx = dx.add_(_affine(dy, of_dy_BC).to(dx.dtype))
        needs_weight, needs_bias = ctx.needs_input_grad[1:3]
        dweight_C = dyx_BC.sum(0) if needs_weight else None
        dbias_C = dy_BC.sum(0) if needs_bias else None
        return dx, dweight_C, dbias_C, *[None] * 4


def _moments(x: Tensor, num_groups: int, rows: Rows, height: int) -> tuple[Tensor, Tensor]:
    """Returns mean and biased variance (B, G) of all ranks' values, by two passes on each rank."""
    values = _wide(x.reshape(len(x), num_groups, -1))
    variance_BG, mean_BG = torch.var_mean(values, dim=2, correction=0)
    if rows.size == 1 or x.is_meta:
        return mean_BG, variance_BG
    own = torch.stack((mean_BG, variance_BG))
    of_rank = [torch.empty_like(own) for _ in range(rows.size)]
    dist.all_gather(of_rank, own, group=rows.group)
    mean_RBG, variance_RBG = torch.stack(of_rank, dim=1)
    shares = own.new_tensor([(stop - first) / height for first, stop in rows.spans(height)])[:, None, None]
    mean_BG = (shares * mean_RBG).sum(0)
    variance_BG = (shares * (variance_RBG + (mean_RBG - mean_BG).square())).sum(0)
    return mean_BG, variance_BG


def _wide(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _sum(x_BCHW: Tensor) -> Tensor:
    return x_BCHW.sum((2, 3), dtype=torch.promote_types(x_BCHW.dtype, torch.float32))


def _per_channel(x_BG: Tensor, channels: int) -> Tensor:
    return x_BG.repeat_interleave(channels // x_BG.shape[1], dim=1)


def _times(x_BC: Tensor, weight_C: Tensor | None) -> Tensor:
    return x_BC if weight_C is None else x_BC * weight_C.to(x_BC.dtype)


def _affine(x_BCHW: Tensor, slope_BC: Tensor, shift_BC: Tensor | None = None) -> Tensor:
    """Returns x * slope + shift in the type of x, computed in that of the slope."""
    slope = slope_BC[:, :, None, None]
    scaled = x_BCHW * slope if shift_BC is None else torch.addcmul(shift_BC[:, :, None, None], x_BCHW, slope)
    return scaled.to(x_BCHW.dtype)
