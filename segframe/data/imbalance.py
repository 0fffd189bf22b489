"""Sampling against class imbalance: rare classes first, or images that hold them more often."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from segframe.data.randomness import Stream, generator
from segframe.data.sampler import Draws
from segframe.ranges import Fraction, Positive

Counts = NDArray[np.int64]


class RareClass:
    """Draws a class, rare ones more often, then an image that holds enough of it, then a crop that does.

    Source: Hoyer, Dai and Van Gool, "DAFormer", CVPR 2022, section 3.3: P(c) is the softmax of
    (1 - f_c) / T over the classes, where f_c is the class's share of all labelled pixels. A class that
    never occurs is never drawn.

    Deviation: amounts are shares, where the authors count pixels at one image size (3000 in an image of
    1280 x 720, 1500 in a crop of 512 x 512). A class of which no image holds enough is drawn from all
    images that hold it.

    Args:
        num_samples: Samples in the data set, and in an epoch.
        class_counts: Returns the pixels per sample and class (N, K).
        temperature: T: the nearer to 0, the more do the rarest classes prevail.
        min_share: Smallest share of an image's labelled pixels that makes it a candidate for a class.
        crop_share: Smallest share of a crop's labelled pixels; up to ten crops are drawn to have it.

    Raises:
        ValueError: If no sample holds a class.
    """

    def __init__(
        self,
        num_samples: int,
        class_counts: Callable[[], Counts],
        temperature: Positive = 0.01,
        min_share: Fraction = 0.003,
        crop_share: Fraction = 0.005,
    ) -> None:
        counts = class_counts()
        _check(counts, "sampling=rare_class")
        self.num_samples, self.crop_share = num_samples, crop_share
        self.probabilities = class_probabilities(counts.sum(0), temperature)
        shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
        self.candidates = [_candidates(column, min_share) for column in shares.T]
        options = f"temperature={temperature}, min_share={min_share}, crop_share={crop_share}"
        self.identity = f"rare_class ({options}) of masks {_digest(counts)}"

    def draw(self, seed: int, epoch: int) -> Draws:
        """Returns samples with the class that each was drawn for."""
        rng = generator(Stream.ORDER, seed, epoch)
        labels = rng.choice(len(self.probabilities), self.num_samples, p=self.probabilities)
        lengths = np.array([len(found) for found in self.candidates])
        places = (rng.random(self.num_samples) * lengths[labels]).astype(np.int64)
        indices = [int(self.candidates[label][place]) for label, place in zip(labels, places, strict=True)]
        return Draws.of(np.array(indices, np.int64), labels.astype(np.int64))


class RepeatFactor:
    """Draws images with rare classes more often, in an epoch of as many samples as ever.

    Source: Gupta, Dollar and Girshick, "LVIS", CVPR 2019, section 5.2: a class in a share f_c of the images
    has the factor max(1, sqrt(t / f_c)), an image the largest of its classes'. Deviation: an epoch keeps
    its length, so the factors are divided by their mean; the draws are systematic, so that an image comes
    the whole number of times below or above its factor, at random in proportion.

    Args:
        num_samples: Samples in the data set, and in an epoch.
        class_counts: Returns the pixels per sample and class (N, K).
        threshold: t: classes in a smaller share of the images are rare. The paper takes 0.001 for 1203 classes.

    Raises:
        ValueError: If no sample holds a class.
    """

    def __init__(self, num_samples: int, class_counts: Callable[[], Counts], threshold: Positive = 0.1) -> None:
        counts = class_counts()
        _check(counts, "sampling=repeat_factor")
        self.num_samples, self.crop_share = num_samples, 0.0
        self.factors = repeat_factors(counts, threshold)
        self.identity = f"repeat_factor (threshold={threshold}) of masks {_digest(counts)}"

    def draw(self, seed: int, epoch: int) -> Draws:
        """Returns samples in random order."""
        rng = generator(Stream.ORDER, seed, epoch)
        edges = np.cumsum(self.factors) * (self.num_samples / self.factors.sum())
        points = np.arange(self.num_samples) + rng.random()
        indices = np.minimum(np.searchsorted(edges, points, side="right"), len(edges) - 1)
        return Draws.of(rng.permutation(indices).astype(np.int64))


def class_probabilities(pixels: Counts, temperature: float) -> NDArray[np.float64]:
    """Returns the softmax of (1 - share of all pixels) / temperature over the classes that occur, 0 for others."""
    energy = np.where(pixels > 0, (1 - pixels / pixels.sum()) / temperature, -np.inf)
    weights = np.exp(energy - energy.max())
    return np.asarray(weights / weights.sum())


def repeat_factors(counts: Counts, threshold: float) -> NDArray[np.float64]:
    """Returns a factor of 1 or more per image, from pixels per image and class (N, K)."""
    holds = counts > 0
    frequency = holds.mean(0)
    per_class = np.maximum(1, np.sqrt(threshold / np.where(frequency > 0, frequency, 1)))
    return np.asarray(np.where(holds, per_class, 1.0).max(1))


def _candidates(shares: NDArray[np.float64], min_share: float) -> NDArray[np.int64]:
    enough = np.flatnonzero((shares >= min_share) & (shares > 0))
    return enough if len(enough) else np.flatnonzero(shares > 0)


def _check(counts: Counts, word: str) -> None:
    if not counts.any():
        raise ValueError(
            f"{word} draws by class, and none of the {len(counts)} training masks holds a labelled pixel. "
            "Run `segframe data check` with the same dataset to see why, or use sampling=uniform."
        )


def _digest(counts: Counts) -> str:
    return hashlib.blake2b(np.ascontiguousarray(counts).tobytes(), digest_size=6).hexdigest()
