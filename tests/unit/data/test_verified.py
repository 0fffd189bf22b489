import json
import os

import cv2
import numpy as np
import pytest

from segframe.data import statistics
from segframe.data.camvid import CamVid, write_fake
from segframe.data.check import Use
from segframe.data.fingerprint import cache_root
from segframe.data.synthetic import Synthetic
from segframe.data.verified import Checked, verify

USE = Use((16, 16), 4, 1)


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("SEGFRAME_CACHE", str(tmp_path / "cache"))
    write_fake(tmp_path / "set", num_train=20, num_val=4)
    return tmp_path / "set"


def look(root, mode="full", use=USE, workers=0, num_pairs=None):
    sets = {name: CamVid(str(root), name) for name in ("train", "val")}
    splits = [Checked(name, s, {"split": name}, num_pairs or len(s)) for name, s in sets.items()]
    verify(splits, mode, use, workers, "See more.")


def spoil(root, number):
    path = sorted((root / "trainannot").iterdir())[number]
    label = cv2.imread(str(path), 0)
    label[:2, :2] = 77
    cv2.imwrite(str(path), label)
    return path


@pytest.mark.parametrize("workers", [0, 2])
def test_whole_once_until_a_file_changes(root, capsys, workers):
    look(root, workers=workers)
    assert "checked 24 pairs: all fit; remembered until a file changes" in capsys.readouterr().err
    look(root)
    assert capsys.readouterr().err == ""
    path = spoil(root, 1)
    with pytest.raises(ValueError, match=r"1 of 20 label maps hold labels that no class has: 77 \(4 pixels\)") as error:
        look(root)
    assert str(path) in str(error.value)
    assert str(error.value).endswith("See more.")
    write_fake(root, num_train=20, num_val=4)
    look(root)


def test_a_file_that_goes_or_comes_is_noticed(root, capsys):
    look(root)
    for folder in ("train", "trainannot"):
        next((root / folder).iterdir()).rename(root / folder / "new.png")
    capsys.readouterr()
    look(root)
    assert "checked 20 pairs" in capsys.readouterr().err


def test_some_at_once_and_the_others_after(root):
    spoil(root, 0)
    with pytest.raises(ValueError, match="seen in 12 pairs that were looked at first"):
        look(root)
    with pytest.raises(ValueError, match="seen in 12 pairs"):
        look(root, "sample")
    look(root, "none")


def test_a_sample_misses_what_the_whole_shows(root):
    spoil(root, 1)
    look(root, "sample")
    assert not (root.parent / "cache").exists()
    with pytest.raises(ValueError, match="77"):
        look(root)
    look(root, num_pairs=1)  # data.overfit=1 reads no other


def test_the_counts_are_kept(root, monkeypatch):
    look(root)
    dataset = CamVid(str(root), "train")
    fresh = statistics.count(dataset, progress=False)
    monkeypatch.setattr(CamVid, "mask", lambda *_: pytest.fail("counted again"))
    assert (statistics.class_counts(dataset, {"split": "train"}) == fresh).all()


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"version": 1}', '{"version": 0, "pairs": 20, "sizes": []}'])
def test_a_spoilt_memory_checks_again(root, capsys, content):
    look(root)
    for path in (cache_root() / "checked").iterdir():
        path.write_text(content)
    capsys.readouterr()
    look(root)
    assert "checked 24 pairs" in capsys.readouterr().err
    assert {json.loads(path.read_text())["version"] for path in (cache_root() / "checked").iterdir()} == {2}


def test_a_memory_that_cannot_be_written_is_a_note(root, capsys, monkeypatch):
    monkeypatch.setenv("SEGFRAME_CACHE", f"{os.devnull}/cache")
    look(root)
    err = capsys.readouterr().err
    assert "checked 24 pairs: all fit\n" in err
    assert "note: /dev/null/cache/checked cannot be written to" in err


def test_sizes_are_known_without_looking_again(root):
    for folder in ("val", "valannot"):
        path = sorted((root / folder).iterdir())[1]
        cv2.imwrite(str(path), cv2.imread(str(path), cv2.IMREAD_UNCHANGED)[:30])
    look(root)
    with pytest.raises(ValueError, match=r"2 sizes, such as .*data\.val_batch_size=2.*Set data\.val_batch_size=1"):
        look(root, use=USE._replace(val_batch_size=2))


def test_an_empty_label_map_is_a_warning(root, capsys):
    path = sorted((root / "trainannot").iterdir())[0]
    cv2.imwrite(str(path), np.full((36, 48), 11, np.uint8))
    look(root)
    assert "warning: train: in 1 of 20 label maps every pixel is ignored" in capsys.readouterr().err


def test_a_class_that_cannot_be_learnt_is_a_warning(root, capsys):
    for path in (root / "trainannot").iterdir():
        cv2.imwrite(str(path), np.minimum(cv2.imread(str(path), 0), 9))
    look(root)
    said = capsys.readouterr().err
    assert "warning: train: 1 of 11 classes occur never in train but in val, so" in said
    assert said.endswith("checked 24 pairs: all fit; remembered until a file changes\n")


def test_an_image_in_both_splits_is_a_warning_each_time(root, capsys):
    for _ in range(2):
        capsys.readouterr()
        splits = [Checked(name, CamVid(str(root), "val"), {"split": name}, 4) for name in ("train", "val")]
        verify(splits, "full", USE, 0, "See more.")
        assert "warning: train, val: 4 images are in both, so the score on val" in capsys.readouterr().err


def test_images_are_looked_at_by_their_ends(root):
    path = sorted((root / "train").iterdir())[1]
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match="is truncated") as error:
        look(root)
    assert str(path) in str(error.value)


def test_a_data_set_without_files_is_looked_at_each_time(root, capsys):
    dataset = Synthetic("train", num_images=10, height=48, width=48)
    verify([Checked("train", dataset, {}, 10)], "full", USE, 2, "")
    assert capsys.readouterr().err == ""
    dataset._pairs[2][1][:] = 9
    with pytest.raises(ValueError, match="1 of 10 label maps hold labels"):
        verify([Checked("train", dataset, {}, 10)], "full", USE, 2, "")


def test_a_data_set_without_files_gets_so_much_time(monkeypatch, capsys):
    monkeypatch.setattr("segframe.data.verified._LIMIT_S", 0.0)
    verify([Checked("train", Synthetic("train", 10, 48, 48), {}, 10)], "full", USE, 0, "")
    assert "checked 1 of 10 pairs of train" in capsys.readouterr().err


def test_many_errors_are_told_in_short(root):
    for number, path in enumerate(sorted((root / "train").iterdir())):
        path.write_bytes([b"", b"<html>", b"x", b"version https://git-lfs", b"GIF8"][number % 5])
    for path in (root / "val").iterdir():
        path.write_bytes(b"")
    for path in (root / "valannot").iterdir():
        path.write_bytes(b"<html>")
    with pytest.raises(ValueError, match="and 1 more") as error:
        look(root)
    assert len(str(error.value).splitlines()) == 1 + 5 + 1 + 1
