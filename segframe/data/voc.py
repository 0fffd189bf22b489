"""PASCAL VOC 2012 segmentation, and its augmented training set where that is there."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from PIL import Image

from segframe.contracts import IGNORE_INDEX
from segframe.data.download import Download, Manual
from segframe.data.labels import LabelMap
from segframe.data.layout import Layout, is_folder
from segframe.data.pairs import FilePairs, Pair, Unpaired

Split = Literal["train", "val", "trainval", "train_aug"]

_INSIDE = ("VOCdevkit/VOC2012", "VOC2012")  # where the data set may lie below the root
_AUGMENTED = "SegmentationClassAug"
_LISTS = "ImageSets/Segmentation"
_LAYOUT = Layout(
    "VOC 2012",
    """{root}/
    JPEGImages/NAME.jpg
    SegmentationClass/NAME.png            palette images; the index is the class, 255 a border
    ImageSets/Segmentation/train.txt      a NAME per line; val.txt and trainval.txt too
    SegmentationClassAug/NAME.png         for split train_aug alone, as grey images
  The root may also be a folder higher up: one that holds VOC2012 or VOCdevkit/VOC2012.
  `segframe data prepare voc root=DIR` downloads all but SegmentationClassAug and says where to get that.""",
    markers=("JPEGImages", "SegmentationClass", _LISTS),
)
SOURCE = Download(
    url="http://host.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar",
    algorithm="md5",
    checksum="6cd6e144f989b92b3379bac3b3de84fd",
    size=1_999_639_040,
    unpacked=2_100_000_000,
    holds="VOCdevkit/VOC2012",
    parts={
        _AUGMENTED: Manual(
            """SegmentationClassAug holds the label maps of the augmented training set: 10,582 images in place of 1,464
