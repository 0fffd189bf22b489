"""The cases of a comparison: which model runs under which strategy on how many ranks, and how one is measured."""

from __future__ import annotations

import json
import math
import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from segframe.config.compose import ConfigError, compose, resolved
from segframe.config.overrides import name_of
from segframe.cost.rank import measure
from segframe.launch import start_ranks

_REFUSED = {
    "trainer.devices": "ranks=",
    "trainer.num_nodes": "ranks=, all on this machine",
    "trainer.max_steps": "steps=",
    "trainer.max_epochs": "steps=",
    "run.dir": "out=",
    "resume": "nothing: every case starts anew",
}
_POLL_S = 0.1


class Case(NamedTuple):
    """One model under one strategy on some ranks.

    Attributes:
        model: The option of conf/model.
        strategy: The option of conf/strategy.
        ranks: Processes.
        words: Those of the training run, but for its length and its folder.
    """

    model: str
    strategy: str
    ranks: int
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.model} {self.strategy} x {self.ranks}"


def plan(
    models: Sequence[str], strategies: Sequence[str], ranks: Sequence[int], words: Sequence[str]
) -> tuple[list[Case], int]:
    """Returns the cases that there are, in the order in which they are measured, and the global batch.

    A strategy of one process is measured in one process alone.

    Args:
        models: Options of conf/model.
        strategies: Options of conf/strategy.
        ranks: Numbers of processes.
        words: Further ones of a training run.

    Raises:
        ConfigError: If any case can't be composed, its batch doesn't divide, or nothing is left to measure.
    """
    for name in map(name_of, words):
        if name in _REFUSED:
            raise ConfigError(f"{name} is decided by the benchmark; instead there is {_REFUSED[name]}")
    cases: list[Case] = []
    batch = 0
    for model in models:
        for strategy in strategies:
            chosen = ("data.num_workers=0", *words, f"model={model}", f"strategy={strategy}")
            values = resolved(compose(chosen))
            batch, parts = int(values["data"]["batch_size"]), int(values["trainer"]["accumulate_grad_batches"])
            most = values["strategy"].get("ranks") or max(ranks)
            cases += [Case(model, strategy, n, (*chosen, f"trainer.devices={n}")) for n in ranks if n <= most]
            _check_batch(batch, parts, ranks)
    if not cases:
        raise ConfigError(f"strategy={','.join(strategies)} has no case with ranks={','.join(map(str, ranks))}")
    return cases, batch


def _check_batch(batch: int, parts: int, ranks: Sequence[int]) -> None:
    common = math.lcm(*ranks) * parts
    for count in ranks:
        if batch % (count * parts):
            raise ConfigError(
                f"data.batch_size={batch} is the batch of all ranks and doesn't divide over ranks={count} x "
                f"trainer.accumulate_grad_batches={parts}; data.batch_size={max(1, batch // common) * common} suits all"
            )


def run(case: Case, timed: int, total: int, folder: Path, at_step: Callable[[int], None]) -> dict[str, Any]:
    """Measures a case in processes of its own; returns what all ranks found together, or its error.

    Args:
        case: The case.
        timed: Steps whose time and traffic are measured.
        total: Steps of the run.
        folder: An empty one.
        at_step: Told how many steps are done, several times a second.
    """
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
    head = {"model": case.model, "strategy": case.strategy, "ranks": case.ranks}
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
