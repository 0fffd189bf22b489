"""Any folders of images and label maps, described in YAML alone."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

import cv2
import numpy as np
from annotated_types import MinLen

from segframe.data.colours import distinct_colours
from segframe.data.label_words import IGNORE
from segframe.data.label_words import label_map as read_label_map
from segframe.data.layout import is_folder, nearest_existing
from segframe.data.matching import Search, apart, likely_suffix
from segframe.data.pairs import FilePairs, Pair, Unpaired
from segframe.data.split_list import listed_pairs
from segframe.ranges import Byte, Fraction

Split = Literal["all", "train", "val"]
Files = dict[str, Path]


class Folder(FilePairs):
    """Pairs of images and label maps whose names agree.

    An image and a label map are a pair if their keys are equal. Below a folder a file's key is its path
    without its ending; with a glob it is what the wildcards matched.

    Args:
        root: The folder that other paths are relative to.
        images: A folder that is searched with all folders in it, or a glob such as ``*/images/*.jpg``.
        masks: The same for label maps.
        classes: The names of the classes, in the order of their ids.
        palette: One [red, green, blue] of 0 to 255 per class, which also says what the pixels of label maps
            that are colour images mean; None chooses distinct colours.
        label_map: What the pixels of label maps mean: class name, class id or ``ignore`` by id (7 or
            '7-10') or by colour ('128,64,128' or '#804080'). None reads ids 0 to K - 1, and 255 as ignored.
        image_suffix: What the names of images end with and label maps lack, such as ``_leftImg8bit.png``;
            None takes any image file and compares without its extension.
        mask_suffix: The same for label maps.
        split_file: A list of the pairs that count, below the root: a key, file name or path per line, or
            two, image and label map.
        split: ``all``, or a share of the pairs, for data without a split of its own.
        val_share: Share of the pairs that are ``val``. A pair's key decides, so that no pair changes sides
            when others are added.
        exif: Whether images are turned as their EXIF orientation says.

    Attributes:
        classes: The names of the classes.
        palette: One colour per class.

    Raises:
        FileNotFoundError: If a folder is missing, or nothing matches.
        ValueError: If classes, palette, label_map or the list are wrong, or two files have one key.
        UnpairedError: If an image has no label map, or a label map no image.
    """

    def __init__(
        self,
        root: str,
        images: str,
        masks: str,
        classes: Annotated[Sequence[str], MinLen(1)],
        palette: Sequence[tuple[Byte, Byte, Byte]] | None = None,
        label_map: Mapping[str | int, str | int] | None = None,
        image_suffix: str | None = None,
        mask_suffix: str | None = None,
        split_file: str | None = None,
        split: Split = "all",
        val_share: Fraction = 0.2,
        exif: bool = True,
    ) -> None:
        self.classes = tuple(classes)
        given = None if palette is None else tuple((red, green, blue) for red, green, blue in palette)
        _check_classes(self.classes, given)
        self.palette = given or distinct_colours(len(self.classes))
        folder = Path(root).expanduser()
        if not is_folder(folder):
            raise FileNotFoundError(f"dataset=folder: dataset.root={root}: {nearest_existing(folder)}")
        searches = Search(folder, images, image_suffix, "images"), Search(folder, masks, mask_suffix, "masks")
        found = searches[0].files(), searches[1].files()
        apart(*found, (image_suffix, mask_suffix))
        if not (split_file or found[0].keys() & found[1].keys()):
            raise _no_pairs(searches, found)
        unpaired = []
        if split_file:
            chosen = listed_pairs(folder / Path(split_file).expanduser(), *found, folder)
        else:
            chosen = [(key, key) for key in found[0]]
            alone = [key for key in found[1] if key not in found[0] and _is_in(key, split, val_share)]
            unpaired.append(_unpaired(alone, found[1], searches[0], folder, "label maps"))
        chosen = [(image, mask) for image, mask in chosen if _is_in(image, split, val_share)]
        if not chosen:
            raise ValueError(
                f"dataset=folder: split={split} with val_share={val_share} leaves none of {len(found[0])} pairs; "
                "change dataset.val_share, or add images."
            )
        alone = [image for image, mask in chosen if mask not in found[1]]
        unpaired.insert(0, _unpaired(alone, found[0], searches[1], folder, "images"))
        pairs = [Pair(found[0][i], found[1][m], _below(found[0][i], folder)) for i, m in chosen if m in found[1]]
        super().__init__(pairs, read_label_map(self.classes, label_map, given), unpaired, exif)


def _check_classes(classes: Sequence[str], palette: Sequence[tuple[int, int, int]] | None) -> None:
    if twice := sorted({name for name in classes if classes.count(name) > 1}):
        raise ValueError(
            f"dataset.classes names {', '.join(twice)} more than once; every class needs a name of its own."
        )
    if IGNORE in classes:
        raise ValueError(
            f"dataset.classes: `{IGNORE}` is no class but what label_map calls pixels that don't count; remove it, and "
            f"map its ids to {IGNORE}."
        )
    if palette is None:
        return
    if len(palette) != len(classes):
        raise ValueError(
            f"dataset.palette lists {len(palette)} colours for {len(classes)} classes; one per class is expected."
        )
    if twice := sorted({str(list(colour)) for colour in palette if palette.count(colour) > 1}):
        raise ValueError(f"dataset.palette lists {', '.join(twice)} more than once; classes need different colours.")


def _is_in(key: str, split: Split, val_share: float) -> bool:
    """Whether a key belongs to a split: a hash of it, as a number of 0 to 1, decides."""
    if split == "all":
        return True
    number = int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "big") / 2**64
    return (number < val_share) == (split == "val")


def _below(path: Path, root: Path) -> str:
    return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)


def _unpaired(keys: Sequence[str], files: Files, other: Search, root: Path, kind: str) -> Unpaired:
    wanted = f"KEY{other.suffix}" if other.suffix else "of the same key"
    return Unpaired(tuple(_below(files[key], root) for key in keys), len(files), other.path, wanted, kind)


def _no_pairs(searches: tuple[Search, Search], found: tuple[Files, Files]) -> ValueError:
    listed = [", ".join(list(files)[:3]) for files in found]
    return ValueError(
        f"dataset=folder: none of {len(found[0])} images in {searches[0].path} and {len(found[1])} label maps in "
        f"{searches[1].path} have one key. Keys of images: {listed[0]}; of label maps: {listed[1]}."
        f"{likely_suffix(*found)}"
    )


def write_fake(root: str | Path, num_train: int = 4, num_val: int = 2, size: tuple[int, int] = (36, 48)) -> None:
    """Writes folders as ``conf/dataset/folder.yaml`` expects them, with random contents of three classes.

    Args:
        root: Folder to write into; made if it is missing.
        num_train: Training pairs.
        num_val: Validation pairs.
        size: Rows and columns of an image; every other one is turned.
    """
    rng = np.random.default_rng(0)
    endings = ("jpg", "png", "tif", "bmp", "webp")
    for split, count in (("train", num_train), ("val", num_val)):
        folders = [Path(root) / split / kind for kind in ("images", "masks")]
        for number in range(count):
            shape, place = size if number % 2 else size[::-1], f"part{number % 2}/{number:04d}"
            image = rng.integers(0, 256, (*shape, 3) if number % 3 else shape, np.uint8)
            blocks = rng.choice(np.array([0, 1, 2, 255], np.uint8), (3, 4))
            label = cv2.resize(blocks, shape[::-1], interpolation=cv2.INTER_NEAREST)
            for folder, ending, pixels in zip(folders, (endings[number % 5], "png"), (image, label), strict=True):
                file = folder / f"{place}.{ending}"
                file.parent.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(file), pixels)
