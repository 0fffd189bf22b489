"""Stopped runs go on bit for bit: processes killed for real, then resumed in this process."""

from __future__ import annotations

import json
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch

WORDS = (
    "model.dropout=0.3",
    "dataset.scale=[0.7,1.5]",
    "dataset.val.num_images=16",
    "callbacks.ema.decay=0.9",
    "callbacks.checkpoints.every_n_steps=3",
    "trainer.max_epochs=5",
    "trainer.log_every_n_steps=2",
    "loss=ce_dice",
    "optimizer.lr=0.01",
)
NUM_STEPS = 20


@pytest.fixture
def words(small):
    keys = {word.split("=")[0] for word in WORDS}
    return [word for word in small if word.split("=")[0] not in keys] + list(WORDS)


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory):
    return tmp_path_factory.mktemp("undisturbed") / "run"


@pytest.fixture
def undisturbed(segframe, words, whole_run, tmp_path):
    """A run that nothing stopped: trained once, copied for each test."""
    if not whole_run.exists():
        assert segframe("train", *words, f"run.dir={whole_run}")[0] == 0
    return Path(shutil.copytree(whole_run, tmp_path / "undisturbed"))


def logged(folder, step, key="train/loss"):
    """The row of a step is in the file."""

    def look():
        file = folder / "metrics.csv"
        lines = file.read_text().splitlines() if file.exists() else []
        if not lines or key not in lines[0].split(","):
            return False
        column = lines[0].split(",").index(key)
        cells = [line.split(",") for line in lines[1:]]
        return any(int(c[0]) >= step and len(c) > column and c[column] for c in cells if c[0].isdigit())

    return look


def written(folder):
    return (folder / "checkpoints/last.ckpt").exists()


def content(path):
    return torch.load(path, weights_only=True)


def equal(first, second):
    if isinstance(first, torch.Tensor):
        return torch.equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(equal(first[k], second[k]) for k in first)
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(equal, first, second))
    return first == second


def assert_same_run(rows, first, second):
    """Compares every number but the speed, bit for bit."""
    timings = ("images_per_s", "data_stall_percent")
    tables = [[{k: v for k, v in row.items() if k not in timings} for row in rows(f)] for f in (first, second)]
    assert len(tables[0]) > 5
    assert tables[0] == tables[1]
    for name in ("last", "best", "previous"):
        states = [content(f / f"checkpoints/{name}.ckpt") for f in (first, second)]
        for key in ("state_dict", "ema_state_dict", "optimizer_states", "lr_schedulers", "global_step", "epoch"):
            assert key in states[0]
            assert equal(states[0][key], states[1][key]), f"{name}: {key}"
    results = [json.loads((f / "results.json").read_text()) for f in (first, second)]
    assert {r["status"] for r in results} == {"finished"}
    metrics = [r["metrics"] for r in results]
    assert metrics[0] == metrics[1]


KILLS = {
    "mid-epoch": (0, 6, "train/loss"),
    "mid-epoch with workers": (2, 14, "train/loss"),
    "at the epoch's end": (0, 8, "train/loss"),
    "in the evaluation": (2, 12, "train/loss"),
    "behind the evaluation": (0, 8, "val/miou"),
}


@pytest.mark.parametrize("moment", KILLS)
def test_after_kill_9_the_run_is_the_undisturbed_one(undisturbed, segframe, start, words, rows, tmp_path, moment):
    workers, step, key = KILLS[moment]
    run = tmp_path / "killed"
    process = start("train", *words, f"data.num_workers={workers}", f"run.dir={run}")
    process.wait_for(logged(run, step, key))
    process.wait_for(lambda: written(run))
    process.send(signal.SIGKILL, to_group=True)
    assert process.end() == -signal.SIGKILL
    assert json.loads((run / "results.json").read_text())["status"] == "running"
    assert 0 < content(run / "checkpoints/last.ckpt")["global_step"] < NUM_STEPS
    # Other workers than before make no difference either.
    code, _, said = segframe("train", f"resume={run}", f"data.num_workers={2 - workers}")
    assert code == 0, said
    assert_same_run(rows, undisturbed, run)


@pytest.mark.parametrize(
    ("number", "step", "code"),
    [(signal.SIGTERM, 6, 143), (signal.SIGINT, 6, 130), (signal.SIGTERM, 8, 143)],
    ids=["SIGTERM", "Ctrl-C", "SIGTERM at the epoch's end"],
)
def test_a_signal_ends_with_a_checkpoint_of_the_step(
    undisturbed, segframe, start, words, rows, tmp_path, number, step, code
):
    run = tmp_path / "stopped"
    process = start("train", *words, "data.num_workers=2", f"run.dir={run}")
    process.wait_for(logged(run, step))
    last = max(int(row["step"]) for row in rows(run))
    process.send(number, to_group=number == signal.SIGINT)  # a terminal sends Ctrl-C to loader processes too
    started = time.monotonic()
    assert process.end() == code, process.said
    assert time.monotonic() - started < 10
    assert f"stopped by {signal.Signals(number).name}" in process.said
    assert f"resume={run}" in process.said
    assert "Traceback" not in process.said
    assert json.loads((run / "results.json").read_text())["status"] == "interrupted"
    if "in an evaluation" in process.said:  # the next checkpoint would have come behind it
        last = 6
    assert last <= content(run / "checkpoints/last.ckpt")["global_step"] <= last + 2
    assert segframe("train", f"resume={run}")[0] == 0
    assert_same_run(rows, undisturbed, run)


