"""Pairs of a data set, of which a sample reads what it needs and no more."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from segframe.contracts import RowBacked, SegmentationDataset, Span

Pixels = NDArray[np.uint8]


class SampleError(RuntimeError):
    """A data set failed to give a pair; says which."""


class Source(Protocol):
    """An image and its mask, read where they are looked at.

    Attributes:
        size: Rows and columns.
    """

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns."""
        ...

    def image(self, rows: slice, columns: slice) -> Pixels:
        """Returns a part (h, w, 3) of the image; the slices are not empty and name their ends from the beginning."""
        ...

    def mask(self, rows: slice, columns: slice) -> Pixels:
        """Returns a part (h, w) of the mask."""
        ...


class Arrays:
    """A pair in memory, or in a map of a file.

    Args:
        image: (H, W, 3).
        mask: (H, W).
    """

    def __init__(self, image: Pixels, mask: Pixels) -> None:
        self._image, self._mask = image, mask

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns."""
        return self._mask.shape[0], self._mask.shape[1]

    def image(self, rows: slice, columns: slice) -> Pixels:
        """Returns a view (h, w, 3) of the image."""
        return self._image[rows, columns]

    def mask(self, rows: slice, columns: slice) -> Pixels:
        """Returns a view (h, w) of the mask."""
        return self._mask[rows, columns]


class Stored:
    """A pair of a data set that gives rows; errors name the pair.

    Args:
        dataset: The pairs.
        index: Which of them.
    """

    def __init__(self, dataset: RowBacked, index: int) -> None:
        self._dataset, self._index = dataset, index
        with _naming(dataset, index):
            self.size = dataset.size(index)
        self._whole_mask: Pixels | None = None

    def image(self, rows: slice, columns: slice) -> Pixels:
        """Returns a part (h, w, 3) of the image; only its rows are read."""
        with _naming(self._dataset, self._index):
            image_CHW = self._dataset.image_rows(self._index, rows.start, rows.stop)
        return image_CHW.permute(1, 2, 0).numpy()[:, columns]

    def mask(self, rows: slice, columns: slice) -> Pixels:
        """Returns a part (h, w) of the mask; only its rows are read, and all of it once."""
        if self._whole_mask is not None:
            return self._whole_mask[rows, columns]
        with _naming(self._dataset, self._index):
            found: Pixels = self._dataset.mask_rows(self._index, rows.start, rows.stop).numpy()
        if len(found) == self.size[0]:
            self._whole_mask = found
        return found[:, columns]


def source(dataset: SegmentationDataset, index: int, in_parts: bool) -> Source:
    """Returns a pair of a data set.

    Args:
        dataset: The pairs.
        index: Which of them.
        in_parts: Whether some of its rows are needed alone; else it is read whole.

    Raises:
        SampleError: If the data set failed with an error that does not name the pair.
    """
    if in_parts and isinstance(dataset, RowBacked) and _knows_its_rows(dataset):
        return Stored(dataset, index)
    image, mask = read(dataset, index)
    return Arrays(image.permute(1, 2, 0).numpy(), mask.numpy())


def read(dataset: SegmentationDataset, index: int) -> tuple[Tensor, Tensor]:
    """Returns a pair; an error names it, whatever went wrong.

    Raises:
        SampleError: If the data set failed with an error that does not name the pair.
    """
    with _naming(dataset, index):
        return dataset[index]


def own_rows(height: int, row_part: tuple[int, int]) -> Span:
    """Returns which rows of a sample a rank holds.

    Args:
        height: Rows of the sample.
        row_part: (index, count): which of ``count`` parts.

    Raises:
        ValueError: If there are fewer rows than parts.
    """
    if height < row_part[1]:
        raise ValueError(
            f"a sample of {height} rows can't be split over {row_part[1]} ranks, each of which needs a row; use fewer "
            "ranks for an image, or larger samples (augment.sample.crop_size)."
        )
    return Span.part(height, *row_part)


@contextmanager
def _naming(dataset: object, index: int) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        name = dataset.name(index)  # type: ignore[attr-defined]
        if name in str(error):
            raise
        raise SampleError(
            f"{type(dataset).__name__}: sample {index} ({name}) could not be read: {type(error).__name__}: {error}"
        ) from error


def _knows_its_rows(dataset: object) -> bool:
    """Whether rows are those of whole pairs, which a subclass may give in a way of its own."""
    names = {"__getitem__", "mask", "image_rows", "mask_rows"}
    first = next(cls for cls in type(dataset).__mro__ if names & vars(cls).keys())
    return {"image_rows", "mask_rows"} <= vars(first).keys()
