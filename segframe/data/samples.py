"""From a data set's pairs to batches: what runs inside a loader's workers."""

from __future__ import annotations

import signal
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from segframe.allocator import keep_freed_memory
from segframe.contracts import FILLER, IGNORE_INDEX, Batch, SegmentationDataset
from segframe.data.augment import Augment
from segframe.data.mix import Mix, paste
from segframe.data.randomness import Stream, generator
from segframe.data.sampler import Key
from segframe.data.warp import Pixels

_GRACE_S = 30


@dataclass(frozen=True, slots=True)
class Sample:
    """One pair on its way into a batch: image (3, H, W) and mask (H, W), both uint8; and the number of its draw."""

    image: Tensor
    mask: Tensor
    name: str
    index: int


class SampleError(RuntimeError):
    """A data set failed to give a pair; says which."""


class TrainSamples(Dataset[Sample]):
    """Augmented samples by key, so that a worker need not be told which epoch it is.

    A sample is a pure function of its key. Draws of an epoch are numbered by the index in the data set, plus
    the length of the data set for each time that the index came before.

    Args:
        dataset: The pairs.
        augment: Applied to each.
        mix: Pastes part of another sample of the epoch into some; None does not.
        num_samples: How many of the pairs may be pasted, from the first; None takes all.
    """

    def __init__(
        self,
        dataset: SegmentationDataset,
        augment: Augment,
        mix: Mix | None = None,
        num_samples: int | None = None,
    ) -> None:
        self.dataset, self.augment, self.mix = dataset, augment, mix
        self.num_samples = num_samples or len(dataset)

    def __len__(self) -> int:
        """Returns the number of pairs."""
        return len(self.dataset)

    def __getitem__(self, key: Key) -> Sample:
        """Returns the sample of a key; labels beyond the classes raise a ValueError."""
        draw = key.sample + key.repeat * len(self.dataset)
        image, mask = self._augmented(key, draw)
        if self.mix is not None:
            image, mask = self._mixed(self.mix, image, mask, key, draw)
        return Sample(
            torch.from_numpy(image).permute(2, 0, 1), torch.from_numpy(mask), self.dataset.name(key.sample), draw
        )

    def _augmented(self, key: Key, draw: int) -> tuple[Pixels, Pixels]:
        image, mask = read(self.dataset, key.sample)
        pixels, labels = self.augment(image.permute(1, 2, 0).numpy(), mask.numpy(), key.epoch, draw, key.wanted)
        check_labels(torch.from_numpy(labels), len(self.dataset.classes), self.dataset.name(key.sample))
        return pixels, labels

    def _mixed(self, mix: Mix, image: Pixels, mask: Pixels, key: Key, draw: int) -> tuple[Pixels, Pixels]:
        rng = generator(Stream.MIX, mix.seed, key.epoch, draw)
        if self.num_samples == 1 or rng.random() >= mix.probability:
            return image, mask
        partner = (key.sample + int(rng.integers(1, self.num_samples))) % self.num_samples
        other_image, other_mask = self._augmented(Key(key.epoch, partner), partner)
        if other_mask.shape != mask.shape:
            sizes = [
                f"{self.dataset.name(index)} {'x'.join(map(str, labels.shape))}"
                for index, labels in ((key.sample, mask), (partner, other_mask))
            ]
            raise ValueError(
                f"images of unequal sizes cannot be mixed ({', '.join(sizes)}); "
                "set augment.sample.crop_size=[rows, columns], or mix=none."
            )
        return paste(image, mask, other_image, other_mask, mix.region(rng, other_mask))


class EvalSamples(Dataset[Sample]):
    """Whole images by index.

    Args:
        dataset: The pairs.
    """

    def __init__(self, dataset: SegmentationDataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        """Returns the number of pairs."""
        return len(self.dataset)

    def __getitem__(self, index: int) -> Sample:
        """Returns a sample, for ``FILLER`` the first without labels; labels beyond the classes raise a ValueError."""
        if index == FILLER:
            image, mask = read(self.dataset, 0)
            return Sample(image, torch.full_like(mask, IGNORE_INDEX), self.dataset.name(0), FILLER)
        image, mask = read(self.dataset, index)
        sample = Sample(image, mask, self.dataset.name(index), index)
        check_labels(mask, len(self.dataset.classes), sample.name)
        return sample


def read(dataset: SegmentationDataset, index: int) -> tuple[Tensor, Tensor]:
    """Returns a pair; an error names it, whatever went wrong.

    Raises:
        SampleError: If the data set failed with an error that does not name the pair.
    """
    try:
        return dataset[index]
    except Exception as error:
        name = dataset.name(index)
        if name in str(error):
            raise
        raise SampleError(
            f"{type(dataset).__name__}: sample {index} ({name}) could not be read: {type(error).__name__}: {error}"
        ) from error


def check_labels(mask: Tensor, num_classes: int, name: str) -> None:
    """Checks that a uint8 mask holds class ids and the ignore label only.

    Raises:
        ValueError: If it holds others; names the file and the labels.
    """
    labels = mask.numpy()
    if not ((labels >= num_classes) & (labels != IGNORE_INDEX)).any():
        return
    wrong = [int(value) for value in np.unique(labels) if num_classes <= value != IGNORE_INDEX]
    raise ValueError(
        f"{name}: the mask holds the labels {wrong}; expected 0 to {num_classes - 1} for the {num_classes} classes "
        f"and {IGNORE_INDEX} for ignored pixels. Correct the file, or map these labels in the data set."
    )


def collate_train(samples: list[Sample]) -> Batch:
    """Stacks augmented samples."""
    return _collate(samples, "set augment.sample.crop_size=[rows, columns], or data.batch_size=1.")


def collate_eval(samples: list[Sample]) -> Batch:
    """Stacks whole images, which must have one size."""
    return _collate(samples, "set data.val_batch_size=1.")


def _collate(samples: list[Sample], remedy: str) -> Batch:
    shapes = {tuple(sample.mask.shape): sample.name for sample in samples}
    if len(shapes) > 1:
        found = ", ".join(f"{name} {height}x{width}" for (height, width), name in shapes.items())
        raise ValueError(f"images of unequal sizes cannot stand in one batch ({found}); {remedy}")
    # Stacked as (B, H, W, 3), the memory order that decoders write and channels_last nets read.
    image = torch.stack([sample.image.permute(1, 2, 0) for sample in samples]).permute(0, 3, 1, 2)
    return Batch(
        image=image,
        mask=torch.stack([sample.mask for sample in samples]),
        names=[sample.name for sample in samples],
        indices=torch.tensor([sample.index for sample in samples], dtype=torch.int64),
    )


def set_up_worker(worker: int) -> None:
    """Keeps a worker to its own core and memory, and alive while a run that was told to stop writes its checkpoint.

    Ctrl-C, a scheduler and ``kill -- -PGID`` signal every process of a run, workers included.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # The run ends its workers itself; the alarm is for one that doesn't come to it.
    signal.signal(signal.SIGTERM, lambda *_: signal.alarm(_GRACE_S))
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    keep_freed_memory()
