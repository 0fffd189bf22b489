"""The counts of every image that a run leaves behind, on several ranks as on one."""

from __future__ import annotations

import json

import numpy as np
import pytest

from segframe.metrics import per_image

WORDS = ("dataset.val.num_images=5", "trainer.max_epochs=1", "optimizer.lr=0.02", "trainer.precision=64-true")


def counts(folder, name="final"):
    return per_image.read(per_image.path_of(folder, name))


def iou(matrix):
    right = matrix.diagonal()
    with np.errstate(invalid="ignore"):
        return right / (matrix.sum(0) + matrix.sum(1) - right)


@pytest.fixture(scope="module")
def kept():
    return {}


@pytest.mark.xdist_group("per image")
@pytest.mark.parametrize("strategy", ["single", "ddp", "spatial", "model_sharded"])
def test_every_image_is_counted_once_on_any_number_of_ranks(segframe, small, tmp_path, kept, strategy):
    words = [word for word in small if word.split("=")[0] not in {w.split("=")[0] for w in WORDS}]
    parallel = [f"strategy={strategy}"] + (["trainer.devices=2"] if strategy != "single" else [])
    code, _, told = segframe("train", *words, *WORDS, *parallel, f"run.dir={tmp_path}/run")
    assert code == 0, told
    found, of_best = counts(tmp_path / "run"), counts(tmp_path / "run", "best")
    results = json.loads((tmp_path / "run/results.json").read_text())["metrics"]
    assert found.names == [f"synthetic/val/{i:05d}" for i in range(5)]
    assert found.step == of_best.step == 4
    assert np.nanmean(iou(found.matrix())) == pytest.approx(results["val/miou"]["final"], abs=1e-15)
    np.testing.assert_array_equal(of_best.matrix(), found.matrix())
    whole = kept.setdefault("single", found)
    for one, other in zip(found.sums(), whole.sums(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert len(np.unique(found.prediction)) > 1  # a net that predicts one class would agree with any


@pytest.mark.xdist_group("per image")
def test_an_evaluation_leaves_its_counts_too(segframe, small, tmp_path):
    folder = tmp_path / "run"
    assert segframe("train", *small, "optimizer.lr=0.02", f"run.dir={folder}")[0] == 0
    assert segframe("evaluate", f"run={folder}", "checkpoint=last", "task.absent=zero")[0] == 0
    found = counts(folder, "evaluation-last")
    assert found.absent == "zero"
    np.testing.assert_array_equal(found.matrix(), counts(folder).matrix())
    written = json.loads((folder / "evaluation-last.json").read_text())
    np.testing.assert_array_equal(found.matrix(), written["matrix"])
