from __future__ import annotations

import time

from segframe.hang_watch import HangWatch

CODE = """
import time
from pathlib import Path
from segframe import logs
from segframe.hang_watch import HangWatch
def hang(): time.sleep({pause_s})
with logs.kept(Path({folder!r})):
    watch = HangWatch({timeout_s})
    for _ in range(3): watch.beat()
    hang()
    watch.stop()
    time.sleep(0.3)
"""


def test_who_hangs_has_its_stack_in_the_log(on_ranks, tmp_path):
    on_ranks(CODE.format(folder=str(tmp_path), timeout_s=0.5, pause_s=1))
    for rank in (0, 1):
        log = (tmp_path / f"logs/rank-{rank}.log").read_text()
        assert "Timeout (0:00:00.450000)" in log
        assert "in hang" in log


def test_who_gets_on_leaves_no_trace(on_ranks, tmp_path):
    on_ranks(CODE.format(folder=str(tmp_path), timeout_s=0.5, pause_s=0.1))
    assert (tmp_path / "logs/rank-1.log").read_text() == ""


def test_a_beat_costs_nothing_and_one_process_has_no_watch():
    watch = HangWatch(0.01)
    began = time.perf_counter()
    for _ in range(1000):
        watch.beat()
    assert time.perf_counter() - began < 0.1
    watch.stop()
