"""Decoding a data set once into one file of pixels, in parallel, whole or not at all."""

from __future__ import annotations

import errno
import os
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from segframe.contracts import SegmentationDataset
from segframe.data.pool import each, usable_cores
from segframe.data.reading import read

Shapes = NDArray[np.int64]
"""Rows and columns of every pair, (N, 2)."""

PIXELS = "pixels.u8"
_CHANNELS = 3
_MANY = 1000  # headers, which take a second from a slow disk
_PAGE = 4096  # pairs begin at pages, so that reading one touches no other


class NoRoomError(OSError):
    """The place of a cache is too small for it."""


def offsets(shapes: Shapes) -> Shapes:
    """Returns where each pair begins, (N + 1,): its image (H, W, 3), then its mask (H, W); last is the end."""
    sizes = shapes.prod(axis=1) * (_CHANNELS + 1)
    return np.concatenate(([0], np.cumsum(-(-sizes // _PAGE) * _PAGE))).astype(np.int64)


def measure(dataset: SegmentationDataset) -> Shapes:
    """Returns the size of every pair: from headers where the data set can, else by reading the pair.

    Args:
        dataset: The pairs.

    Raises:
        ValueError: If a pair cannot be read; names it.
    """
    size = getattr(dataset, "size", None)
    is_slow = size is None or len(dataset) > _MANY
    size = size or partial(_size_by_reading, dataset)
    shapes = np.empty((len(dataset), 2), np.int64)
    for index, shape in each(size, len(dataset), usable_cores(), "reading image sizes", is_slow, unit="image"):
        shapes[index] = shape
    return shapes


def _size_by_reading(dataset: SegmentationDataset, index: int) -> tuple[int, int]:
    height, width = read(dataset, index)[1].shape
    return height, width


def write_pixels(dataset: SegmentationDataset, shapes: Shapes, folder: Path) -> None:
    """Decodes every pair into a file of a folder; it is on the disk when this returns.

    Args:
        dataset: The pairs.
        shapes: Their sizes.
        folder: Is there, and empty.

    Raises:
        NoRoomError: If the file does not fit.
        ValueError: If a pair cannot be read, or is not of its size; names it.
    """
    path = folder / PIXELS
    total = int(offsets(shapes)[-1])
    try:
        _reserve(path, total)
        for _ in each(_Copy(dataset, path, shapes), len(dataset), usable_cores(), "caching", unit="image"):
            pass
        sync(path)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        raise NoRoomError(
            f"the cache needs {gib(total)} and {folder} has no room for it ({error.strerror}); free some, or set "
            "dataset.cache_dir to a folder on a larger disk, or dataset.cache=none."
        ) from error


def gib(num_bytes: int) -> str:
    """Returns a number of bytes in words: GiB, MiB for less than a tenth of one."""
    return f"{num_bytes / 2**30:.1f} GiB" if num_bytes >= 2**30 / 10 else f"{num_bytes / 2**20:.1f} MiB"


def sync(path: Path) -> None:
    """Waits until a file or folder is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def discard(folder: Path) -> None:
    """Removes a folder so that nobody finds half of it."""
    hidden = folder.with_name(f".removed-{folder.name}-{os.getpid()}")
    try:
        folder.rename(hidden)
    except FileNotFoundError:
        return
    shutil.rmtree(hidden, ignore_errors=True)


class _Copy:
    """Decodes a pair into its place; not through a map, where a full disk would be a signal, not an error."""

    def __init__(self, dataset: SegmentationDataset, path: Path, shapes: Shapes) -> None:
        self.dataset, self.path, self.shapes, self.offsets = dataset, path, shapes, offsets(shapes)

    def __call__(self, index: int) -> None:
        image, mask = read(self.dataset, index)
        height, width = self.shapes[index].tolist()
        wanted = (_CHANNELS, height, width), (height, width)
        if (image.shape, mask.shape) != wanted or not image.dtype == mask.dtype == torch.uint8:
            raise ValueError(
                f"{self.dataset.name(index)}: the image is {tuple(image.shape)} of {image.dtype} and the mask "
                f"{tuple(mask.shape)} of {mask.dtype}; expected {wanted[0]} and {wanted[1]} of torch.uint8, as the "
                "size that the data set told first. Correct the file, or the data set's code."
            )
        descriptor = os.open(self.path, os.O_WRONLY)
        try:
            start = int(self.offsets[index])
            _write(descriptor, image.permute(1, 2, 0).contiguous().numpy(), start)
            _write(descriptor, mask.contiguous().numpy(), start + _CHANNELS * height * width)
        finally:
            os.close(descriptor)


def _write(descriptor: int, array: Any, offset: int) -> None:
    rest = memoryview(array.reshape(-1))
    while rest:
        written = os.pwrite(descriptor, rest, offset)
        rest, offset = rest[written:], offset + written


def _reserve(path: Path, num_bytes: int) -> None:
    """Makes the file with all its blocks, so that another program can't fill the disk meanwhile."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        os.ftruncate(descriptor, num_bytes)
        if num_bytes and hasattr(os, "posix_fallocate"):
            os.posix_fallocate(descriptor, 0, num_bytes)
    finally:
        os.close(descriptor)
