"""``train.py`` as a user runs it: one table of rows, and what a run leaves behind."""

from __future__ import annotations

import importlib
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from segframe.config.compose import compose, resolved
from segframe.data.camvid import write_fake

ROOT = Path(__file__).parents[2]
FEW = ("trainer.max_epochs=1", "trainer.limit_train_batches=2", "trainer.limit_val_batches=1")


def options(group):
    return sorted(path.stem for path in (ROOT / "conf" / group).glob("*.yaml"))


@pytest.fixture(scope="module")
def fake(tmp_path_factory):
    root = tmp_path_factory.mktemp("data") / "camvid"
    write_fake(root)
    return root


def merged(small, *words):
    given = {word.split("=")[0] for word in words}
    return [word for word in small if word.split("=")[0] not in given] + list(words)


def results(folder):
    return json.loads((folder / "results.json").read_text())


ROWS = {
    **{f"optimizer={name}": (f"optimizer={name}",) for name in options("optimizer")},
    **{f"scheduler={name}": (f"scheduler={name}",) for name in options("scheduler")},
    **{f"loss={name}": (f"loss={name}",) for name in options("loss")},
    **{f"augment={name}": (f"augment={name}",) for name in options("augment")},
    **{f"mix={name}": (f"mix={name}",) for name in options("mix")},
    **{f"sampling={name}": (f"sampling={name}",) for name in options("sampling")},
    "all augmentation": ("augment=strong", "mix=cutmix", "sampling=rare_class", "trainer.accumulate_grad_batches=2"),
    "rare classes of few samples": ("data.overfit=4", "sampling=rare_class", "mix=classmix"),
    "debug": ("trainer=debug", "trainer.accelerator=cpu"),
    "auto": ("trainer=auto", "trainer.accelerator=cpu", "strategy=single"),
    "workers": ("data.num_workers=1",),
    "class weights": ("loss.class_weights=median_frequency",),
    "slide": ("task.inference.mode=slide", "task.inference.window=[32,32]", "task.inference.stride=[16,16]"),
    "scales and flip": ("task.inference.scales=[0.5,1.0]", "task.inference.flip=true"),
    "whole images": ("augment.sample.crop_size=null",),
    "everything on": (
        "callbacks.ema.decay=0.9",
        "callbacks.early_stopping.patience=3",
        "trainer.gradient_clip_val=1",
        "trainer.accumulate_grad_batches=2",
        "trainer.deterministic=true",
        "task.activation_checkpointing=true",
        "model.dropout=0.1",
        "logger=tensorboard",
    ),
    "no evaluation": ("trainer.limit_val_batches=0",),
    "callbacks off": ("callbacks.training_log=null", "callbacks.progress_bar=null", "callbacks.checkpoints=null"),
}


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.filterwarnings("ignore:.*use of fork\\(\\) may lead to deadlocks.*:DeprecationWarning")
def test_runs_to_its_end(segframe, small, rows, tmp_path, row):
    words = merged(small, *FEW, *ROWS[row])
    code, said, errors = segframe("train", *words, f"run.dir={tmp_path / 'run'}")
    assert code == 0, errors
    assert results(tmp_path / "run")["status"] == "finished"
    if row != "callbacks off":
        assert all(math.isfinite(float(r["train/loss"])) for r in rows(tmp_path / "run"))
    assert "segframe evaluate" in said


@pytest.mark.parametrize("dataset", options("dataset"))
def test_every_data_set_trains_fits_and_is_drawn(segframe, small, rows, tmp_path, dataset):
    own = [word for word in small if not word.startswith("dataset.")]
    words = merged(own, f"dataset={dataset}", "dataset.crop_size=[48,48]", "data.batch_size=2", *FEW)
    section = yaml.safe_load((ROOT / f"conf/dataset/{dataset}.yaml").read_text())
    if "root" in section:
        module = section["train"]["_target_"].rpartition(".")[0]
        importlib.import_module(module).write_fake(tmp_path / "data")
        words.append(f"dataset.root={tmp_path / 'data'}")
    words += ["dataset.classes=[one,two,three]"] if section.get("classes") == "???" else []
    code, _, said = segframe("train", *words, f"run.dir={tmp_path / 'run'}")
    assert code == 0, said
    assert len(rows(tmp_path / "run")) == 2
    about = [word for word in words if word.startswith("dataset")]
    code, said, _ = segframe("data", "check", *about, f"out={tmp_path / 'check'}", "workers=0")
    assert (code, said.strip().splitlines()[-1]) == (0, "all fits")
    code, said, _ = segframe("data", "browse", *about, "num=2", f"out={tmp_path / 'sheet.png'}")
    assert code == 0, said
    assert (tmp_path / "sheet.png").stat().st_size > 10_000


