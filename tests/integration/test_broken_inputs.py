"""Broken data and what is said of it: by `data check`, and by `train` before it spends time."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pytest
from PIL import Image

from segframe.data import ade20k, camvid, cityscapes, voc

CLASSES = ("a", "b", "c")
TRAIN, VAL = 12, 4


def write_set(root: Path) -> None:
    """Writes `dataset=folder`: 48 x 64 pixels, three classes and ignored pixels."""
    rng = np.random.default_rng(0)
    for split, count in (("train", TRAIN), ("val", VAL)):
        for kind in ("images", "masks"):
            (root / split / kind).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            image = rng.integers(0, 256, (48, 64, 3), np.uint8)
            cv2.imwrite(str(root / f"{split}/images/{number:03d}.png"), image)
            blocks = np.array([[0, 1, 2, 255], [1, 2, 0, 1], [2, 2, 1, 0]], np.uint8)
            label = cv2.resize(rng.permuted(blocks, axis=1), (64, 48), interpolation=cv2.INTER_NEAREST)
            cv2.imwrite(str(root / f"{split}/masks/{number:03d}.png"), label)


def masks(root: Path) -> list[Path]:
    return sorted(root.glob("*/masks/*.png"))


def remap(root: Path, table: dict[int, int], files: slice = slice(None), dtype: type = np.uint8) -> None:
    """Writes other values into label maps."""
    for path in masks(root)[files]:
        label = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        other = np.zeros(label.shape, dtype)
        for source, target in table.items():
            other[label == source] = target
        cv2.imwrite(str(path), other)


class Row(NamedTuple):
    """What is broken, and what is said.

    `train` is the exit code of training, `check` that of data check; `said` stands in what data check says, and
    in what training says unless it goes on.
    """

    do: Callable[[Path], object]
    said: tuple[str, ...]
    check: int = 1
    train: int = 1
    words: tuple[str, ...] = ()
    of: str = "folder"


def cut(name: str, keep: float = 0.5) -> Callable[[Path], object]:
    def do(root: Path) -> None:
        path = root / name
        path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])

    return do


def write(name: str, content: bytes) -> Callable[[Path], object]:
    return lambda root: (root / name).write_bytes(content)


def delete(name: str) -> Callable[[Path], object]:
    def do(root: Path) -> None:
        path = root / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    return do


def jpeg_cut(root: Path) -> None:
    path = root / "train/images/003.png"
    Image.open(path).save(path.with_suffix(".jpg"))
    path.unlink()
    cut("train/images/003.jpg")(root)


def damaged(root: Path) -> None:
    path = root / "train/masks/003.png"
    content = bytearray(path.read_bytes())
    content[content.index(b"IDAT") + 10] ^= 255
    path.write_bytes(bytes(content))


def broken_link(root: Path) -> None:
    path = root / "train/images/003.png"
    path.unlink()
    path.symlink_to(root / "gone.png")


def lossy_mask(root: Path) -> None:
    path = root / "train/masks/003.png"
    Image.open(path).save(path.with_suffix(".jpg"))
    path.unlink()


def other_size(root: Path) -> None:
    path = root / "val/masks/001.png"
    cv2.imwrite(str(path), cv2.resize(cv2.imread(str(path), 0), (32, 24), interpolation=cv2.INTER_NEAREST))


def turned_by_exif(root: Path) -> None:
    path = root / "train/images/003.png"
    image, exif = Image.open(path), Image.Exif()
    exif[0x0112] = 6
    image.save(path.with_suffix(".jpg"), exif=exif)
    path.unlink()


def unequal(split: str) -> Callable[[Path], object]:
    def do(root: Path) -> None:
        for kind in ("images", "masks"):
            path = root / f"{split}/{kind}/001.png"
            cv2.imwrite(str(path), cv2.imread(str(path), cv2.IMREAD_UNCHANGED)[:40])

    return do


def smoothed(root: Path) -> None:
    for path in masks(root):
        label = cv2.imread(str(path), 0)
        cv2.imwrite(str(path), cv2.resize(label, (64, 48), interpolation=cv2.INTER_LINEAR)[:48])
        cv2.imwrite(str(path), cv2.resize(cv2.resize(label, (48, 36), interpolation=cv2.INTER_AREA), (64, 48)))


def depth(root: Path) -> None:
    for path in masks(root):
        rows, columns = np.mgrid[:48, :64]
        cv2.imwrite(str(path), (rows * 640 + columns * 7).astype(np.uint16))


def in_colours(palette: tuple[tuple[int, int, int], ...], as_grey: bool = False) -> Callable[[Path], object]:
    def do(root: Path) -> None:
        table = np.zeros((256, 3), np.uint8)
        table[: len(palette)] = palette
        for path in masks(root):
            label = np.where((m := cv2.imread(str(path), 0)) == 255, 0, m)
            image = Image.fromarray(table[label])
            (image.convert("L") if as_grey else image).save(path)

    return do


def swapped(root: Path) -> None:
    for split in ("train", "val"):
        (root / split / "images").rename(root / split / "other")
        (root / split / "masks").rename(root / split / "images")
        (root / split / "other").rename(root / split / "masks")


def same_image(one: str, other: str) -> Callable[[Path], object]:
    return lambda root: (root / other).write_bytes((root / one).read_bytes())


def spot(path: Path, value: int) -> None:
    label = np.array(Image.open(path))
    label[:4, :4] = value
    Image.fromarray(label).save(path)


def twelve_bits(root: Path) -> None:
    for path in sorted(root.glob("*/images/*.png")):
        cv2.imwrite(str(path), cv2.imread(str(path)).astype(np.uint16) * 8)


LABEL_IDS = {0: 7, 1: 26, 2: 33, 255: 4}
NINETEEN = f"dataset.classes=[{','.join(cityscapes.Cityscapes.classes)}]".replace(" ", "_")
VOC_21 = f"dataset.classes=[{','.join(voc.VOC.classes)}]"
PALETTE = "dataset.palette=[[128,64,128],[70,70,70],[0,0,142]]"
WHOLE = ("augment.sample.crop_size=null", "augment.sample.scale=[1.0,1.0]")
COLOURS = ((128, 64, 128), (70, 70, 70), (0, 0, 142))

ROWS = {
    # files
    "an image cut short": Row(cut("train/images/003.png"), ("003.png", "truncated", "copy or download it again")),
    "the end of an image is missing": Row(cut("val/images/001.png", 0.995), ("val/images/001.png", "truncated")),
    "a JPEG cut short": Row(jpeg_cut, ("003.jpg", "truncated")),
    "an empty image": Row(write("train/images/003.png", b""), ("003.png", "(0 bytes) is empty")),
    "an empty label map": Row(write("val/masks/003.png", b""), ("val/masks/003.png", "(0 bytes) is empty")),
    "a label map cut short": Row(cut("val/masks/003.png"), ("val/masks/003.png", "truncated")),
    "a damaged label map": Row(damaged, ("003.png", "damaged", "checksum")),
    "a web page": Row(write("train/images/003.png", b"<!DOCTYPE html><p>404"), ("web page", "download it again")),
    "a git-lfs pointer": Row(
        write("train/masks/003.png", b"version https://git-lfs.github.com/spec/v1\n"), ("git lfs pull",)
    ),
    "a text in the place of an image": Row(write("train/images/003.png", b"todo"), ("003.png", "no image")),
    "a broken link": Row(broken_link, ("003.png",)),
    "a label map with loss": Row(lossy_mask, ("003.jpg", "is a JPEG file", "PNG from their source")),
    # pairs
    "a label map is missing": Row(delete("train/masks/003.png"), ("1 of 12 images", "train/images/003.png")),
    "an image is missing": Row(delete("val/images/003.png"), ("1 of 4 label maps", "val/masks/003.png")),
    "no label map at all": Row(delete("train/masks"), ("train/masks",)),
    "no validation set": Row(delete("val"), ("val/images",)),
    "no image": Row(lambda root: [p.unlink() for p in root.glob("train/images/*")], ("train/images",)),
    "names that do not agree": Row(
        lambda root: [p.rename(p.with_name(f"x_{p.stem}_gt.png")) for p in masks(root)], ("none of 12 images",)
    ),
    "no such root": Row(lambda root: root.rename(root.with_name("moved")), ("does not exist",)),
    # sizes
    "a label map of another size": Row(other_size, ("val/masks/001.png is 24x32", "48x64")),
    "an image that EXIF turns": Row(turned_by_exif, ("003.jpg", "EXIF orientation", "exif: false")),
    "validation images of two sizes in one batch": Row(
        unequal("val"),
        ("2 sizes", "data.val_batch_size=2", "Set data.val_batch_size=1"),
        words=("data.val_batch_size=2",),
    ),
    "whole training images of two sizes": Row(
        unequal("train"),
        ("2 sizes", "augment.sample.crop_size=[ROWS,COLUMNS]"),
        words=WHOLE,
    ),
    # labels
    "binary masks in 0 and 255": Row(
        lambda root: remap(root, {0: 0, 1: 255, 2: 255, 255: 0}),
        ("binary masks", "label_map: {0: a, 255: b}"),
        words=("dataset.classes=[a,b]",),
    ),
    "binary masks where there are three classes": Row(
        lambda root: remap(root, {0: 0, 1: 255, 2: 255, 255: 0}), ("binary masks", "3 classes are named")
    ),
    "labels from 1": Row(
        lambda root: remap(root, {0: 1, 1: 2, 2: 3, 255: 255}),
        ("3 (", "count from 1", "label_map: {1: a, 2: b, 3: c, 255: ignore}"),
    ),
    "labels from 1 with void 0": Row(
        lambda root: remap(root, {0: 1, 1: 2, 2: 3, 255: 0}),
        ("one of them is void", "label_map: {0: ignore, 1: a, 2: b, 3: c}", "label_map: {0: a, 1: b, 2: c, 3: ignore}"),
    ),
    "void as 250": Row(
        lambda root: remap(root, {0: 0, 1: 1, 2: 2, 255: 250}),
        ("250 is the only label beyond", "label_map: {0: a, 1: b, 2: c, 250: ignore}"),
    ),
    "more classes than named": Row(
        lambda root: remap(root, {0: 0, 1: 3, 2: 4, 255: 5}), ("up to 5", "6 classes and not 3")
    ),
    "labelIds where trainIds are meant": Row(
        lambda root: remap(root, LABEL_IDS), ("labelIds", "dataset=cityscapes", "26: car"), words=(NINETEEN,)
    ),
    "instanceIds": Row(
        lambda root: remap(root, {0: 7, 1: 26001, 2: 24002, 255: 4}, dtype=np.uint16),
        ("instanceIds", "_labelIds.png"),
        words=(NINETEEN,),
    ),
    "ids stretched to be seen": Row(
        lambda root: remap(root, {0: 0, 1: 85, 2: 170, 255: 0}),
        ("multiplied by 85", "label_map: {0: a, 85: b, 170: c}"),
    ),
    "8 bits stretched to 16": Row(
        lambda root: remap(root, {0: 0, 1: 257, 2: 514, 255: 0}, dtype=np.uint16),
        ("multiples of 257", "label_map: {0: a, 257: b, 514: c}"),
    ),
    "resized with interpolation": Row(
        lambda root: (remap(root, {0: 0, 1: 120, 2: 240, 255: 0}), smoothed(root)),
        ("interpolation", "nearest neighbour"),
    ),
    "a depth map": Row(depth, ("different values", "such as depth")),
    "a colour rendering": Row(in_colours(COLOURS), ("colour rendering", "colours occur", "'128,64,128': CLASS")),
    "a colour rendering saved as grey": Row(
        in_colours(voc.VOC.palette[12:15], as_grey=True), ("brightness", "PASCAL VOC"), words=(VOC_21,)
    ),
    "a colour that the palette lacks": Row(
        in_colours(((128, 64, 128), (70, 70, 70), (0, 0, 9))), ("(0, 0, 9)", "'0,0,9': CLASS"), words=(PALETTE,)
    ),
    "ids where colours are listed": Row(
        lambda root: None,
        ("one id per pixel", "label_map lists colours"),
        words=(r"dataset.label_map={1\,2\,3: a, 4\,5\,6: b, 7\,8\,9: c}",),
    ),
    "an id that label_map lacks": Row(
        lambda root: None, ("255 (", "expected 0 to 2"), words=("dataset.label_map={0: a, 1: b, 2: c}",)
    ),
    "images and label maps swapped": Row(swapped, ("right way round",)),
    "one wrong file": Row(
        lambda root: remap(root, {0: 0, 1: 99}, slice(3, 4)), ("1 of 1", "masks/003.png", "99 (", "only label beyond")
    ),
    "a wrong file that a look at some misses": Row(
        lambda root: remap(root, {0: 0, 1: 99}, slice(1, 2)), ("1 of 16", "masks/001.png", "99 (", "only label beyond")
    ),
    "every pixel ignored": Row(
        lambda root: None,
        ("every pixel is ignored", "nothing to learn"),
        words=("dataset.classes=[a]", "dataset.label_map={0: ignore, 1: ignore, 2: ignore, 255: ignore, 9: a}"),
    ),
    # public sets
    "CamVid with a label beyond void": Row(
        lambda root: spot(root / "valannot/0016E5_06690.png", 12),
        ("0016E5_06690.png", "12 (16 pixels)", "expected 0 to 11", "label_map: {..., 12: CLASS}"),
        of="camvid",
    ),
    "ADE20K with a label beyond the last": Row(
        lambda root: spot(next(root.glob("**/annotations/validation/*.png")), 151),
        ("ADE_val_", "151 (16 pixels)", "expected 0 to 150"),
        of="ade20k",
    ),
    "Cityscapes without a label map": Row(
        lambda root: next(root.glob("gtFine/train/**/*_labelIds.png")).unlink(),
        ("1 of 4", "_leftImg8bit.png", "gtFine_labelIds.png in"),
        of="cityscapes",
    ),
    "Cityscapes with an id that there is not": Row(
        lambda root: spot(next(root.glob("gtFine/val/**/*_labelIds.png")), 77),
        ("77 (16 pixels)", "expected 0 to 33, 255"),
        of="cityscapes",
    ),
    "a name in VOC's list without files": Row(
        lambda root: next(root.glob("**/JPEGImages/2007_000032.jpg")).unlink(),
        ("2007_000032", "JPEGImages"),
        of="voc",
    ),
    # sets: training goes on
    "one label map without labels": Row(
        lambda root: remap(root, {}, slice(3, 4)) or remap(root, {0: 255}, slice(3, 4)),
        ("1 of 12 label maps every pixel is ignored",),
        check=0,
        train=0,
    ),
    "an image in train and val": Row(
        same_image("train/images/003.png", "val/images/001.png"), ("in train and in val alike", "003.png ="), train=0
    ),
    "an image twice in train": Row(
        same_image("train/images/003.png", "train/images/004.png"),
        ("there more than once", "different label maps"),
        check=0,
        train=0,
    ),
    "a class that train lacks": Row(
        lambda root: remap(root, {0: 0, 1: 1, 2: 1, 255: 255}, slice(0, TRAIN)),
        ("1 of 3 classes occur never in train but in val", ": c."),
        train=0,
    ),
    "a class that nothing holds": Row(
        lambda root: None, ("in no label map", ": d."), check=0, train=0, words=("dataset.classes=[a,b,c,d]",)
    ),
    "12 bits in 16": Row(twelve_bits, ("almost black", "by 16"), check=0, train=0),
    # what is said of a data set
    "a class name without a source": Row(
        lambda root: None,
        ("maps nothing to c",),
        words=("dataset.label_map={0: a, 1: b, 2: ignore, 255: ignore}",),
    ),
    "an unknown class in label_map": Row(
        lambda root: None, ("mapped to x", "no class"), words=("dataset.label_map={0: x}",)
    ),
    "another number of classes": Row(
        lambda root: None, ("dataset.num_classes=5", "set dataset.num_classes=3"), words=("dataset.num_classes=5",)
    ),
    "another ignored label": Row(
        lambda root: None, ("dataset.ignore_index=0", "set dataset.ignore_index=255"), words=("dataset.ignore_index=0",)
    ),
}


SETS = {"camvid": camvid, "ade20k": ade20k, "cityscapes": cityscapes, "voc": voc}


@pytest.fixture
def given(tmp_path, small, monkeypatch):
    """Writes a set that is whole, breaks it and returns the words of a short run on it."""
    monkeypatch.setenv("SEGFRAME_CACHE", str(tmp_path / "cache"))
    kept = [word for word in small if not word.startswith("dataset.") and "max_epochs" not in word]

    def write_and_break(row: Row) -> list[str]:
        root = tmp_path / "set"
        SETS[row.of].write_fake(root) if row.of in SETS else write_set(root)
        row.do(root)
        short = ["dataset.crop_size=[32,32]", "trainer.max_epochs=1", *row.words]
        classes = ["dataset.classes=[a,b,c]"] if row.of == "folder" else []
        return [*kept, f"dataset={row.of}", f"dataset.root={root}", *classes, *short]

    return write_and_break


def one_line(*texts: str) -> str:
    return " ".join(" ".join(texts).split())


@pytest.mark.parametrize("name", ROWS)
def test_data_check(name, given, tmp_path, segframe):
    row = ROWS[name]
    code, out, err = segframe("data", "check", *given(row), f"out={tmp_path / 'report'}")
    for part in row.said:
        assert part in one_line(out), out
    assert code == row.check, out + err
    assert "Traceback" not in out + err
    report = json.loads((tmp_path / "report/report.json").read_text())
    severities = [finding["severity"] for finding in report["findings"]]
    assert ("error" in severities) == (row.check == 1)
    assert row.check or "warning" in severities
    assert report["result"] == out.strip().splitlines()[-1] != "all fits"


@pytest.mark.parametrize("name", ROWS)
def test_train(name, given, tmp_path, segframe):
    row, run = ROWS[name], tmp_path / "run"
    code, out, err = segframe("train", *given(row), f"run.dir={run}")
    assert code == row.train, out + err
    assert "Traceback" not in out + err
    if row.train == 0:
        return
    for part in row.said:
        assert part in one_line(err), err
    assert not (run / "checkpoints").exists()
    assert json.loads((run / "results.json").read_text())["status"] == "failed"


@pytest.mark.parametrize(
    "name", ["no label map at all", "an empty label map", "a wrong file that a look at some misses"]
)
def test_mended_the_same_words_start_in_the_same_folder(name, given, tmp_path, segframe):
    words = [*given(ROWS[name]), f"run.dir={tmp_path / 'run'}"]
    code, _, err = segframe("train", *words)
    assert code == 1, err
    write_set(tmp_path / "set")
    code, _, err = segframe("train", *words)
    assert code == 0, err
    assert json.loads((tmp_path / "run/results.json").read_text())["status"] == "finished"


BEHIND_THE_CHECK = {
    "void as 250": ("masks/", "holds the labels 250", "label_map: {"),
    "an image cut short": ("003.png", "truncated"),
    "a label map of another size": ("001.png", "is 24x32 but its image"),
    "a colour rendering": ("masks/", "colour rendering"),
    "an id that label_map lacks": ("masks/", "255 (", "expected 0 to 2"),
}


@pytest.mark.parametrize("num_workers", [0, 1])
@pytest.mark.parametrize("name", BEHIND_THE_CHECK)
def test_without_the_check_the_loader_names_the_file(name, num_workers, given, tmp_path, segframe):
    words = [*given(ROWS[name]), "check=none", f"data.num_workers={num_workers}", f"run.dir={tmp_path / 'run'}"]
    code, out, err = segframe("train", *words)
    assert code == 1, out + err
    assert "Traceback" not in err
    for part in BEHIND_THE_CHECK[name]:
        assert part in one_line(err), err


BROKEN_CLASS = """
import numpy as np, torch

