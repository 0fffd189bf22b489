"""Scores by the distance to where one class meets another.

Shape suffixes: H rows, W columns, K classes, D ranges of distance.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from segframe.metrics.confusion import confusion_matrix

EDGES = (1.0, 2.0, 4.0, 8.0, 16.0)
"""Upper ends of the ranges of distance, in pixels, unless others are given."""


def boundary_distance(labels: NDArray[np.integer], ignore_index: int) -> NDArray[np.float32]:
    """Returns how far each pixel is from the nearest pixel of another class, in pixels, between centres.

    A pixel beside a boundary has the distance 1. Ignored pixels are no class: they make no boundary and have no
    distance of their own (NaN). Infinity where the image holds one class only. The image's border is no boundary.
    The distance is Euclidean and exact (Felzenszwalb and Huttenlocher 2012, "Distance transforms of sampled
    functions"). Its ranges are the trimaps of Kohli, Ladicky and Torr, IJCV 2009, "Robust higher order potentials",
    with a width on either side of the boundary.

    Args:
        labels: Class ids and ``ignore_index``, (H, W).
        ignore_index: The label of pixels that don't count.

    Raises:
        ValueError: If ``labels`` is not one map.

    >>> boundary_distance(np.array([[0, 0, 0, 1, 1, 255]], np.uint8), 255).tolist()
    [[3.0, 2.0, 1.0, 1.0, 2.0, nan]]
    """
    if labels.ndim != 2:
        raise ValueError(f"labels have the shape {labels.shape}; expected one map (rows, columns).")
    distance = np.full(labels.shape, np.nan, np.float32)
    counted = labels != ignore_index
    present = np.unique(labels[counted])
    for label in present:
        own = labels == label
        if len(present) == 1:
            distance[own] = np.inf
            break
        free_of_others = (own | ~counted).astype(np.uint8)
        distance[own] = cv2.distanceTransform(free_of_others, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[own]
    return distance


def confusion_by_distance(
    prediction: NDArray[np.integer],
    truth: NDArray[np.integer],
    num_classes: int,
    ignore_index: int,
    edges: Sequence[float] = EDGES,
) -> Tensor:
    """Counts the pixels of an image by (distance to the true boundary, truth, prediction).

    The parts sum to the image's confusion matrix, so every score can be taken of each of them.

    Args:
        prediction: Class ids (H, W).
        truth: Class ids and ``ignore_index``, (H, W).
        num_classes: Number of classes K.
        ignore_index: The label of pixels that don't count.
        edges: Upper ends of the ranges in pixels, each of which includes its end; a last range holds what is farther.

    Returns:
        int64 (D, K, K), one more than there are edges; rows are the truth, columns the prediction.

    Raises:
        ValueError: If the edges don't ascend, or as ``boundary_distance`` and ``confusion_matrix`` do.
    """
    if any(b <= a for a, b in pairwise(edges)):
        raise ValueError(f"edges={list(edges)} must ascend, each in pixels.")
    # Infinity lies behind the last edge, and so does NaN, whose pixels are ignored there as well.
    place = np.searchsorted(np.asarray(edges, np.float32), boundary_distance(truth, ignore_index), side="left")
    return torch.stack(
        [
            confusion_matrix(_tensor(prediction[place == n]), _tensor(truth[place == n]), num_classes, ignore_index)
            for n in range(len(edges) + 1)
        ]
    )


def range_names(edges: Sequence[float] = EDGES) -> list[str]:
    """Returns what to call the ranges of ``confusion_by_distance``, in pixels.

    >>> range_names([1, 2, 4])
    ['up to 1', '1 to 2', '2 to 4', 'over 4']
    """
    names = [f"{low:g} to {high:g}" for low, high in pairwise(edges)]
    return [f"up to {edges[0]:g}", *names, f"over {edges[-1]:g}"]


def _tensor(ids: NDArray[np.integer]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(ids))
