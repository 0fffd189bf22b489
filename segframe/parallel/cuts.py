"""Which consecutive stages of a net go to which rank: balanced by what they compute, or given by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from segframe.parallel.placeholders import tensors_of
from segframe.parallel.twin import image_for, twin_of

Cuts = Literal["auto"] | list[int] | list[str]


@dataclass(frozen=True)
class Cut:
    """A net's stages in as many consecutive parts as there are ranks.

    Attributes:
        starts: The first stage of each part.
        labels: What each stage is called: the modules that hold its parameters.
        costs: What each stage computes, in any unit; empty where nobody has asked.
        sizes: Elements of parameters of each stage.
    """

    starts: tuple[int, ...]
    labels: tuple[str, ...]
    costs: tuple[int, ...]
    sizes: tuple[int, ...]

    def part(self, rank: int) -> slice:
        """Returns the stages of a rank."""
        return slice(self.starts[rank], (*self.starts[1:], len(self.labels))[rank])

    def share(self, rank: int, of: Sequence[int]) -> float:
        """Returns a rank's share of costs or sizes."""
        return sum(of[self.part(rank)]) / max(1, sum(of))

    def lines(self, holder: str) -> list[str]:
        """Returns a line per part: its stages, and its share of the arithmetic and of the parameters.

        Args:
            holder: What holds a part, such as ``rank``.
        """
        return [self._line(holder, index) for index in range(len(self.starts))]

    def _line(self, holder: str, index: int) -> str:
        part = self.part(index)
        named = self.labels[part]
        stages = f"stage {part.start} ({named[0]})"
        if len(named) > 1:
            stages = f"stages {part.start} to {part.stop - 1} ({named[0]} ... {named[-1]})"
        costs = f"{self.share(index, self.costs):.0%} of the arithmetic, " if self.costs else ""
        return f"{holder} {index}: {stages}, {costs}{self.share(index, self.sizes):.0%} of the parameters"


def cut(net: nn.Module, num_parts: int, cuts: Cuts = "auto") -> Cut:
    """Divides a net's stages into parts.

    Args:
        net: The whole net; its ``stages`` are what can be cut.
        num_parts: How many parts.
        cuts: ``auto``: the largest share of the arithmetic is as small as it can be; or the stages, by number or by
            the name of a module in them, at which the second and later parts begin.

    Raises:
        ValueError: If the net has no stages, or too few, or a cut would part what belongs together.
    """
    stages = _stages(net, num_parts)
    tensors = [{id(x): x for x in tensors_of(stage)} for stage in stages]
    _check_complete(net, tensors)
    labels = tuple(_label(net, own, index) for index, own in enumerate(tensors))
    sizes = tuple(sum(p.numel() for p in own.values() if isinstance(p, nn.Parameter)) for own in tensors)
    forbidden = _joined(tensors)
    costs: tuple[int, ...] = ()
    if cuts == "auto":
        costs = stage_costs(net)
        starts = balanced(costs, num_parts, set(forbidden))
        if starts is None:
            raise ValueError(
                f"strategy=model_sharded can't cut {type(net).__name__} into {num_parts} parts: stages share "
                f"parameters, such as {next(iter(forbidden.values()))}, and must stay on one rank; use fewer devices."
            )
        return Cut(starts, labels, costs, sizes)
    starts = _by_hand(net, cuts, num_parts, tensors)
    for start in starts[1:]:
        if start in forbidden:
            raise ValueError(
                f"strategy.cuts={list(cuts)} parts stages {start - 1} and {start} ({labels[start - 1]} and "
                f"{labels[start]}), which share {forbidden[start]}: both ranks would train a copy of it. Cut elsewhere."
            )
    return Cut(starts, labels, costs, sizes)


def stage_costs(net: nn.Module) -> tuple[int, ...]:
    """Returns the floating-point operations of each stage's convolutions and matrix products, found without data.

    Raises:
        ValueError: If a stage can't be run without data.
    """
    costs = []
    try:
        twin: Any = twin_of(net)
        carried: tuple[Any, ...] = (image_for(twin),)
        for stage in twin.stages:
            with torch.no_grad(), FlopCounterMode(display=False) as counter:
                result = stage(*carried)
            costs.append(counter.get_total_flops())
            carried = result if isinstance(result, tuple) else (result,)
    except Exception as error:  # whatever a net's own code raises for tensors without data
        raise ValueError(
            f"what stage {len(costs)} of {type(net).__name__} computes can't be found out without data ({error}); say "
            "where to cut: strategy.cuts=[...], the numbers of the stages at which the next rank begins."
        ) from error
    return tuple(costs)