def test_a_run_killed_before_its_first_checkpoint_starts_again(undisturbed, segframe, start, words, rows, tmp_path):
    run = tmp_path / "killed"
    process = start("train", *words, f"run.dir={run}")
    process.wait_for(logged(run, 2))
    process.send(signal.SIGKILL, to_group=True)
    process.end()
    assert not written(run)
    code, _, said = segframe("train", f"resume={run}")
    assert code == 0
    assert "starts again from step 0" in said
    assert_same_run(rows, undisturbed, run)


def test_a_finished_run_goes_on_with_more_epochs_or_ends_at_once(undisturbed, segframe, words, rows, tmp_path):
    constant = [*words, "scheduler=constant"]
    runs = {}
    for epochs in (3, 5):
        runs[epochs] = tmp_path / f"epochs-{epochs}"
        assert segframe("train", *constant, f"trainer.max_epochs={epochs}", f"run.dir={runs[epochs]}")[0] == 0
    before = {path: path.read_bytes() for path in runs[3].rglob("*") if path.is_file()}
    results = json.loads((runs[3] / "results.json").read_text())
    code, _, said = segframe("train", f"resume={runs[3]}")
    assert code == 0, said
    assert all(path.read_bytes() == kept for path, kept in before.items())
    assert "larger trainer.max_epochs" in said
    assert json.loads((runs[3] / "results.json").read_text()) == results
    assert segframe("train", f"resume={runs[3]}", "trainer.max_epochs=5")[0] == 0
    assert_same_run(rows, runs[5], runs[3])


def test_a_run_killed_before_its_report_gets_it(undisturbed, segframe, tmp_path):
    run = tmp_path / "copy"
    shutil.copytree(undisturbed, run)
    pictures = {name: (run / name).read_bytes() for name in ("confusion.png", "iou.png", "curves.png")}
    results = json.loads((run / "results.json").read_text())
    (run / "results.json").write_text(json.dumps(results | {"status": "running"}))
    for name in pictures:
        (run / name).unlink()
    assert segframe("train", f"resume={run}")[0] == 0
    assert {name: (run / name).read_bytes() for name in pictures} == pictures
    again = json.loads((run / "results.json").read_text())
    assert (again["status"], again["metrics"]) == ("finished", results["metrics"])


def test_goes_on_from_a_checkpoint_by_name(undisturbed, segframe, rows, tmp_path):
    run = tmp_path / "copy"
    shutil.copytree(undisturbed, run)
    (run / "checkpoints/last.ckpt").unlink()
    assert segframe("train", f"resume={run}/checkpoints/previous.ckpt")[0] == 0
    assert_same_run(rows, undisturbed, run)


def refused(segframe, run, *words):
    kept = {path: path.read_bytes() for path in run.rglob("*") if path.is_file() and path.name != "error.txt"}
    code, _, said = segframe("train", f"resume={run}", *words)
    assert code == 1
    assert "Traceback" not in said
    assert [str(path) for path, content in kept.items() if path.read_bytes() != content] == []
    return said


def test_what_cannot_go_on_is_refused_and_leaves_the_run_as_it_was(undisturbed, segframe, words):
    last, previous = undisturbed / "checkpoints/last.ckpt", undisturbed / "checkpoints/previous.ckpt"
    said = refused(segframe, undisturbed, "data.batch_size=8")
    assert "batch_size was 4 and is 8" in said
    assert "init_from" in said
    assert "seed was 0 and is 1" in refused(segframe, undisturbed, "seed=1")
    whole = last.read_bytes()
    for damage, reason in (
        (whole[: len(whole) // 2], "damaged"),
        (b"", "is empty"),
        (b"no checkpoint", "not a PyTorch file"),
    ):
        last.write_bytes(damage)
        said = refused(segframe, undisturbed)
        assert reason in said
        assert f"resume={previous}" in said
    torch.save({"state_dict": {}}, last)
    assert "is not a checkpoint of segframe" in refused(segframe, undisturbed)
    last.write_bytes(whole)
    assert "model" in refused(segframe, undisturbed, "model.width=8", "trainer.max_epochs=6")


def test_a_double_precision_run_goes_on_bit_for_bit(segframe, words, rows, tmp_path):
    words = [*words, "trainer.precision=64-true", "scheduler=constant", "trainer.max_epochs=3"]
    assert segframe("train", *words, f"run.dir={tmp_path / 'whole'}")[0] == 0
    assert segframe("train", *words, "trainer.max_steps=6", f"run.dir={tmp_path / 'parts'}")[0] == 0
    assert segframe("train", f"resume={tmp_path / 'parts'}", "trainer.max_steps=-1")[0] == 0
    whole, parts = ([(r["step"], r["train/loss"]) for r in rows(tmp_path / name)] for name in ("whole", "parts"))
    assert [row for row in whole if row[1]] == [row for row in parts if row[1]]
    assert any("." in loss and len(loss) > 14 for _, loss in whole), "no digits beyond single precision"
