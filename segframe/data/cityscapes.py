"""Cityscapes as downloaded: the official label ids are mapped to the 19 evaluated classes in memory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from segframe.contracts import IGNORE_INDEX
from segframe.data.download import Manual
from segframe.data.labels import LabelMap
from segframe.data.layout import Layout, matching
from segframe.data.pairs import FilePairs, Pair, Unpaired

Annotation = Literal["fine", "coarse"]
Labels = Literal["auto", "labelIds", "labelTrainIds"]

# Of the official table: the ids of the 19 evaluated classes in the order of their trainIds, and the other ids.
EVALUATED_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
_OTHERS = (*range(34), IGNORE_INDEX)  # a licence plate's -1 is 255 in 8 bits
_IMAGE = "leftImg8bit"
_FOLDERS = {"fine": "gtFine", "coarse": "gtCoarse"}
_TREE = """{root}/
    leftImg8bit/train/CITY/CITY_000000_000019_leftImg8bit.png       leftImg8bit_trainvaltest.zip, 11 GB; val/ too
    gtFine/train/CITY/CITY_000000_000019_gtFine_labelIds.png        gtFine_trainvaltest.zip, 241 MB; val/ too
  and for annotation coarse alone:
    gtCoarse/train/CITY/CITY_000000_000019_gtCoarse_labelIds.png    gtCoarse.zip, 1.3 GB; val/ and train_extra/ too
    leftImg8bit/train_extra/CITY/..._leftImg8bit.png                leftImg8bit_trainextra.zip, 44 GB"""

SOURCE = Manual(
    """Cityscapes is behind a login and its terms of use.
1. Register at https://www.cityscapes-dataset.com/register/ and log in.
2. From https://www.cityscapes-dataset.com/downloads/ get leftImg8bit_trainvaltest.zip (11 GB) and
   gtFine_trainvaltest.zip (241 MB). With an account, `pip install cityscapesscripts` and
   `csDownload gtFine_trainvaltest.zip leftImg8bit_trainvaltest.zip` do the same on a machine without a browser.
