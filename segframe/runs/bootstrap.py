"""Scores of runs on resampled validation images: what another draw of images could have given.

Shape suffixes: N images, K classes, R resamples, G groups of runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from segframe.runs.scores import METRICS, Floats, class_iou, mean_over

_CHUNK = 4_000_000
"""Weights that are drawn at a time, 32 MB."""


@dataclass(frozen=True)
class Run:
    """What one run has counted, per image and class.

    Attributes:
        right: Pixels that are the class and are taken for it, (N, K).
        predicted: Pixels that are taken for it, (N, K).
    """

    right: Floats
    predicted: Floats


@dataclass(frozen=True)
class Scores:
    """The scores of groups of runs, each the mean over the group's runs.

    Attributes:
        metric: The metric on each resample, (R, G).
        iou: The IoU of each class, (R, G, K); NaN where it is dropped.
    """

    metric: Floats
    iou: Floats


def resampled(
    true_NK: Floats, groups: Sequence[Sequence[Run]], metric: str, absent: str, resamples: int, seed: int
) -> Scores:
    """Returns what groups of runs score on images that are drawn with replacement, the same for all runs.

    Counts are summed over the drawn images before any ratio is taken, as an evaluation does.

    Args:
        true_NK: Pixels of each image and class; the same for all runs.
        groups: Runs by group.
        metric: A key of ``METRICS``.
        absent: What a class counts as that no drawn image has.
        resamples: How often all N images are drawn.
        seed: Decides the draws.
    """
    num_images = len(true_NK)
    draw = np.random.default_rng(seed)
    runs = [run for group in groups for run in group]
    columns = np.concatenate([true_NK, *(part for run in runs for part in (run.right, run.predicted))], axis=1)
    found = []
    for start in range(0, resamples, max(1, _CHUNK // num_images)):
        count = min(resamples - start, max(1, _CHUNK // num_images))
        drawn = draw.integers(0, num_images, (count, num_images))
        drawn += num_images * np.arange(count)[:, None]
        weights = np.bincount(drawn.ravel(), minlength=count * num_images).reshape(count, num_images)
        found.append(_scores(weights.astype(np.float64) @ columns, groups, metric, absent))
    return Scores(*(np.concatenate(parts) for parts in zip(*found, strict=True)))


def observed(true_NK: Floats, groups: Sequence[Sequence[Run]], metric: str, absent: str) -> list[tuple[Floats, Floats]]:
    """Returns of each group its runs' metric (runs) and class IoU (runs, K) on all images.

    Args:
        true_NK: As for ``resampled``.
        groups: Runs by group.
        metric: A key of ``METRICS``.
        absent: What a class counts as that does not occur.
    """
    true = true_NK.sum(0)
    found = []
    for group in groups:
        sums = [(run.right.sum(0), true, run.predicted.sum(0)) for run in group]
        scores = np.array([METRICS[metric](*parts, absent) for parts in sums])
        found.append((scores, np.array([class_iou(*parts, absent) for parts in sums])))
    return found


def _scores(sums: Floats, groups: Sequence[Sequence[Run]], metric: str, absent: str) -> tuple[Floats, Floats]:
    """Returns the scores of each group, of columns: true pixels, then right and predicted ones of run after run."""
    num_runs = sum(map(len, groups))
    true, *parts = np.split(sums, 2 * num_runs + 1, axis=1)
    of_run = [
        (METRICS[metric](right, true, predicted, absent), class_iou(right, true, predicted, absent))
        for right, predicted in zip(parts[::2], parts[1::2], strict=True)
    ]
    metrics, ious, first = [], [], 0
    for group in groups:
        own = of_run[first : first + len(group)]
        first += len(group)
        metrics.append(np.mean([score for score, _ in own], axis=0))
        ious.append(mean_over(np.stack([iou for _, iou in own], axis=-1)))
    return np.stack(metrics, axis=1), np.stack(ious, axis=1)
