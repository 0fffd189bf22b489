"""The stored counts of several runs, brought together where they count the same images."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from segframe.config.options import ConfigError
from segframe.metrics import per_image
from segframe.metrics.per_image import Integers, PerImage
from segframe.runfolder import command
from segframe.runs.bootstrap import Run
from segframe.runs.configuration import dotted
from segframe.runs.groups import SAME_NUMBERS, Group
from segframe.runs.load import UNSAID
from segframe.runs.record import Record
from segframe.runs.scores import Floats
from segframe.wording import pasted

_AGAIN = {"final": "last", "best": "best"}
"""By the name of counts that a run leaves, the checkpoint whose evaluation stands in for them."""

_ELSEWHERE = (*SAME_NUMBERS, *UNSAID, "data.batch_size", "data.val_batch_size")
_NAMED = 4  # keys of a run


@dataclass(frozen=True)
class Counts:
    """What groups of runs have counted in the same images.

    Attributes:
        images: Their names.
        classes: The names of the classes.
        absent: What a class counts as that does not occur.
        true: Pixels of each image and class, (N, K).
        groups: The counts of each group's runs.
    """

    images: list[str]
    classes: list[str]
    absent: str
    true: Floats
    groups: list[list[Run]]

    def num_images_of_class(self) -> list[int]:
        """Returns in how many images each class occurs, in the truth or in a prediction."""
        occurs = self.true > 0
        for group in self.groups:
            for run in group:
                occurs = occurs | (run.predicted > 0)
        return [int(n) for n in occurs.sum(0)]


def read_counts(groups: Sequence[Group], checkpoint: str) -> Counts:
    """Returns the counts of all runs of groups.

    Args:
        groups: The runs.
        checkpoint: Which evaluation: ``final``, ``best``, or the name of a file in ``per_image``.

    Raises:
        ConfigError: If a run has none, or runs were not evaluated on the same images, labels and classes.
    """
    first_record = groups[0].records[0]
    first = _read(first_record, checkpoint)
    right, true, predicted = first.sums()
    if not true.any():
        raise ConfigError(
            f"{first_record.folder}: no pixel of its {len(true)} validation images counts, so there is no score; have "
            "the images labels besides dataset.ignore_index?"
        )
    found: list[list[Run]] = []
    for group in groups:
        found.append([])
        for record in group.records:
            if record is not first_record:
                own = _read(record, checkpoint)
                _check_same(first_record.folder, first, record.folder, own)
                right, own_true, predicted = own.sums()
                _check_labels(first_record.folder, first, true, record.folder, own_true)
            found[-1].append(Run(right.astype(np.float64), predicted.astype(np.float64)))
    return Counts(first.names, first.classes, first.absent, true.astype(np.float64), found)


def evaluated_otherwise(groups: Sequence[Group], checkpoint: str) -> list[str]:
    """Returns the runs whose counts are of ``segframe evaluate`` with other settings than their own, and the keys.

    Args:
        groups: As for ``read_counts``.
        checkpoint: As for ``read_counts``.
    """
    records = [record for group in groups for record in group.records]
    found = [(record, _other_keys(record, _file(record, checkpoint))) for record in records]
    return [f"{record.folder} ({', '.join(keys[:_NAMED])})" for record, keys in found if keys]


def _other_keys(record: Record, counts: Path | None) -> list[str]:
    """Returns the keys that an evaluation had other values of than the run, but for those of where it was computed."""
    if counts is None or not counts.stem.startswith("evaluation-"):
        return []
    try:
        evaluation = json.loads((record.folder / f"{counts.stem}.json").read_text(encoding="utf-8"))
        if "config" not in evaluation:  # of an older version
            return ["config"] if evaluation["config_hash"] != record.results["config_hash"] else []
        values = dict(dotted(evaluation["config"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []
    return [key for key in values if values[key] != record.config.get(key) and not key.startswith(_ELSEWHERE)]


def _file(record: Record, checkpoint: str) -> Path | None:
    names = [checkpoint, *([f"evaluation-{_AGAIN[checkpoint]}"] if checkpoint in _AGAIN else [])]
    paths = (per_image.path_of(record.folder, name) for name in names)
    try:
        return next((path for path in paths if path.is_file()), None)
    except OSError as error:
        folder = record.folder / per_image.FOLDER
        raise ConfigError(f"{folder} can't be looked through ({error.strerror}); give another run") from error


def _read(record: Record, checkpoint: str) -> PerImage:
    if (path := _file(record, checkpoint)) is None:
        raise ConfigError(_missing(record, checkpoint))
    try:
        return per_image.read(path)
    except ValueError as error:
        raise ConfigError(str(error)) from None


def _missing(record: Record, checkpoint: str) -> str:
    run, there = record.folder, sorted(path.stem for path in (record.folder / per_image.FOLDER).glob("*.npz"))
    told = f"{run} ({record.state}) has no per-image counts of checkpoint={checkpoint}"
    if there:
        told += f"; it has {', '.join(there)}, and checkpoint={there[0]} takes those of all runs"
    name = _AGAIN.get(checkpoint, checkpoint.removeprefix("evaluation-"))
    is_remade = checkpoint in _AGAIN or checkpoint.startswith("evaluation-")
    if is_remade and os.path.exists(run / "checkpoints" / f"{name}.ckpt"):
        return f"{told}; this makes them: {command()} evaluate {pasted('run', run)} checkpoint={name}"
    return told if there else f"{told}, and no checkpoint that could be evaluated"


def _check_same(first_run: Path, first: PerImage, run: Path, own: PerImage) -> None:
    if own.classes != first.classes:
        raise ConfigError(
            f"{first_run} and {run} have different classes: {_apart(first.classes, own.classes)}; scores of different "
            "classes can't be compared"
        )
    if own.names != first.names:
        raise ConfigError(
            f"{first_run} and {run} were evaluated on different images, {len(first.names)} and {len(own.names)}: "
            f"{_apart(first.names, own.names)}; evaluate both on the same data set (segframe evaluate run=RUN)"
        )
    if own.absent != first.absent:
        raise ConfigError(
            f"{first_run} has task.absent={first.absent} and {run} {own.absent}, so their means are of different "
            f"classes; segframe evaluate run={run} checkpoint=last task.absent={first.absent} counts again, and "
            "checkpoint=evaluation-last compares such counts"
        )


def _check_labels(first_run: Path, first: PerImage, true: Integers, run: Path, own_true: Integers) -> None:
    differing = np.flatnonzero((true != own_true).any(1))
    if len(differing):
        image = int(differing[0])
        totals = [int(pixels[image].sum()) for pixels in (true, own_true)]
        raise ConfigError(
            f"{first_run} and {run} were evaluated against different labels: those of {first.names[image]} have "
            f"{totals[0]:,} and {totals[1]:,} counted pixels or other classes, {len(differing)} of {len(true)} images "
            "differ; was one evaluated at another size, from another folder, or with another label map?"
        )


def _apart(one: Sequence[str], other: Sequence[str]) -> str:
    """Returns what only one of two lists has."""
    told = [
        f"only the {which} has {', '.join(list(left)[:3])}{', ...' if len(left) > 3 else ''}"
        for which, left in (
            ("first", dict.fromkeys(x for x in one if x not in set(other))),
            ("second", dict.fromkeys(x for x in other if x not in set(one))),
        )
        if left
    ]
    return " and ".join(told) or "their order differs"
