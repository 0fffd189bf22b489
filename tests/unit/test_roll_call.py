from __future__ import annotations

import threading
import time

import pytest

from segframe.roll_call import asked_within


def test_an_answer_and_an_error_come_out():
    assert asked_within(lambda: 3, 5) == 3
    with pytest.raises(RuntimeError, match="gone"):
        asked_within(lambda: (_ for _ in ()).throw(RuntimeError("gone")), 5)


def test_nobody_waits_for_a_store_that_does_not_answer():
    answered = threading.Event()
    started = time.monotonic()
    assert asked_within(answered.wait, 0.1) is None
    assert time.monotonic() - started < 3
    answered.set()