def test_a_run_leaves_all_that_is_promised(segframe, small, rows, tmp_path):
    run = tmp_path / "run"
    code, said, errors = segframe("train", *small, f"run.dir={run}")
    assert code == 0, errors
    for name in ("config.yaml", "environment.json", "metrics.csv", "results.json", "curves.png", "predictions.png",
                 "confusion.png", "iou.png", "checkpoints"):  # fmt: skip
        assert (run / name).exists(), name
        assert name in said or name in ("config.yaml", "environment.json")
    for part in ("ground", "bar", "mean", "best val/miou", "images/s", f"segframe evaluate run={run}"):
        assert part in said
    assert yaml.safe_load((run / "config.yaml").read_text()) == resolved(compose([*small, f"run.dir={run}"]))
    found = results(run)
    assert found["status"] == "finished"
    for key in ("seconds_per_step", "images_per_s", "peak_memory_gib"):
        assert found[key] > 0
    assert torch.__version__.startswith(found["versions"]["torch"])
    assert len(found["config_hash"]) == 12
    logged = rows(run)
    scores = [float(row["val/miou"]) for row in logged if row["val/miou"]]
    assert found["metrics"]["val/miou"] == {"final": scores[-1], "best": max(scores)}
    losses = [float(row["train/loss"]) for row in logged]
    assert found["metrics"]["train/loss"] == {"final": losses[-1], "best": min(losses)}
    assert list(logged[0])[:2] == ["step", "epoch"]
    assert set(logged[0]) >= {"train/loss", "lr", "images_per_s", "val/miou", "val/loss", "val/iou/ground"}
    assert [int(row["step"]) for row in logged] == list(range(1, 9))


def test_evaluate_finds_the_best_epoch_s_score_and_writes_nothing_else(segframe, small, rows, tmp_path):
    run = tmp_path / "run"
    segframe("train", *merged(small, "trainer.max_epochs=3", "optimizer.lr=0.05"), f"run.dir={run}")
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    code, said, _ = segframe("evaluate", f"run={run}")
    assert code == 0
    best = results(run)["metrics"]["val/miou"]["best"]
    assert f"val/miou {best:.4f}" in said
    found = json.loads((run / "evaluation-best.json").read_text())
    assert found["metrics"]["val/miou"] == best
    assert all(path.read_bytes() == content for path, content in before.items())
    code, _, _ = segframe("evaluate", f"run={run}", "task.inference.flip=true", "data.val_batch_size=2")
    assert code == 0


def test_two_runs_of_one_process_have_folders_of_their_own(segframe, small, tmp_path):
    for name in ("a", "b"):
        assert segframe("train", *merged(small, *FEW), f"run.dir={tmp_path / name}")[0] == 0
        assert results(tmp_path / name)["status"] == "finished"
    assert "SEGFRAME_RUN_DIR" not in os.environ


def test_fine_tuning_lists_what_does_not_fit(segframe, small, fake, tmp_path):
    run, own = tmp_path / "first", [word for word in small if not word.startswith("dataset.")]
    segframe("train", *merged(small, *FEW), f"run.dir={run}")
    words = merged(
        own, "dataset=camvid", f"dataset.root={fake}", "dataset.crop_size=[48,48]", "data.batch_size=2", *FEW
    )
    for source in (run, run / "checkpoints/last.ckpt"):
        code, _, said = segframe("train", *words, f"init_from={source}", f"run.dir={tmp_path / source.stem / 'x'}")
        assert code == 0, said
        assert "init_from=" in said
        assert "head.classifier.weight" in said
    code, _, said = segframe("train", *merged(small, *FEW), f"init_from={run}", f"run.dir={tmp_path / 'same'}")
    assert (code, "head.classifier.weight" in said) == (0, False)


