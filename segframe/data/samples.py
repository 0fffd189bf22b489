"""From a data set's pairs to batches: what runs inside a loader's workers."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from dataclasses import dataclass
from multiprocessing import connection

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from segframe.allocator import keep_freed_memory
from segframe.contracts import FILLER, IGNORE_INDEX, Batch, SegmentationDataset, Span
from segframe.data.augment import Augment, Augmented
from segframe.data.mix import Mix, paste
from segframe.data.randomness import Stream, generator
from segframe.data.reading import Pixels, own_rows, read, source
from segframe.data.sampler import Key

_GRACE_S = 30


@dataclass(frozen=True, slots=True)
class Sample:
    """One pair on its way into a batch: image (3, H, W) and mask (H, W), both uint8; and the number of its draw.

    Of a sample that is split over ranks these are some of its rows, and ``span`` says which.
    """

    image: Tensor
    mask: Tensor
    name: str
    index: int
    span: Span | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns of the whole sample."""
        return self.mask.shape[0] if self.span is None else self.span.height, self.mask.shape[1]


class TrainSamples(Dataset[Sample]):
    """Augmented samples by key, so that a worker need not be told which epoch it is.

    A sample is a pure function of its key. Draws of an epoch are numbered by the index in the data set, plus
    the length of the data set for each time that the index came before.

    Args:
        dataset: The pairs.
        augment: Applied to each.
        mix: Pastes part of another sample of the epoch into some; None does not.
        num_samples: How many of the pairs may be pasted, from the first; None takes all.
        row_part: (index, count): of which of ``count`` parts the samples' rows are, by ``Span.part``. The parts of
            all ranks make the whole sample, to the bit; what other ranks hold is read where it decides alone.
    """

    def __init__(
        self,
        dataset: SegmentationDataset,
        augment: Augment,
        mix: Mix | None = None,
        num_samples: int | None = None,
        row_part: tuple[int, int] = (0, 1),
    ) -> None:
        self.dataset, self.augment, self.mix, self.row_part = dataset, augment, mix, row_part
        self.num_samples = num_samples or len(dataset)

    def __len__(self) -> int:
        """Returns the number of pairs."""
        return len(self.dataset)

    def __getitem__(self, key: Key) -> Sample:
        """Returns the sample of a key; labels beyond the classes raise a ValueError."""
        draw = key.sample + key.repeat * len(self.dataset)
        image, mask, span = self._augmented(key, draw)
        if self.mix is not None:
            image, mask = self._mixed(self.mix, image, mask, span, key, draw)
        return Sample(
            torch.from_numpy(image).permute(2, 0, 1),
            torch.from_numpy(mask),
            self.dataset.name(key.sample),
            draw,
            span if self._is_split else None,
        )

    @property
    def _is_split(self) -> bool:
        return self.row_part[1] > 1

    def _augmented(self, key: Key, draw: int, whole_mask: bool = False) -> Augmented:
        pair = source(self.dataset, key.sample, self._is_split)
        found = self.augment.rows(pair, key.epoch, draw, key.wanted, self.row_part, whole_mask)
        check_labels(torch.from_numpy(found.mask), len(self.dataset.classes), self.dataset.name(key.sample))
        return found

    def _mixed(self, mix: Mix, image: Pixels, mask: Pixels, span: Span, key: Key, draw: int) -> tuple[Pixels, Pixels]:
        rng = generator(Stream.MIX, mix.seed, key.epoch, draw)
        if self.num_samples == 1 or rng.random() >= mix.probability:
            return image, mask
        partner = (key.sample + int(rng.integers(1, self.num_samples))) % self.num_samples
        other = self._augmented(Key(key.epoch, partner), partner, mix.looks_at_labels)
        size, other_size = ((rows.height, labels.shape[1]) for rows, labels in ((span, mask), (other.span, other.mask)))
        if other_size != size:
            sizes = [
                f"{self.dataset.name(index)} {'x'.join(map(str, shape))}"
                for index, shape in ((key.sample, size), (partner, other_size))
            ]
            raise ValueError(
                f"images of unequal sizes cannot be mixed ({', '.join(sizes)}); "
                "set augment.sample.crop_size=[rows, columns], or mix=none."
            )
        region, rows = mix.region(rng, size, other.mask), slice(span.start, span.stop)
        other_mask = other.mask[rows] if mix.looks_at_labels else other.mask
        return paste(image, mask, other.image, other_mask, region[rows])


class EvalSamples(Dataset[Sample]):
    """Whole images by index, or some of their rows.

    Args:
        dataset: The pairs.
        row_part: (index, count): of which of ``count`` parts the rows are.
    """

    def __init__(self, dataset: SegmentationDataset, row_part: tuple[int, int] = (0, 1)) -> None:
        self.dataset, self.row_part = dataset, row_part

    def __len__(self) -> int:
        """Returns the number of pairs."""
        return len(self.dataset)

    def __getitem__(self, index: int) -> Sample:
        """Returns a sample, for ``FILLER`` the first without labels; labels beyond the classes raise a ValueError."""
        number = 0 if index == FILLER else index
        image, mask, span = self._read(number)
        sample = Sample(
            image,
            torch.full_like(mask, IGNORE_INDEX) if index == FILLER else mask,
            self.dataset.name(number),
            index,
            span,
        )
        check_labels(sample.mask, len(self.dataset.classes), sample.name)
        return sample

    def _read(self, index: int) -> tuple[Tensor, Tensor, Span | None]:
        if self.row_part[1] == 1:
            return *read(self.dataset, index), None
        pair = source(self.dataset, index, in_parts=True)
        height, width = pair.size
        span = own_rows(height, self.row_part)
        place = slice(span.start, span.stop), slice(0, width)
        image, mask = pair.image(*place), pair.mask(*place)
        return torch.from_numpy(image).permute(2, 0, 1), torch.from_numpy(mask), span


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
    shapes = {sample.size: sample.name for sample in samples}
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
        span=samples[0].span,
    )


def set_up_worker(worker: int) -> None:
    """Keeps a worker to its own core and memory, and alive while a run that was told to stop writes its checkpoint.

    Ctrl-C, a scheduler and ``kill -- -PGID`` signal every process of a run, workers included.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # The run ends its workers itself; the alarm is for one that doesn't come to it.
    signal.signal(signal.SIGTERM, lambda *_: signal.alarm(_GRACE_S))
    threading.Thread(target=_end_with_parent, daemon=True, name="end with the run").start()
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    keep_freed_memory()


def _end_with_parent() -> None:
    """Ends this worker when its run is killed; torch looks at the parent's number, which with a forkserver stays."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGKILL)
