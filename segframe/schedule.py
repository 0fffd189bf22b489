"""Learning-rate schedules: pure functions of the optimizer step, each with a linear warm-up."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from segframe.ranges import Fraction, NonNegative, NonNegativeInt


def constant(
    optimizer: Optimizer,
    total_steps: int,
    *,
    warmup_steps: NonNegativeInt = 0,
    warmup_factor: Fraction = 0.01,
) -> LambdaLR:
    """Keeps the rate, after the warm-up.

    Args:
        optimizer: Its groups' rates are multiplied by the schedule's factor.
        total_steps: Optimizer steps of the whole run.
        warmup_steps: Steps over which the factor rises linearly to 1.
        warmup_factor: The factor of the first step of the warm-up.

    Raises:
        ValueError: If ``total_steps`` < 1 or the warm-up is longer than the run.
    """
    return _schedule(optimizer, total_steps, warmup_steps, warmup_factor, lambda progress: 1.0)


def poly(
    optimizer: Optimizer,
    total_steps: int,
    *,
    power: NonNegative = 0.9,
    min_lr_factor: Fraction = 0.0,
    warmup_steps: NonNegativeInt = 0,
    warmup_factor: Fraction = 0.01,
) -> LambdaLR:
    """Lets the rate fall as ``(1 - progress) ** power``; progress runs from 0 to 1 after the warm-up.

    Liu et al., "ParseNet", 2015 (arXiv:1506.04579), sec. 4; the rule of DeepLab and PSPNet.

    Args:
        optimizer: Its groups' rates are multiplied by the schedule's factor.
        total_steps: Optimizer steps of the whole run, warm-up included.
        power: The curve's exponent; 1 is a straight line.
        min_lr_factor: The factor at the end of the run, as a share of the rate.
        warmup_steps: Steps over which the factor rises linearly to 1.
        warmup_factor: The factor of the first step of the warm-up.

    Raises:
        ValueError: If ``total_steps`` < 1 or the warm-up is longer than the run.
    """

    def curve(progress: float) -> float:
        return min_lr_factor + (1 - min_lr_factor) * math.pow(1 - progress, power)

    return _schedule(optimizer, total_steps, warmup_steps, warmup_factor, curve)


def cosine(
    optimizer: Optimizer,
    total_steps: int,
    *,
    min_lr_factor: Fraction = 0.0,
    warmup_steps: NonNegativeInt = 0,
    warmup_factor: Fraction = 0.01,
) -> LambdaLR:
    """Lets the rate fall along half a cosine, after the warm-up.

    Loshchilov and Hutter, "SGDR", ICLR 2017 (arXiv:1608.03983), eq. 5, without restarts.

    Args:
        optimizer: Its groups' rates are multiplied by the schedule's factor.
        total_steps: Optimizer steps of the whole run, warm-up included.
        min_lr_factor: The factor at the end of the run, as a share of the rate.
        warmup_steps: Steps over which the factor rises linearly to 1.
        warmup_factor: The factor of the first step of the warm-up.

    Raises:
        ValueError: If ``total_steps`` < 1 or the warm-up is longer than the run.
    """

    def curve(progress: float) -> float:
        return min_lr_factor + (1 - min_lr_factor) * 0.5 * (1 + math.cos(math.pi * progress))

    return _schedule(optimizer, total_steps, warmup_steps, warmup_factor, curve)


def step(
    optimizer: Optimizer,
    total_steps: int,
    *,
    milestones: Sequence[Fraction] = (0.6, 0.9),
    gamma: Fraction = 0.1,
    warmup_steps: NonNegativeInt = 0,
    warmup_factor: Fraction = 0.01,
) -> LambdaLR:
    """Multiplies the rate by ``gamma`` at each milestone, on top of the warm-up.

    Args:
        optimizer: Its groups' rates are multiplied by the schedule's factor.
        total_steps: Optimizer steps of the whole run, warm-up included.
        milestones: When the rate falls, as shares of the run.
        gamma: What the rate is multiplied by at each milestone.
        warmup_steps: Steps over which the factor rises linearly to 1.
        warmup_factor: The factor of the first step of the warm-up.

    Raises:
        ValueError: If ``total_steps`` < 1 or the warm-up is longer than the run.
    """
    _check(total_steps, warmup_steps)
    drops = [round(share * total_steps) for share in milestones]

    def factor(now: int) -> float:
        return _warmup(now, warmup_steps, warmup_factor) * gamma ** sum(now >= drop for drop in drops)

    return LambdaLR(optimizer, factor)


def _schedule(
    optimizer: Optimizer,
    total_steps: int,
    warmup_steps: int,
    warmup_factor: float,
    curve: Callable[[float], float],
) -> LambdaLR:
    """Joins the warm-up and a curve over the progress of the steps after it."""
    _check(total_steps, warmup_steps)
    falling_steps = max(total_steps - warmup_steps, 1)

    def factor(now: int) -> float:
        progress = min(max(now - warmup_steps, 0) / falling_steps, 1.0)
        return _warmup(now, warmup_steps, warmup_factor) * curve(progress)

    # A plain function: LambdaLR would store the attributes of a callable object in the checkpoint.
    return LambdaLR(optimizer, factor)


def _warmup(now: int, warmup_steps: int, warmup_factor: float) -> float:
    if now >= warmup_steps:
        return 1.0
    return warmup_factor + (1 - warmup_factor) * now / warmup_steps


def _check(total_steps: int, warmup_steps: int) -> None:
    if total_steps < 1:
        raise ValueError(f"total_steps={total_steps} must be at least 1; check max_epochs and the data set.")
    if warmup_steps > total_steps:
        raise ValueError(
            f"warmup_steps={warmup_steps} is longer than the run of {total_steps} optimizer steps; "
            "lower scheduler.warmup_steps or train longer."
        )
