"""Composes what trials will be trained with, and finds what is wrong before the first of them starts."""

from __future__ import annotations

import itertools
import math
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

from segframe import planning
from segframe.config.compose import compose, resolved
from segframe.config.options import ConfigError
from segframe.config.recipe import joined
from segframe.sweep.axes import Range
from segframe.sweep.grid import point, words_of
from segframe.sweep.launch.job import Launcher, Need
from segframe.sweep.request import Request
from segframe.sweep.settings import FINITE
from segframe.sweep.sources import check_sources

_ALL_CORNERS = 64  # as many combinations of ends are looked at; of larger spaces each end alone
_TOLD_AFTER_S = 2.0
_MOST_PROBLEMS = 5


class Needs:
    """Returns what trials take of the machine, by their words; refuses those that can't be trained.

    Args:
        launcher: Who will run them.
    """

    def __init__(self, launcher: Launcher) -> None:
        self._launcher = launcher
        self._known: dict[tuple[str, ...], tuple[Need, int | None]] = {}

    def of(self, words: Sequence[str]) -> Need:
        """Returns what a trial takes.

        Args:
            words: Its words.

        Raises:
            ConfigError: If it can't be trained; says why.
        """
        return self._look(words)[0]

    @property
    def num_epochs(self) -> int | None:
        """The epochs of the trials looked at so far, if that is one number for all and they have no other end."""
        found = {epochs for _, epochs in self._known.values()}
        return found.pop() if len(found) == 1 else None

    @property
    def known(self) -> list[Need]:
        """What the trials looked at so far take."""
        return [need for need, _ in self._known.values()]

    def _look(self, words: Sequence[str]) -> tuple[Need, int | None]:
        key = tuple(words)
        if key not in self._known:
            values = resolved(compose(words))
            need = self._launcher.need(values)
            planning.check_batch(values, need.ranks)
            check_sources(values)
            self._known[key] = need, _epochs(values)
        return self._known[key]


def check(request: Request, needs: Needs, told: set[int]) -> None:
    """Composes every trial of a grid that is still to run, or the corners of a space.

    Args:
        request: What the words ask for.
        needs: Keeps what is found.
        told: The numbers of trials that have ended.

    Raises:
        ConfigError: If trials can't be trained; names up to five.
    """
    points = list(_points(request, told))
    problems: dict[str, str] = {}
    for params in _with_progress(points):
        try:
            needs.of(words_of(request.axes, params, request.words))
        except ConfigError as error:
            if not problems and params is points[0] and _is_shared(request, needs, points, str(error)):
                raise
            message = str(error) + _whole_numbers(request, str(error))
            problems.setdefault(message, " ".join(a.word(params[a.key]) for a in request.axes))
            if len(problems) == _MOST_PROBLEMS:
                break
    if problems:
        said = (w if w.startswith((f"{at} ", f"{at}:")) else f"{at}: {w}" for w, at in problems.items())
        raise ConfigError(joined(list(said)))


def _whole_numbers(request: Request, message: str) -> str:
    """Returns the remedy where an interval of any numbers is that of a key that takes whole ones."""
    for axis in request.axes:
        if not isinstance(axis, Range) or axis.is_integer:
            continue
        if message.startswith(f"{axis.key}=") and "an integer" in message:
            return f"; for whole numbers {axis.name}=int(interval({int(axis.low)},{int(axis.high)}))"
    return ""


def _is_shared(request: Request, needs: Needs, points: Sequence[dict[str, Any]], message: str) -> bool:
    """Whether the last trial can't be trained for the same reason as the first: the values are not to blame."""
    try:
        needs.of(words_of(request.axes, points[-1], request.words))
    except ConfigError as error:
        return str(error) == message
    return False


def _points(request: Request, told: set[int]) -> Iterator[dict[str, Any]]:
    """Yields the parameters to look at."""
    axes = request.axes
    if request.settings.search.sampler == FINITE:
        yield from (point(axes, number) for number in range(request.num_trials) if number not in told)
        return
    ends = {axis.key: axis.ends for axis in axes}
    if math.prod(map(len, ends.values())) <= _ALL_CORNERS:
        yield from (dict(zip(ends, values, strict=True)) for values in itertools.product(*ends.values()))
        return
    first = {key: values[0] for key, values in ends.items()}
    yield first
    for key, values in ends.items():
        yield from (first | {key: value} for value in values[1:])


def _epochs(values: dict[str, Any]) -> int | None:
    epochs, steps = values["trainer"]["max_epochs"], values["trainer"]["max_steps"]
    return epochs if isinstance(epochs, int) and epochs > 0 and not (isinstance(steps, int) and steps > 0) else None


def _with_progress(points: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yields the points, and tells how far it is where that takes long; without a terminal once."""
    started, is_terminal, has_told = time.monotonic(), sys.stderr.isatty(), False
    for index, params in enumerate(points):
        if time.monotonic() - started > _TOLD_AFTER_S:
            if is_terminal:
                print(
                    f"\rchecking the words of trial {index + 1} of {len(points)} ", end="", file=sys.stderr, flush=True
                )
            elif not has_told:
                print(f"checking the words of {len(points)} trials", file=sys.stderr, flush=True)
            has_told = True
        yield params
    if has_told and is_terminal:
        print("\r" + " " * 60 + "\r", end="", file=sys.stderr, flush=True)
