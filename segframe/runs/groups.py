"""The runs that are compared: single ones, and groups that differ in their seed alone."""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segframe.config.options import ConfigError
from segframe.runs.configuration import CONSTRUCTOR
from segframe.runs.filters import check_keys, parse_filter
from segframe.runs.folders import is_run, nearest_folder, run_folders
from segframe.runs.load import differing_keys, values_of
from segframe.runs.record import Record, read_record

SAME_NUMBERS = (
    "check",
    "strategy.",
    "trainer.devices",
    "trainer.num_nodes",
    "trainer.accelerator",
    "trainer.profiler",
    "trainer.log_every_n_steps",
    "trainer.auto_batch",
    "data.num_workers",
    "data.pin_memory",
    "dataset.root",
    "dataset.cache",
    "callbacks.checkpoints.",
    "callbacks.training_log.",
    "callbacks.progress_bar.",
)
"""Keys that say where and how a run computes, not what: the runs of a group may differ in them."""


@dataclass(frozen=True)
class Group:
    """Runs of one configuration.

    Attributes:
        letter: What tables call it: A, B, C, ...
        text: The word that named it.
        records: Its runs by seed.
    """

    letter: str
    text: str
    records: list[Record]

    @property
    def seeds(self) -> list[Any]:
        """The seed of each run."""
        return [record.config.get("seed") for record in self.records]

    @property
    def is_single(self) -> bool:
        """Whether it is one run."""
        return len(self.records) == 1


def groups_of(words: Sequence[str]) -> list[Group]:
    """Returns the groups that words name.

    Args:
        words: Each a run folder, several with commas, a pattern with ``*``, a folder of runs, or
            ``FOLDER:KEY=VALUE`` for those of its runs that fulfil a condition.

    Raises:
        ConfigError: If a word names no run, a run is named twice, or runs of a group differ in more than the seed.
    """
    groups = [Group(_letter(i), word, _by_seed(_records(word))) for i, word in enumerate(words)]
    _check_once(groups)
    for group in groups:
        _check_alike(group)
    return groups


def differences(groups: Sequence[Group]) -> dict[str, list[str]]:
    """Returns what groups differ in: by option or dotted key, what each has; a group's several values with commas."""
    records = [record for group in groups for record in group.records]
    found: dict[str, list[str]] = {}
    for name in ("model", "dataset", "strategy"):
        found[name] = [_folded(record.options.get(name) for record in group.records) for group in groups]
    for key in differing_keys(records):
        found[key] = [_folded(record.config.get(key, "-") for record in group.records) for group in groups]
    return {key: values for key, values in found.items() if len(set(values)) > 1}


def titles(groups: Sequence[Group], most: int = 2) -> list[str]:
    """Returns a short name of each group: what sets it apart from the others, else its folder's name."""
    apart = differences(groups)
    keys = [key for key in apart if key in ("model", "dataset")]
    keys += [key for key in apart if key.split(".")[0] not in (*keys, "strategy") and "." in key]
    shown = keys[:most]
    if not shown:
        return [f"{group.letter} {group.records[0].folder.absolute().name}" for group in groups]
    named = [
        [apart[key][i] if key in ("model", "dataset") else _word(key, apart[key][i]) for key in shown]
        for i in range(len(groups))
    ]
    return [f"{group.letter} {' '.join(parts)}" for group, parts in zip(groups, named, strict=True)]


def _word(key: str, value: str) -> str:
    """Returns KEY=VALUE; of what a section makes the section and the last part of a name."""
    section, _, name = key.rpartition(".")
    return f"{section}={value.rpartition('.')[2]}" if name == CONSTRUCTOR else f"{key}={value}"


def _records(word: str) -> list[Record]:
    found = [record for item in _items(word) for record in _of_item(item)]
    if not found:
        raise ConfigError(f"`{word}` names no run; give a run folder, several with commas, or FOLDER:KEY=VALUE")
    return found


def _items(word: str) -> list[str]:
    """Returns what stands between a word's commas, but for those in names of folders and in FOLDER:seed=0,1."""
    items = [word] if os.path.isdir(word) else [item for item in word.split(",") if item]
    found = list[str]()
    for item in items:
        is_more = found and not (os.path.isdir(item) or glob.has_magic(item) or ":" in item or os.sep in item)
        if is_more and _condition(found[-1]):
            found[-1] += f",{item}"
        else:
            found.append(item)
    return found


def _condition(item: str) -> str:
    """Returns what stands behind FOLDER: in an item, if anything does."""
    folder, _, condition = item.partition(":")
    return condition if os.path.isdir(folder) and not os.path.isdir(item) else ""


