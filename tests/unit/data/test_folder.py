"""Any folders from YAML alone: pairing, splits, meanings, and what is said where something is wrong."""

import re
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from segframe.contracts import FileBacked
from segframe.data import camvid
from segframe.data.camvid import CamVid
from segframe.data.folder import Folder, write_fake
from segframe.data.pairs import UnpairedError

CLASSES = ["one", "two", "three"]
CAMVID = """
# CamVid, read by folders alone
defaults: [folder, _self_]
classes: [sky, building, pole, road, pavement, tree, sign symbol, fence, car, pedestrian, bicyclist]
palette: [[128, 128, 128], [128, 0, 0], [192, 192, 128], [128, 64, 128], [60, 40, 222], [128, 128, 0], [192, 128, 128],
  [64, 64, 128], [64, 0, 128], [64, 64, 0], [0, 128, 192]]
label_map: {0: sky, 1: building, 2: pole, 3: road, 4: pavement, 5: tree, 6: sign symbol, 7: fence, 8: car,
  9: pedestrian, 10: bicyclist, 11: ignore}
crop_size: [360, 480]
train: {images: train, masks: trainannot}
val: {images: val, masks: valannot}
"""


def write(root: Path, *names: str, value: int = 0) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shape = (6, 8) if "mask" in name else (6, 8, 3)
        assert cv2.imwrite(str(root / name), np.full(shape, value, np.uint8))
    return root


def names(dataset):
    return [dataset.name(index) for index in range(len(dataset))]


def equal(one, other):
    assert len(one) == len(other) > 0
    for index in range(len(one)):
        for a, b in zip(one[index], other[index], strict=True):
            assert torch.equal(a, b)
    assert names(one) == [Path(name).name for name in names(other)]


def test_the_default_layout_holds_several_formats(tmp_path):
    write_fake(tmp_path, num_train=5)
    dataset = Folder(str(tmp_path), "train/images", "train/masks", CLASSES)
    assert isinstance(dataset, FileBacked)
    assert len(dataset) == 5
    assert names(dataset) == sorted(names(dataset))
    assert dataset.name(0) == "train/images/part0/0000.jpg"
    assert {Path(name).suffix for name in names(dataset)} == {".jpg", ".png", ".tif", ".bmp", ".webp"}
    for index in range(5):
        image, mask = dataset[index]
        assert image.shape == (3, *mask.shape)
        assert dataset.size(index) == tuple(mask.shape)
    assert {int(label) for index in range(5) for label in dataset[index][1].unique()} == {0, 1, 2, 255}


@pytest.mark.parametrize("split", ["train", "val"])
def test_camvid_by_folders_alone_is_camvid(tmp_path, segframe, split):
    from segframe.build import make_dataset
    from segframe.config.compose import compose

    camvid.write_fake(tmp_path / "camvid")
    (tmp_path / "conf/dataset").mkdir(parents=True)
    (tmp_path / "conf/dataset/street.yaml").write_text(CAMVID)
    words = [f"--config-dir={tmp_path / 'conf'}", "dataset=street", f"dataset.root={tmp_path / 'camvid'}"]
    config = compose(words)
    dataset, reference = make_dataset(config, split), CamVid(str(tmp_path / "camvid"), split)
    equal(reference, dataset)
    ignored = sum(int((reference[index][1] == 255).sum()) for index in range(len(reference)))
    assert (ignored > 0) == (split == "train")
    assert (tuple(dataset.classes), tuple(dataset.palette)) == (reference.classes, reference.palette)
    assert config.dataset.num_classes == 11


def test_a_run_on_camvid_by_folders_alone_gives_its_losses(tmp_path, segframe, small, rows):
    camvid.write_fake(tmp_path / "camvid")
    (tmp_path / "conf/dataset").mkdir(parents=True)
    (tmp_path / "conf/dataset/street.yaml").write_text(CAMVID)
    own = [word for word in small if not word.startswith("dataset.")]
    losses = []
    for name in ("camvid", "street"):
        words = [f"dataset={name}", f"dataset.root={tmp_path / 'camvid'}", "dataset.crop_size=[48,48]"]
        words += ["data.batch_size=2", f"run.dir={tmp_path / name}", f"--config-dir={tmp_path / 'conf'}"]
        code, _, said = segframe("train", *own, *words)
        assert code == 0, said
        losses.append([(row["train/loss"], row["val/miou"]) for row in rows(tmp_path / name)])
    assert losses[0] == losses[1]
    assert len({loss for loss, _ in losses[0]}) > 2


