"""BatchNorm over the images of all ranks, on any backend.

Shape suffixes: B batch, C channels, R ranks; a name without one is of any shape (B, C, ...).
"""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.distributed import ProcessGroup
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm, _LazyNormBase

from segframe.parallel.changed_class import Added, change_class, qualified_names
from segframe.parallel.sharing import Ranks


def share_batch_norm(net: nn.Module, group: ProcessGroup | None = None) -> list[str]:
    """Makes every BatchNorm of a net normalise by the statistics of all ranks in training.

    A net on R ranks then computes what it would compute in one process on all images, whatever the
    number of images on each rank, none included. Weights and biases get the gradients of their own
    rank's images. Parameters, buffers and their names stay as they are; in evaluation nothing changes.
    One collective runs in the forward pass of each BatchNorm and one in its backward pass.

    Source: Ioffe and Szegedy 2015; moments combined as in Chan, Golub and LeVeque 1979, eq. 2.1.

    Args:
        net: Changed in place. SyncBatchNorm and what normalises each image by itself stay as they are.
        group: The ranks that share statistics; None for all. A copy of the net shares with the same ranks.

    Returns:
        The names of the modules that were changed.

    Raises:
        ValueError: If a module normalises by a batch in a way of its own, or this rank is not in the group.
    """
    if group is not None and dist.get_rank(group) < 0:
        raise ValueError(
            f"rank {dist.get_rank()} is not in the group of ranks {dist.get_process_group_ranks(group)} that is to "
            "share BatchNorm; give each rank the group that it belongs to."
        )
    names = [name for name, module in net.named_modules() if _is_batch_norm(name, module)]
    for name in names:
        module = net.get_submodule(name)
        change_class(module, SharedBatchNorm)
        shared = cast(SharedBatchNorm, module)
        shared.ranks, shared.steps_after = Ranks(group), _steps_after(module) or ()
    return names


class SharedBatchNorm(Added, _BatchNorm):
    """What ``share_batch_norm`` puts before a BatchNorm's own class.

    Attributes:
        ranks: The ranks that share statistics.
        steps_after: Names of its modules that run behind the normalisation.
    """

    ranks: Ranks
    steps_after: tuple[str, ...]

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        """Normalises by the statistics of all ranks in training, and as the class behind it otherwise.

        Raises:
            ValueError: If all ranks together have fewer than two values per channel.
        """
        output, is_done = self._normalized(input, self.ranks)
        return output if is_done else self._behind(output)

    def _normalized(self, x: Tensor, ranks: Ranks) -> tuple[Tensor, bool]:
        """Returns what the statistics of some ranks make of values, and whether nothing is to follow."""
        if self.training and ranks.size > 1:
            self._check_input_dim(x)  # type: ignore[no-untyped-call]
            return self._by_ranks(x, ranks), False
        if not self.training and self._has_lower_parameters:
            self._check_input_dim(x)  # type: ignore[no-untyped-call]
            return self._by_running_statistics(x), False
        return super().forward(x), True

    def _behind(self, output: Any) -> Any:
        """Runs the modules that follow the normalisation."""
        for name in self.steps_after:
            output = getattr(self, name)(output)
        return output

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _by_ranks(self, x: Tensor, ranks: Ranks) -> Tensor:
        x = _dense(x)
        with torch.no_grad():
            moments = _moments_of_all(x, ranks)
            self._track(*moments)
        output: Tensor = _Normalize.apply(x, self.weight, self.bias, *moments, self.eps, ranks.group)
        return output

    @property
    def _has_lower_parameters(self) -> bool:
        """Whether FSDP gathers parameters in a precision that the running statistics don't have."""
        weight, mean = self.weight, self.running_mean
        return weight is not None and mean is not None and weight.dtype != mean.dtype

    def _by_running_statistics(self, x: Tensor) -> Tensor:
        mean_C, variance_C = self.running_mean, self.running_var
        assert mean_C is not None
        weight_C, bias_C = _as(mean_C, self.weight, self.bias)
        return F.batch_norm(x, mean_C, variance_C, weight_C, bias_C, False, 0.0, self.eps)

    def _track(self, mean_C: Tensor, variance_C: Tensor, count: Tensor) -> None:
        """Moves the running statistics as plain BatchNorm does, by the unbiased variance of all values."""
        if not self.track_running_stats or self.running_mean is None or self.running_var is None:
            return
        momentum = 0.0 if self.momentum is None else self.momentum
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
            if self.momentum is None:
                momentum = 1.0 / float(self.num_batches_tracked)
        unbiased_C = variance_C * (count / (count - 1))
        for running_C, new_C in ((self.running_mean, mean_C), (self.running_var, unbiased_C)):
            running_C.copy_(torch.lerp(running_C.to(new_C.dtype), new_C, momentum))


