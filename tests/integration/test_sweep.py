"""Sweeps as a user runs them, with trainings that are real."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def sweep(tmp_path, small):
    """Starts `segframe sweep`; returns a process."""
    started = []

    def start(*words, verb=("sweep",)):
        own = {word.partition("=")[0] for word in words}
        shared = [word for word in small if word.partition("=")[0] not in own]
        command = [sys.executable, "-m", "segframe", *verb, *shared, *words, f"sweep.dir={tmp_path / 'sweep'}"]
        variables = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "default"}
        pipe = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        started.append(subprocess.Popen(command, cwd=tmp_path, env=variables, **pipe))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def trials(tmp_path):
    """Returns what the trials' folders say, by number."""

    def read():
        files = sorted((tmp_path / "sweep" / "trials").glob("*/trial.json"))
        return [json.loads(file.read_text()) for file in files]

    return read


def wait_for(condition, process, timeout_s=240):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.02)


def children(pid):
    """Returns the processes that a process has started."""
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def states(found):
    return [trial["state"] for trial in found]


def test_twelve_trials_two_at_once_whose_driver_is_killed_twice(sweep, trials, tmp_path, rows):
    pytest.importorskip("optuna")
    words = ["sweep=optuna_grid", "sweep.search.startup_trials=4", "sweep.parallel=2"]
    words += ["optimizer.lr=1e-3,1e-2,1e20", "seed=0,1,2,3", "callbacks.checkpoints.every_n_steps=1"]

    def has_checkpoint(trial):
        return (tmp_path / "sweep" / "trials" / f"{trial['number']:04d}" / "checkpoints" / "last.ckpt").exists()

    first = sweep(*words)
    wait_for(lambda: any(t["state"] == "running" and has_checkpoint(t) for t in trials()), first)
    first.kill()
    begun = [trial["number"] for trial in trials()]
    assert 1 <= len(begun) <= 2

    second = sweep(*words)
    wait_for(lambda: states(trials()).count("finished") >= 3 and "running" in states(trials()), second)
    finished = [trial for trial in trials() if trial["state"] == "finished"]
    second.kill()

    third = sweep(*words)
    wait_for(lambda: any(t["state"] == "running" and t["number"] not in begun for t in trials()), third)
    guard = next(t["job"]["pid"] for t in trials() if t["state"] == "running")
    wait_for(lambda: children(guard) or third.poll() is not None, third)
    os.kill(children(guard)[0], signal.SIGKILL)
    told = third.communicate(timeout=240)[0]
    assert third.returncode == 0, told
    assert "go on" not in told

    found = trials()
    assert [tuple(t["params"].values()) for t in found] == [(lr, s) for lr in (1e-3, 1e-2, 1e20) for s in range(4)]
    assert states(found)[:4] + states(found)[8:] == ["finished"] * 4 + ["failed"] * 4
    assert set(states(found)[4:8]) <= {"finished", "pruned"}  # whichever half is worse after an epoch
    assert all(trial["error"].startswith("NonFiniteLossError: the loss of step") for trial in found[8:])
    assert [trial for trial in found if trial["number"] in {t["number"] for t in finished}] == finished
    assert sum(trial["attempts"] for trial in found) > 12
    for trial in [trial for trial in found if trial["state"] == "finished"]:
        written = rows(tmp_path / "sweep" / "trials" / f"{trial['number']:04d}")
        assert [int(row["step"]) for row in written] == list(range(1, 9))  # each step once, whatever was killed
        assert trial["value"] == max(float(row["val/miou"]) for row in written if row["val/miou"])
    with (tmp_path / "sweep" / "trials.csv").open(newline="") as file:
        assert [row["state"] for row in csv.DictReader(file)] == states(found)

    again = sweep(*words)
    told = again.communicate(timeout=60)[0]
    assert (again.returncode, "all 12 trials of" in told, "train it again" in told) == (0, True, True)
    assert trials() == found


def test_train_m_runs_trials_of_one_rank_and_of_two(sweep, trials):
    process = sweep("strategy=ddp", "trainer.devices=1,2", "trainer.max_epochs=1", verb=("train", "-m"))
    told = process.communicate(timeout=240)[0]
    assert process.returncode == 0, told
    one, two = trials()
    assert (one["params"], two["params"]) == ({"trainer.devices": 1}, {"trainer.devices": 2})
    assert one["value"] == pytest.approx(two["value"], rel=1e-5)
