"""The ranks that hold the rows of the same images, and which rows each of them owns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch.distributed import ProcessGroup

from segframe.contracts import Span

Range = tuple[int, int]
"""First row and the row after the last one, in the numbers of the whole map."""


@dataclass(frozen=True)
class Rows:
    """Ranks that share the rows of images, as one of them sees it.

    Attributes:
        rank: This rank's place in the group, from the top of the image.
        size: The number of ranks.
        group: Their process group; None for all ranks. Nothing is sent for tensors without data.
    """

    rank: int
    size: int
    group: ProcessGroup | None = None

    def __deepcopy__(self, memo: Any) -> Rows:
        return self

    def spans(self, height: int) -> list[Range]:
        """Returns the rows that each rank owns of a map of ``height`` rows: the same rule at every layer."""
        return [Span.part(height, rank, self.size)[:2] for rank in range(self.size)]

    def own(self, height: int) -> Range:
        """Returns the rows that this rank owns of a map of ``height`` rows."""
        return Span.part(height, self.rank, self.size)[:2]

    def check(self, height: int, operation: str) -> None:
        """Refuses a map of fewer rows than ranks, on every rank alike; to be called before anything is sent.

        Args:
            height: Rows of the map that is to be split.
            operation: What makes the map, for the message.

        Raises:
            ValueError: If a rank would own no row.
        """
        if height < self.size:
            raise ValueError(
                f"{operation} makes a map of {height} rows, and {self.size} ranks share the rows of each image, so "
                "that some would have none. Use larger crops or images, or fewer ranks for the rows of an image."
            )
