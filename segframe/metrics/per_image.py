"""The confusion counts of every evaluated image, in a file that needs no torch to be read.

Most of an image's (K, K) counts are 0: a file holds the others as (image, truth, prediction, pixels).
"""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

FOLDER = "per_image"
"""The folder of a run that holds these files."""

_FORMAT = 1
_KEYS = ("format", "names", "positions", "classes", "absent", "step", "image", "truth", "prediction", "pixels")

Integers = npt.NDArray[np.int64]


class ImageCounts(NamedTuple):
    """What an evaluation has counted in one image.

    Attributes:
        position: The image's position in its data set.
        name: Its name there.
        miou: Its mean IoU over the classes that occur in it; NaN without a counted pixel.
        cells: Where its (K, K) counts are not 0, as truth * K + prediction, ascending.
        pixels: The counts there.
    """

    position: int
    name: str
    miou: float
    cells: Integers
    pixels: Integers


class Evaluated(Protocol):
    """What has evaluated images, such as ``SegmentationTask``."""

    per_image: list[ImageCounts]
    classes: list[str]
    evaluated_step: int

    @property
    def absent(self) -> str:
        """What a class that never occurs counts as in means."""


@dataclass(frozen=True)
class PerImage:
    """The counts of one evaluation.

    Attributes:
        names: One name per image, in the order of the data set.
        positions: The position of each in the data set.
        classes: Class names in the order of their ids.
        absent: What a class that never occurs counts as in means: ``drop``, ``zero`` or ``one``.
        step: The optimizer step that was evaluated.
        image: Per entry, which of ``names``.
        truth: Per entry, the class that the pixels are.
        prediction: Per entry, the class that they are taken for.
        pixels: Per entry, their number, at least 1.
    """

    names: list[str]
    positions: Integers
    classes: list[str]
    absent: str
    step: int
    image: Integers
    truth: Integers
    prediction: Integers
    pixels: Integers

    def matrix(self) -> Integers:
        """Returns the counts of all images together, (K, K): rows are the truth, columns the prediction."""
        total = np.zeros((len(self.classes), len(self.classes)), np.int64)
        np.add.at(total, (self.truth, self.prediction), self.pixels)
        return total

    def sums(self) -> tuple[Integers, Integers, Integers]:
        """Returns the right pixels, the true ones and the predicted ones of each image and class, (N, K) each."""
        found = [np.zeros((len(self.names), len(self.classes)), np.int64) for _ in range(3)]
        right = self.truth == self.prediction
        np.add.at(found[0], (self.image[right], self.truth[right]), self.pixels[right])
        np.add.at(found[1], (self.image, self.truth), self.pixels)
        np.add.at(found[2], (self.image, self.prediction), self.pixels)
        return found[0], found[1], found[2]


def image_counts(position: int, name: str, miou: float, matrix: npt.NDArray[np.int64]) -> ImageCounts:
    """Returns what an image's (K, K) counts hold beside zeros.

    Args:
        position: The image's position in its data set.
        name: Its name.
        miou: Its mean IoU.
        matrix: Its counts; rows are the truth.
    """
    flat = matrix.reshape(-1)
    cells = np.flatnonzero(flat)
    return ImageCounts(position, name, miou, cells, flat[cells])


def path_of(run: Path, name: str) -> Path:
    """Returns where a run folder keeps the counts of an evaluation: ``final``, ``best``, ``evaluation-last``, ..."""
    return run / FOLDER / f"{name}.npz"


def write(path: Path, source: Evaluated) -> None:
    """Writes the counts of an evaluation whole or not at all; nothing where no image was evaluated."""
    if source.per_image:
        os.replace(write_aside(path, source), path)


def write_aside(path: Path, source: Evaluated) -> Path:
    """Writes the counts under a name of their own, for ``os.replace`` to put in place; returns it.

    Args:
        path: Where they will be; the folder is made if it is missing.
        source: What has evaluated at least one image.
    """
    images, num_classes = source.per_image, len(source.classes)
    small = np.uint8 if num_classes <= 256 else np.uint16
    cells = np.concatenate([image.cells for image in images])
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with aside.open("wb") as file:
        np.savez_compressed(
            file,
            format=np.int64(_FORMAT),
            names=np.array([image.name for image in images], np.str_),
            positions=np.array([image.position for image in images], np.int64),
            classes=np.array(source.classes, np.str_),
            absent=np.str_(source.absent),
            step=np.int64(source.evaluated_step),
            image=np.repeat(np.arange(len(images), dtype=np.int32), [len(image.cells) for image in images]),
            truth=(cells // num_classes).astype(small),
            prediction=(cells % num_classes).astype(small),
            pixels=np.concatenate([image.pixels for image in images]).astype(np.uint32),
        )
    return aside


def read(path: Path) -> PerImage:
    """Returns the counts that a file holds.

    Args:
        path: What ``write`` has written.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is damaged, or another program's.
    """
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            found = {key: file[key] for key in _KEYS}
    except FileNotFoundError:
        raise
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path} can't be read ({error}); remove it, and segframe evaluate counts again.") from error
    if int(found["format"]) != _FORMAT:
        raise ValueError(f"{path} has format {found['format']}, and this version reads {_FORMAT}.")
    names, classes = found["names"].tolist(), found["classes"].tolist()
    entries: Sequence[Integers] = [found[key].astype(np.int64) for key in ("image", "truth", "prediction", "pixels")]
    return PerImage(names, found["positions"], classes, str(found["absent"]), int(found["step"]), *entries)
