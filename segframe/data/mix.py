"""Two training samples in one: a rectangle, or the shapes of some classes, of the second pasted into the first."""

from __future__ import annotations

import math
from typing import Protocol

import cv2
import numpy as np

from segframe.contracts import IGNORE_INDEX
from segframe.data.reading import Pixels
from segframe.ranges import Fraction, NonNegativeInt, Positive


class Mix(Protocol):
    """Chooses which pixels of a partner replace a sample's own; image and mask go together.

    Attributes:
        probability: Of mixing a sample.
        seed: With epoch and draw it decides the partner and the pixels.
        looks_at_labels: Whether ``region`` looks at the partner's mask; else it need not be a whole one.
    """

    probability: float
    seed: int
    looks_at_labels: bool

    def region(self, rng: np.random.Generator, size: tuple[int, int], partner_mask: Pixels) -> Pixels:
        """Returns a mask of ``size`` (H, W) that is not 0 where the partner is pasted."""
        ...


class CutMix:
    """Pastes a rectangle, with whatever labels it has.

    Source: Yun et al., "CutMix", ICCV 2019, section 3.1: the rectangle has the image's aspect and a share
    of 1 - lambda of its area, lambda of a Beta distribution; its centre is uniform and what reaches beyond
    the image is cut off. There labels are mixed in proportion to the area; masks need no such rule.

    Args:
        probability: Of mixing a sample.
        alpha: Both parameters of the Beta distribution; 1 is uniform.
        seed: The run's seed.
    """

    looks_at_labels = False

    def __init__(self, probability: Fraction = 0.5, alpha: Positive = 1.0, seed: NonNegativeInt = 0) -> None:
        self.probability, self.alpha, self.seed = probability, alpha, seed

    def region(self, rng: np.random.Generator, size: tuple[int, int], partner_mask: Pixels) -> Pixels:
        """Returns a rectangle."""
        side = math.sqrt(1 - rng.beta(self.alpha, self.alpha))
        spans = []
        for length in size:
            half, centre = round(side * length) / 2, rng.uniform(0, length)
            spans.append(slice(max(0, round(centre - half)), max(0, round(centre + half))))
        found = np.zeros(size, np.uint8)
        found[spans[0], spans[1]] = 1
        return found


class ClassMix:
    """Pastes the pixels of half of the partner's classes, rounded up; its ignored pixels never.

    Source: Olsson et al., "ClassMix", WACV 2021, algorithm 1, with true masks in place of predicted ones.

    Args:
        probability: Of mixing a sample.
        seed: The run's seed.
    """

    looks_at_labels = True

    def __init__(self, probability: Fraction = 0.5, seed: NonNegativeInt = 0) -> None:
        self.probability, self.seed = probability, seed

    def region(self, rng: np.random.Generator, size: tuple[int, int], partner_mask: Pixels) -> Pixels:
        """Returns the pixels of random classes."""
        present = np.flatnonzero(np.bincount(partner_mask.ravel(), minlength=IGNORE_INDEX + 1)[:IGNORE_INDEX])
        is_pasted = np.zeros(IGNORE_INDEX + 1, np.uint8)
        is_pasted[rng.choice(present, -(-len(present) // 2), replace=False)] = 1
        return np.asarray(cv2.LUT(partner_mask, is_pasted), np.uint8)


def paste(
    image: Pixels, mask: Pixels, other_image: Pixels, other_mask: Pixels, region: Pixels
) -> tuple[Pixels, Pixels]:
    """Returns a sample with the pixels and labels of another where ``region`` is not 0; the arguments stay.

    Args:
        image: (H, W, 3).
        mask: (H, W).
        other_image: (H, W, 3).
        other_mask: (H, W).
        region: (H, W).
    """
    pixels = cv2.copyTo(other_image, region, image.copy())
    return np.asarray(pixels, np.uint8), np.asarray(cv2.copyTo(other_mask, region, mask.copy()), np.uint8)
