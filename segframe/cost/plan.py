"""Which cases a comparison has: what the lists of models, strategies and ranks come to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from segframe.config.compose import ConfigError, compose, resolved
from segframe.config.overrides import name_of
from segframe.cost.case import Case
from segframe.planning import AXES, batch_parts, check_grid

_REFUSED = {
    "trainer.devices": "ranks=",
    "trainer.num_nodes": "ranks=, all on this machine",
    "trainer.max_steps": "steps=",
    "trainer.max_epochs": "steps=",
    "run.dir": "out=",
    "resume": "nothing: every case starts anew",
}


def plan(
    models: Sequence[str], strategies: Sequence[str], ranks: Sequence[int], words: Sequence[str]
) -> tuple[list[Case], int]:
    """Returns the cases that there are, in the order in which they are measured, and the global batch.

    A strategy is measured on those numbers of ranks that it takes. One that says how many, ``single`` and ``hybrid``,
    is measured on as many, whatever the list says.

    Args:
        models: Options of conf/model, each with keys of its own behind ``+``, such as ``pspnet+encoder=resnet50``.
        strategies: Options of conf/strategy in the same form, such as ``hybrid+data=2+spatial=2``.
        ranks: Numbers of processes.
        words: Further ones of a training run, for all cases.

    Raises:
        ConfigError: If any case can't be composed, its batch doesn't divide, or nothing is left to measure.
    """
    _check(words)
    cases: list[Case] = []
    needed: dict[str, int] = {}
    batch = 0
    for model in models:
        for strategy in strategies:
            own = (*_words("model", model), *_words("strategy", strategy))
            chosen = ("data.num_workers=0", *words, *own)
            values = resolved(compose(chosen))
            batch, parts = int(values["data"]["batch_size"]), int(values["trainer"]["accumulate_grad_batches"])
            for n in _fitting(values, strategy, ranks):
                name, label = _label(model, with_keys=False), _label(strategy)
                cases.append(Case(name, label, n, (*chosen, f"trainer.devices={n}"), parts))
                needed[f"{label} x {n}"] = batch_parts(values, n) * parts
    _check_batch(batch, needed)
    return cases, batch


def _check(words: Sequence[str]) -> None:
    for name in map(name_of, words):
        if name in _REFUSED:
            raise ConfigError(f"{name} is decided by the benchmark; instead there is {_REFUSED[name]}")


def _words(group: str, option: str) -> list[str]:
    """Returns the words of an option with keys of its own; a key without a dot is one of the group."""
    name, *keys = option.split("+")
    words = [key if "." in name_of(key) else f"{group}.{key}" for key in keys]
    _check(words)
    if "data.batch_size" in map(name_of, words):
        raise ConfigError(f"{group}={option}: data.batch_size is the same for all cases; give it as a word of its own")
    return [f"{group}={name}", *words]


def _label(option: str, with_keys: bool = True) -> str:
    """Returns what a table calls an option: its name, and the keys without their groups, or the values alone."""
    name, *words = option.split("+")
    shown = (word.partition("=") for word in words)
    return " ".join([name, *(f"{key.rpartition('.')[2]}={value}" if with_keys else value for key, _, value in shown)])


def _fitting(values: dict[str, Any], strategy: str, ranks: Sequence[int]) -> list[int]:
    """Returns the numbers of ranks that a strategy is measured on: the one that it says, or those that it takes."""
    sizes = [int(values["strategy"].get(axis) or 0) for axis in AXES]
    if said := values["strategy"].get("ranks") or (math.prod(sizes) if math.prod(sizes) > 1 else None):
        return [int(said)]
    found, refused = [], None
    for n in ranks:
        try:
            check_grid(values, n)
        except ConfigError as error:
            refused = error
        else:
            found.append(n)
    if refused is not None and not found:
        raise ConfigError(f"strategy={strategy} has no case with ranks={','.join(map(str, ranks))}: {refused}")
    return found


def _check_batch(batch: int, needed: dict[str, int]) -> None:
    """Checks that the batch divides into the parts that each case needs."""
    common = math.lcm(*needed.values())
    for case, parts in needed.items():
        if batch % parts:
            raise ConfigError(
                f"data.batch_size={batch} is the batch of all ranks and doesn't divide into the {parts} parts (of "
                f"ranks and of trainer.accumulate_grad_batches) of {case}; data.batch_size="
                f"{max(1, batch // common) * common} suits all"
            )
