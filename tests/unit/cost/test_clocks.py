"""Sleep, work of other threads, and time under way, told apart."""

from __future__ import annotations

import threading
import time

import pytest

from segframe.cost import clocks
from segframe.cost.in_flight import union


def busy(seconds: float) -> None:
    begun = time.thread_time()
    while time.thread_time() - begun < seconds:
        sum(range(1000))


@pytest.mark.skipif(clocks.read().asleep is None, reason="this system does not say when a thread was ready")
def test_sleep_is_asleep_and_work_is_not():
    before = clocks.read()
    time.sleep(0.1)
    slept = clocks.read() - before
    before = clocks.read()
    busy(0.1)
    worked = clocks.read() - before
    assert slept.asleep == pytest.approx(0.1, abs=0.05)
    assert worked.asleep < 0.05
    assert worked.wall >= 0.09


def test_other_threads_work_counts_beside():
    before = clocks.read()
    thread = threading.Thread(target=busy, args=(0.1,))
    thread.start()
    thread.join()
    found = clocks.read() - before
    assert found.beside == pytest.approx(0.1, abs=0.05)
    assert clocks.share([found, found], "beside") == pytest.approx(found.beside / found.wall)


def test_a_share_is_unknown_where_a_clock_is():
    assert clocks.share([clocks.Clocks(1.0, None, 0.0)], "asleep") is None


def test_intervals_that_overlap_count_once():
    assert union([]) == 0
    assert union([(5, 6), (0, 2), (1, 3), (1, 2)]) == 4
