import os
import signal
import subprocess
import sys
import time

import pytest

from segframe.sweep.launch import guard, processes

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="orphans are found by Linux's /proc")

# A supervisor and what it has started: deaf to SIGTERM, in a session of its own, waiting for nobody.
TREE = """
import os, pathlib, signal, subprocess, sys, time
def told(*_):
    pathlib.Path("told").touch()
    sys.exit(143)
signal.signal(signal.SIGTERM, told)
code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(60)"
rank = subprocess.Popen([sys.executable, "-S", "-c", code], start_new_session=True, stdout=subprocess.PIPE)
rank.stdout.readline()
print(*sorted(os.sched_getaffinity(0)), flush=True)
pathlib.Path("pids").write_text(f"{os.getpid()} {rank.pid}")
END
"""


@pytest.fixture
def guarded(tmp_path):
    started = []

    def run(end="time.sleep(60)", cores="-", place="here"):
        words = [sys.executable, "-S", "-c", TREE.replace("END", end)]
        command = [sys.executable, "-I", "-S", guard.__file__, str(tmp_path), "log", cores, place, *words]
        mark = {processes.MARK_VARIABLE: str(tmp_path.resolve())}
        started.append(subprocess.Popen(command, stdin=subprocess.PIPE, cwd=tmp_path, env=os.environ | mark))
        until(lambda: (tmp_path / "pids").exists() and (tmp_path / "pids").read_text().count(" "))
        return started[-1], *map(int, (tmp_path / "pids").read_text().split())

    yield run
    processes.signal_marked(tmp_path, signal.SIGKILL, all_of_them=True)
    for process in started:
        process.stdin.close()
        process.wait()


def until(condition, timeout_s=20):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_trial_that_ends_leaves_nobody_behind(guarded, tmp_path, monkeypatch):
    core = str(min(os.sched_getaffinity(0)))
    process, _, rank = guarded("rank.kill() if len(sys.argv) > 1 else os.kill(os.getpid(), 9)", cores=core)
    assert processes.signalled(process.wait(20)) == -9
    assert processes.marked(tmp_path) == []
    with pytest.raises(ProcessLookupError):
        os.kill(rank, 0)
    assert (tmp_path / "log").read_text().split() == [core]
    assert not (tmp_path / guard.ALIVE_FILE).exists()


@pytest.mark.parametrize("place", ["here", "behind"])
def test_a_trial_ends_with_a_checkpoint_when_its_driver_is_gone(guarded, tmp_path, place):
    process, _, _ = guarded(place=place)
    assert processes.shows_life(tmp_path)
    if place == "behind":
        process.kill()  # what Ray does to its worker's children
    process.stdin.close()
    until(lambda: not processes.marked(tmp_path))
    assert (tmp_path / "told").exists()
    assert "whoever has started this trial is gone" in (tmp_path / "log").read_text()
    assert place == "behind" or process.wait(20) == 143


def test_a_killed_guard_takes_the_trial_with_it(guarded, tmp_path):
    process, _, rank = guarded()
    process.kill()
    until(lambda: (tmp_path / "told").exists())
    until(lambda: processes.marked(tmp_path) == [rank])  # nobody looks after it now
    left = processes.leftover(tmp_path, {})
    assert left.poll() is None
    left.kill()
    until(lambda: left.poll() == -signal.SIGTERM)
    assert processes.leftover(tmp_path, {}) is None


def test_two_trainings_never_write_to_one_folder(guarded, tmp_path):
    first, _, _ = guarded("rank.kill(); time.sleep(60)")
    command = [*first.args[:7], "here", "/usr/bin/touch", str(tmp_path / "second")]
    assert subprocess.run(command, stdin=subprocess.DEVNULL, timeout=20).returncode == 143  # nobody waits for it
    second, told = (subprocess.Popen(command, stdin=subprocess.PIPE) for _ in range(2))
    told.terminate()
    assert processes.signalled(told.wait(20)) == -15
    time.sleep(3 * guard._LOOK_S)
    assert second.poll() is None
    assert not (tmp_path / "second").exists()
    first.terminate()
    assert second.wait(20) == 0  # its turn has come
    assert (tmp_path / "second").exists()
    second.stdin.close()
    told.stdin.close()


def test_a_folder_that_is_never_left_is_told(guarded, tmp_path, monkeypatch):
    guarded()
    monkeypatch.setattr(guard, "ENDING_S", -2 * guard.SIGN_OF_LIFE_S)
    monkeypatch.setattr(guard.select, "select", lambda *_: ([], [], []))
    assert guard._entered(str(tmp_path / guard.ALIVE_FILE)) == (-1, guard.TWICE)


def test_signals_are_passed_on(guarded, tmp_path):
    process, _, _ = guarded(place="behind")
    process.send_signal(signal.SIGUSR1)
    assert processes.signalled(process.wait(20)) == -9
    assert not (tmp_path / "told").exists()
    assert processes.marked(tmp_path) == []


def test_a_process_without_the_mark_is_left_alone(tmp_path):
    with subprocess.Popen(["sleep", "60"], env={processes.MARK_VARIABLE: str(tmp_path / "other")}) as process:
        processes.signal_marked(tmp_path, signal.SIGKILL, all_of_them=True)
        assert process.poll() is None
        until(lambda: processes.marked(tmp_path / "other") == [process.pid])
        processes.signal_marked(tmp_path / "other", signal.SIGKILL)
        assert process.wait(20) == -9