class Broken:
    classes, palette = ("a", "b"), ((0, 0, 0), (255, 0, 0))

    def __init__(self, how):
        self.how = how

    def __len__(self):
        return 0 if self.how == "empty" else 8

    def name(self, index):
        return f"slide-{index}"

    def __getitem__(self, index):
        image = torch.from_numpy(np.random.default_rng(index).integers(0, 256, (3, 48, 48), np.uint8))
        mask = image[0] % 2
        if index == 3:
            if self.how == "raises": raise KeyError("no such slide")
            if self.how == "float": image = image / 255
            if self.how == "int64": mask = mask.long()
            if self.how == "grey": image = image[:1]
            if self.how == "size": mask = mask[:40]
            if self.how == "label": mask = mask * 7
        return image, mask
"""
BROKEN_YAML = """# a set of one's own
num_classes: 2  # a, b
ignore_index: 255
mean: [0.5, 0.5, 0.5]
std: [0.2, 0.2, 0.2]
crop_size: [32, 32]
scale: [1.0, 1.0]
train:
  _target_: broken_set.Broken
  how: {how}
val:
  _target_: broken_set.Broken
  how: {how}
"""
OWN = {
    "raises": ("slide-3", "KeyError", "no such slide"),
    "float": ("slide-3: the image is float32", "expected uint8 (3, H, W)"),
    "int64": ("slide-3: the mask is int64", "expected uint8 (H, W)"),
    "grey": ("slide-3: the image is uint8 of shape (1, 48, 48)", "expected uint8 (3, H, W)"),
    "size": ("slide-3: the label map is 40x48 but its image 48x48",),
    "label": ("7 (", "slide-3", "only label beyond"),
    "empty": ("there are no pairs",),
}


@pytest.fixture
def own_set(tmp_path, monkeypatch):
    (tmp_path / "broken_set.py").write_text(BROKEN_CLASS)
    (tmp_path / "conf/dataset").mkdir(parents=True)
    monkeypatch.syspath_prepend(tmp_path)

    def words(how: str) -> list[str]:
        (tmp_path / "conf/dataset/broken.yaml").write_text(BROKEN_YAML.format(how=how))
        return ["dataset=broken", f"--config-dir={tmp_path / 'conf'}"]

    yield words
    sys.modules.pop("broken_set", None)


@pytest.mark.parametrize("verb", ["data check", "train"])
@pytest.mark.parametrize("how", OWN)
def test_a_data_set_of_ones_own(how, verb, own_set, small, tmp_path, segframe):
    kept = [word for word in small if not word.startswith("dataset.")]
    place = f"out={tmp_path / 'out'}" if verb == "data check" else f"run.dir={tmp_path / 'run'}"
    code, out, err = segframe(*verb.split(), *kept, *own_set(how), place)
    assert code == 1, out + err
    assert "Traceback" not in out + err
    if (how, verb) != ("empty", "train"):  # which the sampler refuses even earlier
        for part in OWN[how]:
            assert part in one_line(out, err), out + err
