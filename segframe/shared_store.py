"""The store in which the ranks of a run leave each other words: kept by rank 0, or by torchrun's agent."""

from __future__ import annotations

import os
import socket
import time
from datetime import timedelta

from torch.distributed import PrefixStore, Store, TCPStore  # type: ignore[attr-defined]

from segframe.attempt import agreed_attempt
from segframe.ranks import LISTENER_VARIABLE, Place
from segframe.roll_call import ADVICE, RanksMissingError


class Joined:
    """What this process knows of the others.

    Attributes:
        store: Words that all ranks share; rank 0 or torchrun's agent keeps them.
        place: This rank's.
        counts: How often each name has been used, which makes its key unique.
    """

    def __init__(self, store: Store, place: Place) -> None:
        self.store, self.place = store, place
        self.counts: dict[str, int] = {}

    def key(self, name: str) -> str:
        """Returns another key for every use of a name, equal on all ranks."""
        self.counts[name] = self.counts.get(name, 0) + 1
        return f"{name}/{self.counts[name]}"


def connected(here: Place, timeout_s: float) -> Store:
    """Returns the store that rank 0 or torchrun's agent keeps, with keys of this attempt's own.

    Args:
        here: This rank's place.
        timeout_s: How long to wait for whoever keeps it.

    Raises:
        RanksMissingError: If it does not answer, or rank 0 can't keep it.
    """
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        if name not in os.environ:
            raise RanksMissingError(
                f"WORLD_SIZE={here.world_size} is set and {name} is not: start the ranks by torchrun."
            )
    keeps = here.rank == 0 and not is_agents()
    listener = int(os.environ[LISTENER_VARIABLE]) if keeps and LISTENER_VARIABLE in os.environ else None
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    try:
        store = TCPStore(
            address,
            port,
            world_size=None,
            is_master=keeps,
            timeout=timedelta(seconds=timeout_s),
            wait_for_workers=False,
            master_listen_fd=listener,
        )
    except RuntimeError as error:
        if keeps:
            raise RanksMissingError(
                f"rank 0 can't listen on MASTER_ADDR={address} MASTER_PORT={port} ({str(error).splitlines()[0]}); is "
                "the address one of this machine, and the port free?"
            ) from error
        raise RanksMissingError(
            f"rank 0 of {here.world_size} has not answered at {address}:{port} within {timeout_s:g} s, asked by rank "
            f"{here.rank} on host {socket.gethostname()}. {ADVICE}"
        ) from error
    if not is_agents():
        return PrefixStore("segframe", store)
    attempt = agreed_attempt(store, here.rank, here.world_size, time.monotonic() + timeout_s, timeout_s)
    return PrefixStore(f"segframe/{attempt}", store)


def is_agents() -> bool:
    """Whether torchrun's agent keeps the store, which then outlives the ranks."""
    return os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
