"""`dataset.cache=disk|ram`: pairs decoded once, of which a training sample then reads its window alone.

Every process maps the part that it reads, so workers and ranks of a node share one copy in the system's
page cache.
"""

from __future__ import annotations

import mmap
import os
import weakref
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from segframe.contracts import FileBacked, SegmentationDataset
from segframe.data import locks
from segframe.data.cache_build import PIXELS, Shapes, offsets
from segframe.data.cache_folder import Entry, build_missing, memory_root, remove_leftovers
from segframe.data.fingerprint import cache_root
from segframe.data.room import SHARED_MEMORY

Mode = Literal["none", "ram", "disk"]

_READ_WHOLE = 2**18  # bytes of a pair that are read faster than mapped; and a map takes a file descriptor
_GRANULE = mmap.ALLOCATIONGRANULARITY  # where maps may begin: 64 KiB on some processors


def cached(
    datasets: Sequence[tuple[SegmentationDataset, Mapping[str, Any]]],
    mode: Mode,
    folder: str | Path | None = None,
    shared_memory: Path = SHARED_MEMORY,
) -> list[SegmentationDataset]:
    """Returns the data sets as they are read from a cache, which is made where there is none.

    Several processes may call this at once: one decodes, the others wait. A cache is made anew when a
    file's path, size or time of change differs, or the configuration, or the source of the data set's
    class; what that class calls elsewhere is not looked at. ``ram`` is removed by the last process
    that ends; ``disk`` stays.

    Args:
        datasets: Each with its node of the configuration as plain values, which tells it from others.
        mode: Where decoded pixels are kept; ``none`` returns the data sets themselves.
        folder: For ``disk``; None takes ``$SEGFRAME_CACHE`` or ``~/.cache/segframe``. Nodes may share it.
        shared_memory: For ``ram``: a file system in memory.

    Raises:
        NoRoomError: If the place is too small; nothing was decoded then.
        ValueError: If a pair cannot be read; names it. Nothing is left of its data set's cache then.
    """
    if mode == "none":
        return [dataset for dataset, _ in datasets]
    root = memory_root(shared_memory) if mode == "ram" else Path(folder or cache_root()).expanduser() / "pixels"
    entries = [Entry(root, dataset, identity) for dataset, identity in datasets]
    with ExitStack() as stack:
        for lock in sorted({entry.lock for entry in entries}):  # in one order, or two runs wait for each other
            stack.enter_context(locks.exclusive(lock, f"it makes the cache {lock.with_suffix('')}"))
        if mode == "ram":
            remove_leftovers(root, entries)
        build_missing(entries, mode)
        return [_opened(entry, is_kept=mode == "disk") for entry in entries]


def original(dataset: SegmentationDataset) -> SegmentationDataset:
    """Returns the data set behind a cache, or the data set itself."""
    return dataset.dataset if isinstance(dataset, CachedDataset) else dataset


