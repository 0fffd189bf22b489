"""How often each class occurs in a data set."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from segframe.contracts import IGNORE_INDEX, SegmentationDataset
from segframe.data.samples import check_labels, read


class ClassStatistics(NamedTuple):
    """Counts per class, over all masks of a data set.

    Attributes:
        pixels: Pixels of the class.
        image_pixels: Labelled pixels of the masks that hold the class.
    """

    pixels: list[int]
    image_pixels: list[int]


def class_statistics(dataset: SegmentationDataset, progress: bool = True) -> ClassStatistics:
    """Counts the classes of every mask, ignored pixels left out.

    Args:
        dataset: The pairs.
        progress: Whether to show a progress bar.

    Raises:
        ValueError: If a mask holds a label that is no class; names the file.
    """
    num_classes = len(dataset.classes)
    pixels, image_pixels = np.zeros((2, num_classes), np.int64)
    for index in tqdm(range(len(dataset)), desc="counting classes", unit="mask", disable=not progress):
        _, mask = read(dataset, index)
        check_labels(mask, num_classes, dataset.name(index))
        counts = np.bincount(mask.numpy().ravel(), minlength=IGNORE_INDEX + 1)[:num_classes]
        pixels += counts
        image_pixels += np.where(counts > 0, counts.sum(), 0)
    return ClassStatistics(pixels.tolist(), image_pixels.tolist())
