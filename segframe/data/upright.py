"""What an upright window shows: whole pixels of the image, resized once."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from segframe.contracts import IGNORE_INDEX
from segframe.data.reading import Pixels, Source
from segframe.data.window import Size, Window, filled, to_source, warped

_MOST_AROUND = 16  # pixels of a window per pixel of the result, up to which an image is extended in memory


def cut_upright(
    source: Source, window: Window, size: Size, fill: tuple[int, ...], image_rows: range, mask_rows: range
) -> tuple[Pixels, Pixels]:
    """Returns rows of what an upright window shows; see ``cut_rows`` for the arguments."""
    if (window.height, window.width) == size and _inside(window, source.size) == window:
        return _as_it_is(source, window, image_rows, mask_rows)
    height, width = source.size
    columns, column_span = _nearest(window.left, window.width, width, size[1], range(size[1]))
    rows, row_span = _nearest(window.top, window.height, height, size[0], mask_rows)
    # OpenCV's nearest neighbours are off by one at some pixels of most sizes; integers are exact, and as fast.
    labels = _taken(source, rows, columns)
    pixels = _resampled(source, window, size, image_rows)
    if labels.shape != (len(mask_rows), size[1]):
        whole = np.full((len(mask_rows), size[1]), IGNORE_INDEX, np.uint8)
        whole[slice(*row_span), slice(*column_span)] = labels
        labels = whole
    if image_rows != mask_rows:
        row_span = _nearest(window.top, window.height, height, size[0], image_rows)[1]
    if (*row_span, *column_span) == (0, len(image_rows), 0, size[1]):
        return np.ascontiguousarray(pixels), labels
    inside = np.s_[slice(*row_span), slice(*column_span)]
    whole_pixels = filled((len(image_rows), size[1]), fill)
    whole_pixels[inside] = pixels[inside]
    return whole_pixels, labels


def _as_it_is(source: Source, window: Window, image_rows: range, mask_rows: range) -> tuple[Pixels, Pixels]:
    columns = slice(window.left, window.left + window.width)
    rows = [slice(window.top + of.start, window.top + of.stop) for of in (image_rows, mask_rows)]
    image, mask = source.image(rows[0], columns), source.mask(rows[1], columns)
    return np.ascontiguousarray(image), np.ascontiguousarray(mask)


def _nearest(
    start: int, length: int, limit: int, size: int, places: range
) -> tuple[NDArray[np.int64], tuple[int, int]]:
    """Returns, along one axis, which pixels inside the source some places of the result show, and which places do."""
    indices = start + (2 * np.arange(places.start, places.stop, dtype=np.int64) + 1) * length // (2 * size)
    begin, end = (int(np.searchsorted(indices, edge)) for edge in (0, limit))
    return indices[begin:end], (begin, end)


def _taken(source: Source, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> Pixels:
    """Returns the labels where rows and columns, each in rising order, cross."""
    if not len(rows) or not len(columns):
        return np.empty((len(rows), len(columns)), np.uint8)
    top, left = int(rows[0]), int(columns[0])
    part = source.mask(slice(top, int(rows[-1]) + 1), slice(left, int(columns[-1]) + 1))
    return part[rows - top].take(columns - left, axis=1)


def _resampled(source: Source, window: Window, size: Size, rows: range) -> Pixels:
    """Returns rows of an upright window's colours; beyond the image those of its border."""
    inside = _inside(window, source.size)
    if inside.height <= 0 or inside.width <= 0:
        return np.zeros((len(rows), size[1], 3), np.uint8)
    needed = _needed(window, size, rows)
    if inside != window and window.height * window.width > _MOST_AROUND * size[0] * size[1]:
        matrix = to_source(window, size)
        matrix[:, 2] -= inside.left + 0.5, inside.top + 0.5
        top, bottom = _held(window, inside, needed)
        part = source.image(slice(top, bottom), slice(inside.left, inside.left + inside.width))
        place = range(top - inside.top, bottom - inside.top)
        return warped(_placed(part, place, inside.height), matrix, size)[rows.start : rows.stop]
    part = _extended(source, window, inside, needed)
    if (window.height, window.width) == size:
        return part
    resized = cv2.resize(_placed(part, needed, window.height), size[::-1], interpolation=cv2.INTER_LINEAR)
    return np.asarray(resized, np.uint8)[rows.start : rows.stop]


def _inside(window: Window, limits: Size) -> Window:
    """Returns the part of an upright window that the image holds; its sides may be negative where that is nothing."""
    top, left = max(0, window.top), max(0, window.left)
    bottom, right = min(limits[0], window.top + window.height), min(limits[1], window.left + window.width)
    return Window(top, left, bottom - top, right - left)


def _needed(window: Window, size: Size, rows: range) -> range:
    """Returns the rows of a window, counted from its top, that some rows of the result are made of."""
    if len(rows) == size[0]:
        return range(window.height)
    if (window.height, window.width) == size:
        return rows
    scale = window.height / size[0]
    first, last = (math.floor((row + 0.5) * scale - 0.5) for row in (rows.start, rows.stop - 1))
    # Besides the two around each centre one more at either side, since OpenCV computes centres in fewer digits.
    return range(max(0, first - 1), min(window.height, last + 3))


def _held(window: Window, inside: Window, needed: range) -> tuple[int, int]:
    """Returns the image's rows, at least one, that give a window's rows: beyond the image its border is repeated."""
    bottom = inside.top + inside.height
    first = min(max(window.top + needed.start, inside.top), bottom - 1)
    return first, max(min(window.top + needed.stop, bottom), first + 1)


def _extended(source: Source, window: Window, inside: Window, needed: range) -> Pixels:
    """Returns rows of a window, with the image's border repeated where the window reaches beyond it."""
    top, bottom = _held(window, inside, needed)
    part = source.image(slice(top, bottom), slice(inside.left, inside.left + inside.width))
    above, below = max(0, top - window.top - needed.start), max(0, window.top + needed.stop - bottom)
    before = inside.left - window.left
    behind = window.width - before - inside.width
    if not any((above, below, before, behind)):
        return part
    part = np.asarray(cv2.copyMakeBorder(part, above, below, before, behind, cv2.BORDER_REPLICATE), np.uint8)
    return part[: len(needed)]  # of rows that are all beyond the image there are more, and all are equal


def _placed(part: Pixels, place: range, height: int) -> Pixels:
    """Returns an array of so many rows that holds a part of them, and anything in the others."""
    if len(part) == height:
        return part
    whole = np.empty((height, *part.shape[1:]), np.uint8)
    whole[place.start : place.stop] = part
    return whole
