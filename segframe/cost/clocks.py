"""Where the time of the calling thread goes: computing, waiting for others, or kept from its core."""

from __future__ import annotations

import time
from pathlib import Path
from typing import NamedTuple

# Nanoseconds on a core and, second, ready but without one; Linux with CONFIG_SCHED_INFO.
_SCHEDULE = Path("/proc/thread-self/schedstat")


class Clocks(NamedTuple):
    """Seconds since some moment; only differences mean something.

    Attributes:
        wall: By the clock.
        asleep: In which the calling thread waited: it had nothing to compute. None where the system doesn't say.
        beside: Of processor time of this process's other threads, which move the bytes of collectives.
    """

    wall: float
    asleep: float | None
    beside: float

    def __sub__(self, earlier: Clocks) -> Clocks:
        is_known = self.asleep is not None and earlier.asleep is not None
        asleep = max(0.0, (self.asleep or 0.0) - (earlier.asleep or 0.0)) if is_known else None
        return Clocks(self.wall - earlier.wall, asleep, max(0.0, self.beside - earlier.beside))


def read() -> Clocks:
    """Returns the clocks of the calling thread.

    Time in which it was ready and another process had its core counts as neither, so that a busy machine does not
    look like communication.
    """
    wall = time.perf_counter()
    asleep = None
    if _SCHEDULE.exists():
        on_core, ready = (int(text) / 1e9 for text in _SCHEDULE.read_text(encoding="ascii").split()[:2])
        asleep = wall - on_core - ready
    return Clocks(wall, asleep, time.process_time() - time.thread_time())


def share(spans: list[Clocks], of: str) -> float | None:
    """Returns the share of the wall time of some spans that is of one kind; None where it isn't known.

    Args:
        spans: Differences of clocks.
        of: ``asleep`` or ``beside``.
    """
    found = [getattr(span, of) for span in spans]
    return None if None in found else min(1.0, sum(found) / sum(span.wall for span in spans))
