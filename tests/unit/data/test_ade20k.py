import cv2
import numpy as np
import pytest

from segframe.data.ade20k import ADE20K, write_fake
from segframe.data.pairs import UnpairedError


@pytest.fixture
def root(tmp_path):
    write_fake(tmp_path / "ade")
    return tmp_path / "ade"


@pytest.fixture
def folder(root):
    return root / "ADEChallengeData2016"


def test_other_is_ignored_and_classes_count_from_zero(root, folder):
    file = folder / "annotations/training/ADE_train_00000001.png"
    pixels = np.resize(np.arange(151, dtype=np.uint8), (36, 48))
    cv2.imwrite(str(file), pixels)
    _, mask = ADE20K(str(root), "train")[0]
    assert (mask.numpy() == np.where(pixels == 0, 255, pixels - 1)).all()
    cv2.imwrite(str(file), pixels + 1)
    with pytest.raises(ValueError, match=r"labels 151 \(\d+ pixels\); expected 0 to 150"):
        ADE20K(str(root), "train")[0]


def test_names_and_colours():
    by_name = dict(zip(ADE20K.classes, ADE20K.palette, strict=True))
    assert len(by_name) == len(set(by_name.values())) == 150
    assert ADE20K.classes[:3] == ("wall", "building", "sky")
    assert (ADE20K.classes[20], ADE20K.classes[74], ADE20K.classes[149]) == ("car", "computer", "flag")
    assert by_name["wall"] == (120, 120, 120)
    assert by_name["flag"] == (92, 0, 255)
    assert all(name == name.strip() for name in by_name)


@pytest.mark.parametrize("below", [".", "ADEChallengeData2016"])
def test_the_root_may_be_the_folder_or_its_parent(root, below):
    dataset = ADE20K(str(root / below), "train")
    assert (len(dataset), len(ADE20K(str(root / below), "val"))) == (4, 2)
    assert dataset.name(0) == "ADE_train_00000001.jpg"
    assert [path.suffix for path in dataset.files(0)] == [".jpg", ".png"]
    assert dataset.size(0) == dataset.size(1)[::-1]


def test_missing_partners_are_named(root, folder):
    (folder / "images/training/ADE_train_00000001.jpg").unlink()
    (folder / "annotations/training/ADE_train_00000003.png").unlink()
    with pytest.raises(UnpairedError) as error:
        ADE20K(str(root), "train")
    assert {group.files for group in error.value.unpaired} == {("ADE_train_00000003.jpg",), ("ADE_train_00000001.png",)}
    assert len(error.value.dataset) == 2


@pytest.mark.parametrize("given", [".", "ADEChallengeData2016/images", "../elsewhere"])
def test_a_missing_root_shows_the_tree_and_the_nearest(root, folder, given):
    folder.rename(root / "data2016")
    place = (root / given.replace(folder.name, "data2016")).resolve()
    with pytest.raises(FileNotFoundError) as error:
        ADE20K(str(place), "train")
    for part in (f"{place}/\n    images/training/ADE_train_00000001.jpg", f"dataset.root={root / 'data2016'}?"):
        assert part in str(error.value)
