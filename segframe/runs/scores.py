"""Region metrics of summed counts in NumPy: what ``segframe.metrics.scores`` computes, without torch.

Shape suffixes: K classes; ``...`` any leading dimensions, for instance resamples.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_VALUES = {"drop": np.nan, "zero": 0.0, "one": 1.0}


def class_iou(right: Floats, true: Floats, predicted: Floats, absent: str) -> Floats:
    """Returns the intersection over union of each class, (..., K).

    Args:
        right: Pixels that are the class and are taken for it, (..., K).
        true: Pixels that are the class.
        predicted: Pixels that are taken for it.
        absent: What a class counts as that occurs in neither: ``drop`` (NaN), ``zero`` or ``one``.
    """
    return _ratio(right, true + predicted - right, absent)


def mean_over(values: Floats) -> Floats:
    """Returns the mean over the last axis without NaN, (...); NaN where there is nothing else."""
    known = ~np.isnan(values)
    count = known.sum(-1)
    total = np.where(known, values, 0.0).sum(-1)
    return _quotient(total, count, np.nan)


def _miou(right: Floats, true: Floats, predicted: Floats, absent: str) -> Floats:
    return mean_over(class_iou(right, true, predicted, absent))


def _mean_accuracy(right: Floats, true: Floats, predicted: Floats, absent: str) -> Floats:
    return mean_over(_ratio(right, true, absent))


def _dice(right: Floats, true: Floats, predicted: Floats, absent: str) -> Floats:
    return mean_over(_ratio(2 * right, true + predicted, absent))


def _pixel_accuracy(right: Floats, true: Floats, predicted: Floats, absent: str) -> Floats:
    return _ratio(right.sum(-1), true.sum(-1), "drop")


def _fwiou(right: Floats, true: Floats, predicted: Floats, absent: str) -> Floats:
    return _ratio((true * class_iou(right, true, predicted, "zero")).sum(-1), true.sum(-1), "drop")


METRICS: dict[str, Callable[[Floats, Floats, Floats, str], Floats]] = {
    "miou": _miou,
    "pixel_accuracy": _pixel_accuracy,
    "mean_accuracy": _mean_accuracy,
    "dice": _dice,
    "fwiou": _fwiou,
}
"""By the last part of their log keys; each takes what ``class_iou`` takes and returns (...)."""


def _ratio(part: Any, whole: Any, absent: str) -> Floats:
    return _quotient(part, whole, _VALUES[absent])


def _quotient(part: Any, whole: Any, empty: float) -> Floats:
    found = np.full(np.shape(whole), empty)
    np.divide(part, whole, out=found, where=np.asarray(whole) > 0)
    return found
