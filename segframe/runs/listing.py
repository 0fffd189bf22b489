"""The list of runs in a terminal: a table that fits it, and whole paths in a pipe."""

from __future__ import annotations

import json
import math
import os
import shlex
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from segframe.runs.load import COLUMNS, values_of
from segframe.runs.record import Record
from segframe.sweep.folder import SWEEP_FILE

SHOWN = ("folder", "state", "model", "dataset", "strategy", "miou", "images_per_s", "age")
"""The columns of a list unless others are asked for."""

EXTRA = ("age", "updated")
"""Columns of a list that change with the clock, so that tables for programs do not have them."""

_HEADS = {"images_per_s": "img/s", "miou": "mIoU", "miou_final": "final", "strategy": "strat."}
_STYLES = {"finished": "green", "running": "cyan", "failed": "red", "broken": "red", "stale": "yellow", "sweep": "bold"}
_NUMBERS = ("miou", "miou_final", "images_per_s", "age", "updated", "seconds", "seed", "trial")
_LEAST_FOLDER, _LEAST_ERROR = 14, 30


@dataclass
class Line:
    """One line of the list: a run, or a sweep with all of its trials.

    Attributes:
        values: By column; every key of the configuration is one.
        records: The runs behind it.
        note: What is said of it below the table.
    """

    values: dict[str, Any]
    records: list[Record]
    note: str = ""


def lines_of(records: Sequence[Record], folds: bool, now: float | None = None) -> list[Line]:
    """Returns a line per run; the trials of a sweep as one line.

    Args:
        records: The runs.
        folds: Whether sweeps are folded.
        now: As for ``read_record``.
    """
    now = time.time() if now is None else now
    sweeps: dict[Path, list[Record]] = {}
    lines = []
    for record in records:
        if folds and record.sweep is not None:
            sweeps.setdefault(record.sweep, []).append(record)
        else:
            lines.append(Line(_values(record, now), [record]))
    return lines + [_sweep_line(folder, trials, now) for folder, trials in sweeps.items()]


def ordered(lines: Sequence[Line], sort: str) -> list[Line]:
    """Returns the lines by a column; a ``-`` before its name turns the order round.

    Numbers come before text, such as a sweep's "3 values", and what has no value comes last.
    """
    key, falls = sort.removeprefix("-"), sort.startswith("-")
    numbers, texts, rest = list[Line](), list[Line](), list[Line]()
    for line in lines:
        value = line.values.get(key)
        (rest if _is_missing(value) else numbers if isinstance(value, int | float) else texts).append(line)
    numbers.sort(key=lambda line: line.values[key], reverse=falls)
    texts.sort(key=lambda line: str(line.values[key]), reverse=falls)
    return numbers + texts + rest


def show(console: Console, lines: Sequence[Line], columns: Sequence[str], root: Path) -> None:
    """Prints the lines: as a table in a terminal, as plain columns with whole paths elsewhere.

    Args:
        console: Where.
        lines: In their order.
        columns: Which values, in order.
        root: The folder that was looked at; a terminal shows paths below it.
    """
    is_plain = not console.is_terminal
    cells = [[_text(line.values, column, None if is_plain else root) for column in columns] for line in lines]
    heads = [_HEADS.get(column, column) if not is_plain else column for column in columns]
    if is_plain:
        widths = [max(len(row[i]) for row in [heads, *cells]) for i in range(len(columns))]
        for row in [heads, *cells]:
            padded = (text.ljust(width) for text, width in zip(row, widths, strict=True))
            console.print(Text("  ".join(padded).rstrip()), soft_wrap=True)
    else:
        console.print(_table(console.width, heads, cells, columns))
    for line in lines:
        if line.note:
            console.print(Text(line.note), soft_wrap=True)


