"""The table of a sweep's trials, as it stands at a moment."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from segframe.sweep.progress import Progress, seconds
from segframe.sweep.settings import Sweep
from segframe.sweep.trial import STATES, Trial
from segframe.wording import clock, duration, shown, shown_score

_STYLES = {
    "running": "cyan",
    "finished": "green",
    "pruned": "yellow",
    "failed": "red",
    "interrupted": "magenta",
}
_OVERHEAD = 6  # lines besides trials: two above, the bar, the names of columns, what is left out, the cursor
_PADDING = 2
_FIXED = ("trial", "state", "epoch", "last", "best", "time", "left")
_LEFT_OUT_FIRST = ("last", "time", "epoch", "left", "state")
_LEAST_PARAMETERS = 24
_LEAST_TRIALS = 3


@dataclass(frozen=True)
class View:
    """All that is shown of a sweep.

    Attributes:
        sweep: The sweep.
        trials: Those that were given out, by number.
        progress: How far each is, by number.
        lefts: Seconds that running ones still take, by number.
        left_s: Seconds that the whole still takes; None where nobody knows.
        gone_s: Seconds since this driver began.
        now: Seconds since 1970.
    """

    sweep: Sweep
    trials: Sequence[Trial]
    progress: Mapping[int, Progress] = field(default_factory=dict)
    lefts: Mapping[int, float | None] = field(default_factory=dict)
    left_s: float | None = None
    gone_s: float = 0.0
    now: float = 0.0


def ranked(trials: Sequence[Trial], is_higher_better: bool) -> list[Trial]:
    """Returns finished trials that have a value, the best first; of equal ones the earlier.

    Args:
        trials: Any.
        is_higher_better: Whether larger values are better.
    """
    finished = [trial for trial in trials if trial.state == "finished" and trial.value is not None]
    sign = -1 if is_higher_better else 1
    return sorted(finished, key=lambda trial: (sign * (trial.value or 0.0), trial.number))


def short_names(keys: Sequence[str]) -> dict[str, str]:
    """Returns what keys are called where there is little room: their last part, or all where that is not enough.

    Example:
        >>> short_names(["optimizer.lr", "model", "loss.weight", "task.weight"])
        {'optimizer.lr': 'lr', 'model': 'model', 'loss.weight': 'loss.weight', 'task.weight': 'task.weight'}
    """
    counts = Counter(key.rpartition(".")[2] for key in keys)
    return {key: last if counts[last := key.rpartition(".")[2]] == 1 else key for key in keys}


def in_words(trial: Trial) -> str:
    """Returns a trial's parameters in one line.

    Example:
        >>> from pathlib import Path
        >>> in_words(Trial(0, {"optimizer.lr": 0.00123456, "model": "tiny"}, [], Path()))
        'optimizer.lr=0.00123 model=tiny'
    """
    return " ".join(f"{key}={shown(value)}" for key, value in trial.params.items())


def counted(trials: Sequence[Trial], num_trials: int) -> str:
    """Returns how many trials there are in each state.

    Args:
        trials: Those that were given out.
        num_trials: How many there will be.
    """
    counts = Counter(trial.state for trial in trials)
    counts["waiting"] += max(0, num_trials - len(trials))
    parts = [f"{counts[state]} {state}" for state in (*STATES[1:], "waiting") if counts[state]]
    return ", ".join(parts) or "none"


def headline(view: View) -> tuple[str, str]:
    """Returns how many trials have ended, and what came of them in which time."""
    settings, trials = view.sweep.settings, view.trials
    num_trials = max(view.sweep.num_trials, len(trials))
    ended = sum(trial.has_ended for trial in trials)
    counts = f"{view.sweep.name}: {ended} of {num_trials} trials ended ({counted(trials, num_trials)})"
    best = ranked(trials, settings.is_higher_better)[:1]
    parts = [f"best {settings.metric} {shown_score(trial.value)}, trial {trial.number}" for trial in best]
    parts.append(f"{duration(view.gone_s)} gone")
    if ended < num_trials:
        parts.append("time left not known yet" if view.left_s is None else f"about {duration(view.left_s)} left")
    return counts, "; ".join(parts)


def overview(view: View, width: int, height: int) -> RenderableType:
    """Returns the whole as it fits a terminal: running trials first, then as many of the best as there is room for.

    Args:
        view: What is shown.
        width: Columns of the terminal.
        height: Lines.
    """
    rows = _chosen(view, max(_LEAST_TRIALS, height - _OVERHEAD))
    total = max(view.sweep.num_trials, len(view.trials), 1)
    done = sum(1.0 if trial.has_ended else _share(view, trial) for trial in view.trials)
    lines = (Text(line, no_wrap=True, overflow="ellipsis") for line in headline(view))
    parts: list[RenderableType] = [*lines, _bar(done / total, width)]
    if rows:
        parts.append(_table(view, rows, width))
    if hidden := len(view.trials) - len(rows):
        kept = {trial.number for trial in rows}
        others = [trial for trial in view.trials if trial.number not in kept]
        text = f"and {hidden} more: {counted(others, 0)}"
        parts.append(Text(text, style="dim", no_wrap=True, overflow="ellipsis"))
    return Group(*parts)


def trial_table(view: View, rows: Sequence[Trial], width: int) -> Table:
    """Returns trials as a table, with their parameters in columns where these fit.

    Args:
        view: What is known of them.
        rows: Trials, in the order of the table.
        width: Columns of the terminal.
    """
    return _table(view, rows, width)


def _chosen(view: View, room: int) -> list[Trial]:
    """Returns the trials that there is room for."""
    running = [trial for trial in view.trials if trial.state == "running"]
    paused = [trial for trial in view.trials if trial.state in ("interrupted", "waiting")]
    best = ranked(view.trials, view.sweep.settings.is_higher_better)
    shown_already = {trial.number for trial in [*running, *paused, *best]}
    others = [trial for trial in reversed(view.trials) if trial.number not in shown_already]
    return [*running, *paused, *best, *others][:room]


def _share(view: View, trial: Trial) -> float:
    found = view.progress.get(trial.number)
    return (found.share or 0.0) if found else 0.0


def _table(view: View, rows: Sequence[Trial], width: int) -> Table:
    names = short_names(view.sweep.axes)
    cells = [_cells(view, trial) for trial in rows]
    params = [[shown(trial.params[key]) if key in trial.params else "" for key in names] for trial in rows]
    kept = [name for name in _FIXED if any(row[name] for row in cells)]
    taken = {name: _PADDING + max(cell_len(row[name]) for row in [*cells, {name: name}]) for name in kept}
    wide = [max(map(cell_len, column)) for column in zip(names.values(), *params, strict=True)]
    fits = sum(taken.values()) + sum(wide) + _PADDING * len(wide) <= width
    for name in _LEFT_OUT_FIRST if not fits else ():
        if width - sum(taken.values()) < _LEAST_PARAMETERS:
            taken.pop(name, None)
    table = Table(box=None, pad_edge=False, padding=(0, _PADDING, 0, 0))
    table.add_column("trial", justify="right", no_wrap=True)
    for name in names.values() if fits else ():
        table.add_column(name, no_wrap=True)
    if not fits:
        room = max(_PADDING, width - sum(taken.values()) - _PADDING)
        table.add_column("parameters", no_wrap=True, overflow="ellipsis", width=room)
    others = [name for name in taken if name != "trial"]
    for name in others:
        table.add_column(name, justify="left" if name == "state" else "right", no_wrap=True)
    for trial, row, values in zip(rows, cells, params, strict=True):
        merged = " ".join(f"{name}={value}" for name, value in zip(names.values(), values, strict=True))
        styled = [Text(row[name], style=_STYLES.get(trial.state, "") if name == "state" else "") for name in others]
        table.add_row(row["trial"], *(map(Text, values) if fits else [Text(merged)]), *styled)
    return table


def _cells(view: View, trial: Trial) -> dict[str, str]:
    """Returns the columns besides parameters."""
    found = view.progress.get(trial.number, Progress())
    total = found.num_epochs or view.sweep.num_epochs
    epoch = f"{found.epochs}/{total}" if total else str(found.epochs)
    return {
        "trial": str(trial.number),
        "state": trial.state + (f", try {trial.attempts}" if trial.attempts > 1 else ""),
        "epoch": epoch if trial.started is not None else "-",
        "last": shown_score(found.last),
        "best": shown_score(found.best),
        "time": clock(seconds(trial, view.now)) if trial.started is not None else "-",
        "left": clock(view.lefts.get(trial.number)) if trial.state == "running" else "",
    }


def _bar(share: float, width: int) -> Text:
    """Returns a bar over the whole width with its percentage."""
    text = f" {100 * share:3.0f} %"
    length = max(1, width - len(text))
    done = min(length, int(share * length))
    return Text.assemble(("█" * done, "cyan"), ("░" * (length - done), "dim"), text)
