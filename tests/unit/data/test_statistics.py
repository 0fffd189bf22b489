import numpy as np
import pytest
import torch

from segframe.data.camvid import CamVid, write_fake
from segframe.data.fingerprint import cache_root
from segframe.data.statistics import ClassStatistics, class_counts, count


class Masks:
    classes = ("a", "b", "c")
    palette = ((0, 0, 0), (1, 1, 1), (2, 2, 2))

    def __init__(self, *masks):
        self.masks = masks

    def __len__(self):
        return len(self.masks)

    def __getitem__(self, index):
        mask = torch.tensor(self.masks[index], dtype=torch.uint8)
        return mask.expand(3, *mask.shape), mask

    def name(self, index):
        return f"mask-{index}"


MASKS = Masks([[0, 0, 255, 1]], [[0, 0, 0, 0]], [[255, 255, 255, 255]])


def test_counts_pixels_and_the_labelled_pixels_around_them():
    statistics = ClassStatistics.of(count(MASKS, progress=False))
    assert statistics.pixels == [6, 1, 0]
    assert statistics.image_pixels == [3 + 4, 3, 0]


def test_counts_per_mask():
    counts = class_counts(MASKS, {}, progress=False)
    assert counts.dtype == np.int64
    assert counts.tolist() == [[2, 1, 0], [4, 0, 0], [0, 0, 0]]
    assert ClassStatistics.of(counts) == ClassStatistics.of(count(MASKS, progress=False))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_wrong_label_names_its_mask(num_workers):
    masks = Masks(*[[[0, 1]]] * 40, [[0, 7]])
    with pytest.raises(ValueError, match=r"mask-40: the mask holds the labels \[7\]"):
        class_counts(masks, {}, num_workers, progress=False)


@pytest.fixture
def fake(tmp_path, monkeypatch):
    monkeypatch.setenv("SEGFRAME_CACHE", str(tmp_path / "cache"))
    write_fake(tmp_path / "camvid", num_train=40)
    return tmp_path / "camvid"


def test_files_are_counted_once(fake, capfd):
    first = class_counts(CamVid(str(fake), "train"), {"split": "train"}, num_workers=2)
    assert "counting classes: 100%" in capfd.readouterr().err
    second = class_counts(CamVid(str(fake), "train"), {"split": "train"})
    assert not capfd.readouterr().err
    assert (first == second).all()
    assert first.sum() == sum(int((CamVid(str(fake), "train").mask(i) != 255).sum()) for i in range(40))


def test_a_file_that_changes_is_counted_again(fake):
    before = class_counts(CamVid(str(fake), "train"), {}, progress=False)
    masks = sorted((fake / "trainannot").iterdir())
    assert not (before[0] == before[1]).all()
    masks[0].write_bytes(masks[1].read_bytes())
    after = class_counts(CamVid(str(fake), "train"), {}, progress=False)
    assert (after[0] == before[1]).all()
    assert (after[1:] == before[1:]).all()


@pytest.mark.parametrize("content", [b"", b"no array", b"\x93NUMPY\x01\x00"])
def test_a_spoilt_memory_is_counted_again(fake, content):
    before = class_counts(CamVid(str(fake), "train"), {}, progress=False)
    (memory,) = (cache_root() / "class_counts").iterdir()
    memory.write_bytes(content)
    assert (class_counts(CamVid(str(fake), "train"), {}, progress=False) == before).all()
    assert memory.stat().st_size > 1000


def test_a_memory_that_cannot_be_written_is_no_error(fake, monkeypatch):
    monkeypatch.setenv("SEGFRAME_CACHE", "/dev/null/cache")
    assert class_counts(CamVid(str(fake), "train"), {}, progress=False).shape == (40, 11)
