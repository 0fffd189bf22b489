"""How the ranks of a run find each other, agree on a few words, and make sure that all of them answer."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch.distributed import HashStore, PrefixStore, Store  # type: ignore[attr-defined]

from segframe import shared_store
from segframe.ranks import AnotherRankError, Place, place
from segframe.roll_call import RanksMissingError, answer, asked_within, not_answered, wait_until, why_not_ended
from segframe.shared_store import Joined

__all__ = ["AnotherRankError", "RanksMissingError", "agree", "failed_rank", "first_to_fail", "hosts", "join", "leave"]
__all__ += ["anywhere", "rank_0_first", "start_process_group"]

T = TypeVar("T")

_GIVEN_UP = "given up"
_ANSWER_S = 5.0  # in which a store answers that can be reached
_LINGER_S = 3.0  # how long rank 0, whose store the others read, waits for them at its end


_joined: Joined | None = None
_store: Store | None = None  # also where not all ranks have come


def join(timeout_s: float = 120.0) -> Store:
    """Waits until all ranks of the run are there; returns what they share. A second call returns the same.

    Args:
        timeout_s: How long to wait.

    Raises:
        RanksMissingError: If some don't answer; names them, and those that did.
    """
    global _joined, _store
    if _joined is not None:
        return _joined.store
    here = place()
    if here.world_size == 1:
        _joined = Joined(HashStore(), here)
        return _joined.store
    deadline = time.monotonic() + timeout_s
    store = _store = shared_store.connected(here, timeout_s)
    word = f"{socket.gethostname()} (process {os.getpid()})"
    answer(store, "host", here.rank, here.world_size, deadline, timeout_s, word)
    _joined = Joined(store, here)
    return store


def agree(name: str, value: T, timeout_s: float | None = None) -> T:
    """Returns the value of rank 0 on every rank.

    Args:
        name: What it is, the same on all ranks.
        value: This rank's; only rank 0's counts. It must fit into JSON.
        timeout_s: How long the others wait for rank 0; None waits until it has answered or ended.

    Raises:
        AnotherRankError: If rank 0 ended before it answered.
        RanksMissingError: If it does not answer.
    """
    joined = _need()
    if joined.place.world_size == 1:
        return value
    key = joined.key(name)
    if joined.place.rank == 0:
        joined.store.set(key, json.dumps(value))
        return value
    _wait_for(joined, key, timeout_s)
    answer: T = json.loads(joined.store.get(key))
    return answer


@contextmanager
def rank_0_first(name: str, on_each_node: bool = False) -> Iterator[bool]:
    """Lets rank 0 do a thing before the others do it, and tells whether this is the rank that does.

    What rank 0 leaves in a file, the others then read. They end if rank 0 fails at it.

    Args:
        name: What is done, the same on all ranks.
        on_each_node: Whether it is done once on each machine, by the first rank there.

    Raises:
        AnotherRankError: On the others, if the first one failed.
    """
    joined = _need()
    if joined.place.world_size == 1:
        yield True
        return
    key, here = joined.key(name), joined.place
    if on_each_node:
        key = f"{key}/{here.node_rank}"
    if (here.local_rank if on_each_node else here.rank) != 0:
        _wait_for(joined, key, None)
        if joined.store.get(key) == _GIVEN_UP.encode():
            raise AnotherRankError(f"the rank that goes first has failed at {name}")
        yield False
        return
    try:
        yield True
    except BaseException:
        joined.store.set(key, _GIVEN_UP)
        raise
    joined.store.set(key, "done")


def anywhere(name: str, value: bool) -> bool:
    """Returns on every rank whether something holds on any of them.

    Args:
        name: What it is, the same on all ranks.
        value: Whether it holds on this rank.
    """
    joined = _need()
    here, key = joined.place, joined.key(name)
    if here.world_size == 1:
        return value
    joined.store.set(f"{key}/{here.rank}", str(value))
    everyone = [f"{key}/{rank}" for rank in range(here.world_size)]
    wait_until(lambda: joined.store.check(everyone) or joined.store.check(["failed"]), None)
    return any(joined.store.check([each]) and joined.store.get(each) == b"True" for each in everyone)


def start_process_group(backend: str, device: torch.device, start_timeout_s: float, timeout_s: float) -> None:
    """Makes the process group and sees that all ranks take part in a sum; one that is there already is kept.

    Args:
        backend: ``gloo``, ``nccl`` or another of torch's.
        device: This rank's.
        start_timeout_s: How long to wait for the others here.
        timeout_s: How long to wait for them in every later operation.

    Raises:
        RanksMissingError: If a rank does not answer; names it.
    """
    if dist.is_initialized():
        return
    store = join(start_timeout_s)
    here = _need().place
    deadline = time.monotonic() + start_timeout_s
    answer(store, "entered", here.rank, here.world_size, deadline, start_timeout_s)
    try:
        _open_group(backend, store, here, device, start_timeout_s)
        total = torch.ones(1, device=device)
        work = dist.all_reduce(total, async_op=True)
        answered = work is None or wait_until(work.is_completed, deadline)
        if answered and work is not None:
            work.wait()
    except RuntimeError as error:
        raise RanksMissingError(
            why_not_ended(store, here.rank, here.world_size, start_timeout_s, str(error).splitlines()[0])
        ) from error
    if not answered:
        raise RanksMissingError(
            why_not_ended(store, here.rank, here.world_size, start_timeout_s, "a sum over all ranks did not end")
        )
    if int(total.item()) != here.world_size:
        raise RanksMissingError(
            f"a sum of 1 over {here.world_size} ranks gave {total.item():g}: two runs may share a port"
        )
    store.set(f"summed/{here.rank}", "")
    _set_timeout(timedelta(seconds=timeout_s))


def first_to_fail() -> bool:
    """Whether this rank is the first that has failed, and so is to tell why; decided once for all."""
    here = place()
    if here.world_size == 1:
        return True
    if _store is None:  # rank 0 was not found, and nobody can be asked
        return 0 in (here.rank, here.local_rank)
    store, rank = _store, str(here.rank)
    try:
        first = asked_within(lambda: store.compare_set("failed", "", rank), _ANSWER_S)
    except RuntimeError:
        return False  # rank 0 and its store are gone, so it failed before
    if first is None:
        _lose()
    return bool(first is None or first == rank.encode())


def failed_rank(timeout_s: float = 0.0) -> int | None:
    """Returns the rank that has said that it failed first, None where none has.

    Args:
        timeout_s: How long to wait for one to say so.

    Raises:
        ConnectionError: If rank 0, which would know, is gone.
    """
    if _joined is None or _joined.place.world_size == 1:
        return None
    store = _joined.store
    try:
        deadline = time.monotonic() + timeout_s
        said = asked_within(lambda: wait_until(lambda: store.check(["failed"]), deadline), timeout_s + _ANSWER_S)
        if said is None:
            _lose()
            raise ConnectionError("rank 0 does not answer any more")
        return int(store.get("failed")) if said else None
    except RuntimeError as error:
        raise ConnectionError("the connection to rank 0 was lost") from error


def _lose() -> None:
    """Forgets a store that does not answer, so that nothing waits for it again."""
    global _joined, _store
    _joined = _store = None


def hosts() -> list[str]:
    """Returns the host names of the ranks, in the order of their numbers."""
    if _joined is None or _joined.place.world_size == 1:
        return [socket.gethostname()]
    store = _joined.store
    return [store.get(f"host/{rank}").decode().split(" ")[0] for rank in range(_joined.place.world_size)]


def leave(linger_s: float = _LINGER_S) -> None:
    """Ends the process group; rank 0 stays a while for the others to read what it keeps for them.

    Args:
        linger_s: How long at most.
    """
    global _joined, _store
    joined, _joined, _store = _joined, None, None
    if dist.is_initialized():
        dist.destroy_process_group()
    if joined is None or joined.place.world_size == 1:
        return
    try:
        gone = joined.store.add("gone", 1)
        if joined.place.rank == 0 and not shared_store.is_agents() and gone < joined.place.world_size:
            everyone = joined.place.world_size
            wait_until(lambda: joined.store.add("gone", 0) >= everyone, time.monotonic() + linger_s)
    except RuntimeError:
        return  # rank 0 has not waited longer


def _need() -> Joined:
    join()
    assert _joined is not None
    return _joined


def _open_group(backend: str, store: Store, here: Place, device: torch.device, timeout_s: float) -> None:
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group(
        backend,
        store=PrefixStore("group", store),
        rank=here.rank,
        world_size=here.world_size,
        timeout=timedelta(seconds=timeout_s),
        device_id=device if device.type == "cuda" else None,
    )


def _set_timeout(timeout: timedelta) -> None:
    set_timeout = getattr(dist, "set_timeout", None) or dist.distributed_c10d._set_pg_timeout  # the older name
    set_timeout(timeout)


def _wait_for(joined: Joined, key: str, timeout_s: float | None) -> None:
    """Waits until rank 0 has written a key."""
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    try:
        written = wait_until(lambda: joined.store.check([key]) or joined.store.check(["failed"]), deadline)
        if not written:
            raise RanksMissingError(not_answered(joined.store, [0], joined.place.world_size, timeout_s or 0.0))
        if not joined.store.check([key]):
            raise AnotherRankError(f"rank {joined.store.get('failed').decode()} has failed")
    except dist.DistError as error:
        raise AnotherRankError("the connection to rank 0 was lost") from error
