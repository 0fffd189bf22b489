"""For how much of a step collectives were under way, from the profiler's events."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch.profiler import ProfilerActivity, profile

# The names under which process groups record a collective from its issue to its end.
_COLLECTIVES = ("gloo:", "nccl:", "ncclDevKernel")


class InFlight:
    """Records steps under the profiler.

    Args:
        on_cuda: Whether the device is a CUDA one, whose kernels count then.
    """

    def __init__(self, on_cuda: bool) -> None:
        activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_cuda else [])]
        self._profile = profile(activities=activities, acc_events=True)

    def start(self) -> None:
        """Starts to record."""
        self._profile.start()

    def stop(self) -> float:
        """Stops to record; returns the seconds in which at least one collective was under way."""
        self._profile.stop()
        events: list[Any] = list(self._profile.events() or [])  # type: ignore[no-untyped-call]
        spans = ((e.time_range.start, e.time_range.end) for e in events if e.name.startswith(_COLLECTIVES))
        return union(spans) / 1e6


def union(spans: Iterable[tuple[float, float]]) -> float:
    """Returns the length of what intervals (start, end) cover together."""
    total, until = 0.0, float("-inf")
    for start, end in sorted(spans):
        total += max(0.0, end - max(start, until))
        until = max(until, end)
    return total
