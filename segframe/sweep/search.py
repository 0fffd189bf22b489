"""What decides which trials there are: a grid, or a search by Optuna."""

from __future__ import annotations

from typing import Protocol

from segframe.sweep.trial import State, Trial


class StudyLostError(ConnectionError):
    """The database that a search keeps its study in was there and is not any more."""


class Search(Protocol):
    """Gives trials out and takes their values; whatever is killed when, it loses none and counts none twice."""

    def ask(self) -> Trial | None:
        """Returns a new trial, written down before it is returned; None when nothing is left to try."""

    def unfinished(self) -> list[Trial]:
        """Returns the trials that an earlier driver was given and that have not ended, by number."""

    def report(self, trial: Trial, step: int, value: float) -> bool:
        """Takes the metric after an epoch; returns whether the trial is hopeless and should end.

        Args:
            trial: A running one.
            step: Finished epochs, from 1; one that was reported before is left as it is.
            value: The metric.
        """

    def tell(self, trial: Trial, state: State, value: float | None, error: str | None) -> None:
        """Takes how a trial ended and writes trial.json.

        Args:
            trial: One that was given out.
            state: ``finished``, ``pruned``, ``failed``, or ``interrupted`` for one that is run again.
            value: The metric; None where the state is another than ``finished`` and no epoch has ended.
            error: What went wrong, in one line.
        """

    def trials(self) -> list[Trial]:
        """Returns every trial that was ever given out, by number."""

    def close(self) -> None:
        """Gives back connections; what is known stays known."""
