"""A run goes on under another strategy and number of ranks, mid-epoch, with the same batches and losses."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from segframe.launch import start_ranks

# PSPNet has BatchNorm and dropout and can be split in every way; AdamW has two averages and a count per parameter.
WORDS = (
    "experiment=certificate",
    "loss.class_weights=median_frequency",
    "model=pspnet",
    "model.encoder=tu-test_resnet",
    "optimizer=adamw",
    "optimizer.lr=0.001",
    "scheduler=constant",
    "data.batch_size=12",
    "dataset.train.num_images=36",
    "dataset.crop_size=[32,32]",
    "dataset.train.height=48",
    "dataset.train.width=48",
    "trainer.precision=64-true",
    "trainer.log_every_n_steps=1",
    "trainer.max_epochs=3",
    "callbacks.progress_bar=null",
    "check=none",
)
STOP, END = 2, 5  # of three steps an epoch
TOLERANCE = 1e-9

pytestmark = pytest.mark.xdist_group("resume elsewhere")


def run_words(words):
    """Runs in each rank."""
    from segframe.cli import main

    return main(list(words))


@pytest.fixture(scope="module")
def started(tmp_path_factory):
    """The folders of runs that were stopped, by strategy and ranks."""
    return {"folder": tmp_path_factory.mktemp("resume-elsewhere")}


@pytest.fixture
def train(alone, monkeypatch, tmp_path):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")

    def run(strategy, ranks, folder, steps, resume=False):
        words = [f"resume={folder}"] if resume else [*WORDS, f"run.dir={folder}"]
        words += [f"strategy={strategy}", f"trainer.devices={ranks}", f"trainer.max_steps={steps}"]
        logs = tmp_path / f"logs-{len(list(tmp_path.iterdir()))}"
        logs.mkdir()
        codes = start_ranks(run_words, (["train", *words],), ranks, log_dir=logs).wait(timeout_s=300)
        assert codes == [0] * ranks, "\n".join(log.read_text() for log in sorted(logs.iterdir()))

    return run


@pytest.fixture
def part_way(train, started):
    """A copy of a run that was stopped in the middle of its first epoch."""

    def copy(strategy, ranks, to):
        if (strategy, ranks) not in started:
            folder = started["folder"] / f"{strategy}-{ranks}"
            train(strategy, ranks, folder, STOP)
            started[strategy, ranks] = folder
        return Path(shutil.copytree(started[strategy, ranks], to))

    return copy


@pytest.fixture
def undisturbed(train, started):
    """The run in one process that nothing stopped."""
    folder = started["folder"] / "undisturbed"
    if not folder.exists():
        train("single", 1, folder, END)
    return folder


def losses(rows, folder):
    return {int(row["step"]): float(row["train/loss"]) for row in rows(folder) if row["train/loss"]}


def assert_near(own, others, where=""):
    """Two checkpoints hold the same tensors, up to rounding."""
    if isinstance(own, dict):
        assert own.keys() == others.keys(), where
        for key in own:
            assert_near(own[key], others[key], f"{where}/{key}")
    elif isinstance(own, torch.Tensor) and own.is_floating_point():
        scale = max(1e-3, float(own.abs().max())) if own.numel() else 1.0
        assert float((own - others).abs().max()) <= 1e-6 * scale, where
    elif isinstance(own, torch.Tensor):
        assert torch.equal(own, others), where


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (("single", 1), ("fsdp", 2)),
        (("single", 1), ("ddp", 3)),
        (("ddp", 2), ("single", 1)),
        (("fsdp", 3), ("fsdp", 2)),
        (("fsdp", 3), ("spatial", 2)),
        (("spatial", 2), ("model_sharded", 2)),
        (("model_sharded", 2), ("single", 1)),
    ],
    ids=lambda x: f"{x[0]}x{x[1]}",
)
def test_a_run_goes_on_elsewhere(train, part_way, undisturbed, rows, tmp_path, before, after):
    folder = part_way(*before, tmp_path / "run")
    train(*after, folder, END, resume=True)
    own, others = losses(rows, undisturbed), losses(rows, folder)
    assert sorted(others) == sorted(own) == list(range(1, END + 1))
    assert max(own.values()) - min(own.values()) > 0.01  # else equal losses would say little
    for step, loss in own.items():
        assert others[step] == pytest.approx(loss, rel=TOLERANCE), step
    first, second = (torch.load(run / "checkpoints/last.ckpt", weights_only=True) for run in (undisturbed, folder))
    for key in ("state_dict", "ema_state_dict", "global_step", "DataModule"):
        assert_near(first[key], second[key], key)
    for own_state, other_state in zip(first["optimizer_states"], second["optimizer_states"], strict=True):
        assert own_state["state"]
        assert_near(own_state["state"], other_state["state"], "optimizer")
