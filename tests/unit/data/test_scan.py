import signal

import cv2
import numpy as np
import pytest

from segframe.callbacks.checkpoints import Interrupted
from segframe.data.camvid import CamVid, write_fake
from segframe.data.facts import Split
from segframe.data.folder import Folder
from segframe.data.scan import facts, scan, value_counts
from segframe.data.statistics import class_counts
from segframe.data.synthetic import Synthetic


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("size", [(1, 1), (37, 53)])
def test_value_counts(dtype, size):
    labels = np.random.default_rng(0).integers(0, 200, size).astype(dtype)
    values, counts = np.unique(labels, return_counts=True)
    assert value_counts(labels) == dict(zip(values.tolist(), counts.tolist(), strict=True))


def test_value_counts_of_colours():
    labels = np.zeros((4, 6, 3), np.uint8)
    labels[1:, 2:] = (1, 2, 3)
    assert value_counts(labels) == {(0, 0, 0): 12, (1, 2, 3): 12}


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("images", [True, False])
def test_a_scan_counts_what_class_counts_counts(tmp_path, images, num_workers):
    write_fake(tmp_path, num_train=40)
    dataset = CamVid(str(tmp_path), "train")
    split = Split("train", dataset)
    scan(split, range(40), images, num_workers, progress=False)
    assert (split.counts == class_counts(dataset, {}, progress=False)).all()
    assert sum(split.values.values()) == 40 * 36 * 48
    assert split.values[11] == sum(pair.ignored for pair in split.pairs) > 0
    assert {pair.image_size for pair in split.pairs} == {(36, 48)}
    assert [pair.digest is not None for pair in split.pairs] == [images] * 40
    assert not any(pair.problems for pair in split.pairs)


def test_content_counts_and_not_the_file(tmp_path):
    write_fake(tmp_path, num_train=2)
    first, second = sorted((tmp_path / "train").iterdir())
    cv2.imwrite(str(second), cv2.imread(str(first)), [cv2.IMWRITE_PNG_COMPRESSION, 0])
    assert first.read_bytes() != second.read_bytes()
    one, two = (facts(CamVid(str(tmp_path), "train"), i, images=True) for i in range(2))
    assert one.digest == two.digest
    assert one.label_digest != two.label_digest


def test_a_time_limit_ends_a_scan(tmp_path):
    write_fake(tmp_path, num_train=20)
    split = Split("train", CamVid(str(tmp_path), "train"))
    scan(split, range(20), True, progress=False, limit_s=0.0)
    assert 1 <= len(split.pairs) < 20


def test_sixteen_bits_and_grey(tmp_path):
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    deep = np.full((8, 8, 3), 4000, np.uint16)
    cv2.imwrite(str(tmp_path / "images/deep.png"), deep)
    cv2.imwrite(str(tmp_path / "images/tiff.tif"), deep[..., 0])
    cv2.imwrite(str(tmp_path / "images/flat.png"), np.full((8, 8, 3), (1, 2, 3), np.uint8))
    for name in ("deep", "tiff", "flat"):
        cv2.imwrite(str(tmp_path / f"masks/{name}.png"), np.zeros((8, 8), np.uint8))
    dataset = Folder(str(tmp_path), "images", "masks", ["a", "b"])
    seen = {dataset.name(i): facts(dataset, i, images=True) for i in range(3)}
    assert {name: (pair.brightest, pair.is_grey) for name, pair in seen.items()} == {
        "images/deep.png": (4000, True),
        "images/tiff.tif": (4000, True),
        "images/flat.png": (None, False),
    }


class Stopped(Synthetic):
    def __getitem__(self, index):
        raise Interrupted(signal.SIGTERM)  # as the handler of a run does, wherever the signal comes


def test_a_signal_is_no_fault_of_a_file():
    split = Split("train", Stopped("train", 2, 48, 48))
    with pytest.raises(Interrupted):
        scan(split, range(2), images=True, progress=False)
