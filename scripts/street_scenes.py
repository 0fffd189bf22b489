"""Files of the size and kind of Cityscapes', for benchmarks on machines without it."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from segframe.data.cityscapes import EVALUATED_IDS
from segframe.data.pool import each, usable_cores

SIZE = 1024, 2048
_IDS = np.array((*EVALUATED_IDS, 0, 3, 4), np.uint8)  # the evaluated classes and three that are ignored
_CELLS = (4, 6, 8, 12, 20, 32)  # over an image's width: regions from a quarter of it to a sign's size


def write(root: Path, num_images: int) -> dict[str, float]:
    """Writes training pairs in the layout of Cityscapes, and label maps of training ids beside those of ids.

    An image is shaded and textured regions under the correlated noise of a camera's sensor, written as
    Pillow does it (adaptive filters, zlib's level 6).

    Args:
        root: Folder to write into.
        num_images: Pairs.

    Returns:
        Mean megabytes of an image's file and of a label map's.
    """
    for _ in each(partial(_write_pair, root), num_images, usable_cores(), "writing images", unit="image"):
        pass
    sizes = {"image_mb": "*_leftImg8bit.png", "mask_mb": "*_labelIds.png"}
    return {
        key: float(np.mean([path.stat().st_size for path in root.rglob(pattern)])) / 1e6
        for key, pattern in sizes.items()
    }


def _write_pair(root: Path, number: int) -> None:
    image, regions = _scene(number)
    ids = _IDS[regions]
    table = np.full(256, 255, np.uint8)
    table[list(EVALUATED_IDS)] = np.arange(len(EVALUATED_IDS))
    stem = f"train/aachen/aachen_{number:06d}_000019"
    for name, pixels in (
        (f"leftImg8bit/{stem}_leftImg8bit.png", image),
        (f"gtFine/{stem}_gtFine_labelIds.png", ids),
        (f"gtFine/{stem}_gtFine_labelTrainIds.png", table[ids]),
    ):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)


def _scene(number: int) -> tuple[NDArray[np.uint8], NDArray[Any]]:
    rng = np.random.default_rng(number)
    small = SIZE[0] // 4, SIZE[1] // 4
    scores = np.stack([_field(rng, small, _CELLS[label % len(_CELLS)]) for label in range(len(_IDS))])
    regions = cv2.resize(scores.argmax(0).astype(np.uint8), SIZE[::-1], interpolation=cv2.INTER_NEAREST)
    regions = cv2.medianBlur(regions, 7)
    colours, roughness = rng.uniform(30, 200, (len(_IDS), 3)), rng.uniform(0, 6, len(_IDS))
    image = cv2.GaussianBlur(colours[regions].astype(np.float32), (0, 0), 1.2)
    shade = np.clip(1 + 0.25 * _field(rng, SIZE, 5) + 0.1 * _field(rng, SIZE, 24), 0.2, 2)
    texture = sum(_field(rng, SIZE, cells) for cells in (128, 256, 512)) * roughness[regions]
    grain = cv2.GaussianBlur(rng.normal(0, 2, SIZE), (0, 0), 0.7)
    image = image * shade[..., None] + (texture + grain)[..., None] + rng.normal(0, 0.3, image.shape)
    return np.clip(image, 0, 255).astype(np.uint8), regions


def _field(rng: np.random.Generator, size: tuple[int, int], cells: int) -> NDArray[Any]:
    """Returns smooth noise whose hills are a ``cells``-th of the width."""
    coarse = rng.normal(size=(cells // 2, cells)).astype(np.float32)
    return np.asarray(cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC))
