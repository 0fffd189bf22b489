"""What is known of a data set's split after a scan."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from segframe.contracts import SegmentationDataset
from segframe.data.labels import LabelMap
from segframe.data.pairs import FilePairs, UnpairedError

Size = tuple[int, int]
Value = int | tuple[int, int, int]
Kind = Literal["unreadable", "missing", "size", "form", "labels", "failed"]


class Problem(NamedTuple):
    """What is wrong with a pair.

    Attributes:
        kind: One of a few.
        file: Which of its files, or the pair's name.
        text: The whole message.
    """

    kind: Kind
    file: str
    text: str


@dataclass
class PairFacts:
    """What was seen of a pair.

    Attributes:
        file: What to call its label map: the file where it has one.
        image: What to call its image.
        problems: What is wrong.
        image_size: Rows and columns.
        values: Pixels by what the label map's file holds: source ids or colours.
        counts: Pixels per class, (K,); None where they could not be counted.
        ignored: Pixels that are ignored.
        digest: Of the decoded image; None where images are not read.
        label_digest: Of the label map, likewise.
        is_grey: Whether the image's channels are equal.
        brightest: The largest value of an image of 16 bits.
    """

    file: str
    image: str
    problems: list[Problem] = field(default_factory=list)
    image_size: Size | None = None
    values: dict[Value, int] = field(default_factory=dict)
    counts: NDArray[np.int64] | None = None
    ignored: int = 0
    digest: bytes | None = None
    label_digest: bytes | None = None
    is_grey: bool = False
    brightest: int | None = None

    def has(self, kind: Kind) -> bool:
        """Returns whether a problem of this kind was seen."""
        return any(problem.kind == kind for problem in self.problems)


@dataclass
class Split:
    """A data set's split and what a scan saw of it.

    Attributes:
        name: ``train`` or ``val``.
        dataset: The pairs; None where they could not be had.
        error: Why not.
        unpaired: Which files have no partner.
        pairs: What was seen, in the order of the data set.
    """

    name: str
    dataset: SegmentationDataset | None = None
    error: Exception | None = None
    unpaired: UnpairedError | None = None
    pairs: list[PairFacts] = field(default_factory=list)

    @property
    def label_map(self) -> LabelMap | None:
        """The table from source ids to class ids; None where the data set gives class ids itself."""
        return self.dataset.label_map if isinstance(self.dataset, FilePairs) else None

    @property
    def values(self) -> Counter[Value]:
        """Pixels by what the label maps' files hold, over all pairs."""
        total: Counter[Value] = Counter()
        for pair in self.pairs:
            total.update(pair.values)
        return total

    @property
    def counts(self) -> NDArray[np.int64]:
        """Pixels per pair and class, (N, K); 0 where a pair could not be read."""
        num_classes = len(self.dataset.classes) if self.dataset is not None else 0
        nothing = np.zeros(num_classes, np.int64)
        rows = [nothing if pair.counts is None else pair.counts for pair in self.pairs]
        return np.stack(rows) if rows else np.zeros((0, num_classes), np.int64)
