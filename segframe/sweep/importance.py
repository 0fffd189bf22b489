"""How much of the difference between trials each parameter explains, by Optuna, for grids too."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from segframe.sweep.folder import SWEEP_FILE
from segframe.sweep.trial import Trial

_LEAST = 6


@dataclass(frozen=True)
class Importance:
    """What each parameter explains.

    Attributes:
        shares: By parameter, the largest first; their sum is 1. Empty where there is none.
        caption: How it was found, or why there is none.
    """

    shares: Mapping[str, float] = field(default_factory=dict)
    caption: str = ""


@dataclass(frozen=True)
class Span:
    """A range of numbers that was searched.

    Attributes:
        low: The smallest.
        high: The largest.
        log: Whether equal factors counted as equally far.
    """

    low: float
    high: float
    log: bool


def spans(folder: Path) -> dict[str, Span]:
    """Returns the ranges among the axes of a sweep, by key; lists of values are left out.

    Args:
        folder: The sweep folder.
    """
    try:
        space = json.loads((folder / SWEEP_FILE).read_text(encoding="utf-8"))["identity"]["space"]
        ranges = {entry["key"].lstrip("+"): entry["values"] for entry in space if isinstance(entry["values"], dict)}
        return {key: Span(values["low"], values["high"], values["log"]) for key, values in ranges.items()}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def importance(trials: Sequence[Trial], ranges: Mapping[str, Span], is_higher_better: bool) -> Importance:
    """Returns the share of each parameter by fANOVA, or by PED-ANOVA without scikit-learn.

    fANOVA is of Hutter, Hoos and Leyton-Brown, "An Efficient Approach for Assessing Hyperparameter Importance" (ICML
    2014). Ranges that were searched by their logarithm enter by it, which Optuna itself does not do for fANOVA.

    Args:
        trials: Any; finished ones that have a value count.
        ranges: What is known of axes of numbers, by key.
        is_higher_better: Whether larger values are better.
    """
    used = [t for t in trials if t.state == "finished" and t.value is not None and math.isfinite(t.value)]
    keys = dict.fromkeys(key for trial in used for key in trial.params)
    varying = [key for key in keys if len({repr(trial.params.get(key)) for trial in used}) > 1]
    if not (varying or len(used) > 1):
        return Importance(caption="one trial has finished, so nothing varies" if used else "no trial has finished")
    if not varying:
        return Importance(caption="no parameter varies among the finished trials")
    if len(used) < (least := max(_LEAST, len(varying) + 2)):
        return Importance(caption=f"{len(used)} finished trials are too few, it takes {least}")
    if len({trial.value for trial in used}) == 1:
        return Importance(caption="all finished trials have the same value")
    try:
        import optuna
    except ImportError:
        return Importance(caption="Optuna is not installed: pip install 'segframe[sweep]'")
    with _quiet():
        study = optuna.create_study(direction="maximize" if is_higher_better else "minimize")
        study.add_trials(_frozen(used, varying, ranges))
        name = "fANOVA" if find_spec("sklearn") else "PED-ANOVA"
        kinds = optuna.importance
        evaluator = kinds.FanovaImportanceEvaluator(seed=0) if name == "fANOVA" else kinds.PedAnovaImportanceEvaluator()
        found = kinds.get_param_importances(study, evaluator=evaluator)
    shares = {key: float(share) for key, share in sorted(found.items(), key=lambda item: -item[1])}
    return Importance(shares, f"{name} over {len(used)} finished trials")


def _frozen(trials: Sequence[Trial], keys: Sequence[str], ranges: Mapping[str, Span]) -> list[Any]:
    """Returns trials as Optuna has them: numbers as such, anything else by its name."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution
    from optuna.trial import create_trial

    distributions: dict[str, Any] = {}
    for key in keys:
        values = [trial.params.get(key) for trial in trials]
        if all(_is_number(value) for value in values) and len(set(values)) > 2:
            low, high, log = _limits([float(v) for v in values if v is not None], ranges.get(key))
            distributions[key] = FloatDistribution(math.log10(low) if log else low, math.log10(high) if log else high)
        else:
            distributions[key] = CategoricalDistribution(list(dict.fromkeys(map(repr, values))))

    def place(key: str, value: Any) -> Any:
        if isinstance(distributions[key], CategoricalDistribution):
            return repr(value)
        span = ranges.get(key)
        return math.log10(value) if span is not None and span.log else float(value)

    return [
        create_trial(
            params={key: place(key, trial.params.get(key)) for key in keys},
            distributions=distributions,
            value=trial.value,
        )
        for trial in trials
    ]


def _limits(values: Sequence[float], span: Span | None) -> tuple[float, float, bool]:
    """Returns the ends of an axis and whether it is logarithmic."""
    if span is None:
        return min(values), max(values), False
    return min([span.low, *values]), max([span.high, *values]), span.log


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps Optuna's news about a study of the moment out of the terminal."""
    logger = logging.getLogger("optuna")
    before = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(before)