@pytest.mark.parametrize("profiler", ["simple", "pytorch"])
def test_a_profiler_writes_its_table(start, small, tmp_path, profiler):
    run = tmp_path / "run"
    process = start("train", *merged(small, *FEW), f"trainer.profiler={profiler}", f"run.dir={run}", slow_s=0)
    assert process.end() == 0, process.said
    tables = [path.read_text() for path in run.glob("*profile*.txt")]
    sign = "optimizer_step" if profiler == "simple" else "aten::"
    assert any(sign in table for table in tables), list(run.iterdir())
    assert ("optimizer_step" if profiler == "simple" else "Self CPU") in process.said


@pytest.mark.parametrize("experiment", options("experiment"))
def test_every_experiment_composes_and_runs_a_step(segframe, small, fake, tmp_path, experiment):
    text = (ROOT / f"conf/experiment/{experiment}.yaml").read_text()
    own = [f"experiment={experiment}", *(["dataset.root=" + str(fake)] if "camvid" in text else [])]
    values = resolved(compose(own))
    assert text.startswith("# @package _global_")
    if "encoder" in values["model"] and "18" not in str(values["model"]["encoder"]):
        pytest.skip(f"{values['model']['encoder']} is too large for a test of seconds")
    light = ("trainer.max_epochs=1", "trainer.max_steps=1", "trainer.limit_val_batches=1", "trainer.accelerator=cpu",
             "trainer.precision=32-true", "data.num_workers=0", "data.batch_size=2", "augment.sample.crop_size=[64,64]",
             "scheduler=constant", "scheduler.warmup_steps=0", "trainer.check_val_every_n_epoch=1",
             "trainer.devices=1", "trainer.accumulate_grad_batches=1")  # fmt: skip
    code, _, said = segframe("train", *own, *light, f"run.dir={tmp_path / 'run'}")
    assert code == 0, said


def process(*words, script=("-m", "segframe"), cwd=ROOT, warnings="error"):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": warnings}
    done = subprocess.run(
        [sys.executable, *script, *words], cwd=cwd, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done


def test_two_processes_train_to_the_numbers_of_one(segframe, small, rows, tmp_path):
    words = merged(
        small, "trainer.precision=64-true", "loss=ce_dice", "trainer.max_epochs=2", "optimizer=sgd",
        "dataset.val.num_images=5",
    )  # fmt: skip
    one, two = tmp_path / "one", tmp_path / "two"
    done = process(
        *words, "strategy=ddp", "trainer.devices=2", f"run.dir={two}", script=("train.py",), warnings="default"
    )
    assert segframe("train", *words, f"run.dir={one}")[0] == 0
    tables = [rows(folder) for folder in (one, two)]
    assert [row["step"] for row in tables[0]] == [row["step"] for row in tables[1]]
    for key in ("train/loss", "val/loss", "val/miou", "lr", "train/empty_batches"):
        first, second = ([float(row[key]) for row in table if row[key]] for table in tables)
        assert len(first) > 1
        assert second == pytest.approx(first, rel=1e-12), key
    ends = [torch.load(folder / "checkpoints/last.ckpt", weights_only=True)["state_dict"] for folder in (one, two)]
    for name, expected in ends[0].items():
        torch.testing.assert_close(ends[1][name], expected, rtol=1e-10, atol=1e-13)
    assert done.stdout.count("best val/miou") == 1
    assert done.stderr.count("run folder") == 1


def test_the_entry_points_are_one(small, rows, tmp_path):
    words = merged(small, *FEW)
    process("train", *words, f"run.dir={tmp_path / 'module'}", cwd=tmp_path)
    process(*words, f"run.dir={tmp_path / 'script'}", script=(str(ROOT / "train.py"),), cwd=tmp_path)
    tables = [
        [
            {k: v for k, v in row.items() if k not in ("images_per_s", "data_stall_percent")}
            for row in rows(tmp_path / name)
        ]
        for name in ("module", "script")
    ]
    assert tables[0] == tables[1]
    assert len(tables[0]) == 2
