"""From a data set's pairs to batches: what runs inside a loader's workers."""

from __future__ import annotations

import signal
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from segframe.contracts import IGNORE_INDEX, Batch, SegmentationDataset
from segframe.data.augment import Augment
from segframe.data.sampler import Key

_GRACE_S = 30


@dataclass(frozen=True, slots=True)
class Sample:
    """One pair on its way into a batch: image (3, H, W) and mask (H, W), both uint8."""

    image: Tensor
    mask: Tensor
    name: str
    index: int


class SampleError(RuntimeError):
    """A data set failed to give a pair; says which."""


class TrainSamples(Dataset[Sample]):
    """Augmented samples by (epoch, index), so that a worker need not be told which epoch it is.

    Args:
        dataset: The pairs.
        augment: Applied to each.
    """

    def __init__(self, dataset: SegmentationDataset, augment: Augment) -> None:
        self.dataset, self.augment = dataset, augment

    def __len__(self) -> int:
        """Returns the number of pairs."""
        return len(self.dataset)

    def __getitem__(self, key: Key) -> Sample:
        """Returns the sample of an epoch; labels beyond the classes raise a ValueError."""
        epoch, index = key
        image, mask = read(self.dataset, index)
        pixels, labels = self.augment(image.permute(1, 2, 0).numpy(), mask.numpy(), epoch, index)
        sample = Sample(
            torch.from_numpy(pixels).permute(2, 0, 1),
            torch.from_numpy(labels),
            self.dataset.name(index),
            index,
        )
        check_labels(sample.mask, len(self.dataset.classes), sample.name)
        return sample


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
        """Returns a sample; labels beyond the classes raise a ValueError."""
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
    """Keeps a worker to its own core, and alive while the run that was told to stop writes its checkpoint.

    Ctrl-C, a scheduler and ``kill -- -PGID`` signal every process of a run, workers included.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # The run ends its workers itself; the alarm is for one that doesn't come to it.
    signal.signal(signal.SIGTERM, lambda *_: signal.alarm(_GRACE_S))
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