def test_from_the_command_line(tmp_path, segframe, small):
    write_fake(tmp_path / "data")
    words = [word for word in small if not word.startswith("dataset.")]
    words += ["dataset=folder", f"dataset.root={tmp_path / 'data'}", "dataset.classes=[a,b,'c d']", "data.batch_size=2"]
    words += ["dataset.crop_size=[48,48]", "trainer.max_epochs=1", f"run.dir={tmp_path / 'run'}"]
    code, said, errors = segframe("train", *words, "dataset.label_map={0:a,1:b,2:'c d',255:ignore}")
    assert code == 0, errors
    assert "c d" in said


def test_suffixes_and_nested_folders(tmp_path):
    write(tmp_path, "leftImg8bit/train/aachen/aachen_0_leftImg8bit.png", "leftImg8bit/train/ulm/ulm_0_leftImg8bit.png")
    write(tmp_path, "gtFine/train/aachen/aachen_0_gtFine_mask.png", "gtFine/train/ulm/ulm_0_gtFine_mask.png", value=1)
    write(tmp_path, "gtFine/train/aachen/aachen_0_gtFine_color.png", value=7)
    endings = {"image_suffix": "_leftImg8bit.png", "mask_suffix": "_gtFine_mask.png"}
    for images, masks in (("leftImg8bit/train", "gtFine/train"), ("leftImg8bit/**/*", "gtFine/**/*")):
        dataset = Folder(str(tmp_path), images, masks, CLASSES, **endings)
        assert [Path(name).name for name in names(dataset)] == ["aachen_0_leftImg8bit.png", "ulm_0_leftImg8bit.png"]
        assert dataset[0][1].unique().tolist() == [1]


def test_a_folder_per_scene(tmp_path):
    write(tmp_path, "a/images/1.jpg", "a/mask/1.png", "b/images/1.jpg", "b/mask/1.png")
    dataset = Folder(str(tmp_path), "*/images/*.jpg", "*/mask/*.png", CLASSES)
    assert names(dataset) == ["a/images/1.jpg", "b/images/1.jpg"]
    assert dataset.files(1) == (tmp_path / "b/images/1.jpg", tmp_path / "b/mask/1.png")


def test_missing_partners_on_both_sides(tmp_path):
    write(tmp_path, "image/1.jpg", "image/2.jpg", "image/3.jpg", "mask/1_m.png", "mask/4_m.png")
    with pytest.raises(UnpairedError) as error:
        Folder(str(tmp_path), "image", "mask", CLASSES, mask_suffix="_m.png")
    said = str(error.value)
    assert f"2 of 3 images have no partner KEY_m.png in {tmp_path}/mask: image/2.jpg, image/3.jpg." in said
    assert f"1 of 2 label maps have no partner of the same key in {tmp_path}/image: mask/4_m.png." in said
    assert names(error.value.dataset) == ["image/1.jpg"]
    assert error.value.dataset.classes == tuple(CLASSES)


def test_no_pair_at_all_suggests_a_suffix(tmp_path):
    write(tmp_path, "image/1.jpg", "mask/1_label.png")
    keys = r"none of 1 images in .*image and 1 label maps .*Keys of images: 1; of label maps: 1_label\."
    with pytest.raises(ValueError, match=rf"{keys} Did you mean dataset\.mask_suffix=_label\.png\?"):
        Folder(str(tmp_path), "image", "mask", CLASSES)


def test_a_missing_root_names_the_nearest(tmp_path):
    write(tmp_path, "cells/image/1.jpg")
    with pytest.raises(FileNotFoundError, match=r"dataset\.root=.*cell: .*Did you mean .*cells\?"):
        Folder(str(tmp_path / "cell"), "image", "mask", CLASSES)


@pytest.fixture
def hundred(tmp_path):
    return write(tmp_path, *(f"{kind}/{number:03d}.png" for kind in ("image", "mask") for number in range(100)))


def share(root, split, val_share=0.2, **arguments):
    return names(Folder(str(root), "image", "mask", CLASSES, split=split, val_share=val_share, **arguments))


def test_one_folder_is_parted_by_a_share(hundred):
    train, val, everything = (share(hundred, split) for split in ("train", "val", "all"))
    assert sorted(train + val) == everything
    assert 10 < len(val) < 30
    assert set(val) < set(share(hundred, "val", 0.5))
    assert share(hundred, "train", 0.0) == share(hundred, "val", 1.0) == everything
    write(hundred, *(f"{kind}/new{number}.png" for kind in ("image", "mask") for number in range(50)))
    assert set(train) < set(share(hundred, "train"))
    assert set(val) < set(share(hundred, "val"))


def test_a_split_without_a_pair_says_so(hundred):
    with pytest.raises(ValueError, match=r"split=val with val_share=0\.0 leaves none of 100 pairs"):
        share(hundred, "val", 0.0)


