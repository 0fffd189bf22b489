"""Windows of an image and its mask, read and resampled once: the image bilinearly, the mask to the nearest pixel.

Coordinates count from the image's upper left corner, so that pixel i spans i to i + 1 and its centre is at i + 0.5.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from segframe.contracts import IGNORE_INDEX

Pixels = NDArray[np.uint8]
Size = tuple[int, int]

_BITS = 32  # behind the binary point of a coordinate; below it there is room for images of 2^30 pixels a side
_MOST_AROUND = 16  # pixels of a window per pixel of the result, up to which an image is extended in memory
_ROWS = 32  # rows of a map that are computed at once, so that they stay in the processor's cache


@dataclass(frozen=True)
class Window:
    """A rectangle of an image's pixels, which may reach beyond it.

    Attributes:
        top: Its first row, before it is turned.
        left: Its first column.
        height: Rows.
        width: Columns.
        angle: Degrees by which what it shows turns anticlockwise: it is itself turned the other way, about its centre.
    """

    top: int
    left: int
    height: int
    width: int
    angle: float = 0.0


def cut(image: Pixels, mask: Pixels, window: Window, size: Size, fill: tuple[int, ...]) -> tuple[Pixels, Pixels]:
    """Returns what a window shows of an image and its mask, resampled to ``size``.

    Every pixel of the result has one centre in the source. The label is that of the pixel which holds the
    centre, exactly. The colour is bilinear between the four pixels around the centre, of those that are
    read: an upright window's own, or the image's. A centre beyond the image gives ``fill`` and
    ``IGNORE_INDEX``. Only the window, or the upright rectangle around a turned one, is read.

    Args:
        image: (H, W, 3).
        mask: (H, W).
        window: What to show.
        size: Rows and columns of the result.
        fill: Red, green and blue of 0..255 of what lies beyond the image.
    """
    return (_cut_turned if window.angle else _cut_upright)(image, mask, window, size, fill)


def _cut_upright(
    image: Pixels, mask: Pixels, window: Window, size: Size, fill: tuple[int, ...]
) -> tuple[Pixels, Pixels]:
    rows, row_span = _nearest(window.top, window.height, mask.shape[0], size[0])
    columns, column_span = _nearest(window.left, window.width, mask.shape[1], size[1])
    # OpenCV's nearest neighbours are off by one at some pixels of most sizes; integers are exact, and as fast.
    labels = _window_of(mask, window)[rows].take(columns, axis=1)
    pixels = _resampled(image, window, size)
    if labels.shape == size:
        return np.ascontiguousarray(pixels), labels
    inside = np.s_[slice(*row_span), slice(*column_span)]
    whole_labels, whole_pixels = np.full(size, IGNORE_INDEX, np.uint8), _filled(size, fill)
    whole_labels[inside], whole_pixels[inside] = labels, pixels[inside]
    return whole_pixels, whole_labels


def _nearest(start: int, length: int, limit: int, size: int) -> tuple[NDArray[np.int64], tuple[int, int]]:
    """Returns, along one axis, which pixels to take of the part of a window that is inside, and the result's span."""
    indices = start + (2 * np.arange(size, dtype=np.int64) + 1) * length // (2 * size)
    begin, end = (int(np.searchsorted(indices, edge)) for edge in (0, limit))
    return indices[begin:end] - max(0, start), (begin, end)


def _window_of(source: Pixels, window: Window) -> Pixels:
    return source[
        max(0, window.top) : max(0, window.top + window.height),
        max(0, window.left) : max(0, window.left + window.width),
    ]


def _resampled(image: Pixels, window: Window, size: Size) -> Pixels:
    """Returns an upright window's colours; beyond the image those of its border."""
    part = _window_of(image, window)
    if part.size == 0:
        return np.zeros((*size, 3), np.uint8)
    above, before = max(0, -window.top), max(0, -window.left)
    below, behind = window.height - above - part.shape[0], window.width - before - part.shape[1]
    if any((above, below, before, behind)):
        if window.height * window.width > _MOST_AROUND * size[0] * size[1]:
            matrix = to_source(window, size)
            matrix[:, 2] -= max(0, window.left) + 0.5, max(0, window.top) + 0.5
            return _warped(part, matrix, size)
        part = np.asarray(cv2.copyMakeBorder(part, above, below, before, behind, cv2.BORDER_REPLICATE), np.uint8)
    if part.shape[:2] == size:
        return part
    return np.asarray(cv2.resize(part, size[::-1], interpolation=cv2.INTER_LINEAR), np.uint8)


