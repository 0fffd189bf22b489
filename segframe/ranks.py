"""Which of a run's processes this one is; known from the environment, before torch is imported."""

from __future__ import annotations

import os
from typing import NamedTuple

LISTENER_VARIABLE = "SEGFRAME_STORE_LISTENER"
"""The descriptor of a socket that rank 0 listens on already, where segframe has started the ranks."""

RUN_DIR_VARIABLE = "SEGFRAME_RUN_DIR"
"""Names the run folder for every process of a run: the clock would give each rank another one."""

SUPERVISED_VARIABLE = "SEGFRAME_SUPERVISED"
"""Set where segframe has started the ranks, and its first process watches them."""

ENDED_BY_ANOTHER = 3
"""The exit code of a rank that ends only because another one has failed."""


class AnotherRankError(RuntimeError):
    """This rank ends because another one has failed, which tells why itself."""


class Place(NamedTuple):
    """The place of a process among those of a run.

    Attributes:
        rank: Its number among all, from 0.
        world_size: How many there are.
        local_rank: Its number on this machine; on GPUs the device that it takes.
        local_world_size: How many run on this machine.
        node_rank: The number of this machine.
    """

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    local_world_size: int = 1
    node_rank: int = 0


def place() -> Place:
    """Returns where this process stands by torchrun's variables; alone where there are none.

    Raises:
        ValueError: If the variables contradict each other.
    """
    if "RANK" not in os.environ:
        return Place()
    rank, world_size = _number("RANK"), _number("WORLD_SIZE", 1)
    if not 0 <= rank < world_size:
        raise ValueError(
            f"RANK={rank} in the environment is none of WORLD_SIZE={os.environ.get('WORLD_SIZE', '1 (not set)')} "
            "processes. torchrun sets both; `unset RANK` if it is left over from another program."
        )
    local_size = _number("LOCAL_WORLD_SIZE", world_size)
    node = rank // max(local_size, 1)
    return Place(
        rank, world_size, _number("LOCAL_RANK", rank % max(local_size, 1)), local_size, _number("GROUP_RANK", node)
    )


def is_main_process() -> bool:
    """Whether this process is the first of the run, also before Lightning knows its rank."""
    return place().rank == 0


def _number(name: str, otherwise: int | None = None) -> int:
    """Returns a variable as a number."""
    text = os.environ.get(name, "" if otherwise is None else str(otherwise))
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{name}={text!r} in the environment must be a whole number, as torchrun sets it.") from None
