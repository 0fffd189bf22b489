"""Which of several failing ranks tells the user why: the one that failed first, once."""

from __future__ import annotations

import os
import socket
import sys
from contextlib import suppress

from segframe import logs, rendezvous
from segframe.ranks import SUPERVISED_VARIABLE, place

_FAILED_ALREADY_S = 1.0  # a rank that has failed says so before it ends and the others notice


def is_mine(by_another: bool) -> bool:
    """Whether this rank's error is the one that ended the run; True for one rank at most.

    Args:
        by_another: Whether the error only tells that another rank is gone.
    """
    here = place()
    if here.world_size == 1:
        return True
    if not by_another:
        return rendezvous.first_to_fail()
    if SUPERVISED_VARIABLE in os.environ:
        return False  # a rank that is gone has told why, or its supervisor does
    try:
        if rendezvous.failed_rank(_FAILED_ALREADY_S) is not None:
            return False
    except ConnectionError:
        return here.rank == 1
    return rendezvous.first_to_fail()


def tell(message: str, is_mine: bool, of_all: bool = False) -> None:
    """Writes why this rank ended: to the terminal if it is the one to do so, and into its log.

    Args:
        message: What to say.
        is_mine: Whether this rank is the one.
        of_all: Whether all ranks end for the same reason, so that it does not matter which tells.
    """
    here = place()
    if here.world_size == 1:
        print(f"\n{message}", file=sys.stderr, flush=True)
        return
    text = f"\n{message}" if of_all else f"\nrank {here.rank} (host {socket.gethostname()}): {message}"
    own = logs.current()
    if own is not None:
        with suppress(OSError):  # a full disk must not hide why
            print(text, file=own, flush=True)
    if is_mine:
        print(text, file=logs.terminal(), flush=True)
