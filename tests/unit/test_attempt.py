from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from torch.distributed import TCPStore

from segframe.attempt import agreed_attempt
from segframe.roll_call import RanksMissingError


@pytest.fixture
def connect():
    """Gives each rank a connection of its own to one store."""
    server = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    return lambda: TCPStore("127.0.0.1", server.port, is_master=False, wait_for_workers=False)


def ask(connect, rank: int, size: int, delay_s: float = 0.0, timeout_s: float = 10.0) -> str:
    time.sleep(delay_s)
    return agreed_attempt(connect(), rank, size, time.monotonic() + timeout_s, timeout_s)


@pytest.mark.parametrize("delays_s", [(0.2, 0, 0.1), (0, 0.2, 0.1)])
def test_all_ranks_of_an_attempt_agree_and_no_two_attempts_do(connect, delays_s):
    words = []
    for _ in range(3):  # each finds what those before have left
        with ThreadPoolExecutor(3) as pool:
            found = list(pool.map(lambda r: ask(connect, r, 3, delays_s[r]), range(3)))
        assert len(set(found)) == 1, found
        words += found[:1]
    assert len(set(words)) == 3


def test_an_attempt_with_fewer_ranks_agrees_too(connect):
    for size in (3, 2):
        with ThreadPoolExecutor(size) as pool:
            assert len(set(pool.map(lambda r, size=size: ask(connect, r, size), range(size)))) == 1


def test_a_rank_does_not_take_an_earlier_attempts_word_for_its_own(connect):
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda r: ask(connect, r, 2), range(2)))
    with pytest.raises(RanksMissingError, match=r"rank 0 of 2 has not answered within 0.3 s"):
        ask(connect, 1, 2, timeout_s=0.3)


def test_rank_0_gives_up_in_time_without_the_others(connect):
    done = threading.Event()
    threading.Thread(target=lambda: (ask(connect, 0, 2, timeout_s=0.3), done.set()), daemon=True).start()
    assert done.wait(5)
