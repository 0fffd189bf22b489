"""The attempts of a run under torchrun, whose store outlives the ranks of each."""

from __future__ import annotations

import json
import uuid

from torch.distributed import Store  # type: ignore[attr-defined]

from segframe.roll_call import RanksMissingError, not_answered, wait_until

_LED = "attempt"


def agreed_attempt(store: Store, rank: int, size: int, deadline: float, timeout_s: float) -> str:
    """Returns a word that all ranks of this attempt have in common, and those of no earlier one had.

    Nothing that torchrun tells its workers does: it keeps their store's port, and counts restarts on each node for
    itself, by the failures of that node's own workers. So each rank writes a word that it has just drawn, and rank 0's
    is the attempt's for all whose word it has read: before a rank starts, those of earlier attempts have ended.

    Args:
        store: What the ranks share, and with them what earlier attempts have left.
        rank: This rank.
        size: How many there are.
        deadline: The time of ``time.monotonic`` at which to give up.
        timeout_s: How long that is after the start, for the message.

    Raises:
        RanksMissingError: If rank 0 has not read this rank's word in time.
    """
    own = uuid.uuid4().hex
    if rank == 0:
        _lead(store, own, size, deadline)
        return own
    store.set(f"{_LED}/{rank}", own)
    if not wait_until(lambda: _led(store).get(str(rank)) == own, deadline):
        raise RanksMissingError(
            f"{not_answered(store, [0], size, timeout_s)} After a machine has come back to a run, torchrun tells its "
            "workers an earlier address of rank 0, unless TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 is set on all of them, "
            "as scripts/torchrun.sh does."
        )
    word = _led(store)["0"]
    store.set(f"{word}/{rank}", "")
    return word


def _lead(store: Store, own: str, size: int, deadline: float) -> None:
    """Tells the others which of their words have been read, until all have seen their own among them or time is up."""
    told: dict[str, str] = {}

    def all_know() -> bool:
        nonlocal told
        words = {str(r): store.get(f"{_LED}/{r}").decode() for r in range(1, size) if store.check([f"{_LED}/{r}"])}
        if told != (now := {"0": own, **words}):
            store.set(_LED, json.dumps(now))
            told = now
        return bool(store.check([f"{own}/{r}" for r in range(1, size)]))

    wait_until(all_know, deadline)  # who is missing is told by the roll call that follows


def _led(store: Store) -> dict[str, str]:
    words: dict[str, str] = json.loads(store.get(_LED)) if store.check([_LED]) else {}
    return words
