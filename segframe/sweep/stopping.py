"""Ctrl-C and SIGTERM while a sweep runs: trials end first, each with a checkpoint."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_ONE_PRESS_S = 0.5  # one Ctrl-C may come twice, from the terminal and from whoever passes it on


class Stopping:
    """What this process was told.

    Attributes:
        number: The signal that says to stop; 0 while there was none.
        presses: How often it came.
    """

    def __init__(self) -> None:
        self.number = self.presses = 0
        self._last = -_ONE_PRESS_S
        self._woken = threading.Event()

    @contextmanager
    def heeded(self) -> Iterator[None]:
        """Takes the signals over; another thread than the main one gets none."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def wait(self, seconds: float) -> None:
        """Waits, until a signal comes at most.

        Args:
            seconds: How long.
        """
        self._woken.wait(seconds)
        self._woken.clear()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        self.presses += now - self._last >= _ONE_PRESS_S
        self._last, self.number = now, number
        self._woken.set()
