"""Optuna's samplers and pruners as ``sweep.search`` asks for them."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from segframe.config.options import ConfigError
from segframe.sweep.axes import Axis, Choices
from segframe.sweep.grid import point
from segframe.sweep.settings import Searching


def sampler_of(search: Searching, axes: Sequence[Axis], number: int) -> Any:
    """Returns the sampler that chooses the parameters of one trial.

    Its random numbers follow from the seed and the trial's number: a driver that starts anew would otherwise draw
    again what the first one has drawn.

    Args:
        search: The section ``sweep.search``.
        axes: What is searched.
        number: The trial's.
    """
    from optuna.exceptions import ExperimentalWarning
    from optuna.samplers import RandomSampler, TPESampler

    seed = int(np.random.SeedSequence([search.seed, number]).generate_state(1)[0])
    if search.sampler == "random":
        return RandomSampler(seed=seed)
    if search.sampler == "grid":
        return _points(axes)
    with warnings.catch_warnings():
        # Before Optuna 5 the liar is experimental; without it trials that run at once are told nothing of each other.
        warnings.simplefilter("ignore", ExperimentalWarning)
        return TPESampler(seed=seed, n_startup_trials=search.startup_trials, constant_liar=True)


def pruner_of(search: Searching, num_epochs: int | None) -> Any:
    """Returns the pruner; its steps are epochs that have ended.

    Args:
        search: The section ``sweep.search``.
        num_epochs: Those of a training that runs to its end.

    Raises:
        ConfigError: If hyperband can't know how long a training is.
    """
    from optuna.pruners import HyperbandPruner, MedianPruner, NopPruner

    if search.pruner == "median":
        return MedianPruner(n_startup_trials=search.startup_trials, n_warmup_steps=search.warmup_epochs)
    if search.pruner == "hyperband":
        if num_epochs is None:
            raise ConfigError(
                "sweep.search.pruner=hyperband hands out epochs and needs to know how many a training has: give "
                "trainer.max_epochs=N, one number for all, without trainer.max_steps"
            )
        return HyperbandPruner(min_resource=max(1, search.warmup_epochs), max_resource=num_epochs)
    return NopPruner()


def _points(axes: Sequence[Axis]) -> Any:
    """Returns a sampler that takes every combination once, in the order of a grid."""
    from optuna.samplers import BaseSampler

    class Points(BaseSampler):  # type: ignore[misc,unused-ignore]
        """The combination of a trial's number."""

        def infer_relative_search_space(self, study: Any, trial: Any) -> dict[str, Any]:
            return {}

        def sample_relative(self, study: Any, trial: Any, search_space: dict[str, Any]) -> dict[str, Any]:
            return {}

        def sample_independent(self, study: Any, trial: Any, param_name: str, param_distribution: Any) -> Any:
            axis = next(axis for axis in axes if axis.key == param_name)
            value = point(axes, trial.number)[param_name]
            return axis.label(value) if isinstance(axis, Choices) else value

    return Points()
