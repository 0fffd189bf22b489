"""Which trials that were killed are run again."""

from __future__ import annotations

from collections import Counter

from segframe.sweep.outcome import Outcome


class Retries:
    """Counts how often trials were killed in a row without an epoch gained.

    What gains epochs comes to its end: a training that is longer than the cluster's time limit, or preempted often.

    Args:
        most: How often a trial may be run again before it has failed.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._times = Counter[int]()

    def judge(self, number: int, outcome: Outcome, has_advanced: bool) -> Outcome:
        """Returns how an attempt that was killed counts: as interrupted, or as failed for good.

        Args:
            number: The trial's.
            outcome: How the attempt ended, ``interrupted``.
            has_advanced: Whether it came further than the ones before.
        """
        self._times[number] = 1 + (0 if has_advanced else self._times[number])
        times = self._times[number]
        if times <= self._most:
            return outcome
        told = f"{outcome.error}{f', {times} attempts' if times > 1 else ''} (sweep.retries)"
        return outcome._replace(state="failed", error=told)
