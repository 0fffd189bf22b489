"""A case of a comparison, a model under a strategy on some ranks, and how it is measured."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from segframe.cost.length import length_of
from segframe.cost.rank import measure
from segframe.launch import start_ranks

_POLL_S = 0.1


class Case(NamedTuple):
    """One model under one strategy on some ranks.

    Attributes:
        model: The option of conf/model, and what was set beside it.
        strategy: The option of conf/strategy, and what was set beside it.
        ranks: Processes.
        words: Those of the training run, but for its length and its folder.
        micro_batches: Of a rank's part of a batch.
    """

    model: str
    strategy: str
    ranks: int
    words: tuple[str, ...]
    micro_batches: int = 1

    def __str__(self) -> str:
        return f"{self.model} {self.strategy} x {self.ranks}"


def run(case: Case, timed: int, folder: Path, at_step: Callable[[int], None] = lambda step: None) -> dict[str, Any]:
    """Measures a case in processes of its own; returns what all ranks found together, or its error.

    Args:
        case: The case.
        timed: Steps whose time and traffic are measured; 0 to count memory and traffic alone.
        folder: An empty one.
        at_step: Told how many steps are done, several times a second.
    """
    total = length_of(timed).total
    length = ("trainer.max_epochs=-1", f"trainer.max_steps={total}", "trainer.limit_val_batches=0")
    words = (*case.words, *length, f"run.dir={folder}")
    team = start_ranks(
        measure, (words, timed, str(folder)), case.ranks, log_dir=folder, environment={"OMP_NUM_THREADS": "1"}
    )
    try:
        waiting = threading.Thread(target=team.wait, daemon=True)
        waiting.start()
        while waiting.is_alive():
            at_step(_progress(folder))
            time.sleep(_POLL_S)
    except BaseException:
        team.kill()
        raise
    at_step(_progress(folder))
    head = {key: getattr(case, key) for key in ("model", "strategy", "ranks", "micro_batches")}
    if team.first_failed is not None:
        return head | {"error": _last_words(folder / f"rank-{team.first_failed}.log")}
    found = [json.loads((folder / f"rank-{rank}.json").read_text(encoding="utf-8")) for rank in range(case.ranks)]
    return head | {"per_rank": found}


def num_cores() -> int:
    """Returns how many cores the ranks can be bound to."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _progress(folder: Path) -> int:
    path = folder / "progress"
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return int(text or 0)


def _last_words(log: Path) -> str:
    """Returns the error that a rank ended with."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []
    told = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return (told or [line for line in lines if line.strip()] or ["it said nothing"])[-1]
