"""Which samples come when: a pure function of (seed, epoch), the same whatever the ranks and workers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

from segframe.contracts import FILLER
from segframe.data.augment import Wanted
from segframe.data.randomness import Stream, generator


class Key(NamedTuple):
    """The address of a training sample.

    Attributes:
        epoch: From 0.
        sample: Its index in the data set.
        repeat: How often the epoch has had this sample before; each time it is augmented anew.
        wanted: What its crop shall hold.
    """

    epoch: int
    sample: int
    repeat: int = 0
    wanted: Wanted | None = None


class Draws(NamedTuple):
    """The samples of an epoch in their order, each int64 (N,).

    Attributes:
        sample: Indices in the data set.
        repeat: How often the sample came before.
        label: The class that the crop shall hold; -1 for any.
    """

    sample: NDArray[np.int64]
    repeat: NDArray[np.int64]
    label: NDArray[np.int64]

    @classmethod
    def of(cls, sample: NDArray[np.int64], label: NDArray[np.int64] | None = None) -> Draws:
        """Returns the draws of samples, whose repeats it counts."""
        order = np.argsort(sample, kind="stable")
        first = np.searchsorted(sample[order], sample[order])
        repeat = np.empty_like(sample)
        repeat[order] = np.arange(len(sample)) - first
        return cls(sample, repeat, np.full_like(sample, -1) if label is None else label)


class Sampling(Protocol):
    """Decides which samples make an epoch, of which there are always as many.

    Attributes:
        crop_share: The smallest share of its labelled pixels that a crop shall hold of the class it is drawn for.
        identity: A text that changes with anything that changes the draws besides seed and epoch.
    """

    crop_share: float
    identity: str

    def draw(self, seed: int, epoch: int) -> Draws:
        """Returns the samples of an epoch, a pure function of the arguments."""
        ...


class Uniform:
    """Every sample once an epoch, in random order.

    Args:
        num_samples: Samples in the data set.
        class_counts: Not looked at.
        shuffle: False keeps the order of the data set.
    """

    def __init__(self, num_samples: int, class_counts: object = None, shuffle: bool = True) -> None:
        self.num_samples, self.shuffle = num_samples, shuffle
        self.crop_share = 0.0
        self.identity = "uniform" if shuffle else "in order"

    def draw(self, seed: int, epoch: int) -> Draws:
        """Returns a permutation."""
        order = np.arange(self.num_samples)
        if self.shuffle:
            order = generator(Stream.ORDER, seed, epoch).permutation(self.num_samples)
        return Draws(order, np.zeros_like(order), np.full_like(order, -1))


class TrainBatchSampler(Sampler[list[Key]]):
    """Cuts an epoch into global batches and yields one rank's part of each.

    Rank r of W gets the r-th of W equal, contiguous parts of every micro-batch of a global batch, so that
    micro-batch p of all ranks holds what micro-batch p of one process holds, in the same order. Samples past
    the last full batch are left out of the epoch.

    Args:
        num_samples: Samples in the data set, and in an epoch.
        batch_size: Samples of a global batch: of one optimizer step, over all ranks.
        rank: This process among those that share a batch.
        world_size: Number of these processes.
        seed: Decides the draws together with the epoch.
        sampling: Which samples make an epoch; None takes each once.
        num_parts: Micro-batches that a rank cuts its part into.

    Raises:
        ValueError: If ranks and their micro-batches cannot share the batch equally, or the data set is smaller
            than one batch.
    """

    def __init__(
        self,
        num_samples: int,
        batch_size: int,
        rank: int = 0,
        world_size: int = 1,
        seed: int = 0,
        sampling: Sampling | None = None,
        num_parts: int = 1,
    ) -> None:
        # One rank's micro-batches are contiguous whatever their number, which the task checks.
        self.num_parts = num_parts if world_size > 1 else 1
        _check_divisible(batch_size, world_size, self.num_parts)
        if num_samples < batch_size:
            raise ValueError(
                f"the training set has {num_samples} samples and a batch takes data.batch_size={batch_size}: "
                f"no batch can be filled. Lower data.batch_size to at most {num_samples}."
            )
        self.num_samples, self.batch_size = num_samples, batch_size
        self.rank, self.world_size = rank, world_size
        self.seed, self.sampling = seed, sampling or Uniform(num_samples)
        self._epoch, self._batch = 0, 0

    def set_position(self, epoch: int, batch: int = 0) -> None:
        """Makes the next pass, and only that, begin at a batch of an epoch; later passes follow from 0."""
        if not 0 <= batch <= len(self):
            raise ValueError(f"batch={batch} is outside an epoch of {len(self)} batches.")
        self._epoch, self._batch = epoch, batch

    def __len__(self) -> int:
        """Returns the number of batches of a whole epoch, wherever the next pass begins."""
        return self.num_samples // self.batch_size

    def __iter__(self) -> Iterator[list[Key]]:
        """Yields lists of keys; batches before the position are not looked at."""
        # The position is taken with the first batch: a DataLoader with workers makes two iterators, and uses one.
        epoch, first = self._epoch, self._batch
        self.set_position(epoch + 1)
        draws = self.sampling.draw(self.seed, epoch)
        mine = self._places()
        for batch in range(first, len(self)):
            places = batch * self.batch_size + mine
            rows = zip(*(part[places].tolist() for part in draws), strict=True)
            yield [self._key(epoch, *row) for row in rows]

    def _places(self) -> NDArray[np.int64]:
        """Returns the places in a global batch that are this rank's."""
        places = np.arange(self.batch_size).reshape(self.num_parts, self.world_size, -1)
        mine: NDArray[np.int64] = places[:, self.rank].ravel()
        return mine

    def _key(self, epoch: int, sample: int, repeat: int, label: int) -> Key:
        return Key(epoch, sample, repeat, None if label < 0 else Wanted(label, self.sampling.crop_share))


class EvalBatchSampler(Sampler[list[int]]):
    """Gives rank r of W the samples r, r + W, r + 2W, ..., in batches; no sample is repeated or left out.

    A rank for which there is none gets ``FILLER``, which is not counted.

    Args:
        num_samples: Samples in the data set.
        batch_size: Samples per batch and rank; the last batch may be smaller.
        rank: This process among those that share the data set.
        world_size: Number of these processes.
    """

    def __init__(self, num_samples: int, batch_size: int, rank: int = 0, world_size: int = 1) -> None:
        # Lightning takes a rank without a batch out of the evaluation, and the others wait for it.
        self.indices: Sequence[int] = range(rank, num_samples, world_size) or (FILLER,)
        self.batch_size = batch_size

    def __len__(self) -> int:
        """Returns the number of this rank's batches."""
        return -(-len(self.indices) // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        """Yields lists of indices."""
        for start in range(0, len(self.indices), self.batch_size):
            yield [*self.indices[start : start + self.batch_size]]


def _check_divisible(batch_size: int, world_size: int, num_parts: int) -> None:
    shares = world_size * num_parts
    if batch_size % shares == 0:
        return
    below, above = batch_size // shares * shares, -(-batch_size // shares) * shares
    nearest = f"{below} or {above}" if below else f"{above}"
    raise ValueError(
        f"data.batch_size={batch_size} is the global batch and must be a multiple of the {world_size} ranks "
        f"that share it{f' x their {num_parts} micro-batches' if num_parts > 1 else ''}; the nearest is {nearest}."
    )