def _table(width: int, heads: Sequence[str], cells: Sequence[Sequence[str]], columns: Sequence[str]) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="bold", pad_edge=False)
    wide = [max(len(row[i]) for row in [heads, *cells]) for i in range(len(columns))]
    # Errors are sentences: they take several lines before anything else is cut.
    least = [min(w, _LEAST_ERROR) if column == "error" else w for w, column in zip(wide, columns, strict=True)]
    spare = width - sum(least) - len(columns)
    for i, (column, head) in enumerate(zip(columns, heads, strict=True)):
        most = max(_LEAST_FOLDER, wide[i] + min(0, spare)) if column == "folder" else None
        justify: Any = "right" if column in _NUMBERS else "left"
        wraps: Any = {"overflow": "fold"} if column == "error" else {"no_wrap": True, "overflow": "ellipsis"}
        table.add_column(head, justify=justify, max_width=most, **wraps)
        if column == "folder" and most is not None and most < wide[i]:
            cells = [[_cut(row[i], most) if k == i else text for k, text in enumerate(row)] for row in cells]
    states = [columns.index("state")] if "state" in columns else []
    for row in cells:
        style = _STYLES.get(row[states[0]].split(" ")[0], "") if states else ""
        table.add_row(*(Text(text, style=style if i in states else "") for i, text in enumerate(row)))
    return table


def _cut(text: str, width: int) -> str:
    """Returns a path that is cut at its front, where paths of one place are alike."""
    return text if len(text) <= width else f"…{text[len(text) - width + 1 :]}"


def _values(record: Record, now: float) -> dict[str, Any]:
    return {**values_of(record), "age": now - record.started, "updated": now - record.updated}


def _sweep_line(folder: Path, trials: list[Record], now: float) -> Line:
    states = Counter(trial.state for trial in trials)
    of_all = [_values(trial, now) for trial in trials]
    values = {key: _common(of_all, key) for key in dict.fromkeys(key for each in of_all for key in each)}
    # The best in the table is the best by mIoU; what the sweep itself goes by is in its results.json.
    best = max(trials, key=lambda trial: _or_least(trial.metric("val/miou", "best")))
    score = best.metric("val/miou", "best")
    started = min((trial.started for trial in trials if not math.isnan(trial.started)), default=math.nan)
    total = max(len(trials), _planned(folder))
    done = sum(states[state] for state in ("finished", "pruned", "failed"))
    values |= {
        "folder": str(folder),
        "state": f"sweep {done}/{total}",
        "miou": score,
        "miou_final": best.metric("val/miou", "final"),
        "images_per_s": math.nan,
        "started": started,
        "age": now - started,
        "updated": min((each["updated"] for each in of_all if not math.isnan(each["updated"])), default=math.nan),
        "sweep": str(folder),
        "trial": None,
        "error": None,
    }
    counts = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
    found = "no value yet" if math.isnan(score) else f"best mIoU {score:.4f} in trial {best.trial}"
    note = f"sweep {folder}: {counts} of {total}; {found}; its trials: segframe runs {shlex.quote(str(folder))}"
    return Line(values, trials, note)


def _planned(sweep: Path) -> int:
    """Returns how many trials a sweep will have, 0 where its file does not say."""
    try:
        return int(json.loads((sweep / SWEEP_FILE).read_text(encoding="utf-8"))["num_trials"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0


def _common(rows: Sequence[dict[str, Any]], key: str) -> Any:
    """Returns what all trials have, or how many things they have."""
    found = {str(row.get(key)): row.get(key) for row in rows}
    return next(iter(found.values())) if len(found) == 1 else f"{len(found)} values"


def _or_least(value: float) -> float:
    return -math.inf if math.isnan(value) else value


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _text(values: dict[str, Any], column: str, root: Path | None) -> str:
    """Returns a cell; paths below ``root`` where it is given."""
    value = values.get(column)
    if _is_missing(value):
        return "-"
    if column in ("folder", "sweep"):
        path = str(value)
        inside = root is not None and Path(path).is_relative_to(root) and Path(path) != root
        return os.path.relpath(path, root) if inside and root is not None else path
    if column in ("age", "updated", "seconds") and isinstance(value, int | float):
        return duration(value) if root is not None or column != "seconds" else f"{value:.1f}"
    if column == "started" and isinstance(value, int | float):
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(value))
    if column == "images_per_s" and isinstance(value, float):
        return f"{value:.1f}"
    return f"{value:.4g}" if isinstance(value, float) and column not in COLUMNS else _plain(value)


def _plain(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def duration(seconds: float) -> str:
    """Returns a time in its two largest units.

    >>> duration(42), duration(3700), duration(200000)
    ('42s', '1h01m', '2d07h')
    """
    seconds = max(0, round(seconds))
    for size, unit, part, name in ((86400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s")):
        if seconds >= size:
            return f"{seconds // size}{unit}{seconds % size // part:02d}{name}"
    return f"{seconds}s"