_STEPS_AFTER: dict[str, tuple[str, ...]] = {
    "torch.nn.modules.batchnorm._BatchNorm": (),
    "timm.layers.norm_act.BatchNormAct2d": ("drop", "act"),
}
_BY_BATCH = "timm.layers.evo_norm.EvoNorm2dB"  # EvoNorm2dB0 to B2


def _steps_after(module: nn.Module) -> tuple[str, ...] | None:
    """Returns which modules of a BatchNorm its forward pass runs behind the normalisation; None if that is unknown."""
    if "forward" in vars(module):
        return None
    owner = next(cls for cls in type(module).__mro__ if "forward" in vars(cls) and cls is not SharedBatchNorm)
    return _STEPS_AFTER.get(qualified_names(owner)[0])


def _is_batch_norm(name: str, module: nn.Module) -> bool:
    """Tells whether a module is to be changed; refuses one that normalises by a batch otherwise."""
    kinds = qualified_names(type(module))
    if isinstance(module, nn.SyncBatchNorm) or not (
        isinstance(module, _BatchNorm) or any(kind.startswith(_BY_BATCH) for kind in kinds)
    ):
        return False
    if isinstance(module, _BatchNorm) and not isinstance(module, _LazyNormBase) and _steps_after(module) is not None:
        return True
    raise ValueError(
        f"{name or 'the net'} is a {kinds[0]}, which normalises by its batch in a way of its own, so that several "
        "ranks would not compute what one does. Use nn.BatchNorm2d or timm's BatchNormAct2d in its place (another "
        "encoder), or set strategy.sync_batchnorm=false: each rank then normalises by its own images."
    )


def _dense(x: Tensor) -> Tensor:
    """Returns values without gaps in memory, for which there are fused kernels; their order is kept."""
    layouts = {4: torch.channels_last, 5: torch.channels_last_3d}
    layout = layouts.get(x.dim())
    return x if layout is not None and x.is_contiguous(memory_format=layout) else x.contiguous()


def _moments_of_all(x: Tensor, ranks: Ranks) -> tuple[Tensor, Tensor, Tensor]:
    """Returns mean, variance and number of all ranks' values per channel."""
    own_count, channels = x.numel() // max(1, x.shape[1]), x.shape[1]
    own_mean_C, own_variance_C = _own_moments(x)
    own = torch.cat((own_mean_C, own_variance_C, own_mean_C.new_full((1,), own_count)))
    rows = own.new_empty((ranks.size, len(own)))
    dist.all_gather(list(rows.unbind()), own, group=ranks.group)
    mean_RC, variance_RC, count_R1 = rows[:, :channels], rows[:, channels:-1], rows[:, -1:]
    # A rank with two values knows that there are two; only one with fewer waits to see the sum.
    if own_count < 2 and count_R1.sum() < 2:
        raise ValueError(
            f"BatchNorm got {int(count_R1.sum())} value per channel from all {ranks.size} ranks together (input "
            f"{tuple(x.shape)} here), which it would normalise to 0; use a larger data.batch_size or crop."
        )
    count = count_R1.sum()
    share_R1 = count_R1 / count
    mean_C = (share_R1 * mean_RC).sum(0)
    variance_C = (share_R1 * (variance_RC + (mean_RC - mean_C).square())).sum(0)
    return mean_C, variance_C, count


def _own_moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Returns mean and biased variance of this rank's values per channel, summed in fp32 or better."""
    dtype = torch.promote_types(x.dtype, torch.float32)
    if not x.numel():
        zero_C = torch.zeros(x.shape[1], dtype=dtype, device=x.device)
        return zero_C, zero_C
    mean_C, variance_C = torch.batch_norm_update_stats(_summable(x), None, None, 0.0)
    return mean_C, variance_C


