import os
import signal
import threading
import time

import pytest

from segframe.data.pool import each


@pytest.mark.parametrize("num_workers", [0, 2, 3])
@pytest.mark.parametrize("count", [0, 1, 50])
def test_every_index_once(count, num_workers):
    results = list(each(lambda i: i * i, count, num_workers, "", progress=False))
    assert sorted(results) == [(i, i * i) for i in range(count)]


def test_work_is_done_in_other_processes():
    processes = {result for _, result in each(lambda i: (time.sleep(0.002), os.getpid())[1], 64, 2, "", False)}
    assert len(processes) == 2
    assert os.getpid() not in processes


class AwkwardError(ValueError):
    def __init__(self, path, counts):
        super().__init__(f"{path} holds {counts}")


@pytest.mark.parametrize("num_workers", [0, 2])
def test_an_error_comes_out_as_itself(num_workers):
    def job(index):
        if index == 20:
            raise AwkwardError("file-20", {7: 1})
        return index

    with pytest.raises(ValueError, match=r"file-20 holds \{7: 1\}"):
        list(each(job, 64, num_workers, "", progress=False))
    assert not multiprocessing_children()


def test_a_process_that_is_killed_is_an_error_and_no_hang():
    def job(index):
        if index == 20:
            os.kill(os.getpid(), signal.SIGKILL)
        return index

    with pytest.raises(RuntimeError, match=r"ended by SIGKILL.*memory ran out.*workers=1"):
        list(each(job, 64, 2, "", progress=False))
    assert not multiprocessing_children()


def test_ctrl_c_ends_all_at_once():
    def job(index):
        time.sleep(5)

    main = threading.main_thread().ident
    timer = threading.Timer(0.3, lambda: signal.pthread_kill(main, signal.SIGINT))
    timer.start()
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        list(each(job, 64, 2, "", progress=False))
    assert time.monotonic() - started < 3
    assert not multiprocessing_children()


def test_shows_progress(capfd):
    list(each(abs, 40, 2, "reading", unit="file"))
    err = capfd.readouterr().err
    assert "reading: 100%" in err
    assert "40/40" in err
    assert "file/s" in err


def multiprocessing_children():
    import multiprocessing

    return multiprocessing.active_children()