def _warped(part: Pixels, matrix: NDArray[np.float64], size: Size) -> Pixels:
    """Returns colours by an affine map, in OpenCV's coordinates: 0 is the centre of the first pixel."""
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(cv2.warpAffine(part, matrix, size[::-1], flags=flags, borderMode=cv2.BORDER_REPLICATE), np.uint8)


def to_source(window: Window, size: Size) -> NDArray[np.float64]:
    """Returns the affine map (2, 3) from a result's pixel (column, row) to its centre (x, y) in the source.

    Args:
        window: What the result shows.
        size: Rows and columns of the result.
    """
    angle = math.radians(window.angle)
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    turn_and_scale = turn * (window.width / size[1], window.height / size[0])
    middle = np.array([window.left + window.width / 2, window.top + window.height / 2])
    offset = middle - turn_and_scale @ [(size[1] - 1) / 2, (size[0] - 1) / 2]
    return np.column_stack([turn_and_scale, offset])


def _cut_turned(
    image: Pixels, mask: Pixels, window: Window, size: Size, fill: tuple[int, ...]
) -> tuple[Pixels, Pixels]:
    matrix = to_source(window, size)
    box, is_inside = _bounding_box(matrix, size, mask.shape)
    part = mask[box]
    if part.size == 0:
        return _filled(size, fill), np.full(size, IGNORE_INDEX, np.uint8)
    matrix[:, 2] -= box[1].start, box[0].start
    indices = _pixel_map(matrix, size)
    border = {"borderMode": cv2.BORDER_CONSTANT, "borderValue": (IGNORE_INDEX,)}
    labels = cv2.remap(part, indices, None, cv2.INTER_NEAREST, **border)  # type: ignore[call-overload]
    matrix[:, 2] -= 0.5
    pixels = _warped(image[box], matrix, size)
    if not is_inside:
        unsigned = indices.view(np.uint16)  # where a negative index is a large one
        inside = (unsigned[..., 0] < part.shape[1]) & (unsigned[..., 1] < part.shape[0])
        pixels = np.asarray(cv2.copyTo(pixels, inside.view(np.uint8), _filled(size, fill)), np.uint8)
    return pixels, np.asarray(labels)


def _filled(size: Size, colour: tuple[int, ...]) -> Pixels:
    # Copied as a row of bytes: several times as fast as a colour to every pixel.
    row = np.tile(np.array(colour, np.uint8), size[1])
    return np.tile(row, (size[0], 1)).reshape(*size, 3)


def _bounding_box(matrix: NDArray[np.float64], size: Size, limits: tuple[int, ...]) -> tuple[tuple[slice, slice], bool]:
    """Returns the rows and columns that a turned window reads, and whether the image holds all of its pixels."""
    last_row, last_column = size[0] - 1, size[1] - 1
    corners = [(column, row, 1) for column in (0, last_column) for row in (0, last_row)]
    x, y = matrix @ np.array(corners, np.float64).T
    spans, is_inside = [], True
    for values, limit in ((y, limits[0]), (x, limits[1])):
        first, last = math.floor(values.min()), math.floor(values.max())
        is_inside &= first >= 1 and last < limit - 1
        # One more at either side, for the colours between pixels.
        begin = min(max(0, first - 1), limit)
        spans.append(slice(begin, max(begin, min(limit, last + 2))))
    return (spans[0], spans[1]), is_inside


def _pixel_map(matrix: NDArray[np.float64], size: Size) -> NDArray[np.int16]:
    """Returns (column, row) of the pixel that holds each centre, in fixed-point numbers: exact but at ties."""
    result = np.empty((*size, 2), np.int16)
    steps = np.rint(matrix * 2.0**_BITS).astype(np.int64)
    columns, rows = np.arange(size[1]), np.arange(size[0])
    for axis, (per_column, per_row, offset) in enumerate(steps):
        along, down = columns * per_column, rows * per_row + offset
        for top in range(0, size[0], _ROWS):
            result[top : top + _ROWS, :, axis] = (down[top : top + _ROWS, None] + along) >> _BITS
    return result
