"""How often each class occurs in a data set, counted once and remembered until its files change."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from segframe.contracts import IGNORE_INDEX, FileBacked, SegmentationDataset
from segframe.data.fingerprint import cache_root, fingerprint
from segframe.data.pool import each
from segframe.data.reading import read
from segframe.data.samples import check_labels

Counts = NDArray[np.int64]


class ClassStatistics(NamedTuple):
    """Counts per class, over all masks of a data set.

    Attributes:
        pixels: Pixels of the class.
        image_pixels: Labelled pixels of the masks that hold the class.
    """

    pixels: list[int]
    image_pixels: list[int]

    @classmethod
    def of(cls, counts: Counts) -> ClassStatistics:
        """Returns the sums over pixels per mask and class, (N, K)."""
        labelled = counts.sum(axis=1, keepdims=True)
        return cls(counts.sum(axis=0).tolist(), np.where(counts > 0, labelled, 0).sum(axis=0).tolist())


def class_counts(
    dataset: SegmentationDataset, identity: Mapping[str, Any], num_workers: int = 0, progress: bool = True
) -> Counts:
    """Returns the pixels per mask and class, int64 (N, K), ignored pixels left out.

    Those of a data set of files are kept under ``cache_root()`` and read from there until a file changes.

    Args:
        dataset: The pairs.
        identity: The data set's node of the configuration, as plain values.
        num_workers: Processes that count; 0 counts in this one.
        progress: Whether to show a progress bar.

    Raises:
        ValueError: If a mask holds a label that is no class; names the file.
    """
    path = _memory(dataset, identity)
    found = _remembered(path, (len(dataset), len(dataset.classes)))
    if found is None:
        found = count(dataset, num_workers, progress)
        remember(dataset, identity, found)
    return found


def count(dataset: SegmentationDataset, num_workers: int = 0, progress: bool = True) -> Counts:
    """Counts as ``class_counts`` does, whatever is remembered."""
    counts = np.zeros((len(dataset), len(dataset.classes)), np.int64)
    results = each(lambda i: _count(dataset, i), len(dataset), num_workers, "counting classes", progress, "mask")
    for index, row in results:
        counts[index] = row
    return counts


def remember(dataset: SegmentationDataset, identity: Mapping[str, Any], counts: Counts) -> None:
    """Keeps the counts of a data set of files for ``class_counts``; a folder that can't be written to is no error."""
    path = _memory(dataset, identity)
    if path is None:
        return
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            np.save(file, counts)
        temporary.replace(path)
    except OSError:
        with suppress(OSError):
            temporary.unlink()


def _memory(dataset: SegmentationDataset, identity: Mapping[str, Any]) -> Path | None:
    """Returns the file that keeps the counts; nothing tells when a data set without files has changed."""
    if not isinstance(dataset, FileBacked):
        return None
    return cache_root() / "class_counts" / f"{fingerprint(dataset, identity)}.npy"


def _remembered(path: Path | None, shape: tuple[int, int]) -> Counts | None:
    if path is None:
        return None
    try:
        counts = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return counts if counts.shape == shape and counts.dtype == np.int64 else None


def _count(dataset: SegmentationDataset, index: int) -> Counts:
    mask = torch.from_numpy(dataset.mask(index)) if isinstance(dataset, FileBacked) else read(dataset, index)[1]
    check_labels(mask, len(dataset.classes), dataset.name(index))
    counts = np.bincount(mask.numpy().ravel(), minlength=IGNORE_INDEX + 1)
    return counts[: len(dataset.classes)].astype(np.int64)