3. Unpack both in one folder: cd {root} && unzip -n leftImg8bit_trainvaltest.zip && unzip -n gtFine_trainvaltest.zip
Nothing has to be converted."""
)


class Cityscapes(FilePairs):
    """Street scenes from 50 cities, 1024 x 2048: 2,975 training and 500 validation pairs with fine labels.

    Cordts et al., "The Cityscapes Dataset for Semantic Urban Scene Understanding", CVPR 2016. Ids without an
    evaluated class are ignored, as the official evaluation does.

    Args:
        root: Folder that holds ``leftImg8bit`` and ``gtFine`` (or ``gtCoarse``).
        split: Which pairs; ``train_extra`` (19,998 images) has coarse labels only. Whoever deletes its broken
            image, troisdorf_000000_000073, has to delete that label map too.
        annotation: Which labels.
        labels: Which files: ``labelIds`` as downloaded, or ``labelTrainIds`` as the official script writes
            them; ``auto`` takes ``labelIds`` where the split has any.

    Raises:
        FileNotFoundError: If a folder is missing or has none of the files.
        UnpairedError: If an image has no label map, or a label map no image.
        ValueError: If fine labels are asked for where there are none, or a folder can't be listed.
    """

    classes = (
        "road",
        "sidewalk",
        "building",
        "wall",
        "fence",
        "pole",
        "traffic light",
        "traffic sign",
        "vegetation",
        "terrain",
        "sky",
        "person",
        "rider",
        "car",
        "truck",
        "bus",
        "train",
        "motorcycle",
        "bicycle",
    )
    palette = (
        (128, 64, 128),
        (244, 35, 232),
        (70, 70, 70),
        (102, 102, 156),
        (190, 153, 153),
        (153, 153, 153),
        (250, 170, 30),
        (220, 220, 0),
        (107, 142, 35),
        (152, 251, 152),
        (70, 130, 180),
        (220, 20, 60),
        (255, 0, 0),
        (0, 0, 142),
        (0, 0, 70),
        (0, 60, 100),
        (0, 80, 100),
        (0, 0, 230),
        (119, 11, 32),
    )

    def __init__(
        self,
        root: str,
        split: Literal["train", "val", "train_extra"],
        annotation: Annotation = "fine",
        labels: Labels = "auto",
    ) -> None:
        if split == "train_extra" and annotation == "fine":
            raise ValueError(
                "Cityscapes has no fine labels for split train_extra; give annotation coarse "
                "(dataset.train.annotation=coarse), or split train."
            )
        folder, ground_truth = Path(root).expanduser(), _FOLDERS[annotation]
        layout = Layout("Cityscapes", _TREE, markers=(_IMAGE, ground_truth))
        images = layout.files(folder, f"{_IMAGE}/{split}", f"*/*_{_IMAGE}.png", f"*_{_IMAGE}.png in a folder per city")
        masks, kind = _label_files(layout, folder, f"{ground_truth}/{split}", ground_truth, labels)
        pairs, unpaired = _paired(images, masks, f"_{ground_truth}_{kind}.png")
        super().__init__(pairs, _label_map(kind), unpaired)


def _label_files(layout: Layout, root: Path, folder: str, prefix: str, labels: Labels) -> tuple[list[Path], str]:
    """Returns the label maps and their kind."""
    kind = "labelIds" if labels == "auto" else labels
    if labels == "auto" and not matching(root / folder, f"*/*_{prefix}_{kind}.png"):
        found = matching(root / folder, f"*/*_{prefix}_labelTrainIds.png")
        if found:
            return found, "labelTrainIds"
    wanted = f"*_{prefix}_{kind}.png"
    return layout.files(root, folder, f"*/{wanted}", f"{wanted} in a folder per city"), kind


def _label_map(kind: str) -> LabelMap:
    if kind == "labelTrainIds":
        return LabelMap(len(EVALUATED_IDS))
    ids = dict.fromkeys(_OTHERS, IGNORE_INDEX)
    return LabelMap(len(EVALUATED_IDS), ids | {source: target for target, source in enumerate(EVALUATED_IDS)})


def _paired(images: Sequence[Path], masks: Sequence[Path], ending: str) -> tuple[list[Pair], list[Unpaired]]:
    """Pairs files whose city and number agree."""
    image_ending = f"_{_IMAGE}.png"
    image_by, mask_by = _by_name(images, image_ending), _by_name(masks, ending)
    pairs = [Pair(path, mask_by[name], name) for name, path in image_by.items() if name in mask_by]
    roots = images[0].parents[1], masks[0].parents[1]
    return pairs, [
        _alone(image_by, mask_by, image_ending, ending, roots[1]),
        _alone(mask_by, image_by, ending, image_ending, roots[0]),
    ]


def _by_name(files: Sequence[Path], ending: str) -> dict[str, Path]:
    return {f"{path.parent.name}/{path.name.removesuffix(ending)}": path for path in files}


def _alone(files: dict[str, Path], others: dict[str, Path], ending: str, wanted: str, folder: Path) -> Unpaired:
    names = tuple(f"{name}{ending}" for name in files if name not in others)
    return Unpaired(names, len(files), folder, f"CITY/NAME{wanted}")


def write_fake(root: str | Path, num_train: int = 4, num_val: int = 2, size: tuple[int, int] = (32, 64)) -> None:
    """Writes a tiny copy of the data set: its folders, file names and encodings with random contents.

    Args:
        root: Folder to write into; made if it is missing.
        num_train: Pairs of train and of train_extra.
        num_val: Validation pairs.
        size: Rows and columns of an image.
    """
    rng = np.random.default_rng(0)
    splits = (
        ("train", ("aachen", "ulm"), num_train),
        ("val", ("munster",), num_val),
        ("train_extra", ("bayreuth",), num_train),
    )
    for split, cities, count in splits:
        for number in range(count):
            city = cities[number % len(cities)]
            stem = f"{city}/{city}_{number:06d}_000019"
            _write(Path(root) / _IMAGE / split / f"{stem}_{_IMAGE}.png", rng.integers(0, 256, (*size, 3), np.uint8))
            for kind in ("gtCoarse",) if split == "train_extra" else ("gtFine", "gtCoarse"):
                blocks = rng.integers(0, 34, (4, 8), np.uint8)
                label = cv2.resize(blocks, size[::-1], interpolation=cv2.INTER_NEAREST)
                _write(Path(root) / kind / split / f"{stem}_{kind}_labelIds.png", label)


def _write(path: Path, pixels: NDArray[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), pixels)