def _summable(x: Tensor) -> Tensor:
    """Returns values of a type whose sums are exact enough; CUDA's kernels sum halves in fp32."""
    return x if x.is_cuda else x.to(torch.promote_types(x.dtype, torch.float32))


def _as(like: Tensor, *parameters: Tensor | None) -> list[Tensor | None]:
    """Returns parameters in the type of statistics."""
    return [None if parameter is None else parameter.to(like.dtype) for parameter in parameters]


class _Normalize(Function):
    """(x - mean) / sqrt(variance + eps) * weight + bias, whose moments depend on every rank's x.

    It keeps for the backward pass what plain BatchNorm keeps. It can't be differentiated twice.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight_C: Tensor | None,
        bias_C: Tensor | None,
        mean_C: Tensor,
        variance_C: Tensor,
        count: Tensor,
        eps: float,
        group: ProcessGroup | None,
    ) -> Tensor:
        ctx.save_for_backward(x, weight_C, mean_C, torch.rsqrt(variance_C + eps), count)
        ctx.group = group
        if not x.numel():
            return torch.empty_like(x)
        weight_C, bias_C = _as(mean_C, weight_C, bias_C)
        return F.batch_norm(x, mean_C, variance_C, weight_C, bias_C, False, 0.0, eps)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight_C, mean_C, invstd_C, count = ctx.saved_tensors
        if dy.stride() != x.stride():
            dy = torch.empty_like(x).copy_(dy)
        weight_C = (torch.ones_like(mean_C) if weight_C is None else weight_C).to(mean_C.dtype)
        sums_2C, dweight_C, dbias_C = _backward_sums(dy, x, weight_C, mean_C, invstd_C)
        dx = None
        if ctx.needs_input_grad[0]:
            dist.all_reduce(sums_2C, group=ctx.group)
            dx = _input_gradient(dy, x, weight_C, mean_C, invstd_C, sums_2C, count)
        needs_weight, needs_bias = ctx.needs_input_grad[1:3]
        return dx, dweight_C if needs_weight else None, dbias_C if needs_bias else None, *[None] * 5


def _backward_sums(
    dy: Tensor, x: Tensor, weight_C: Tensor, mean_C: Tensor, invstd_C: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Returns the sums that the input's gradient needs of all ranks, and this rank's gradients of weight and bias."""
    if not x.numel():
        zero_C = torch.zeros_like(mean_C)
        return torch.cat((zero_C, zero_C)), zero_C, zero_C
    if x.is_cuda:
        reduced = torch.batch_norm_backward_reduce(dy, x, mean_C, invstd_C, weight_C, True, True, True)
        return torch.cat(reduced[:2]), reduced[2], reduced[3]
    _, dweight_C, dbias_C = torch.ops.aten.native_batch_norm_backward(
        _summable(dy), _summable(x), weight_C, None, None, mean_C, invstd_C, True, 0.0, [False, True, True]
    )
    return torch.cat((dbias_C, dweight_C)), dweight_C, dbias_C


def _input_gradient(
    dy: Tensor, x: Tensor, weight_C: Tensor, mean_C: Tensor, invstd_C: Tensor, sums_2C: Tensor, count: Tensor
) -> Tensor:
    """Returns weight * invstd * (dy - mean(dy) - xhat * mean(dy * xhat)), the means over all ranks."""
    if not x.numel():
        return torch.zeros_like(x)
    first_C, second_C = sums_2C.chunk(2)
    if x.is_cuda:
        counts = count.to(torch.int32).view(1)
        return torch.batch_norm_backward_elemt(dy, x, mean_C, invstd_C, weight_C, first_C, second_C, counts)
    # Two passes by fused kernels: what is linear in x, then what is linear in dy.
    slope_C = weight_C * invstd_C
    minus_mean_C = slope_C / -count
    of_x_C, constant_C = minus_mean_C * invstd_C * second_C, minus_mean_C * first_C
    # Older PyTorch refuses an epsilon of 0; these two add up to exactly 1.
    epsilon = 2.0**-10
    one_C = torch.full_like(mean_C, 1 - epsilon)
    dx = F.batch_norm(_summable(x), mean_C, one_C, of_x_C, constant_C, False, 0.0, epsilon)
    dx.addcmul_(_summable(dy), slope_C.view(1, -1, *[1] * (x.dim() - 2)))
    return dx.to(x.dtype)
