"""How far a trial is, from what its run folder holds."""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import yaml

from segframe.sweep.trial import Trial

_REREAD_S = 0.9
_COUNTS = ("step", "epoch")


@dataclass(frozen=True)
class Progress:
    """How far a trial is.

    Attributes:
        epochs: Epochs that have ended.
        num_epochs: How many there will be; None where nobody knows.
        last: The metric after the last of them; None where it is not finite or there is none.
        best: The best so far.
        share: The part of the training that is done, 0..1; None where nobody knows.
    """

    epochs: int = 0
    num_epochs: int | None = None
    last: float | None = None
    best: float | None = None
    share: float | None = None


class Limits(NamedTuple):
    """When a training ends.

    Attributes:
        epochs: Its epochs; None where they are not limited.
        steps: Its optimizer steps; None where they are not limited.
    """

    epochs: int | None = None
    steps: int | None = None


def limits(folder: Path) -> Limits | None:
    """Returns when the training of a run folder ends; None before its configuration is there.

    Args:
        folder: The run folder.
    """
    try:
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        found = yaml.load((folder / "config.yaml").read_text(encoding="utf-8"), Loader=loader)
        epochs, steps = found["trainer"]["max_epochs"], found["trainer"]["max_steps"]
    except (OSError, yaml.YAMLError, KeyError, TypeError):
        return None
    return Limits(epochs if epochs > 0 else None, steps if steps > 0 else None)


def progress(folder: Path, metric: str, is_higher_better: bool, ends: Limits | None = None) -> Progress:
    """Returns how far the trial of a run folder is; nothing done where nothing is there yet.

    Args:
        folder: The run folder.
        metric: A column of metrics.csv.
        is_higher_better: Whether larger values are better.
        ends: When the training ends; None reads the run's own configuration.
    """
    ends = ends or limits(folder) or Limits()
    rows = _rows(folder / "metrics.csv")
    measured = [row for row in rows if row.get(metric)]
    epochs = _num_ended(rows, measured)
    values = [float(row[metric]) for row in measured]
    finite = [value for value in values if math.isfinite(value)]
    best = (max if is_higher_better else min)(finite, default=None)
    last = values[-1] if values and math.isfinite(values[-1]) else None
    of_ended = [int(row["step"]) for row in rows if int(row["epoch"]) < epochs]
    steps = _num_steps(ends, epochs, max(of_ended, default=0))
    return Progress(
        epochs, ends.epochs, last, best, min(1.0, int(rows[-1]["step"]) / steps) if rows and steps else None
    )


class Watched:
    """Reads trials again only where their metrics have changed, and then once a second at most.

    Args:
        metric: A column of metrics.csv.
        is_higher_better: Whether larger values are better.
        num_epochs: Epochs of every training, for those that have no configuration yet.
    """

    def __init__(self, metric: str, is_higher_better: bool, num_epochs: int | None = None) -> None:
        self._how, self._expected = (metric, is_higher_better), Limits(num_epochs)
        self._ends: dict[int, Limits] = {}
        self._known: dict[int, tuple[float, tuple[int, int], Progress]] = {}

    def of(self, trial: Trial) -> Progress:
        """Returns how far a trial is."""
        read_at, stamp, found = self._known.get(trial.number, (-math.inf, (0, 0), None))
        now, current = time.monotonic(), file_stamp(trial.folder / "metrics.csv")
        if found is None or (current != stamp and (now - read_at > _REREAD_S or trial.state != "running")):
            if trial.number not in self._ends and (ends := limits(trial.folder)):
                self._ends[trial.number] = ends
            found = progress(trial.folder, *self._how, self._ends.get(trial.number, self._expected))
            self._known[trial.number] = now, current, found
        return found


def seconds(trial: Trial, now: float) -> float | None:
    """Returns how long a trial has taken, from its first start to its end; None before it starts.

    Args:
        trial: A trial.
        now: Seconds since 1970.
    """
    if trial.started is None:
        return None
    end = trial.ended if trial.ended is not None and trial.state != "running" else now
    return max(0.0, end - trial.started)


class Pace:
    """How fast trials advance; a trial's rate is that since it was first seen to advance, after its start-up."""

    def __init__(self) -> None:
        self._seen: dict[int, list[tuple[float, float]]] = {}

    def note(self, number: int, share: float | None, now: float) -> None:
        """Takes how far a trial is.

        Args:
            number: The trial's.
            share: The part that is done; None where nobody knows.
            now: Seconds, of any clock.
        """
        if share is None:
            return
        seen = self._seen.setdefault(number, [(now, share)])
        if share < seen[-1][1]:  # it goes on from an earlier checkpoint
            seen[:] = [(now, share)]
        elif share > seen[-1][1]:
            seen.append((now, share))
            del seen[2:-1]

    def left_s(self, number: int, now: float) -> float | None:
        """Returns how many seconds a trial still takes; None where that is not known yet.

        Args:
            number: The trial's.
            now: Seconds of the same clock.
        """
        seen = self._seen.get(number, [])
        if len(seen) < 2:
            return None
        (began, first), (when, last) = seen[-2 if len(seen) == 2 else 1], seen[-1]
        return max(0.0, (1 - last) * (when - began) / (last - first) - (now - when))


def whole_left_s(took: Sequence[float], lefts: Sequence[float | None], num_waiting: int, parallel: int) -> float | None:
    """Returns how many seconds a sweep still takes; None where no trial has ended.

    Trials that were pruned are among those that have ended, so that those to come count with as much less.

    Args:
        took: Seconds of each trial that has ended.
        lefts: What each running trial still takes; None takes half of a trial.
        num_waiting: Trials that have not started.
        parallel: Trials at once.
    """
    known = [left for left in lefts if left is not None]
    if not took and num_waiting:
        return None
    if not took:
        return max(known) if known and len(known) == len(lefts) else None
    mean = sum(took) / len(took)
    running = [mean / 2 if left is None else left for left in lefts]
    return max([(sum(running) + num_waiting * mean) / max(1, parallel), *running])


def _rows(file: Path) -> list[dict[str, str]]:
    """Returns the whole rows of a metrics.csv that another process may be writing to."""
    try:
        text = file.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return []
    lines = text[: text.rfind("\n") + 1].splitlines()
    rows = csv.DictReader(lines)
    return [row for row in rows if None not in row.values() and all(row.get(k, "").isdecimal() for k in _COUNTS)]


def _num_ended(rows: Sequence[dict[str, str]], measured: Sequence[dict[str, str]]) -> int:
    """Returns how many epochs have ended: those with a measurement behind them, or with steps of a later one."""
    begun = int(rows[-1]["epoch"]) if rows else 0
    return max(begun, int(measured[-1]["epoch"]) + 1 if measured else 0)


def _num_steps(ends: Limits, epochs: int, step: int) -> float | None:
    """Returns how many steps the training takes, by its own limit and by those of the epochs so far."""
    by_epochs = step / epochs * ends.epochs if epochs and step and ends.epochs else None
    found = [limit for limit in (ends.steps, by_epochs) if limit]
    return min(found, default=None)


def file_stamp(file: Path) -> tuple[int, int]:
    """Returns what changes whenever a file does; zeros for none."""
    try:
        status = file.stat()
    except OSError:
        return (0, 0)
    return status.st_mtime_ns, status.st_size