(Hariharan et al., "Semantic contours from inverse detectors", ICCV 2011, converted to VOC's classes).
1. Get SegmentationClassAug.zip with a browser: https://www.dropbox.com/s/oeu149j8qtbs1x0/SegmentationClassAug.zip
   (linked by https://github.com/DrSleep/tensorflow-deeplab-resnet).
2. Unpack it beside SegmentationClass, so that there is
   {root}/VOCdevkit/VOC2012/SegmentationClassAug/2007_000032.png
A list of the names is optional: ImageSets/Segmentation/train_aug.txt or trainaug.txt, a name per line. Without one,
every label map that val.txt does not name is trained on.""",
            words=("dataset.train.split=train_aug",),
        )
    },
    mirrors=("http://d2l-data.s3-accelerate.amazonaws.com/VOCtrainval_11-May-2012.tar",),
)


def _colour(label: int) -> tuple[int, int, int]:
    """Returns a colour of the development kit's map: the label's bits, dealt out to the channels' high bits."""
    channels = [0, 0, 0]
    for bit in range(24):
        channels[bit % 3] |= (label >> bit & 1) << (7 - bit // 3)
    return channels[0], channels[1], channels[2]


class VOC(FilePairs):
    """Photographs with 20 kinds of objects and background: 1,464 training and 1,449 validation pairs.

    Everingham et al., "The PASCAL Visual Object Classes Challenge: A Retrospective", IJCV 2015. The border
    around objects, 255 in the files, is ignored.

    Args:
        root: Folder ``VOC2012``, or one that holds it or ``VOCdevkit/VOC2012``.
        split: Which list of ``ImageSets/Segmentation``; ``train_aug`` are the 10,582 pairs of
            ``SegmentationClassAug`` that are not in ``val``.

    Raises:
        FileNotFoundError: If a folder or list is missing, or is empty.
        UnpairedError: If a list names an image or a label map that is not there.
    """

    classes = (
        "background",
        "aeroplane",
        "bicycle",
        "bird",
        "boat",
        "bottle",
        "bus",
        "car",
        "cat",
        "chair",
        "cow",
        "diningtable",
        "dog",
        "horse",
        "motorbike",
        "person",
        "pottedplant",
        "sheep",
        "sofa",
        "train",
        "tvmonitor",
    )
    palette = tuple(map(_colour, range(21)))

    def __init__(self, root: str, split: Split) -> None:
        folder = _found(Path(root).expanduser())
        images = _LAYOUT.folder(folder, "JPEGImages")
        masks = _LAYOUT.folder(folder, _AUGMENTED if split == "train_aug" else "SegmentationClass")
        names, kind = _names(folder, split)
        missing = [_missing(names, images, ".jpg"), _missing(names, masks, ".png")]
        absent = {*missing[0], *missing[1]}
        pairs = [Pair(images / f"{n}.jpg", masks / f"{n}.png", n) for n in names if n not in absent]
        unpaired = [
            Unpaired(missing[0], len(names), images, "NAME.jpg", kind),
            Unpaired(missing[1], len(names), masks, "NAME.png", kind),
        ]
        super().__init__(pairs, LabelMap(len(self.classes)), unpaired)


def _found(root: Path) -> Path:
    """Returns the folder of the data set at or below the root; the root where there is none."""
    places = (root, *(root / inside for inside in _INSIDE))
    return next((place for place in places if any(is_folder(place / m) for m in _LAYOUT.markers)), root)


def _missing(names: Sequence[str], folder: Path, ending: str) -> tuple[str, ...]:
    present = set(os.listdir(folder))  # once: asking for each of 10,000 files is slow on a network's disk
    return tuple(name for name in names if f"{name}{ending}" not in present)


def _names(folder: Path, split: Split) -> tuple[list[str], str]:
    """Returns the names of a split, and what they are: names in which file."""
    lists = _LAYOUT.folder(folder, _LISTS)
    candidates = ("train_aug.txt", "trainaug.txt") if split == "train_aug" else (f"{split}.txt",)
    file = next((lists / name for name in candidates if (lists / name).is_file()), None)
    if file is not None:
        return _listed(file, folder), f"names in {file}"
    held_out = set(_listed(lists / "val.txt", folder)) if split == "train_aug" else set()
    if split != "train_aug":
        raise FileNotFoundError(f"VOC 2012: the list {lists / candidates[0]} does not exist. {_LAYOUT.explain(folder)}")
    found = _LAYOUT.files(folder, _AUGMENTED, "*.png", "PNG file")
    return [path.stem for path in found if path.stem not in held_out], "label maps"


def _listed(file: Path, folder: Path) -> list[str]:
    """Returns the names in a list; a line may hold paths, as those of some augmented lists do."""
    if not file.is_file():
        raise FileNotFoundError(f"VOC 2012: the list {file} does not exist. {_LAYOUT.explain(folder)}")
    lines = file.read_text(encoding="utf-8-sig").split("\n")
    names = [Path(line.split()[0]).stem for line in lines if line.strip()]
    if not names:
        raise FileNotFoundError(f"VOC 2012: the list {file} holds no names. {_LAYOUT.explain(folder)}")
    return list(dict.fromkeys(names))


def write_fake(root: str | Path, num_train: int = 4, num_val: int = 2, size: tuple[int, int] = (36, 48)) -> None:
    """Writes a tiny copy of the data set: its folders, file names and encodings, random contents, every class.

    Args:
        root: Folder to write ``VOCdevkit`` into; made if it is missing.
        num_train: Names in train; train_aug has twice as many.
        num_val: Names in val.
        size: Rows and columns of an image; every other one is turned.
    """
    rng = np.random.default_rng(0)
    folder = Path(root) / _INSIDE[0]
    names = [f"2007_{number:06d}" for number in range(32, 32 + 2 * num_train + num_val)]
    train, val = names[:num_train], names[num_train : num_train + num_val]
    for place in ("JPEGImages", "SegmentationClass", _AUGMENTED, _LISTS):
        (folder / place).mkdir(parents=True, exist_ok=True)
    for split, members in (("train", train), ("val", val), ("trainval", sorted(train + val))):
        (folder / _LISTS / f"{split}.txt").write_text("".join(f"{name}\n" for name in members))
    for number, name in enumerate(names):
        shape = size if number % 2 else size[::-1]
        cv2.imwrite(str(folder / f"JPEGImages/{name}.jpg"), rng.integers(0, 256, (*shape, 3), np.uint8))
        ids = rng.permutation(np.arange(12 * number, 12 * (number + 1)) % len(VOC.classes))
        blocks = ids.reshape(3, 4).astype(np.uint8)
        label = cv2.resize(blocks, shape[::-1], interpolation=cv2.INTER_NEAREST)
        label[::8] = IGNORE_INDEX
        cv2.imwrite(str(folder / _AUGMENTED / f"{name}.png"), label)
        if name in train or name in val:
            image = Image.fromarray(label)
            image.putpalette([value for index in range(256) for value in _colour(index)])
            image.save(folder / f"SegmentationClass/{name}.png")
