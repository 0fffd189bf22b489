"""Who of a run's ranks has answered and who has not, from what each has written into the store they share."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from torch.distributed import Store  # type: ignore[attr-defined]

T = TypeVar("T")

ADVICE = (
    "Was the command started on every node, with the same MASTER_ADDR and MASTER_PORT (torchrun: --rdzv-endpoint)? "
    "Does a firewall let the nodes connect? On machines with several networks GLOO_SOCKET_IFNAME or "
    "NCCL_SOCKET_IFNAME names the interface to use."
)
_LAST_WORD_S = 3.0  # ranks that give up do so within moments of each other


class RanksMissingError(ConnectionError):
    """Not all ranks of a run have answered in time."""


def wait_until(condition: Callable[[], bool], deadline: float | None) -> bool:
    """Asks again and again, so that signals get through; returns whether the condition came to hold in time.

    Args:
        condition: What is waited for.
        deadline: The time of ``time.monotonic`` at which to give up; None never does.
    """
    pause_s = 0.002
    while not condition():
        if deadline is not None and time.monotonic() >= deadline:
            return False
        time.sleep(pause_s)
        pause_s = min(0.1, pause_s * 1.5)
    return True


def asked_within(ask: Callable[[], T], timeout_s: float) -> T | None:
    """Returns a store's answer, None where there is none in time: a store behind a cut cable blocks for minutes.

    Args:
        ask: What is asked; goes on in a thread that nobody waits for. Its errors come out here.
        timeout_s: How long to wait for it.
    """
    answers: list[T] = []
    errors: list[Exception] = []

    def run() -> None:
        try:
            answers.append(ask())
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True, name="a question to the store")
    thread.start()
    thread.join(timeout_s)
    if errors:
        raise errors[0]
    return answers[0] if answers else None


def answer(store: Store, stage: str, rank: int, size: int, deadline: float, timeout_s: float, word: str = "") -> None:
    """Says that this rank has come to a stage, and waits until all have.

    Args:
        store: What the ranks share.
        stage: The name of the stage.
        rank: This rank.
        size: How many there are.
        deadline: The time of ``time.monotonic`` at which to give up.
        timeout_s: How long that is after the start, for the message.
        word: What else the others may read of this rank.

    Raises:
        RanksMissingError: If some don't; names them, and those that did.
    """
    store.set(f"{stage}/{rank}", word)
    keys = [f"{stage}/{r}" for r in range(size)]
    if not wait_until(lambda: bool(store.check(keys)), deadline):
        missing = [r for r, key in enumerate(keys) if not store.check([key])]
        raise RanksMissingError(not_answered(store, missing, size, timeout_s))


def not_answered(store: Store, missing: Sequence[int], size: int, timeout_s: float) -> str:
    """Returns which ranks are not there, where the others are, and what to look at.

    Args:
        store: What the ranks share.
        missing: The ranks.
        size: How many there are.
        timeout_s: How long they were waited for.
    """
    seen = {r: store.get(f"host/{r}").decode() for r in range(size) if store.check([f"host/{r}"])}
    there = ", ".join(f"rank {r} on host {where}" for r, where in seen.items() if r not in missing)
    known = "".join(f"; rank {r} was last seen on host {where}" for r, where in seen.items() if r in missing)
    plural, has = ("s", "have") if len(missing) > 1 else ("", "has")
    return (
        f"rank{plural} {', '.join(map(str, missing))} of {size} {has} not answered within {timeout_s:g} s "
        f"(answered: {there or 'none'}{known}). {ADVICE}"
    )


def why_not_ended(store: Store, rank: int, size: int, timeout_s: float, reason: str) -> str:
    """Returns which ranks took no part in an operation that did not end: the others say within a moment that they did.

    Args:
        store: What the ranks share.
        rank: This rank.
        size: How many there are.
        timeout_s: How long the operation was given.
        reason: What is known of it otherwise.
    """
    store.set(f"gave up/{rank}", "")

    def silent() -> list[int]:
        return [r for r in range(size) if not store.check([f"gave up/{r}"]) and not store.check([f"summed/{r}"])]

    wait_until(lambda: not silent(), time.monotonic() + _LAST_WORD_S)
    if missing := silent():
        return not_answered(store, missing, size, timeout_s)
    return f"all ranks are there but can't reach each other within {timeout_s:g} s: {reason}. {ADVICE}"
