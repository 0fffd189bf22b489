"""What one run folder says of its run, in whatever state it was left."""

from __future__ import annotations

import json
import math
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from segframe import runfolder
from segframe.runs.configuration import options_of, read_config, read_words
from segframe.runs.folders import sweep_of
from segframe.sweep.trial import Trial, read

STALE_S = 1800
"""After so many seconds without a written file a run whose process can't be seen from here counts as stale."""

_END_OF_TIME = 2.0**33
"""Seconds since 1970 that calendars and pandas still have a date for."""

_CHANGING = ("results.json", "metrics.csv", "terminal.log", "checkpoints", "logs")


@dataclass
class Record:
    """One run.

    Attributes:
        folder: Its folder.
        state: ``finished``, ``running``, ``interrupted``, ``failed``, ``stale`` (it says that it runs and does not),
            ``broken`` (its files can't be read), or what its sweep says: ``pruned``.
        options: The option of every group (model, dataset, optimizer, ...); empty where the words are lost.
        config: The resolved configuration by dotted keys; empty where it can't be read.
        results: What results.json holds.
        started: When it was started first, in seconds since 1970.
        updated: When it last wrote.
        sweep: The sweep folder that it is a trial of.
        trial: The trial's number.
        error: What went wrong, in one line.
    """

    folder: Path
    state: str = "broken"
    options: dict[str, str] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    results: dict[str, Any] = field(default_factory=dict)
    started: float = math.nan
    updated: float = math.nan
    sweep: Path | None = None
    trial: int | None = None
    error: str | None = None

    def metric(self, key: str, which: str) -> float:
        """Returns a metric of results.json; NaN where there is none.

        Args:
            key: Such as ``val/miou``.
            which: ``best`` or ``final``.
        """
        metrics = self.results.get("metrics")
        entry = metrics.get(key) if isinstance(metrics, dict) else None
        value = entry.get(which) if isinstance(entry, dict) else None
        return _number(value)

    def number(self, key: str) -> float:
        """Returns a number of results.json; NaN where there is none."""
        return _number(self.results.get(key))


def read_record(folder: Path, now: float | None = None) -> Record:
    """Returns what a run folder says; what can't be read makes the run ``broken`` and stands in ``error``.

    Args:
        folder: The run folder.
        now: The time that age is counted to, in seconds since 1970; None takes the clock.
    """
    record, problems = Record(folder), list[str]()
    environment = _json(folder / "environment.json", problems)
    record.results = _json(folder / "results.json", problems)
    try:
        record.config = read_config(folder)
    except FileNotFoundError:
        pass  # a run that ended before it began
    except (OSError, ValueError) as error:
        told = getattr(error, "strerror", None) or str(error)
        problems.append(told if told.startswith("config.yaml") else f"config.yaml can't be read: {told}")
    words = read_words(folder)
    try:
        trial = read(folder)
    except (OSError, ValueError) as error:
        trial = None
        problems.append(str(error))
    if trial is not None:
        record.sweep, record.trial = sweep_of(folder), trial.number
    known = trial.words if words is None and trial else words
    record.options = {} if known is None else options_of(known)
    record.updated = _last_change(folder)
    started = _number(environment.get("started"))
    record.started = started if 0 <= started < _END_OF_TIME else _oldest(folder)
    _judge(record, trial, environment, problems, time.time() if now is None else now)
    return record


def _judge(record: Record, trial: Trial | None, environment: dict[str, Any], problems: list[str], now: float) -> None:
    """Fills in the state and what went wrong."""
    status = str(record.results.get("status", ""))
    record.error = _line(record.results.get("error"))
    if trial is not None:
        record.error = _line(trial.error) or record.error
        # It has ended, and its driver has not looked yet, or has gone.
        status = "finished" if trial.state == "running" and status == "finished" else trial.state
    if status not in ("finished", "running", "interrupted", "failed", "pruned", "waiting"):
        lost = "no results.json: it ended before it began, or part of the folder is lost"
        unknown = f"results.json has status={status}, which this version does not know"
        record.error = "; ".join(problems) or (unknown if record.results else lost)
        return
    record.state = status
    if problems:
        record.state, record.error = "broken", "; ".join(problems)
    elif status == "running" and (reason := _why_stale(record, environment, now)):
        record.state, record.error = "stale", reason


def _why_stale(record: Record, environment: dict[str, Any], now: float) -> str | None:
    """Returns why a run that says it runs does not."""
    is_alive = runfolder.is_alive(environment.get("process"))
    if is_alive is None:
        silent = now - record.updated
        return f"nothing written for {silent / 60:.0f} minutes" if silent > STALE_S else None
    return None if is_alive else "its process is gone"


def _json(path: Path, problems: list[str]) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        problems.append(f"{path.name} can't be read: {getattr(error, 'strerror', None) or error}")
        return {}
    if not isinstance(content, dict):
        problems.append(f"{path.name} is not what a run writes")
        return {}
    return content


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan


def _line(text: Any) -> str | None:
    return " ".join(str(text).split()) if text else None


def _last_change(folder: Path) -> float:
    return max(_times(folder, _CHANGING), default=math.nan)


def _oldest(folder: Path) -> float:
    return min(_times(folder, ("overrides.json", "config.yaml", "results.json", "metrics.csv")), default=math.nan)


def _times(folder: Path, names: tuple[str, ...]) -> list[float]:
    found = []
    for name in names:
        try:
            found.append(os.stat(folder / name).st_mtime)
        except OSError:
            continue
    return found
