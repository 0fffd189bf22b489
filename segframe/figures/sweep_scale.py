"""Trials as points, and where the values of a parameter stand on an axis."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from statistics import median
from typing import Any, NamedTuple

from matplotlib.ticker import MaxNLocator

from segframe.wording import shown

LOG_RATIO = 30
"""How many times the smallest of listed values the largest is where they stand by their logarithm."""

_MAX_LISTED = 6
_LEAST_GAP = 0.08
_MAX_TICKS = 12
_MARGIN = 0.05
_WITHIN_DECADE = (1, 2, 5)

FINISHED, PRUNED, FAILED, INTERRUPTED = "finished", "pruned", "failed", "interrupted"


class Point(NamedTuple):
    """What a picture shows of a trial.

    Attributes:
        number: Its number.
        state: ``finished``, ``pruned``, ``failed``, ``interrupted``; others are left out.
        value: What the search is about; None where there is none.
        params: Values by parameter.
    """

    number: int
    state: str
    value: float | None
    params: Mapping[str, Any]


def valued(points: Iterable[Point], *states: str) -> list[Point]:
    """Returns the points of some states, in the order of their numbers, that have a finite value.

    Args:
        points: Any.
        states: Those wanted; none takes ``finished``.
    """
    wanted = states or (FINISHED,)
    found = (p for p in points if p.state in wanted and p.value is not None and math.isfinite(p.value))
    return sorted(found, key=lambda point: point.number)


class Scale:
    """An axis of one parameter: numbers as they are or by their logarithm, anything else in a row of names.

    Numbers that were listed and would lie on top of each other stand in a row too.

    Args:
        name: The parameter.
        values: All that occur.
        is_log: Whether numbers of a range stand by their logarithm; None for values that were listed.

    Attributes:
        is_categorical: Whether values stand in a row of names.
        is_log: Whether places are powers of ten.
    """

    def __init__(self, name: str, values: Sequence[Any], is_log: bool | None = None) -> None:
        self.name = name
        there = [value for value in values if value is not MISSING]
        numbers = self._numbers = sorted({float(v) for v in there if _is_number(v)})
        is_listed, is_positive = is_log is None, bool(numbers) and numbers[0] > 0
        if is_listed:
            is_log = is_positive and 2 < len(numbers) <= _MAX_TICKS and numbers[-1] / numbers[0] >= LOG_RATIO
        self.is_log = bool(is_log) and is_positive
        self.is_categorical = False
        self._is_listed = is_listed and len(numbers) <= _MAX_LISTED
        if not all(map(_is_number, there)) or not numbers or (self._is_listed and self._are_crowded()):
            self.is_categorical, self.is_log = True, False
            there = sorted(there) if all(map(_is_number, there)) else there
        self._names = _names(there) if self.is_categorical else {}

    def _are_crowded(self) -> bool:
        """Whether two numbers would be written over each other."""
        places = [self.place(number) for number in self._numbers]
        gaps = [right - left for left, right in pairwise(places)]
        return bool(gaps) and min(gaps) < _LEAST_GAP * (places[-1] - places[0])

    def place(self, value: Any) -> float:
        """Returns where a value stands; NaN where it has no place."""
        if self.is_categorical:
            return float(list(self._names).index(_key(value))) if value is not MISSING else math.nan
        if not _is_number(value):
            return math.nan
        return math.log10(value) if self.is_log else float(value)

    @property
    def limits(self) -> tuple[float, float]:
        """The lowest and the highest place, with a margin."""
        if self.is_categorical:
            return -0.5, max(0.5, len(self._names) - 0.5)
        low, high = self.place(self._numbers[0]), self.place(self._numbers[-1])
        margin = _MARGIN * (high - low) or 0.1 * abs(low) or 1.0
        return low - margin, high + margin

    def height(self, value: Any) -> float:
        """Returns where a value stands between the limits, 0..1."""
        low, high = self.limits
        return (self.place(value) - low) / (high - low)

    def ticks(self) -> list[tuple[float, str]]:
        """Returns places and what is written there."""
        if self.is_categorical:
            every = -(-len(self._names) // (2 * _MAX_TICKS))
            return [(float(place), name) for place, name in enumerate(self._names.values())][::every]
        return [(self.place(value), shown(value)) for value in self._tick_values()]

    def _tick_values(self) -> list[float]:
        if self._is_listed:
            return self._numbers
        low, high = self.limits
        found = _round_numbers(10**low, 10**high) if self.is_log else []
        found = [value for value in found if low <= self.place(value) <= high]
        if len(found) < 2:
            ends = (10**low, 10**high) if self.is_log else (low, high)
            whole = not self.is_log and all(number.is_integer() for number in self._numbers)
            locator = MaxNLocator(6, steps=[1, 2, 2.5, 5, 10], integer=whole)
            found = [float(value) for value in locator.tick_values(*ends)]
        return [value for value in found if low <= self.place(value) <= high]


def value_scale(metric: str, values: Sequence[float]) -> Scale:
    """Returns the axis of what a search is about; by its logarithm where one value dwarfs the others.

    Args:
        metric: What the values are.
        values: Finite ones, one at least.
    """
    return Scale(metric, values, is_log=min(values) > 0 and max(values) / median(values) > LOG_RATIO)


MISSING = object()
"""Stands for the value of a parameter that a trial does not have."""


def scales(points: Sequence[Point], logs: Mapping[str, bool]) -> list[Scale]:
    """Returns the axes of all parameters that vary.

    Args:
        points: All trials.
        logs: Whether a parameter's numbers stand by their logarithm, where that is known.
    """
    names = list(dict.fromkeys(name for point in points for name in point.params))
    columns = {name: [point.params.get(name, MISSING) for point in points] for name in names}
    varying = {name: values for name, values in columns.items() if len({_key(v) for v in values}) > 1}
    return [Scale(name, values, logs.get(name)) for name, values in varying.items()]


def broken(name: str, length: int = 20) -> str:
    r"""Returns a dotted name in lines that are about so many letters long at most.

    Example:
        >>> broken("callbacks.early_stopping.patience")
        'callbacks.\nearly_stopping.\npatience'
    """
    lines = [""]
    for part in name.replace(".", ".\0").split("\0"):
        if lines[-1] and len(lines[-1]) + len(part) > length:
            lines.append("")
        lines[-1] += part
    return "\n".join(line if len(line) <= length + 6 else f"{line[: length + 5]}…" for line in lines)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _names(values: Iterable[Any]) -> dict[str, str]:
    """Returns what to write for each value, with all digits where fewer would not tell them apart."""
    distinct = {_key(value): value for value in values}
    names = {key: shown(value) for key, value in distinct.items()}
    return names if len(set(names.values())) == len(names) else {key: str(v) for key, v in distinct.items()}


def _key(value: Any) -> str:
    return "missing" if value is MISSING else f"{value!r}"


def _round_numbers(low: float, high: float) -> list[float]:
    """Returns powers of ten between two numbers, and where these are few twice and five times those."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    parts = _WITHIN_DECADE if len(decades) <= 4 else (1,)
    return [part * 10.0**decade for decade in decades for part in parts]