def test_files_without_a_partner_are_missed_in_their_own_split_alone(hundred):
    val = share(hundred, "val")
    (hundred / val[0].replace("image", "mask")).unlink()
    assert len(share(hundred, "train")) == 100 - len(val)
    with pytest.raises(UnpairedError, match=rf"1 of 100 images .*{val[0]}"):
        share(hundred, "val")


def test_a_split_file_chooses_and_orders(hundred):
    (hundred / "list.txt").write_text("003\n001.png\nimage/002.png\n")
    chosen = ["image/003.png", "image/001.png", "image/002.png"]
    assert share(hundred, "all", split_file="list.txt") == chosen
    (hundred / "mask/099.png").unlink()  # what is not listed needs no partner
    assert share(hundred, "all", split_file=str(hundred / "list.txt")) == chosen
    (hundred / "mask/003.png").unlink()
    with pytest.raises(
        UnpairedError, match=r"1 of 100 images have no partner of the same key in .*mask: image/003\.png"
    ):
        share(hundred, "all", split_file="list.txt")


def test_two_columns_pair_what_no_rule_pairs(tmp_path):
    write(tmp_path, "image/a.jpg", "image/b.jpg")
    write(tmp_path, "mask/x.png", value=1)
    write(tmp_path, "mask/y.png", value=2)
    (tmp_path / "list.txt").write_text("image/a.jpg mask/y.png\nimage/b.jpg mask/x.png\n")
    dataset = Folder(str(tmp_path), "image", "mask", CLASSES, split_file="list.txt")
    assert [int(dataset[index][1][0, 0]) for index in range(2)] == [2, 1]


def test_masks_of_palette_colours(tmp_path):
    palette = [(10, 20, 30), (40, 50, 60), (7, 7, 7)]
    write(tmp_path, "image/1.png", "image/2.png")
    colours = np.array(palette, np.uint8)[np.arange(48).reshape(6, 8) % 3]
    (tmp_path / "mask").mkdir()
    cv2.imwrite(str(tmp_path / "mask/1.png"), colours[..., ::-1])
    cv2.imwrite(str(tmp_path / "mask/2.png"), np.full((6, 8), 2, np.uint8))
    dataset = Folder(str(tmp_path), "image", "mask", CLASSES, palette=palette)
    assert np.array_equal(dataset[0][1], np.arange(48).reshape(6, 8) % 3)
    assert dataset[1][1].unique().tolist() == [2]
    colours[0, 0] = 99, 98, 97
    cv2.imwrite(str(tmp_path / "mask/1.png"), colours[..., ::-1])
    found = r"1\.png holds the colours \(99, 98, 97\) \(1 pixels\); expected the 3 colours of the palette, "
    with pytest.raises(ValueError, match=rf"{found}.* List every colour in label_map: {{\.\.\., '99,98,97': CLASS}}"):
        dataset[0]


def test_colours_are_chosen_where_there_are_none(tmp_path):
    write(tmp_path, "image/1.png", "mask/1.png")
    dataset = Folder(str(tmp_path), "image", "mask", CLASSES)
    assert Counter(Counter(dataset.palette).values()) == {1: 3}
    assert Folder(str(tmp_path), "image", "mask", CLASSES, palette=[[1, 2, 3], [4, 5, 6], [7, 8, 9]]).palette[0] == (
        1,
        2,
        3,
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"classes": ["a", "b", "a"]}, r"dataset\.classes names a more than once"),
        ({"classes": ["a", "ignore"]}, "`ignore` is no class"),
        ({"palette": [[0, 0, 0]]}, r"dataset\.palette lists 1 colours for 3 classes"),
        ({"palette": [[0, 0, 0], [1, 1, 1], [0, 0, 0]]}, re.escape("lists [0, 0, 0] more than once")),
        ({"label_map": {0: "one", 1: "tow"}}, "did you mean two"),
        ({"images": "imag"}, "Did you mean .*image"),
        ({"split_file": "lst.txt"}, "split_file: .*lst.txt does not exist"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, arguments, message):
    write(tmp_path, "image/1.png", "mask/1.png")
    given = {"images": "image", "masks": "mask", "classes": CLASSES} | arguments
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        Folder(str(tmp_path), **given)


def test_exif_may_be_left_alone(tmp_path):
    from PIL import Image

    write(tmp_path, "mask/1.png")
    (tmp_path / "image").mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.zeros((6, 8, 3), np.uint8)).save(tmp_path / "image/1.jpg", exif=exif)
    with pytest.raises(ValueError, match=r"EXIF orientation turns it.*exif: false"):
        Folder(str(tmp_path), "image", "mask", CLASSES)[0]
    assert Folder(str(tmp_path), "image", "mask", CLASSES, exif=False)[0][0].shape == (3, 6, 8)
