"""CamVid through ``dataset=folder`` in YAML alone is CamVid through ``dataset=camvid``."""

import pytest
import torch

from segframe.build import make_dataset
from segframe.config.compose import compose

STREET = """
# CamVid, read by folders alone
defaults: [folder, _self_]
classes: [sky, building, pole, road, pavement, tree, sign symbol, fence, car, pedestrian, bicyclist]
label_map: {0: sky, 1: building, 2: pole, 3: road, 4: pavement, 5: tree, 6: sign symbol, 7: fence, 8: car,
  9: pedestrian, 10: bicyclist, 11: ignore}
crop_size: [360, 480]
train: {images: train, masks: trainannot}
val: {images: val, masks: valannot}
"""


@pytest.fixture
def words(tmp_path, camvid):
    (tmp_path / "dataset").mkdir()
    (tmp_path / "dataset" / "street.yaml").write_text(STREET)
    return [f"--config-dir={tmp_path}", f"dataset.root={camvid}"]


@pytest.mark.parametrize(("split", "count"), [("train", 367), ("val", 101)])
def test_every_tensor_is_equal(words, split, count):
    one, other = (make_dataset(compose([f"dataset={name}", *words]), split) for name in ("camvid", "street"))
    assert len(one) == len(other) == count
    for index in range(count):
        assert one.files(index) == other.files(index)
        for a, b in zip(one[index], other[index], strict=True):
            assert torch.equal(a, b)


def test_runs_give_equal_losses(words, segframe, rows, tmp_path):
    few = ["model=tiny", "trainer=cpu", "trainer.max_epochs=1", "trainer.limit_train_batches=4", "data.batch_size=2"]
    few += ["trainer.limit_val_batches=2", "data.num_workers=0", "trainer.log_every_n_steps=1"]
    losses = []
    for name in ("camvid", "street"):
        code, _, said = segframe("train", f"dataset={name}", *words, *few, f"run.dir={tmp_path / name}")
        assert code == 0, said
        losses.append([(row["train/loss"], row["val/loss"], row["val/miou"]) for row in rows(tmp_path / name)])
    assert losses[0] == losses[1]
    assert len({loss for loss, *_ in losses[0]}) == 4