def balanced(costs: Sequence[int], num_parts: int, forbidden: set[int] | None = None) -> tuple[int, ...] | None:
    """Returns where each part begins so that the largest sum of costs is as small as it can be.

    Args:
        costs: One per stage.
        num_parts: How many parts, none of them empty.
        forbidden: Stages that no part but the first may begin with.

    Returns:
        The first stage of each part; None where there is no way.
    """
    total = [0, *accumulate(costs)]
    # best[i]: the smallest largest sum over the first i stages in the parts so far, and where these begin.
    best: dict[int, tuple[int, tuple[int, ...]]] = {0: (0, ())}
    for _ in range(num_parts):
        longer: dict[int, tuple[int, tuple[int, ...]]] = {}
        for end in range(1, len(costs) + 1):
            ways = [
                (max(worst, total[end] - total[start]), (*starts, start))
                for start, (worst, starts) in best.items()
                if start < end and (start == 0 or start not in (forbidden or ()))
            ]
            if ways:
                longer[end] = min(ways)
        best = longer
    found = best.get(len(costs))
    return None if found is None else found[1]


def _stages(net: Any, num_parts: int) -> list[Any]:
    """Returns a net's stages, if there are enough of them."""
    name = type(net).__name__
    if not hasattr(net, "stages"):
        raise ValueError(
            f"strategy=model_sharded cuts a net at its stages and {name} names none; use strategy=fsdp or "
            "strategy=spatial, or give the model an attribute `stages`."
        )
    stages = list(net.stages)
    if num_parts > len(stages):
        raise ValueError(
            f"strategy=model_sharded has {num_parts} ranks for the {len(stages)} stages of {name}; use "
            f"trainer.devices={len(stages)}, or strategy=hybrid with strategy.data x strategy.stages ranks."
        )
    return stages


def _check_complete(net: nn.Module, tensors: Sequence[dict[int, Tensor]]) -> None:
    """Checks that every parameter is in a stage."""
    missing = [name for name, p in net.named_parameters() if not any(id(p) in own for own in tensors)]
    if missing:
        raise ValueError(
            f"no stage of {type(net).__name__} has {missing[0]}, so that no rank would train it; `stages` must consist "
            "of modules that hold all parameters."
        )


def _joined(tensors: Sequence[dict[int, Tensor]]) -> dict[int, str]:
    """Returns the stages that must be on the rank of the one before, and the shape of what they share."""
    first: dict[int, int] = {}
    found: dict[int, str] = {}
    for index, own in enumerate(tensors):
        for key, tensor in own.items():
            for stage in range(first.setdefault(key, index) + 1, index + 1):
                kind = "a parameter" if isinstance(tensor, nn.Parameter) else "a buffer"
                found.setdefault(stage, f"{kind} of shape {tuple(tensor.shape)}")
    return found


def _by_hand(
    net: nn.Module, cuts: Sequence[int | str], num_parts: int, tensors: Sequence[dict[int, Tensor]]
) -> tuple[int, ...]:
    """Returns where parts begin by a user's list."""
    starts = (0, *(c if isinstance(c, int) else _stage_of(net, c, tensors) for c in cuts))
    rises = all(a < b for a, b in pairwise(starts))
    if len(starts) != num_parts or not rises or starts[-1] >= len(tensors):
        raise ValueError(
            f"strategy.cuts={list(cuts)} must name {num_parts - 1} stage(s) for {num_parts} ranks, rising from 1 to "
            f"{len(tensors) - 1}, at which the next rank begins; {type(net).__name__} has {len(tensors)} stages."
        )
    return starts


def _stage_of(net: nn.Module, name: str, tensors: Sequence[dict[int, Tensor]]) -> int:
    """Returns the first stage that holds parameters of a module."""
    ids = {id(p) for key, p in net.named_parameters() if key == name or key.startswith(f"{name}.")}
    found = next((index for index, own in enumerate(tensors) if ids & own.keys()), None)
    if found is None:
        labels = ", ".join(_label(net, own, index) for index, own in enumerate(tensors))
        raise ValueError(f"strategy.cuts names {name!r}, which no stage has; the stages are: {labels}.")
    return found


def _label(net: nn.Module, tensors: dict[int, Tensor], index: int) -> str:
    """Returns the name of the module that holds a stage's parameters, or of the first and the last of several."""
    every = {name: id(p) in tensors for name, p in net.named_parameters()}
    names = [name.split(".")[:-1] for name, is_own in every.items() if is_own]
    if not names:
        return f"stage {index}"
    depth = next((i for i, words in enumerate(zip(*names, strict=False)) if len(set(words)) > 1), min(map(len, names)))
    shared = ".".join(names[0][:depth])
    if shared and all(is_own for name, is_own in every.items() if name.startswith(f"{shared}.")):
        return shared
    first, last = (".".join(name[: depth + 1]) for name in (names[0], names[-1]))
    return first if first == last else f"{first} to {last.split('.')[-1]}"
