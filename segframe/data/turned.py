"""What a turned window shows: the pixels of the upright rectangle around it, mapped once."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from segframe.contracts import IGNORE_INDEX
from segframe.data.reading import Pixels, Source
from segframe.data.window import Size, Window, filled, to_source, warped

Box = tuple[slice, slice]

_BITS = 32  # behind the binary point of a coordinate; below it there is room for images of 2^30 pixels a side
_ROWS = 32  # rows of a map that are computed at once, so that they stay in the processor's cache


def cut_turned(
    source: Source, window: Window, size: Size, fill: tuple[int, ...], image_rows: range, mask_rows: range
) -> tuple[Pixels, Pixels]:
    """Returns rows of what a turned window shows; see ``cut_rows`` for the arguments."""
    matrix = to_source(window, size)
    box, _ = _bounding_box(matrix, range(size[0]), size[1], source.size)
    mask_box, _ = _bounding_box(matrix, mask_rows, size[1], source.size)
    image_box, is_inside = _bounding_box(matrix, image_rows, size[1], source.size)
    image_box, mask_box = _common(image_box, box), _common(mask_box, box)
    matrix[:, 2] -= box[1].start, box[0].start
    indices = _pixel_map(matrix, mask_rows, size[1], _offset(mask_box, box))
    labels = _remapped(source, indices, mask_box)
    if _is_empty(image_box):
        return filled((len(image_rows), size[1]), fill), labels
    if not is_inside and image_rows != mask_rows:
        indices = _pixel_map(matrix, image_rows, size[1], _offset(image_box, box))
    matrix[:, 2] -= 0.5
    pixels = warped(_boxed(source, image_box, box), matrix, size)[image_rows.start : image_rows.stop]
    if not is_inside:
        unsigned = indices.view(np.uint16)  # where a negative index is a large one
        height, width = (part.stop - part.start for part in image_box)
        inside = (unsigned[..., 0] < width) & (unsigned[..., 1] < height)
        colour = filled((len(image_rows), size[1]), fill)
        pixels = np.asarray(cv2.copyTo(pixels, inside.view(np.uint8), colour), np.uint8)
    return pixels, labels


def _remapped(source: Source, indices: NDArray[np.int16], box: Box) -> Pixels:
    """Returns the labels at (column, row) of a box; beyond it they are ignored."""
    if _is_empty(box):
        return np.full(indices.shape[:2], IGNORE_INDEX, np.uint8)
    border = {"borderMode": cv2.BORDER_CONSTANT, "borderValue": (IGNORE_INDEX,)}
    labels = cv2.remap(source.mask(*box), indices, None, cv2.INTER_NEAREST, **border)  # type: ignore[call-overload]
    return np.asarray(labels)


def _boxed(source: Source, part: Box, box: Box) -> Pixels:
    """Returns the colours of a box, of which a part alone is read."""
    pixels = source.image(*part)
    if part == box:
        return pixels
    whole = np.empty((box[0].stop - box[0].start, box[1].stop - box[1].start, 3), np.uint8)
    left, top = _offset(part, box)
    whole[top : top + pixels.shape[0], left : left + pixels.shape[1]] = pixels
    return whole


def _common(part: Box, box: Box) -> Box:
    rows, columns = (
        slice(max(a.start, b.start), max(a.start, b.start, min(a.stop, b.stop))) for a, b in zip(part, box, strict=True)
    )
    return rows, columns


def _offset(part: Box, box: Box) -> tuple[int, int]:
    """Returns the columns and rows from a box's corner to that of a part of it."""
    return part[1].start - box[1].start, part[0].start - box[0].start


def _is_empty(box: Box) -> bool:
    return any(part.start >= part.stop for part in box)


def _bounding_box(matrix: NDArray[np.float64], rows: range, width: int, limits: tuple[int, ...]) -> tuple[Box, bool]:
    """Returns what of an image some rows of a turned window read, and whether the image holds all of their pixels."""
    corners = [(column, row, 1) for column in (0, width - 1) for row in (rows.start, rows.stop - 1)]
    x, y = matrix @ np.array(corners, np.float64).T
    spans, is_inside = [], True
    for values, limit in ((y, limits[0]), (x, limits[1])):
        first, last = math.floor(values.min()), math.floor(values.max())
        is_inside &= first >= 1 and last < limit - 1
        # One more at either side, for the colours between pixels.
        begin = min(max(0, first - 1), limit)
        spans.append(slice(begin, max(begin, min(limit, last + 2))))
    return (spans[0], spans[1]), is_inside


def _pixel_map(matrix: NDArray[np.float64], rows: range, width: int, offset: tuple[int, int]) -> NDArray[np.int16]:
    """Returns (column, row) of the pixel that holds each centre, in fixed-point numbers: exact but at ties.

    The offset is taken from the numbers when they are whole already, so that a part has the same as the whole.
    """
    result = np.empty((len(rows), width, 2), np.int16)
    steps = np.rint(matrix * 2.0**_BITS).astype(np.int64)
    columns, lines = np.arange(width), np.arange(rows.start, rows.stop)
    for axis, (per_column, per_row, begin) in enumerate(steps):
        along, down = columns * per_column, lines * per_row + begin - (offset[axis] << _BITS)
        for top in range(0, len(rows), _ROWS):
            result[top : top + _ROWS, :, axis] = (down[top : top + _ROWS, None] + along) >> _BITS
    return result
