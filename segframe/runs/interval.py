"""What can be said of a difference: its interval over images and over seeds.

An interval over images comes from the paired bootstrap. Percentile intervals of n values are too narrow by
sqrt((n - 1) / n) and by the normal distribution standing in for Student's, so they are taken further out, where a
t interval ends (Hesterberg, "What teachers should know about the bootstrap", The American Statistician 69, 2015,
sec. 3.3).

Seeds are a second draw beside that of the images. Few of them are no sample to be resampled: of 5 the bootstrap
covers some 85 % where it promises 95. Their part is a t interval (Welch's where seeds differ), and both are joined by
adding the squares of their lengths, which covers at least what it promises, whichever of the variances is larger
(Banerjee, "Approximate confidence interval for linear functions of means of k populations", Sankhya 22, 1960). One run
against several is taken to vary with its seed as much as they do; left out, it called one of two equal methods better
in up to 29 % of comparisons with five runs.

``scripts/interval_coverage.py`` shows how often these intervals hold the truth.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist, variance

import numpy as np

from segframe.runs.scores import Floats

_FEWEST = 10
"""As many resamples beyond both ends of an interval tell where these are."""


@dataclass(frozen=True)
class Interval:
    """A difference and how far it can be trusted.

    Attributes:
        difference: What was measured.
        low: The interval's lower end.
        high: Its upper end.
    """

    difference: float
    low: float
    high: float

    @property
    def sign(self) -> int:
        """1 or -1 where the interval lies on one side of 0, else 0."""
        return int(self.low > 0) - int(self.high < 0)


def over_images(difference: float, resampled: Floats, num_images: int, confidence: float) -> Interval:
    """Returns the interval of a difference over draws of images.

    Args:
        difference: That of all images.
        resampled: Those of resamples; NaN where a resample has none.
        num_images: How many images there are to draw from.
        confidence: The share of such intervals that hold the true difference, such as 0.95.
    """
    known = resampled[~np.isnan(resampled)]
    if num_images < 2 or not len(known):
        return Interval(difference, -math.inf, math.inf)
    out = math.sqrt(num_images / (num_images - 1)) * t_quantile((1 + confidence) / 2, num_images - 1)
    # Too few resamples lie farther out to tell a quantile there: as far as they do, and on as a normal distribution.
    reach = min(out, NormalDist().inv_cdf(1 - min(0.5, _FEWEST / len(known)) / 2))
    tail = NormalDist().cdf(-reach)
    low, high = (difference + out / reach * (end - difference) for end in np.quantile(known, [tail, 1 - tail]))
    return Interval(difference, float(min(low, difference)), float(max(high, difference)))


def with_seeds(
    images: Interval, first: Sequence[float], other: Sequence[float], paired: bool, confidence: float
) -> Interval:
    """Returns the interval over images and seeds of the difference of two groups' means.

    Args:
        images: The interval over images.
        first: The score of each run of the first group.
        other: The score of each run of the other.
        paired: Whether the runs of both stand in the order of the same seeds.
        confidence: As for ``over_images``.
    """
    if paired:
        samples: list[Sequence[float]] = [[b - a for a, b in zip(first, other, strict=True)]]
    else:
        samples = [scores for scores in (first, other) if len(scores) > 1]
    # Two single runs say nothing of seeds; a single one against several is one more draw like each of them.
    draws = 1 if len(samples) == 1 and not paired else 0
    squared = _half_length(samples, confidence, draws) ** 2
    low, high = (math.sqrt(squared + (end - images.difference) ** 2) for end in (images.low, images.high))
    return Interval(images.difference, images.difference - low, images.difference + high)


def _half_length(samples: Sequence[Sequence[float]], confidence: float, draws: int) -> float:
    """Returns half a t interval of the means' difference, or of a mean to further draws; 0 without a sample."""
    if not samples:
        return 0.0
    variances = [variance(values) * (1 / len(values) + draws) for values in samples]
    if not any(variances):
        return 0.0
    spread = sum(v**2 / (len(values) - 1) for v, values in zip(variances, samples, strict=True))
    welch = math.floor(sum(variances) ** 2 / spread + 1e-9)
    fewest = min(map(len, samples)) - 1
    # Two values may be close to each other by chance, and Welch's rule would then go by the other sample alone.
    freedom = fewest if fewest == 1 else max(fewest, welch)
    return t_quantile((1 + confidence) / 2, freedom) * math.sqrt(sum(variances))


def t_quantile(probability: float, freedom: int) -> float:
    """Returns the quantile of Student's t distribution.

    Args:
        probability: Between 0.5 and 1.
        freedom: Degrees of freedom, at least 1.

    >>> round(t_quantile(0.975, 4), 4), round(t_quantile(0.975, 1), 4)
    (2.7764, 12.7062)
    """
    low, high = 0.0, 1.0
    while _t_share(high, freedom) < 2 * probability - 1:
        high *= 2
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if _t_share(middle, freedom) < 2 * probability - 1 else (low, middle)
    return (low + high) / 2


def _t_share(t: float, freedom: int) -> float:
    """Returns the share within -t and t (Abramowitz and Stegun 26.7.3 and 26.7.4)."""
    angle = math.atan(t / math.sqrt(freedom))
    cosine = math.cos(angle) ** 2
    odd = freedom % 2
    term, total = (math.cos(angle), 0.0) if odd else (1.0, 1.0)
    for k in range(1 if odd else 2, freedom, 2):
        if odd:
            total += term
            term *= cosine * (k + 1) / (k + 2)
        else:
            term *= cosine * (k - 1) / k
            total += term
    return 2 / math.pi * (angle + math.sin(angle) * total) if odd else math.sin(angle) * total
