"""Where a rank stands when nothing goes on any more: its stack, in its log."""

from __future__ import annotations

import faulthandler
import time

from segframe import logs

_SHARE = 0.9  # of the time after which the ranks that wait give up and end all


class HangWatch:
    """Writes the stacks of this process into its log when no step has begun for long.

    A thread of the interpreter's own does it, which needs nothing of the one that hangs.

    Args:
        timeout_s: How long ranks wait for each other; the stacks are written a little before.
    """

    def __init__(self, timeout_s: float) -> None:
        self._delay_s = _SHARE * timeout_s
        self._set_again_after_s = min(1.0, 0.1 * timeout_s)
        self._set_at: float | None = None

    def beat(self) -> None:
        """Notes that a step begins; costs a look at the clock, and about once a second a restart of the timer."""
        now = time.monotonic()
        if self._set_at is not None and now - self._set_at < self._set_again_after_s:
            return
        log = logs.current()
        if log is None:
            return
        self._set_at = now
        faulthandler.dump_traceback_later(self._delay_s, exit=False, file=log)

    def stop(self) -> None:
        """Ends the watch."""
        if self._set_at is not None:
            faulthandler.cancel_dump_traceback_later()
            self._set_at = None
