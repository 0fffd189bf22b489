"""How runs end, and what they refuse to begin: on one rank and on two, after max_steps, early stopping and signals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

TRAIN = Path(__file__).parents[2] / "train.py"
TWO_RANKS = ("strategy=ddp", "trainer.devices=2", "trainer.max_epochs=400", "trainer.check_val_every_n_epoch=400")


def checkpoint_step(folder):
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["global_step"]


@pytest.fixture
def two_ranks(small, tmp_path):
    """Starts a run of two processes in a group of its own; ends what is left of it."""
    words = [w for w in small if not w.startswith("trainer.max_epochs")]
    folder, started = tmp_path / "two", []

    def start(*more):
        command = [sys.executable, str(TRAIN), *words, *TWO_RANKS, f"run.dir={folder}", *more]
        with (tmp_path / "two.log").open("w") as log:
            env = {**os.environ, "OMP_NUM_THREADS": "1"}
            started.append(subprocess.Popen(command, stdout=log, stderr=log, env=env, start_new_session=True))
        return started[-1], folder

    yield start
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def wait_for_steps(folder, count):
    for _ in range(1200):
        if (folder / "metrics.csv").exists() and len((folder / "metrics.csv").read_text().splitlines()) > count:
            return
        time.sleep(0.05)
    raise TimeoutError("the run took no step in a minute")


def test_ranks_agree_on_checkpoints_by_the_clock(two_ranks):
    process, folder = two_ranks("callbacks.checkpoints.every_minutes=0.0005", "trainer.max_steps=60")
    assert process.wait(timeout=90) == 0
    assert json.loads((folder / "results.json").read_text())["status"] == "finished"


def test_a_signal_to_one_rank_ends_both_at_one_step(two_ranks):
    process, folder = two_ranks()
    wait_for_steps(folder, 5)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == 128 + signal.SIGTERM
    assert json.loads((folder / "results.json").read_text())["status"] == "interrupted"
    assert checkpoint_step(folder) > 0


def test_a_run_ends_with_an_evaluation_at_its_last_step(segframe, small, rows, tmp_path):
    words = (*small, "trainer.check_val_every_n_epoch=5", "callbacks.checkpoints=null")
    assert segframe("train", *words, "trainer.max_steps=3", f"run.dir={tmp_path / 'steps'}")[0] == 0
    assert segframe("train", *words, "trainer.max_epochs=3", f"run.dir={tmp_path / 'epochs'}")[0] == 0
    for name, last in (("steps", "3"), ("epochs", "12")):
        found = rows(tmp_path / name)
        assert found[-1]["step"] == last
        assert [row["step"] for row in found if row["val/miou"]] == [last]


def test_a_run_that_stopped_early_is_finished(segframe, small, tmp_path):
    words = ("callbacks.early_stopping.patience=1", "callbacks.early_stopping.min_delta=0.9", "trainer.max_epochs=9")
    folder = tmp_path / "run"
    assert segframe("train", *small, *words, f"run.dir={folder}")[0] == 0
    before = (folder / "metrics.csv").read_bytes(), (folder / "results.json").read_bytes()
    assert checkpoint_step(folder) < 9 * 4
    code, _, told = segframe("train", f"resume={folder}")
    assert code == 0
    assert "the run had finished" in told
    assert before == ((folder / "metrics.csv").read_bytes(), (folder / "results.json").read_bytes())


def test_no_run_overwrites_another_and_none_pretends_to_change_its_optimizer(segframe, small, tmp_path):
    folder = tmp_path / "run"
    assert segframe("train", *small, f"run.dir={folder}")[0] == 0
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    code, _, told = segframe("train", *small, "seed=1", f"run.dir={folder}")
    assert code == 2
    assert "holds a run with checkpoints" in told
    code, _, told = segframe("train", f"resume={folder}", "optimizer.lr=0.5", "trainer.max_epochs=4")
    assert code == 2
    assert "optimizer.lr=0.5 (was 0.001)" in told
    assert "init_from=" in told
    assert before == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["callbacks.checkpoints.monitor=val/mIoU"], "did you mean val/miou?"),
        (["dataset.num_classes=4"], "Synthetic has 6 classes"),
        (["dataset.ignore_index=254"], "set dataset.ignore_index=255"),
    ],
)
def test_what_cannot_be_is_one_message(segframe, small, tmp_path, words, message):
    code, _, told = segframe("train", *small, *words, f"run.dir={tmp_path / 'run'}")
    assert code == 1
    assert message in told
    assert "Traceback" not in told


@pytest.mark.parametrize(
    "word",
    [
        "optimizer.lr=1e400",
        "trainer.max_steps=0",
        "trainer.devices=[]",
        "trainer.limit_val_batches=2.5",
        "task.inference.window=[100]",
        "task.inference.scales=[]",
        "seed=5000000000",
    ],
)
def test_what_is_out_of_range_ends_before_anything_starts(segframe, word, tmp_path):
    code, _, told = segframe("train", word, f"run.dir={tmp_path / 'run'}")
    assert code == 2
    assert word.split("=")[0] in told
    assert "allowed" in told
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["strategy=single", "trainer.devices=2"],
            "trainer.devices=2 asks for 2; use strategy=ddp or trainer.devices=1",
        ),
        (["strategy=ddp", "trainer.devices=3"], "the nearest that does is data.batch_size=3"),
        (["strategy=ddp", "trainer.accelerator=gpu", "trainer.devices=99"], "asks for 99 GPUs and"),
        (["strategy=ddp", "trainer.num_nodes=2"], "torchrun --nnodes=2"),
        (["strategy=dp"], "one Python lock"),
        (["strategy=deepspeed_stage_3"], "strategy=fsdp splits parameters"),
    ],
)
def test_what_no_ranks_could_do_ends_before_any_is_started(segframe, small, tmp_path, words, message):
    code, _, told = segframe("train", *small, *words, f"run.dir={tmp_path / 'run'}")
    assert code == 2
    assert message in told
    assert told.count("segframe:") == 1
    assert not (tmp_path / "run").exists()


def test_a_zoo_net_keeps_its_encoder_s_rate(assembled):
    run = assembled("model=unet", "optimizer.head_lr_factor=10", "optimizer.lr=0.001")
    optimizer = run.task._make_optimizer(run.task.net)
    of_encoder = {id(parameter) for parameter in run.task.net.encoder.parameters()}
    for group in optimizer.param_groups:
        inside = {id(parameter) in of_encoder for parameter in group["params"]}
        assert inside == {group["lr"] == pytest.approx(0.001)}
    assert len(optimizer.param_groups) == 2
