"""What models, losses, data sets and the task agree on.

Shape suffixes: B batch, C channels, K classes, H rows, W columns; h and w are a net's own stride.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.nn import functional as F

IGNORE_INDEX = 255
"""The label of pixels that are neither trained on nor counted; every data set maps its own void to it."""

FILLER = -1
"""The position of an evaluation image that is not counted; it stands where a rank has none."""


class Span(NamedTuple):
    """Consecutive rows of a map of ``height`` rows: ``start`` to ``stop``, the last excluded."""

    start: int
    stop: int
    height: int

    @classmethod
    def part(cls, height: int, index: int, count: int) -> Span:
        """Returns the rows of part ``index`` of ``count``; the parts lie in order and differ by a row at most.

        Every layer's map is split by this rule alone, so nobody has to be asked who owns a row.
        """
        return cls(height * index // count, height * (index + 1) // count, height)


class Batch(NamedTuple):
    """Samples on their way from the loader to the device.

    Attributes:
        image: uint8 (B, 3, H, W), RGB.
        mask: uint8 (B, H, W), class ids and ``IGNORE_INDEX``.
        names: One file name or identifier per sample.
        indices: int64 (B,), the position of each sample in its data set; a training sample that an epoch
            has again has the length of the data set added each time.
        span: Which rows of its samples this is; None for whole ones.
    """

    image: Tensor
    mask: Tensor
    names: list[str]
    indices: Tensor
    span: Span | None = None

    @property
    def height(self) -> int:
        """The rows of a whole sample."""
        return self.mask.shape[-2] if self.span is None else self.span.height

    def part(self, index: int, count: int) -> Batch:
        """Returns part ``index`` of ``count`` of the rows of whole samples."""
        if count == 1:
            return self
        span = Span.part(self.height, index, count)
        rows = slice(span.start, span.stop)
        return self._replace(image=self.image[:, :, rows], mask=self.mask[:, rows], span=span)


class SegmentationOutput(NamedTuple):
    """What every model returns, in training and in evaluation alike.

    Attributes:
        logits: (B, K, h, w) at the net's own stride.
        auxiliary: Further (B, K, h', w') maps that only the loss looks at; empty without such heads.
    """

    logits: Tensor
    auxiliary: tuple[Tensor, ...] = ()

    def at_size(self, height: int, width: int) -> SegmentationOutput:
        """Returns the same maps, resized bilinearly (``align_corners=False``) to ``height`` x ``width``."""
        return SegmentationOutput(
            _resize(self.logits, height, width),
            tuple(_resize(extra, height, width) for extra in self.auxiliary),
        )


def _resize(x_BKhw: Tensor, height: int, width: int) -> Tensor:
    if x_BKhw.shape[-2:] == (height, width):
        return x_BKhw
    return F.interpolate(x_BKhw, size=(height, width), mode="bilinear", align_corners=False)


@dataclass(frozen=True)
class LossTerms:
    """A loss in a form that can be summed over micro-batches and ranks before any ratio is taken.

    The loss of a whole batch is ``finish(sum of the statistics of its parts)``, however it was cut.

    Attributes:
        statistics: (n,) sums over the samples at hand; differentiable where predictions enter.
        finish: Maps summed statistics to the scalar loss; 0 with zero gradient where nothing counts.
    """

    statistics: Tensor
    finish: Callable[[Tensor], Tensor]

    @classmethod
    def ratio(cls, total: Tensor, count: Tensor) -> LossTerms:
        """Returns the terms of ``total / count``, which is 0 where ``count`` is 0."""
        return cls(torch.stack((total, count.to(total.dtype))), _ratio)

    @classmethod
    def weighted_sum(cls, parts: Sequence[tuple[float, LossTerms]]) -> LossTerms:
        """Returns the terms of the sum of ``weight * loss`` over ``parts``."""
        sizes = [terms.statistics.numel() for _, terms in parts]

        def finish(statistics: Tensor) -> Tensor:
            pieces = statistics.split(sizes)  # type: ignore[no-untyped-call]
            values = [w * terms.finish(piece) for (w, terms), piece in zip(parts, pieces, strict=True)]
            return torch.stack(values).sum()

        return cls(torch.cat([terms.statistics for _, terms in parts]), finish)

    @property
    def value(self) -> Tensor:
        """The loss of the samples at hand alone."""
        return self.finish(self.statistics)

    def value_and_slope(self, statistics: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the loss of summed statistics, and its derivative by each of them; neither is differentiable."""
        with torch.enable_grad():
            leaf = statistics.detach().requires_grad_()
            value = self.finish(leaf)
            (slope,) = torch.autograd.grad(value, leaf)
        return value.detach(), slope


def _ratio(statistics: Tensor) -> Tensor:
    total, count = statistics.unbind()
    return total / torch.where(count > 0, count, torch.ones_like(count))


class Loss(Protocol):
    """A loss over one map of logits at the size of the mask."""

    def __call__(self, logits_BKHW: Tensor, target_BHW: Tensor) -> LossTerms:
        """Returns the summable terms; ``target_BHW`` is int64 with ``IGNORE_INDEX`` where nothing counts."""
        ...

    def target_statistics(self, target_BHW: Tensor) -> Tensor | None:
        """Returns the statistics that the mask alone decides, for losses whose gradient needs no others.

        Accumulation divides by the whole batch's normaliser before the first backward pass. A loss
        like cross-entropy knows it from the masks: it returns its statistics with 0 where predictions
        would enter. A loss that can't say (Dice, OHEM) returns None and pays one more forward pass.
        """
        ...


@runtime_checkable
class SegmentationModel(Protocol):
    """A net: single-device code, the same return type in training and evaluation."""

    def __call__(self, image_BCHW: Tensor) -> SegmentationOutput:
        """Maps normalised images of any size to logits."""
        ...


class SegmentationDataset(Protocol):
    """A list of (image, mask) pairs with random access.

    Attributes:
        classes: The names of the classes, in the order of their ids.
        palette: One (red, green, blue) of 0..255 per class.
    """

    classes: Sequence[str]
    palette: Sequence[tuple[int, int, int]]

    def __len__(self) -> int:
        """Returns the number of pairs."""
        ...

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Returns a uint8 image (3, H, W), RGB, and a uint8 mask (H, W)."""
        ...

    def name(self, index: int) -> str:
        """Returns what errors and pictures call the pair: its file name where it has one."""
        ...


@runtime_checkable
class FileBacked(Protocol):
    """A data set of files, whose masks and sizes can be had without decoding images."""

    def files(self, index: int) -> tuple[Path, ...]:
        """Returns the files that a pair is read from."""
        ...

    def mask(self, index: int) -> Any:
        """Returns the class ids of a pair as a uint8 array (H, W)."""
        ...

    def size(self, index: int) -> tuple[int, int]:
        """Returns the rows and columns of a pair's image."""
        ...


@runtime_checkable
class RowBacked(Protocol):
    """A data set that gives some rows of a pair for less than the price of all of them."""

    def size(self, index: int) -> tuple[int, int]:
        """Returns the rows and columns of a pair's image."""
        ...

    def image_rows(self, index: int, start: int, stop: int) -> Tensor:
        """Returns the rows ``start`` to ``stop``, at least one, of a pair's image: uint8 (3, stop - start, W)."""
        ...

    def mask_rows(self, index: int, start: int, stop: int) -> Tensor:
        """Returns the rows ``start`` to ``stop``, at least one, of a pair's mask: uint8 (stop - start, W)."""
        ...
