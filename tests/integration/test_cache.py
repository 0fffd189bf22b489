"""Runs read from a cache what they read without one, bit for bit."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from segframe.data.cache_build import PIXELS
from segframe.data.camvid import CamVid, write_fake

CAMVID = (
    "dataset=camvid",
    "dataset.crop_size=[32,40]",
    "model=tiny",
    "trainer=cpu",
    "data.batch_size=4",
    "trainer.max_epochs=2",
    "trainer.log_every_n_steps=1",
)


@pytest.fixture
def words(tmp_path):
    write_fake(tmp_path / "camvid", num_train=8, num_val=3)
    return [*CAMVID, f"dataset.root={tmp_path / 'camvid'}", f"dataset.cache_dir={tmp_path / 'cache'}"]


def in_memory():
    folder = Path(f"/dev/shm/segframe-{os.getuid()}")
    return set(folder.rglob(PIXELS)) if folder.is_dir() else set()


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="the system has no /dev/shm")
def test_a_run_computes_the_same_with_and_without_a_cache(segframe, words, rows, tmp_path):
    before = in_memory()
    weights, tables, said = {}, {}, {}
    for name, cache, workers in (
        ("none", "none", 0),
        ("disk", "disk", 0),
        ("disk again", "disk", 2),
        ("ram", "ram", 2),
    ):
        folder = tmp_path / name.replace(" ", "-")
        code, _, said[name] = segframe(
            "train", *words, f"dataset.cache={cache}", f"data.num_workers={workers}", f"run.dir={folder}"
        )
        assert code == 0, said[name]
        tables[name] = [
            {k: v for k, v in row.items() if k not in ("images_per_s", "data_stall_percent")} for row in rows(folder)
        ]
        weights[name] = torch.load(folder / "checkpoints/last.ckpt", weights_only=True)["state_dict"]
    assert len(tables["none"]) == 4
    assert tables["none"] == tables["disk"] == tables["disk again"] == tables["ram"]
    for name in weights:
        assert all(torch.equal(value, weights[name][key]) for key, value in weights["none"].items()), name
    assert {name: "caching 11 images" in text for name, text in said.items()} == {
        "none": False,
        "disk": True,
        "disk again": False,
        "ram": True,
    }
    assert all(": 8 training and 3 validation images" in text and "on CamVid" in text for text in said.values())
    assert len(list((tmp_path / "cache").rglob(PIXELS))) == 2
    assert in_memory() == before


def test_an_evaluation_reads_only_what_it_evaluates(segframe, words, tmp_path):
    run = tmp_path / "run"
    assert segframe("train", *words, "trainer.max_epochs=1", f"run.dir={run}")[0] == 0
    code, _, told = segframe("evaluate", f"run={run}", "dataset.cache=disk", f"dataset.cache_dir={tmp_path / 'cache'}")
    assert code == 0, told
    assert "caching 3 images" in told
    assert len(list((tmp_path / "cache").rglob(PIXELS))) == 1


def test_overfitting_reads_one_set(segframe, words, tmp_path):
    code, _, said = segframe("train", *words, "dataset.cache=disk", "data.overfit=2", f"run.dir={tmp_path / 'run'}")
    assert code == 0, said
    assert len(list((tmp_path / "cache").rglob(PIXELS))) == 1


def test_a_set_without_files_is_cached_too(segframe, small, tmp_path):
    code, _, said = segframe(
        "train", *small, "dataset.cache=disk", f"dataset.cache_dir={tmp_path / 'cache'}", f"run.dir={tmp_path / 'run'}"
    )
    assert code == 0, said
    assert "caching 20 images" in said


def test_a_bad_file_ends_the_run_before_its_first_step(segframe, words, tmp_path):
    bad = sorted((tmp_path / "camvid/trainannot").iterdir())[3]
    labels = np.array(Image.open(bad))
    labels[0, 0] = 200
    Image.fromarray(labels).save(bad)
    code, _, said = segframe("train", *words, "dataset.cache=disk", f"run.dir={tmp_path / 'run'}")
    assert code == 1
    assert bad.name in said
    assert "200" in said
    assert "Traceback" not in said


def test_too_little_room_ends_the_run_without_a_traceback(segframe, tmp_path, words):
    (tmp_path / "file").touch()
    code, _, said = segframe(
        "train", *words, "dataset.cache=disk", f"dataset.cache_dir={tmp_path / 'file'}", f"run.dir={tmp_path / 'run'}"
    )
    assert code == 1
    assert "can't be written" in said
    assert "Traceback" not in said


def test_an_unknown_word_is_refused_with_what_was_meant(segframe, words, tmp_path):
    code, _, said = segframe("train", *words, "dataset.cache=dsk", f"run.dir={tmp_path / 'run'}")
    assert code == 2
    assert "dataset.cache=dsk is not allowed; allowed: none, ram or disk; did you mean `disk`?" in said
    assert segframe("train", *words, "dataset.cache_dir=3", f"run.dir={tmp_path / 'run'}")[0] == 2
    assert not (tmp_path / "run").exists()


def test_every_run_tells_how_long_it_waited_for_data(segframe, small, rows, tmp_path):
    run = tmp_path / "run"
    code, told, _ = segframe("train", *small, f"run.dir={run}")
    assert code == 0
    stalls = [float(row["data_stall_percent"]) for row in rows(run)]
    assert len(stalls) == 8
    assert all(0 < stall < 100 for stall in stalls)
    results = json.loads((run / "results.json").read_text())
    assert min(stalls[1:]) <= results["data_stall_percent"] <= max(stalls[1:])
    assert f"images/s, data stall {results['data_stall_percent']:.0f} %, " in told


def test_a_run_that_waits_for_data_says_what_to_set(segframe, words, tmp_path):
    big = tmp_path / "big"
    write_fake(big, num_train=16, num_val=1, size=(720, 960))
    words = [word for word in words if not word.startswith("dataset.root")]
    code, told, _ = segframe(
        "train",
        *words,
        f"dataset.root={big}",
        "dataset.scale=[1.0,1.0]",
        "data.num_workers=0",
        "model.width=8",
        "trainer.limit_val_batches=0",
        f"run.dir={tmp_path / 'run'}",
    )
    assert code == 0
    assert json.loads((tmp_path / "run/results.json").read_text())["data_stall_percent"] > 20
    assert "steps waited for their images: dataset.cache=disk or data.num_workers=" in told


def test_the_real_camvid_from_a_cache_is_what_its_files_hold(camvid, tmp_path):
    from segframe.data.cache import cached

    dataset = CamVid(str(camvid), "val")
    (made,) = cached([(dataset, {"root": str(camvid)})], "disk", tmp_path)
    for index in range(0, len(dataset), 10):
        assert all(torch.equal(a, b) for a, b in zip(made[index], dataset[index], strict=True))
