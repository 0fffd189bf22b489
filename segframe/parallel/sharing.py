"""Who shares a module's statistics."""

from __future__ import annotations

from typing import Any

import torch.distributed as dist
from torch.distributed import ProcessGroup


class Ranks:
    """Ranks as a module knows them; copies are the same, since a process group can be neither copied nor pickled.

    Args:
        group: Their process group; None for all ranks.
        is_lost: Whether there was a group that has not come along.
    """

    def __init__(self, group: ProcessGroup | None, is_lost: bool = False) -> None:
        self.group, self.is_lost = group, is_lost

    def __deepcopy__(self, memo: Any) -> Ranks:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return Ranks, (None, self.is_lost or self.group is not None)

    @property
    def size(self) -> int:
        """How many they are."""
        if not (dist.is_available() and dist.is_initialized()):
            return 1
        if self.is_lost and dist.get_world_size() > 1:
            raise ValueError(
                "this net's BatchNorm shared statistics within a group of ranks, and the group did not come along in "
                "the file; call share_batch_norm(net, group) before training."
            )
        return dist.get_world_size(self.group)
