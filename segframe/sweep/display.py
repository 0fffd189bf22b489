"""What the driver tells those who show a sweep."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from segframe.sweep.trial import Trial


class Display(Protocol):
    """Shows a sweep that runs: a live table on a terminal, a line per event elsewhere."""

    def event(self, trial: Trial, what: str) -> None:
        """Tells of something that happened once.

        Args:
            trial: Whom to; its fields are those after the event.
            what: ``started``, ``resumed``, ``adopted``, ``finished``, ``pruned``, ``failed`` or ``interrupted``.
        """

    def note(self, line: str) -> None:
        """Tells something about the sweep as a whole, such as that it stops."""

    def refresh(self, trials: Sequence[Trial]) -> None:
        """Draws again what is drawn; called some five times a second.

        Args:
            trials: All that were given out so far, by number.
        """

    def close(self) -> None:
        """Leaves the terminal as it was; the last state stays to be read."""
