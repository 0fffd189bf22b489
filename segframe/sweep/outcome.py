"""What came of a trial, read from its run folder: values per epoch, and how it ended."""

from __future__ import annotations

import csv
import json
import math
import os
import re
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from segframe.config.options import did_you_mean
from segframe.sweep.settings import Settings
from segframe.sweep.trial import LOG_FILE, State

_MOST = 300  # characters of an error in tables and in a study
_READ = 4000  # bytes of the end of a terminal log that are looked at
_KILLED = re.compile(r"rank \d+ was killed by SIG\w+")  # what the supervisor of several ranks records
_SIGNALLED = 128  # a shell adds the signal's number to it


class Outcome(NamedTuple):
    """How an attempt ended.

    Attributes:
        state: ``finished``, ``failed``, or ``interrupted`` where it was stopped or killed and can go on.
        value: The metric, None where it has none.
        error: One line on what went wrong.
    """

    state: State
    value: float | None
    error: str | None


def epochs(folder: Path, metric: str) -> list[tuple[int, float]]:
    """Returns a metric by the number of epochs that had ended, from 1; of an epoch evaluated twice the last counts.

    Args:
        folder: The run folder.
        metric: A column of metrics.csv.
    """
    found: dict[int, float] = {}
    for row in _rows(folder):
        with suppress(ValueError):
            if row.get(metric):
                found[int(row["epoch"]) + 1] = float(row[metric])
    return sorted(found.items())


def value_of(folder: Path, settings: Settings) -> float | None:
    """Returns what a trial counts by; None where it has no finite value.

    Args:
        folder: The run folder.
        settings: Those of the sweep.
    """
    values = [value for _, value in epochs(folder, settings.metric)]
    finite = [value for value in values if math.isfinite(value)]
    if settings.value == "final":
        return values[-1] if values and math.isfinite(values[-1]) else None
    return (max if settings.is_higher_better else min)(finite, default=None)


def judge(folder: Path, code: int | None, settings: Settings) -> Outcome:
    """Returns how an attempt ended whose processes are gone.

    Args:
        folder: The run folder.
        code: Its exit code, -N after signal N; None where nobody knows it, so that the folder alone tells.
        settings: Those of the sweep.
    """
    results = _results(folder)
    status, value = results.get("status"), value_of(folder, settings)
    if status == "finished":
        if value is not None:
            return Outcome("finished", value, None)
        return Outcome("failed", None, _no_value(folder, settings))
    if code == os.EX_TEMPFAIL:  # the guard's, which has started nothing
        return Outcome("interrupted", value, _told(folder))
    recorded = _line(str(results.get("error", ""))) if status == "failed" else ""
    if code is None and _KILLED.fullmatch(recorded):
        return Outcome("interrupted", value, recorded)
    if code is None and not recorded:
        return Outcome("interrupted", value, "ended with the process that had started it")
    if code is not None and (code < 0 or code > _SIGNALLED):
        number = -code if code < 0 else code - _SIGNALLED
        known = number in signal.valid_signals()
        return Outcome("interrupted", value, f"ended by {signal.Signals(number).name if known else f'signal {number}'}")
    return Outcome("failed", value, recorded or _told(folder) or f"ended with exit code {code}: {folder / LOG_FILE}")


def missing_column(folder: Path, metric: str) -> str | None:
    """Returns what to say where an evaluation has ended and has not measured the metric; None elsewhere.

    Args:
        folder: The run folder.
        metric: A column of metrics.csv.
    """
    rows = _rows(folder)
    header = next(iter(rows), {})
    columns = [name for name in header if name.startswith(("val/", "train/"))]
    measured = any(row[name] for row in rows for name in columns if name.startswith("val/"))
    if metric in header or not measured:
        return None
    hint = did_you_mean(metric, columns) or ";"
    return f"sweep.metric={metric}: metrics.csv has no such column{hint} columns: {', '.join(columns)}"


def _rows(folder: Path) -> list[dict[str, str]]:
    """Returns the whole rows of metrics.csv; a last one that is being written is left out."""
    try:
        text = (folder / "metrics.csv").read_text(encoding="utf-8")
    except OSError:
        return []
    rows = csv.DictReader(text[: text.rfind("\n") + 1].splitlines())
    return [row for row in rows if None not in row.values()]


def _results(folder: Path) -> dict[str, Any]:
    try:
        content = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _no_value(folder: Path, settings: Settings) -> str:
    """Returns why a finished training has no value."""
    metric = settings.metric
    if epochs(folder, metric):
        return f"no finite {metric} in metrics.csv"
    return missing_column(folder, metric) or f"sweep.metric={metric}: metrics.csv has no value of it"


def _told(folder: Path) -> str:
    """Returns the line of the terminal log that says what went wrong, of the last attempt."""
    try:
        with (folder / LOG_FILE).open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - _READ))
            lines = file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return ""
    lines = [line.strip() for line in lines if line.strip()]
    told = [line for line in lines if line.startswith(("segframe: ", "error: "))]
    return _line((told or lines or [""])[-1])


def _line(text: str) -> str:
    """Returns the first line of a message, and what follows it where it ends with a colon."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    told = " ".join(lines[: 2 if lines and lines[0].endswith(":") else 1])
    return told if len(told) <= _MOST else f"{told[:_MOST]}..."
