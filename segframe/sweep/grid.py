"""Every combination of lists, in Hydra's order: the last list changes fastest."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from segframe.sweep.axes import Axis
from segframe.sweep.trial import State, Trial, read_all, trial_folder


def point(axes: Sequence[Axis], number: int) -> dict[str, Any]:
    """Returns the values of the combination of a number.

    Args:
        axes: Finite ones.
        number: From 0 to below the product of their lengths.

    Example:
        >>> from segframe.sweep.axes import Choices
        >>> axes = [Choices("a", (1, 2), ("1", "2")), Choices("b", ("x", "y", "z"), ("x", "y", "z"))]
        >>> [tuple(point(axes, number).values()) for number in range(4)]
        [(1, 'x'), (1, 'y'), (1, 'z'), (2, 'x')]
    """
    chosen: dict[str, Any] = {}
    for axis in reversed(axes):
        values = axis.all_values()
        number, index = divmod(number, len(values))
        chosen[axis.key] = values[index]
    return dict(reversed(chosen.items()))


def words_of(axes: Sequence[Axis], params: dict[str, Any], shared: Sequence[str]) -> list[str]:
    """Returns the training words of a trial.

    Args:
        axes: What is tried.
        params: The value of each.
        shared: Words of all trials.
    """
    return [*shared, *(axis.word(params[axis.key]) for axis in axes)]


class Grid:
    """A ``Search`` that needs no package: ``trial.json`` in the trials' folders is all that it keeps.

    Args:
        folder: The sweep folder.
        axes: Finite ones.
        words: Words of all trials.
        num_trials: How many combinations are tried at most.
    """

    def __init__(self, folder: Path, axes: Sequence[Axis], words: Sequence[str], num_trials: int) -> None:
        self._folder, self._axes, self._words = folder, list(axes), list(words)
        self._num_trials = min(num_trials, math.prod(len(axis.all_values()) for axis in axes))
        self._trials = {trial.number: trial for trial in read_all(folder)}

    def ask(self) -> Trial | None:
        """Returns the next combination; None after the last."""
        number = next((n for n in range(self._num_trials) if n not in self._trials), None)
        if number is None:
            return None
        params = point(self._axes, number)
        words = words_of(self._axes, params, self._words)
        self._trials[number] = trial = Trial(number, params, words, trial_folder(self._folder, number))
        trial.write()
        return trial

    def unfinished(self) -> list[Trial]:
        """Returns the trials that were given out and have not ended."""
        return [trial for trial in self.trials() if not trial.has_ended]

    def report(self, trial: Trial, step: int, value: float) -> bool:
        """Returns False: every trial runs to its end."""
        return False

    def tell(self, trial: Trial, state: State, value: float | None, error: str | None) -> None:
        """Writes down how a trial ended."""
        trial.end(state, value, error)

    def trials(self) -> list[Trial]:
        """Returns every trial that was given out, by number."""
        return [self._trials[number] for number in sorted(self._trials)]

    def close(self) -> None:
        """Does nothing: files are all that it has."""