class CachedDataset:
    """A data set whose pairs are read from a cache; ``cached`` makes it.

    Tensors of large pairs lie over a private map of the file: only what is looked at is read. What is
    written into tensors stays in this process.

    Attributes:
        dataset: What was cached.
    """

    classes: Sequence[str]
    palette: Sequence[tuple[int, int, int]]

    def __init__(self, dataset: SegmentationDataset, folder: Path, shapes: Shapes) -> None:
        self.dataset, self.classes, self.palette = dataset, dataset.classes, dataset.palette
        self._path, self._shapes, self._offsets = folder / PIXELS, shapes, offsets(shapes)
        self._leave: Any = None

    def __len__(self) -> int:
        """Returns the number of pairs."""
        return len(self._shapes)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Returns a uint8 image (3, H, W), RGB, and a uint8 mask (H, W).

        Raises:
            FileNotFoundError: If the cache was removed.
        """
        pixels, height, width = self._map(index)
        image, mask = pixels[: 3 * height * width], pixels[3 * height * width :]
        return (
            torch.from_numpy(image.reshape(height, width, 3)).permute(2, 0, 1),
            torch.from_numpy(mask.reshape(height, width)),
        )

    def image_rows(self, index: int, start: int, stop: int) -> Tensor:
        """Returns rows of a pair's image, uint8 (3, stop - start, W); nothing else is read."""
        pixels, width = self._rows(index, start, stop, 3, skipped=0)
        return torch.from_numpy(pixels.reshape(stop - start, width, 3)).permute(2, 0, 1)

    def mask_rows(self, index: int, start: int, stop: int) -> Tensor:
        """Returns rows of a pair's mask, uint8 (stop - start, W); nothing else is read."""
        pixels, width = self._rows(index, start, stop, 1, skipped=3)
        return torch.from_numpy(pixels.reshape(stop - start, width))

    def name(self, index: int) -> str:
        """Returns what the data set calls the pair."""
        return self.dataset.name(index)

    def mask(self, index: int) -> NDArray[np.uint8]:
        """Returns the class ids of a pair, (H, W)."""
        pixels, height, width = self._map(index)
        return pixels[3 * height * width :].reshape(height, width)

    def size(self, index: int) -> tuple[int, int]:
        """Returns the rows and columns of a pair."""
        height, width = self._shapes[index].tolist()
        return height, width

    def close(self) -> None:
        """Stops using the cache; the last user of one in memory removes it."""
        if self._leave is not None:
            self._leave()

    def __getstate__(self) -> dict[str, Any]:
        """Leaves the mark of its user with the process that set it."""
        return self.__dict__ | {"_leave": None}

    def _map(self, index: int) -> tuple[NDArray[np.uint8], int, int]:
        height, width = self.size(index)
        return self._read(index, 0, 4 * height * width), height, width

    def _rows(self, index: int, start: int, stop: int, channels: int, skipped: int) -> tuple[NDArray[np.uint8], int]:
        """Returns rows of as many channels, behind planes of all rows that are skipped; and the width."""
        height, width = self.size(index)
        begin = skipped * height * width + channels * start * width
        return self._read(index, begin, channels * (stop - start) * width), width

    def _read(self, index: int, skipped: int, length: int) -> NDArray[np.uint8]:
        try:
            descriptor = os.open(self._path, os.O_RDONLY)
        except FileNotFoundError:
            raise FileNotFoundError(
                f"{self._path} was removed while the run read from it; start the run again: resume=RUN goes on."
            ) from None
        try:
            return _part(descriptor, int(self._offsets[index % len(self)]) + skipped, length)
        finally:
            os.close(descriptor)


def _part(descriptor: int, start: int, length: int) -> NDArray[np.uint8]:
    """Returns bytes of a file, which this process may change for itself."""
    if length <= _READ_WHOLE:
        content = bytearray(os.pread(descriptor, length, start))
        if len(content) < length:
            raise ValueError("the cache was cut short while the run read from it; start the run again.")
        return np.frombuffer(content, np.uint8)
    # One private map per pair: one over the whole file can exceed what a system lends a process.
    skipped = start % _GRANULE
    mapped = mmap.mmap(descriptor, skipped + length, access=mmap.ACCESS_COPY, offset=start - skipped)
    return np.frombuffer(mapped, np.uint8, offset=skipped)


class CachedFiles(CachedDataset):
    """A cached data set of files."""

    def files(self, index: int) -> tuple[Path, ...]:
        """Returns the files that a pair was decoded from."""
        assert isinstance(self.dataset, FileBacked)
        return self.dataset.files(index)


def _opened(entry: Entry, is_kept: bool) -> CachedDataset:
    """Returns a data set that reads a cache, marked as used until it is closed or the process ends."""
    dataset, shapes = entry.dataset, entry.shapes()
    assert shapes is not None
    made = (CachedFiles if isinstance(dataset, FileBacked) else CachedDataset)(dataset, entry.folder, shapes)
    mark = entry.mark_as_used()
    made._leave = weakref.finalize(made, _leave, os.getpid(), mark, None if is_kept else entry)
    return made


def _leave(process: int, mark: int, removable: Entry | None) -> None:
    if os.getpid() != process:
        return  # a fork's copy of the data set ends, and the mark is its parent's
    if removable is None:
        locks.give_up(mark)
    else:
        removable.remove_as_last(mark)