def _of_item(item: str) -> list[Record]:
    path = Path(item)
    if os.path.isdir(item):
        return [read_record(folder) for folder in _runs_in(path)]
    folder = item.partition(":")[0]
    if condition := _condition(item):
        return _fulfilling(Path(folder), condition.split(":"))
    if glob.has_magic(item):
        runs = [run for match in sorted(glob.glob(item)) if os.path.isdir(match) for run in run_folders(Path(match))]
        if runs:
            return [read_record(run) for run in dict.fromkeys(runs)]
        raise ConfigError(f"{item}: no run folder matches")
    raise ConfigError(f"{item}: there is no such folder{_near(path)}")


def _runs_in(path: Path) -> list[Path]:
    if is_run(path):
        return [path]
    if not (runs := run_folders(path)):
        raise ConfigError(f"{path} is no run folder, and there is none below it")
    return runs


def _fulfilling(folder: Path, texts: Sequence[str]) -> list[Record]:
    """Returns the runs below a folder that fulfil conditions."""
    conditions = [parse_filter(text) for text in texts]
    if None in conditions:
        raise ConfigError(
            f"{folder}:{':'.join(texts)}: behind the folder stand conditions, such as :model=pspnet:seed=0"
        )
    records = [read_record(run) for run in _runs_in(folder)]
    values = [values_of(record) for record in records]
    known = list(dict.fromkeys(key for each in values for key in each))
    check_keys([condition.key for condition in conditions if condition], known)
    kept = [
        record
        for record, each in zip(records, values, strict=True)
        if all(condition.holds(each.get(condition.key)) for condition in conditions if condition)
    ]
    if not kept:
        told = {c.key: sorted({str(each.get(c.key)) for each in values}) for c in conditions if c}
        there = "; ".join(f"{key}: {', '.join(found[:8])}" for key, found in told.items())
        raise ConfigError(f"none of {len(records)} runs in {folder} has {' '.join(texts)}; there are {there}")
    return kept


def _near(path: Path) -> str:
    guess = nearest_folder(path)
    return f"; did you mean {guess}?" if guess else "; segframe runs lists those that there are"


def _by_seed(records: Iterable[Record]) -> list[Record]:
    def rank(record: Record) -> tuple[int, str]:
        seed = record.config.get("seed")
        return (seed if isinstance(seed, int) else -1, str(record.folder))

    return sorted(records, key=rank)


def _check_once(groups: Sequence[Group]) -> None:
    places: dict[str, str] = {}
    for group in groups:
        for record in group.records:
            real = os.path.realpath(record.folder)
            if real in places:
                where = (
                    f"twice in {group.letter}"
                    if places[real] == group.letter
                    else f"in {places[real]} and {group.letter}"
                )
                raise ConfigError(f"{record.folder} is named {where}; a run compared with itself says nothing")
            places[real] = group.letter


def _check_alike(group: Group) -> None:
    """Checks that a group's runs are of one configuration, and of different seeds."""
    for record in group.records:
        if not record.config:
            raise ConfigError(f"{record.folder} ({record.state}) can't be compared: {record.error or 'no config.yaml'}")
    differing = [key for key in differing_keys(group.records) if not key.startswith(SAME_NUMBERS)]
    models = {str(record.options.get("model")) for record in group.records}
    if differing or len(models) > 1:
        keys = (["model"] if len(models) > 1 else []) + differing
        more = f" and {len(keys) - 5} more" if len(keys) > 5 else ""
        raise ConfigError(
            f"{group.letter} = {group.text}: its {len(group.records)} runs differ in {', '.join(keys[:5])}{more}; the "
            f"runs of a group may differ in their seed alone. Choose among them by a condition, such as "
            f"{group.text.split(',')[0].split(':')[0]}:{keys[0]}={_example(group, keys[0])}"
        )
    twice = [seed for seed, count in Counter(map(str, group.seeds)).items() if count > 1]
    if twice:
        folders = [str(record.folder) for record in group.records if str(record.config.get("seed")) == twice[0]]
        raise ConfigError(
            f"{group.letter} = {group.text}: {' and '.join(folders)} are of one configuration and seed {twice[0]}, so "
            "they are one draw, not two; leave one out"
        )


def _example(group: Group, key: str) -> str:
    record = group.records[0]
    return str(record.options.get(key) if key == "model" else record.config.get(key)).replace(" ", "")


def _folded(values: Iterable[Any]) -> str:
    return ", ".join(dict.fromkeys(str(value) for value in values))


def _letter(index: int) -> str:
    return chr(ord("A") + index) if index < 26 else f"{_letter(index // 26 - 1)}{_letter(index % 26)}"
