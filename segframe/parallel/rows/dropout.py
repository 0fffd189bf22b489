"""Dropout on maps whose rows are split over ranks that are all seeded alike."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from segframe.parallel.rows.tensor import RowTensor, rule

_FEW_RANKS = 8  # as in stochastic.py: beyond, drawing for all of them would cost more than it is worth


@rule(F.dropout2d)
def dropout2d(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> RowTensor:
    """Drops the channels that one process drops: a number is drawn for each, the same one on all ranks."""
    x, probability, training, in_place = _asked(args, kwargs)
    if not (training and probability):
        return x
    return _multiplied(x, function(x.local.new_ones((*x.local.shape[:2], 1, 1)), probability, True), in_place)


@rule(F.dropout, any_shape=True)
def dropout(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> RowTensor:
    """Drops the values that one process drops: numbers are drawn for all rows, and each rank takes its own.

    On more than eight ranks each draws for itself, in a random stream of its own that the common seed decides.
    """
    x, probability, training, in_place = _asked(args, kwargs)
    if not (training and probability):
        return x
    if x.rows.size > _FEW_RANKS:
        return _multiplied(x, _own_factors(x, probability), in_place)
    first, stop = x.rows.own(x.height)
    factors = function(_ones_in_order(x), probability, True).narrow(x.axis, first, stop - first)
    return _multiplied(x, factors.clone(), in_place)  # a copy, or those of all rows would be kept


def _asked(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[RowTensor, float, bool, bool]:
    given = dict(zip(("input", "p", "training", "inplace"), args, strict=False)) | kwargs
    probability = given.get("p", 0.5)
    if not 0 <= probability <= 1:
        raise ValueError(f"dropout got the probability {probability}; expected 0 to 1.")
    return given["input"], probability, given.get("training", True), given.get("inplace", False)


def _multiplied(x: RowTensor, factors: Tensor, in_place: bool) -> RowTensor:
    if not in_place:
        return x.like(x.local * factors)
    x.local.mul_(factors)
    return x


def _ones_in_order(x: RowTensor) -> Tensor:
    """Returns ones for all rows that lie in memory as one process's map does, which is how numbers are drawn."""
    order = sorted(range(x.ndim), key=x.local.stride().__getitem__, reverse=True)
    ones = x.local.new_ones([x.shape[dim] for dim in order])
    return ones.permute([order.index(dim) for dim in range(x.ndim)])


def _own_factors(x: RowTensor, probability: float) -> Tensor:
    if x.local.is_meta:
        return torch.empty_like(x.local)
    seed = int(torch.randint(2**62, (), device="cpu"))
    generator = torch.Generator(x.device).manual_seed(seed + x.rows.rank)
    kept = torch.empty_like(x.local).bernoulli_(1 - probability, generator=generator)
    return kept / (1 - probability) if probability < 1 else kept
