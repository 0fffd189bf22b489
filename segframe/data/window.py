"""Rectangles of an image's pixels, and the affine maps that show them.

Coordinates count from the image's upper left corner, so that pixel i spans i to i + 1 and its centre is at i + 0.5.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from segframe.data.reading import Pixels

Size = tuple[int, int]


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


def warped(part: Pixels, matrix: NDArray[np.float64], size: Size) -> Pixels:
    """Returns colours (H, W, 3) by an affine map in OpenCV's coordinates: 0 is the centre of the first pixel.

    Args:
        part: (h, w, 3); beyond it its border is repeated.
        matrix: (2, 3), from a pixel (column, row) of the result to one of the part.
        size: H and W.
    """
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(cv2.warpAffine(part, matrix, size[::-1], flags=flags, borderMode=cv2.BORDER_REPLICATE), np.uint8)


def filled(size: Size, colour: tuple[int, ...]) -> Pixels:
    """Returns an image (H, W, 3) of one colour."""
    # Copied as a row of bytes: several times as fast as a colour to every pixel.
    row = np.tile(np.array(colour, np.uint8), size[1])
    return np.tile(row, (size[0], 1)).reshape(*size, 3)
