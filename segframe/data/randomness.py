"""Randomness that is a pure function of (seed, epoch, index): nothing to carry over, nothing to restore."""

from __future__ import annotations

from enum import IntEnum

import numpy as np


class Stream(IntEnum):
    """What random numbers are for; streams with equal seeds are independent."""

    ORDER = 1
    WINDOW = 2
    COLOUR = 3
    ROTATION = 4
    BLUR = 5
    ERASING = 6
    MIX = 7


def generator(stream: Stream, seed: int, epoch: int, index: int = 0) -> np.random.Generator:
    """Returns a generator at the start of the sequence that belongs to its arguments alone.

    Philox (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011) maps a counter to
    random bits: the epoch and the index are the upper words of the counter, so sequences never overlap.

    Args:
        stream: The use of the numbers.
        seed: The run's seed, >= 0; the lowest 64 bits count.
        epoch: From 0.
        index: The draw of the epoch, from 0.

    >>> a, b = generator(Stream.WINDOW, 0, 3, 7), generator(Stream.WINDOW, 0, 3, 7)
    >>> a.random() == b.random()
    True
    """
    key = (int(stream) << 64) + seed % 2**64
    return np.random.Generator(np.random.Philox(key=key, counter=[0, 0, index, epoch]))
