"""Sweeps whose trainings are processes of milliseconds that write what a training writes.

python stand_in.py FOLDER KILLS SEED WORDS: starts a driver, kills it by SIGKILL after some time, and so on, and lets
the last one finish. Trainings are killed now and then too.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from segframe.sweep import folder as sweep_folder
from segframe.sweep.driver import Driver
from segframe.sweep.grid import Grid
from segframe.sweep.launch.job import Need
from segframe.sweep.request import read
from segframe.sweep.trial import read_all

TRAINING = r"""
import json, os, signal, sys, time, zipfile
folder, rate, epochs, pause, parent = (kind(word) for kind, word in zip((str, float, int, float, int), sys.argv[1:]))
def write(name, text):
    with open(f"{folder}/.{name}", "w") as file:
        file.write(text)
    os.replace(f"{folder}/.{name}", f"{folder}/{name}")
def results(status, **more):
    write("results.json", json.dumps({"status": status, **more}))
def stop(*_):
    results("interrupted")
    os._exit(143)
signal.signal(signal.SIGTERM, stop)
os.makedirs(f"{folder}/checkpoints", exist_ok=True)
last, rows = f"{folder}/checkpoints/last.ckpt", ["step,epoch,val/miou"]
if zipfile.is_zipfile(last):
    rows = zipfile.ZipFile(last).read("rows").decode().splitlines()
if os.path.exists(f"{folder}/results.json"):
    assert '"finished"' not in open(f"{folder}/results.json").read()
with open(f"{folder}/starts", "a") as file:
    file.write(f"{len(rows) - 1}\n")
write("overrides.json", "[]")
results("running")
if rate > 50:
    results("failed", error="FloatingPointError: the loss is not finite\nbehind")
    sys.exit(1)
for epoch in range(len(rows) - 1, epochs):
    for _ in range(5):
        time.sleep(pause / 5)
        if os.getppid() != parent:
            stop()
    rows.append(f"{epoch + 1},{epoch},{rate * (epoch + 1) / epochs}")
    write("metrics.csv", "\n".join(rows) + "\n")
    with zipfile.ZipFile(f"{folder}/.last", "w") as file:
        file.writestr("rows", "\n".join(rows))
    os.replace(f"{folder}/.last", last)
results("finished")
"""


class StandIn:
    """A ``Launcher``."""

    def __init__(self, parallel, epochs=5, pause_s=0.05):
        self.parallel, self.how, self.running = parallel, (str(epochs), str(pause_s)), []

    def need(self, values):
        return Need(1, 1)

    def check(self, needs):
        pass

    def has_room(self, need):
        return True

    def start(self, number, words, folder, need):
        folder.mkdir(parents=True, exist_ok=True)
        own = next(word for word in words if word.startswith(("resume=", "run.dir=")))
        assert own.partition("=")[2].strip("'") == str(folder.absolute())
        rate = json.loads((folder / "trial.json").read_text())["params"]["optimizer.lr"]
        code = [sys.executable, "-I", "-S", "-c", TRAINING, str(folder), str(rate), *self.how, str(os.getpid())]
        self.running = [job for job in self.running if job.poll() is None]
        self.running.append(ProcessJob(subprocess.Popen(code), time.time()))
        assert len(self.running) <= self.parallel
        return self.running[-1]

    def adopt(self, description, folder):
        pid = description.get("pid")
        return Left(pid) if pid and is_alive(pid) else None

    def close(self):
        pass


class ProcessJob:
    def __init__(self, process, started):
        self.process, self.started = process, started

    def poll(self):
        return self.process.poll()

    def stop(self):
        self.process.terminate()

    def kill(self):
        self.process.kill()

    def describe(self):
        return {"pid": self.process.pid}

    def where(self):
        return "here"


class Left(ProcessJob):
    """What an earlier driver has left; it ends by itself."""

    def __init__(self, pid):
        self.pid = pid

    def poll(self):
        return None if is_alive(self.pid) else -15

    def stop(self):
        if is_alive(self.pid):
            os.kill(self.pid, signal.SIGTERM)

    kill = stop


def is_alive(pid):
    try:
        line = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
    return b"FloatingPointError" in line


def is_running(trial):
    return trial.state == "running" and is_alive(trial.job["pid"])


class Silent:
    """A ``Display``."""

    def __init__(self):
        self.events = []

    def event(self, trial, what):
        self.events.append((trial.number, what))

    def note(self, line):
        pass

    def refresh(self, trials):
        pass

    def close(self):
        pass


def drive(words, launcher=None, shown=None):
    """Runs a sweep, or goes on with it; returns its trials and the signal that stopped it."""
    request = read(words)
    launcher = launcher or StandIn(request.settings.parallel)
    with sweep_folder.locked(request.folder):
        known = read_all(request.folder)
        sweep = sweep_folder.describe(request, 5)
        sweep_folder.enter(request, sweep)
        if request.needs_optuna:
            from segframe.sweep.optuna_search import OptunaSearch

            search = OptunaSearch(sweep, request.axes)
        else:
            search = Grid(sweep.folder, request.axes, request.words, sweep.num_trials)
        driver = Driver(sweep, search, launcher, lambda words: Need(1, 1), shown or Silent(), lambda trials: None)
        try:
            stopped = driver.run([trial for trial in known if not trial.has_ended])
        finally:
            search.close()
        return search.trials(), stopped


def main(folder, kills, seed, *words):
    chance = random.Random(int(seed))
    words = [*words, f"sweep.dir={folder}"]
    # Before the forks, which then start in milliseconds.
    read(words)
    import optuna.storages.journal  # noqa: F401

    for kill in range(int(kills) + 1):
        child = os.fork()
        if child == 0:
            drive(words)
            os._exit(0)
        if kill < int(kills):
            aims = chance.random() < 0.7
            deadline = time.monotonic() + (3 if aims else chance.uniform(0, 0.3))
            while time.monotonic() < deadline and not (aims and any(map(is_running, read_all(Path(folder))))):
                time.sleep(0.01)
            time.sleep(chance.uniform(0, 0.3) if aims else 0)
            running = [trial for trial in read_all(Path(folder)) if is_running(trial)]
            if chance.random() < 0.3 and running:
                os.kill(running[0].job["pid"], signal.SIGKILL)
                time.sleep(chance.uniform(0, 0.3))
            os.kill(child, signal.SIGKILL)
        status = os.waitpid(child, 0)[1]
    return os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
