"""Mean and standard deviation over seeds, where a sweep has several of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from segframe.sweep.trial import Trial

SEED = "seed"
"""The key of the configuration that decides initial weights, order and augmentation."""


@dataclass(frozen=True)
class OverSeeds:
    """Trials that differ in their seed alone.

    Attributes:
        params: Their other parameters.
        trials: Numbers of those that have a value.
        mean: Of their values.
        deviation: The standard deviation of a sample (n - 1); None of one trial.
        num_asked: Trials of these parameters in any state.
    """

    params: dict[str, Any]
    trials: tuple[int, ...]
    mean: float
    deviation: float | None
    num_asked: int


def over_seeds(trials: Sequence[Trial], is_higher_better: bool) -> list[OverSeeds]:
    """Returns the groups of trials that differ in nothing but ``seed``, the best mean first; none where all are alone.

    Args:
        trials: Any; finished ones that have a value count.
        is_higher_better: Whether larger values are better.
    """
    groups: dict[str, list[Trial]] = {}
    for trial in trials:
        if SEED in trial.params:
            key = " ".join(f"{name}={value!r}" for name, value in trial.params.items() if name != SEED)
            groups.setdefault(key, []).append(trial)
    if max(map(len, groups.values()), default=0) < 2:
        return []
    found = [_group(members) for members in groups.values()]
    return sorted((g for g in found if g is not None), key=lambda g: -g.mean if is_higher_better else g.mean)


def _group(members: Sequence[Trial]) -> OverSeeds | None:
    used = [trial for trial in members if trial.state == "finished" and trial.value is not None]
    if not used:
        return None
    values = [trial.value for trial in used if trial.value is not None]
    params = {name: value for name, value in used[0].params.items() if name != SEED}
    deviation = stdev(values) if len(values) > 1 else None
    return OverSeeds(params, tuple(trial.number for trial in used), fmean(values), deviation, len(members))
