"""Which class is taken for which.

Shape suffix: K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Mistake(NamedTuple):
    """Pixels of one class that are predicted as another.

    Attributes:
        truth: The true class.
        prediction: What it is taken for.
        pixels: How many are.
        of_truth: Their share of the true class's pixels, 0..1.
        of_wrong: Their share of all wrong pixels, 0..1.
    """

    truth: str
    prediction: str
    pixels: int
    of_truth: float
    of_wrong: float


def mistakes(matrix: Tensor, classes: Sequence[str], most: int | None = None) -> list[Mistake]:
    """Returns the pairs of classes that are mixed up, the most frequent first; none where nothing is wrong.

    Args:
        matrix: (K, K) pixel counts; rows are the truth, columns the prediction.
        classes: The K names.
        most: How many pairs to return; None returns all.

    Raises:
        ValueError: If the number of names is not K.

    >>> mistakes(torch.tensor([[8, 2], [0, 5]]), ["ground", "disc"])
    [Mistake(truth='ground', prediction='disc', pixels=2, of_truth=0.2, of_wrong=1.0)]
    """
    if tuple(matrix.shape) != (len(classes), len(classes)):
        raise ValueError(f"the matrix has the shape {tuple(matrix.shape)}; {len(classes)} class names need a square.")
    counts = matrix.cpu().long()
    wrong = counts.clone().fill_diagonal_(0)
    of_class, of_all = counts.sum(1), int(wrong.sum())
    found = [
        Mistake(
            classes[row],
            classes[column],
            pixels := int(wrong[row, column]),
            pixels / int(of_class[row]),
            pixels / of_all,
        )
        for row, column in torch.nonzero(wrong).tolist()
    ]
    return sorted(found, key=lambda mistake: -mistake.pixels)[:most]
