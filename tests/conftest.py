"""What runs of segframe in tests share: small data, one thread, a folder each."""

from __future__ import annotations

import csv
import multiprocessing
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SMALL = (
    "model=tiny",
    "trainer=cpu",
    "dataset.train.num_images=16",
    "dataset.val.num_images=4",
    "dataset.train.height=48",
    "dataset.train.width=48",
    "dataset.crop_size=[48,48]",
    "data.batch_size=4",
    "data.num_workers=0",
    "trainer.max_epochs=2",
    "trainer.log_every_n_steps=1",
)
"""Four steps an epoch of some milliseconds each."""


@pytest.fixture
def camvid() -> Path:
    """The folder of the real CamVid, which only some machines have."""
    folder = os.environ.get("SEGFRAME_CAMVID")
    if not folder:
        pytest.skip("SEGFRAME_CAMVID does not name the folder of CamVid")
    return Path(folder)


@pytest.fixture(scope="session")
def small() -> tuple[str, ...]:
    """The words of a run that takes less than a second."""
    return SMALL


@pytest.fixture
def alone(monkeypatch):
    """Gives a run in this process one thread, and takes back what it sets for the whole process."""
    import numpy as np
    import torch

    monkeypatch.setenv("COLUMNS", "200")
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(1)
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)
    torch.use_deterministic_algorithms(deterministic)
    torch.set_num_threads(threads)


@pytest.fixture
def segframe(alone, capsys):
    """Runs a command line in this process; returns (exit code, stdout, stderr)."""
    from segframe.cli import main

    def run(*words: str) -> tuple[int, str, str]:
        code = main([str(word) for word in words])
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def assembled(alone, tmp_path, small):
    """Builds the objects of a small run: ``assembled("optimizer.lr=0.1")``."""
    from segframe.build import assemble
    from segframe.config.compose import compose

    def build(*words: str, checkpoint=None, training=True):
        words = [w for w in small if w.split("=")[0] not in {x.split("=")[0] for x in words}] + list(words)
        folder = tmp_path / f"run-{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        return assemble(compose([*words, f"run.dir={folder}"]), folder, checkpoint, training)

    return build


@pytest.fixture
def fit(assembled):
    """Trains a small run and returns its objects; ``change`` may alter them before."""

    def train(*words: str, change=None, checkpoint=None):
        run = assembled(*words, checkpoint=checkpoint)
        if change is not None:
            change(run)
        run.trainer.fit(run.task, datamodule=run.data, ckpt_path=checkpoint, weights_only=True)
        return run

    return train


@pytest.fixture(scope="session")
def rows():
    """Reads a metrics.csv: one dict of strings per row."""

    def read(folder: Path) -> list[dict[str, str]]:
        with (Path(folder) / "metrics.csv").open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))

    return read


@pytest.fixture(scope="session")
def wandb_records() -> Callable[[Path], list[Any]]:
    """Reads what a run has logged to wandb without a network."""

    def read(folder: Path) -> list[Any]:
        """Reads a .wandb file: a 7-byte header, then LevelDB's log format (records cut at blocks of 32 KiB)."""
        import struct

        from wandb.proto.wandb_internal_pb2 import Record

        (file,) = folder.glob("wandb/offline-run-*/run-*.wandb")
        block, full, last = 32768, 1, 4
        data, place, parts, found = file.read_bytes(), 7, b"", []
        while place + 7 <= len(data):
            if (left := block - place % block) < 7:
                place += left
                continue
            length, kind = struct.unpack_from("<HB", data, place + 4)
            parts += data[place + 7 : place + 7 + length]
            place += 7 + length
            if kind in (full, last):
                found.append(Record.FromString(parts))
                parts = b""
        return found

    return read


PRELOADED = (
    "segframe.run",
    "segframe.build",
    "segframe.report",
    "segframe.trainer",
    "segframe.data.module",
    "segframe.rendezvous",
    "segframe.certificate.record",
    "segframe.models.pspnet",
    "segframe.models.zoo",
)


