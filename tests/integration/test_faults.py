"""What goes wrong on real machines, made to go wrong for real."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import cv2
import numpy as np
import pytest

from segframe.checkpoint_io import is_intact
from segframe.data.camvid import write_fake


def logged(folder, step):
    file = folder / "metrics.csv"
    return lambda: (
        file.exists() and any(int(line.split(",")[0]) >= step for line in file.read_text().splitlines()[1:] if line)
    )


def status(folder):
    return json.loads((folder / "results.json").read_text())["status"]


def children(pid):
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="there is no /proc to find loader processes in")
def test_a_loader_process_that_dies_ends_the_run_with_its_checkpoint_intact(segframe, start, small, tmp_path):
    run = tmp_path / "run"
    process = start("train", *small, "data.num_workers=2", "trainer.max_epochs=30", f"run.dir={run}")
    process.wait_for(logged(run, 6))
    os.kill(children(process.process.pid)[0], signal.SIGKILL)
    assert process.end() == 1, process.said
    assert "a loader process died" in process.said
    assert "data.num_workers=0" in process.said
    assert f"resume={run}" in process.said
    assert "Traceback" not in process.said
    assert status(run) == "failed"
    assert is_intact(run / "checkpoints/last.ckpt")
    assert segframe("train", f"resume={run}", "trainer.max_epochs=3", "data.num_workers=0")[0] == 0
    assert status(run) == "finished"


LIMIT = """
import resource, signal, threading
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
from segframe.callbacks.checkpoints import Checkpoints
write = Checkpoints._write_last
def full(self, trainer):
    if trainer.global_step >= 8:
        size = (Checkpoints.folder(trainer) / "last.ckpt").stat().st_size
        resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, resource.RLIM_INFINITY))
    write(self, trainer)
Checkpoints._write_last = full
"""


def test_a_full_disk_names_the_checkpoint_and_leaves_the_others(segframe, start, small, tmp_path):
    run = tmp_path / "run"
    process = start("train", *small, f"run.dir={run}", before=LIMIT, slow_s=0)
    assert process.end() == 1, process.said
    assert f"the checkpoint {run}/checkpoints/last.ckpt could not be written (File too large" in process.said
    assert f"resume={run}" in process.said
    assert "Traceback" not in process.said
    assert status(run) == "failed"
    assert all(map(is_intact, (run / "checkpoints").glob("*.ckpt")))
    assert not list((run / "checkpoints").glob(".*"))
    assert segframe("train", f"resume={run}")[0] == 0
    assert status(run) == "finished"


MEMORY = """
import resource
from segframe.callbacks.training_log import TrainingLog
from pathlib import Path
def limit(self, *_, **__):
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + {mib} * 2**20, resource.RLIM_INFINITY))
from segframe.callbacks.checkpoints import Checkpoints
Checkpoints.setup = limit
"""
HUGE = (
    "dataset.train.height=512",
    "dataset.train.width=512",
    "dataset.crop_size=[512,512]",
    "model.width=32",
    "data.batch_size=8",
    "trainer.max_steps=2",
    "trainer.limit_val_batches=1",
)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="there is no /proc to read the memory in use from")
def test_out_of_memory_names_the_batch_and_what_to_change(start, small, tmp_path):
    words = [word for word in small if word.split("=")[0] not in {w.split("=")[0] for w in HUGE}] + list(HUGE)
    before = MEMORY.format(mib=500)
    process = start("train", *words, f"run.dir={tmp_path / 'run'}", before=before, slow_s=0)
    assert process.end() == 1, process.said
    assert "out of memory with a batch of 8 in 1 micro-batch(es) of 512x512 crops" in process.said
    for remedy in ("trainer.auto_batch=true", "trainer.accumulate_grad_batches=2", "augment.sample.crop_size"):
        assert remedy in process.said
    assert "Traceback" not in process.said
    assert status(tmp_path / "run") == "failed"


@pytest.fixture
def fake(tmp_path):
    write_fake(tmp_path / "camvid")
    return tmp_path / "camvid"


def camvid_words(small, root):
    kept = [word for word in small if not word.startswith("dataset.")]
    return [*kept, "dataset=camvid", f"dataset.root={root}", "dataset.crop_size=[32,32]", "data.batch_size=2"]


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("damage", ["label", "image", "size"])
@pytest.mark.filterwarnings("ignore:.*use of fork\\(\\) may lead to deadlocks.*:DeprecationWarning")
def test_a_broken_file_is_named(segframe, small, fake, tmp_path, workers, damage):
    folder = "trainannot" if damage == "label" else "train"
    file = sorted((fake / folder).iterdir())[0]
    if damage == "label":
        pixels = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
        cv2.imwrite(str(file), np.full_like(pixels, 77))
    elif damage == "image":
        file.write_bytes(file.read_bytes()[:100])
    else:
        cv2.imwrite(str(file), np.zeros((8, 8, 3), np.uint8))
    code, _, said = segframe(
        "train", *camvid_words(small, fake), f"data.num_workers={workers}", f"run.dir={tmp_path / 'run'}"
    )
    assert code == 1
    assert file.name in said
    assert "Traceback" not in said
    assert "DataLoader" not in said
    assert ("77" in said) == (damage == "label")
    assert file.name in (tmp_path / "run/error.txt").read_text()


def test_a_batch_that_does_not_divide_is_refused_before_there_is_a_run(segframe, small, tmp_path):
    kept = [word for word in small if not word.startswith("data.batch_size=")]
    words = ("data.batch_size=3", "trainer.accumulate_grad_batches=2", f"run.dir={tmp_path / 'run'}")
    code, _, said = segframe("train", *kept, *words)
    assert (code, said.count("\n")) == (2, 1), said
    assert all(part in said for part in ("data.batch_size=3", "=2 equal parts", "data.batch_size=2"))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["data.batch_size=99"], ["16 samples", "data.batch_size=99"]),
        (["++data.overfit=99"], ["data.overfit=99", "16 samples"]),
        (["trainer.precision=16-mixed"], ["16-mixed", "bf16-mixed"]),
        (["init_from=nowhere.ckpt"], ["nowhere.ckpt"]),
        (["optimizer=sgd", "optimizer.nesterov=true", "optimizer.momentum=0"], ["nesterov"]),
        (["task.activation_checkpointing=true", "model=segnet_basic"], []),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_does_not_fit_together_is_one_message(segframe, small, tmp_path, words, parts):
    given = {word.split("=")[0] for word in words}
    kept = [word for word in small if word.split("=")[0] not in given]
    code, _, said = segframe("train", *kept, *words, "trainer.max_steps=1", f"run.dir={tmp_path / 'run'}")
    assert (code, "Traceback" in said) == ((1, False) if parts else (0, False)), said
    assert all(part in said for part in parts)
    assert status(tmp_path / "run") == ("failed" if parts else "finished")


def test_an_evaluation_of_a_torn_checkpoint_names_an_intact_one(segframe, small, tmp_path):
    run = tmp_path / "run"
    assert segframe("train", *small, f"run.dir={run}")[0] == 0
    (run / "checkpoints/best.ckpt").write_bytes((run / "checkpoints/last.ckpt").read_bytes()[:999])
    code, _, said = segframe("evaluate", f"run={run}")
    assert code == 1
    assert "best.ckpt is damaged" in said
    assert f"checkpoint={run}/checkpoints/" in said
    assert "Traceback" not in said
    assert status(run) == "finished"
    code, _, said = segframe("evaluate", f"run={run}", "checkpoint=last", "model.width=4")
    assert code == 1
    assert "does not fit the model" in said
