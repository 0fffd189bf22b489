import re
import shutil

import cv2
import numpy as np
import pytest
import torch

from segframe.data.camvid import CamVid, write_fake


@pytest.fixture
def root(tmp_path):
    write_fake(tmp_path / "camvid")
    return tmp_path / "camvid"


def label_file(root):
    return next(iter(sorted((root / "trainannot").iterdir())))


def overwrite(path, pixels):
    assert cv2.imwrite(str(path), pixels)


def test_reads_what_the_files_hold(root):
    dataset = CamVid(str(root), "train")
    assert len(dataset) == 4
    assert len(CamVid(str(root), "val")) == 2
    image, mask = dataset[1]
    file = root / "train" / dataset.name(1)
    bgr = cv2.imread(str(file))
    assert torch.equal(image, torch.from_numpy(bgr[..., ::-1].copy()).permute(2, 0, 1))
    assert image.permute(1, 2, 0).is_contiguous()
    label = cv2.imread(str(root / "trainannot" / file.name), cv2.IMREAD_UNCHANGED)
    assert label.ndim == 2
    assert 11 in label
    assert (mask.numpy() == np.where(label == 11, 255, label)).all()
    assert mask.dtype == image.dtype == torch.uint8


def test_a_missing_root_shows_the_tree_and_what_is_there(root):
    with pytest.raises(FileNotFoundError) as error:
        CamVid(str(root.parent / "nowhere" / "camvid"), "train")
    for part in ("trainannot/NAME.png", "dataset.root=...", f"{root.parent} does", "camvid/"):
        assert part in str(error.value)


def test_a_missing_folder_is_named(root):
    shutil.rmtree(root / "valannot")
    assert len(CamVid(str(root), "train")) == 4
    with pytest.raises(FileNotFoundError, match=r"valannot does not exist(.|\n)*Found in .*train/, trainannot/, val/"):
        CamVid(str(root), "val")


def test_an_empty_folder_is_named(root):
    for file in (root / "train").iterdir():
        file.rename(file.with_suffix(".jpg"))
    with pytest.raises(FileNotFoundError, match=r"train holds no PNG file \(.*\.jpg"):
        CamVid(str(root), "train")


@pytest.mark.parametrize(("folder", "other"), [("train", "trainannot"), ("trainannot", "train")])
def test_a_missing_partner_is_named(root, folder, other):
    missing = next((root / folder).iterdir())
    missing.unlink()
    with pytest.raises(ValueError, match=rf"1 of 4 files have no partner .*{folder}: {re.escape(missing.name)}"):
        CamVid(str(root), "train")


@pytest.mark.parametrize("kept", [0, 5, 60, -20])
@pytest.mark.parametrize("folder", ["train", "trainannot"])
def test_a_truncated_file_is_named(root, folder, kept):
    file = next(iter(sorted((root / folder).iterdir())))
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(ValueError, match=rf"{folder}/{file.name} .*truncated"):
        CamVid(str(root), "train")[0]


def test_a_file_that_is_no_image_is_named(root):
    label_file(root).write_text("<html>404</html>")
    with pytest.raises(ValueError, match=rf"{label_file(root).name} .*a web page, not an image"):
        CamVid(str(root), "train")[0]


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (np.full((36, 48), 12, np.uint8), r"labels 12 \(1728 pixels\); expected 0 to 11"),
        (np.array([[0, 255] * 24] * 36, np.uint8), r"labels 255 \(864 pixels\); expected"),
        (np.arange(36 * 48 * 3, dtype=np.uint8).reshape(36, 48, 3), r"shape \(36, 48, 3\).*not a colour rendering"),
        (np.full((36, 48), 300, np.uint16), r"labels 300 "),
        (np.zeros((30, 48), np.uint8), r"30x48 but its image .*train/0001TP_006690.png 36x48"),
    ],
)
def test_a_label_map_of_another_kind_is_named(root, pixels, message):
    overwrite(label_file(root), pixels)
    with pytest.raises(ValueError, match=rf"trainannot/{label_file(root).name} .*{message}"):
        CamVid(str(root), "train")[0]
