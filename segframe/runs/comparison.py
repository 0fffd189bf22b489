"""Groups of runs against the first of them: scores, differences and how far these can be trusted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from segframe.runs import bootstrap
from segframe.runs.counts import Counts
from segframe.runs.groups import Group
from segframe.runs.interval import Interval, over_images, with_seeds
from segframe.runs.scores import Floats, mean_over

CONFIDENCE = 0.95
FEWEST_IMAGES = 10
"""Fewer images are not judged by."""

FEWEST_OF_CLASS = 8
"""A class that fewer images hold gets no interval: among resamples its IoU hardly varies."""


@dataclass(frozen=True)
class Difference:
    """A group against the first.

    Attributes:
        metric: The difference of the metric; positive where the group's is higher.
        classes: That of each class's IoU; None where there is too little to say.
        paired: Whether runs of the same seeds were compared with each other.
    """

    metric: Interval
    classes: list[Interval | None]
    paired: bool


@dataclass(frozen=True)
class Comparison:
    """Everything that is said of groups.

    Attributes:
        metric: The metric's name.
        confidence: Of each interval, 0.95 or more where several share the chance of an error.
        scores: The metric of each run, by group.
        class_iou: The mean IoU of each class over each group's runs, (groups, classes).
        differences: Of the second group, the third, ... to the first.
        num_images: How many images were resampled.
        rare: Classes that fewer than ``FEWEST_OF_CLASS`` images hold, with their number.
        uneven: Classes that the means of some runs hold and those of others leave out.
        resamples: How often they were drawn.
    """

    metric: str
    confidence: float
    scores: list[Floats]
    class_iou: Floats
    differences: list[Difference]
    num_images: int
    rare: dict[str, int]
    uneven: list[str]
    resamples: int


def compare(groups: Sequence[Group], counts: Counts, metric: str, resamples: int, seed: int) -> Comparison:
    """Returns how groups differ from the first.

    Args:
        groups: At least two.
        counts: Of the same groups.
        metric: A key of ``segframe.runs.scores.METRICS``.
        resamples: How often the images are drawn.
        seed: Decides the draws.
    """
    # Several comparisons share the 5 % in which one of them may be wrong (Bonferroni).
    confidence = 1 - (1 - CONFIDENCE) / (len(groups) - 1)
    observed = bootstrap.observed(counts.true, counts.groups, metric, counts.absent)
    drawn = bootstrap.resampled(counts.true, counts.groups, metric, counts.absent, resamples, seed)
    holding = counts.num_images_of_class()
    differences = []
    for other in range(1, len(groups)):
        paired = groups[0].seeds == groups[other].seeds and not groups[0].is_single
        (first_scores, first_iou), (scores, iou) = observed[0], observed[other]

        def interval(one: Floats, two: Floats, drawn: Floats, number: int, paired: bool = paired) -> Interval:
            images = over_images(float(two.mean() - one.mean()), drawn, number, confidence)
            found = with_seeds(images, one.tolist(), two.tolist(), paired, confidence)
            # All metrics lie in 0..1; two seeds far apart would promise more.
            return Interval(found.difference, max(found.low, -1.0), min(found.high, 1.0))

        of_metric = interval(first_scores, scores, drawn.metric[:, other] - drawn.metric[:, 0], len(counts.images))
        of_classes = [
            interval(first_iou[:, k], iou[:, k], drawn.iou[:, other, k] - drawn.iou[:, 0, k], held)
            if held >= FEWEST_OF_CLASS and not np.isnan([*first_iou[:, k], *iou[:, k]]).any()
            else None
            for k, held in enumerate(holding)
        ]
        differences.append(Difference(of_metric, of_classes, paired))
    rare = {name: n for name, n in zip(counts.classes, holding, strict=True) if 0 < n < FEWEST_OF_CLASS}
    class_iou = np.array([mean_over(iou.T) for _, iou in observed])
    dropped = np.isnan(np.concatenate([iou for _, iou in observed]))
    uneven = [counts.classes[k] for k in np.flatnonzero(dropped.any(0) & ~dropped.all(0))]
    of_runs = [own for own, _ in observed]
    return Comparison(metric, confidence, of_runs, class_iou, differences, len(counts.images), rare, uneven, resamples)
