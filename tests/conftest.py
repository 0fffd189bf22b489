"""What runs of segframe in tests share: small data, one thread, a folder each."""

from __future__ import annotations

import csv
import os
import random
from pathlib import Path

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