class RunProcess:
    """A command line in a process group of its own, whose steps take as long as a test needs to aim.

    It is forked from a server that has imported torch, so that a start costs no seconds.
    """

    def __init__(self, words: list[str], log: Path, slow_s: float, before: str) -> None:
        self.words, self.log, self.process = words, log, None
        code = [
            "import os, signal, sys, time, torch",
            "os.setsid()",
            "signal.pthread_sigmask(signal.SIG_SETMASK, ())",
            f"output = os.open({str(log)!r}, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)",
            "[os.dup2(output, number) for number in (1, 2)]",
            "torch.set_num_threads(1)",
            "from segframe.task import SegmentationTask as Task",
            "train, evaluate = Task.training_step, Task.validation_step",
            f"Task.training_step = lambda *a: [time.sleep({slow_s}), train(*a)][1]",
            f"Task.validation_step = lambda *a: [time.sleep({slow_s / 4}), evaluate(*a)][1]",
            before,
            "from segframe.cli import main",
            f"sys.exit(main({words!r}))",
        ]
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(list(PRELOADED))
        self.process = context.Process(target=exec, args=("\n".join(code), {}))
        environment = dict(os.environ)
        os.environ.update(COLUMNS="200", OMP_NUM_THREADS="1", PYTHONWARNINGS="default")
        self.process.start()
        os.environ.clear()
        os.environ.update(environment)

    @property
    def said(self) -> str:
        return self.log.read_text() if self.log.exists() else ""

    def wait_for(self, condition: Callable[[], bool], timeout_s: float = 60) -> None:
        """Returns as soon as a condition holds while the process lives."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert self.process.is_alive(), self.said
            assert time.monotonic() < deadline, self.said
            time.sleep(0.003)

    def send(self, number: int, to_group: bool = False) -> None:
        (os.killpg if to_group else os.kill)(self.process.pid, number)

    def end(self, timeout_s: float = 60) -> int:
        """Waits for the process and returns its exit code, -N after signal N."""
        self.process.join(timeout_s)
        assert self.process.exitcode is not None, self.said
        return self.process.exitcode

    def clean_up(self) -> None:
        if self.process.is_alive():
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.join()


@pytest.fixture
def start(tmp_path):
    """Starts command lines in processes of their own and sees that none is left behind."""
    started = []

    def run(*words: str, slow_s: float = 0.05, before: str = "") -> RunProcess:
        log = tmp_path / f"process-{len(started)}.log"
        started.append(RunProcess([str(word) for word in words], log, slow_s, before))
        return started[-1]

    yield run
    for process in started:
        process.clean_up()


@pytest.fixture
def on_ranks(tmp_path):
    """Runs Python code in several ranks: ``on_ranks(code)`` returns (exit codes, what each rank wrote, the team)."""
    from segframe.launch import start_ranks

    teams = []

    def run(code: str, num_ranks: int = 2, timeout_s: float = 60, **environment: str):
        folder = tmp_path / f"ranks-{len(teams)}"
        variables = {"OMP_NUM_THREADS": "1", **environment}
        teams.append(start_ranks(exec, (code, {}), num_ranks, folder, variables))
        codes = teams[-1].wait(timeout_s)
        return codes, [(folder / f"rank-{rank}.log").read_text() for rank in range(num_ranks)], teams[-1]

    yield run
    for team in teams:
        team.kill()


@pytest.fixture(scope="session", autouse=True)
def warm_server():
    """Lets the server that ranks are forked from import what most nets need too, once instead of in every rank."""
    from segframe import launch

    launch.PRELOADED = PRELOADED


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    """Keeps what runs remember between each other out of the user's home."""
    monkeypatch.setenv("SEGFRAME_CACHE", str(tmp_path_factory.getbasetemp() / "segframe-cache"))
