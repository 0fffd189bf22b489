"""Pairs of files as a data set: what stands in for what, and whose error it is."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from segframe.contracts import FileBacked
from segframe.data.labels import LabelMap
from segframe.data.pairs import FilePairs, Pair, UnpairedError, pair_by_name


def write(path, shape, value=0):
    path.parent.mkdir(exist_ok=True)
    cv2.imwrite(str(path), np.full(shape, value, np.uint8))
    return path


@pytest.fixture
def pairs(tmp_path):
    return [
        Pair(write(tmp_path / f"i/{n}.png", (4, 6, 3), n), write(tmp_path / f"m/{n}.png", (4, 6), n), f"i/{n}.png")
        for n in range(3)
    ]


def test_a_pair(pairs):
    dataset = FilePairs(pairs, LabelMap(3))
    assert isinstance(dataset, FileBacked)
    image, mask = dataset[2]
    assert (tuple(image.shape), tuple(mask.shape)) == ((3, 4, 6), (4, 6))
    assert image.unique().tolist() == mask.unique().tolist() == [2]
    assert (dataset.name(2), dataset.size(2), dataset.files(2)) == ("i/2.png", (4, 6), pairs[2][:2])
    assert np.array_equal(dataset.mask(2), mask)


def test_sizes_must_agree(pairs):
    write(pairs[1].mask, (6, 4))
    with pytest.raises(ValueError, match=r"m/1\.png is 6x4 but its image .*i/1\.png 4x6; both must have one size"):
        FilePairs(pairs, LabelMap(3))[1]


def test_a_file_that_has_gone_is_named(pairs):
    dataset = FilePairs(pairs, LabelMap(3))
    pairs[0].mask.unlink()
    with pytest.raises(FileNotFoundError, match=r"m/0\.png"):
        dataset[0]


def test_pairing_by_name_or_stem():
    images = [Path("i/1.jpg"), Path("i/2.jpg"), Path("i/3.jpg")]
    masks = [Path("m/1.png"), Path("m/3.png"), Path("m/4.png")]
    found, unpaired = pair_by_name(images, masks, keep="stem")
    assert found == [Pair(images[0], masks[0], "1.jpg"), Pair(images[2], masks[1], "3.jpg")]
    assert [(group.files, group.total, group.folder) for group in unpaired] == [
        (("2.jpg",), 3, Path("m")),
        (("4.png",), 3, Path("i")),
    ]
    assert pair_by_name(images, masks)[0] == []
    with pytest.raises(UnpairedError, match=r"1 of 3 files have no partner of the same name in m: 2\.jpg") as error:
        FilePairs(found, LabelMap(3), unpaired)
    assert len(error.value.dataset) == 2
    assert error.value.unpaired == tuple(unpaired)
