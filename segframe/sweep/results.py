"""What came of a sweep: trials.csv, results.json, and what the user reads last."""

from __future__ import annotations

import csv
import io
import os
import shlex
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from segframe.runfolder import command, write_json
from segframe.sweep.importance import Importance
from segframe.sweep.progress import Limits, file_stamp, progress, seconds
from segframe.sweep.seeds import OverSeeds, over_seeds
from segframe.sweep.settings import Sweep
from segframe.sweep.table import View, ranked, short_names, trial_table
from segframe.sweep.trial import LOG_FILE, STATES, Trial
from segframe.wording import shown, shown_score

TABLE_FILE = "trials.csv"
"""A row per trial, in the sweep folder."""

RESULTS_FILE = "results.json"
"""The best trial, counts, means over seeds, importance, beside it."""

_BEST_SHOWN = 10
_FAILED_SHOWN = 5
_PIPE_WIDTH = 200
_BEFORE_PARAMS = ("number", "state", "value")
_AFTER_PARAMS = ("seconds", "epochs", "attempts", "folder", "error")


def record(sweep: Sweep, trials: Sequence[Trial]) -> None:
    """Writes the table and the results of the trials so far, each file whole or not at all.

    Args:
        sweep: The sweep.
        trials: Those that were given out, by number.
    """
    _write_table(sweep, trials)
    write_json(sweep.folder / RESULTS_FILE, summary(sweep, trials))


def show(sweep: Sweep, trials: Sequence[Trial], is_sent: bool = True) -> None:
    """Draws the pictures, writes the files and prints what came of a sweep that is over or was stopped.

    Args:
        sweep: The sweep.
        trials: Those that were given out, by number.
        is_sent: Whether wandb gets the same where it is on.
    """
    from segframe.sweep import wandb_summary
    from segframe.sweep.pictures import draw

    _write_table(sweep, trials)
    found, files = draw(sweep, trials)
    names = [str(file.relative_to(sweep.folder)) for file in files]
    told = {"importance": dict(found.shares), "importance_by": found.caption, "pictures": names}
    write_json(sweep.folder / RESULTS_FILE, summary(sweep, trials) | told)
    _print(sweep, trials, found, files)
    if is_sent:
        wandb_summary.send(sweep, trials, files)


def rows(sweep: Sweep, trials: Sequence[Trial]) -> list[dict[str, Any]]:
    """Returns a row per trial, by column: how it stands, every parameter by its key, and what it took.

    Args:
        sweep: The sweep.
        trials: Those that were given out, by number.
    """
    now = time.time()
    found = []
    for trial in trials:
        took = seconds(trial, now)
        row: dict[str, Any] = {"number": trial.number, "state": trial.state, "value": trial.value}
        row |= {key: trial.params.get(key) for key in sweep.axes}
        row |= {
            "seconds": None if took is None else round(took, 1),
            "epochs": _epochs(trial.folder, sweep.settings.metric, file_stamp(trial.folder / "metrics.csv")),
            "attempts": trial.attempts,
            "folder": os.path.relpath(trial.folder, sweep.folder),
            "error": trial.error,
        }
        found.append(row)
    return found


def summary(sweep: Sweep, trials: Sequence[Trial]) -> dict[str, Any]:
    """Returns what results.json holds, but for what is found out when the sweep is over.

    Args:
        sweep: The sweep.
        trials: Those that were given out, by number.
    """
    settings = sweep.settings
    counts = Counter(trial.state for trial in trials)
    counts["waiting"] += max(0, sweep.num_trials - len(trials))
    best = next(iter(ranked(trials, settings.is_higher_better)), None)
    return {
        "name": sweep.name,
        "metric": settings.metric,
        "direction": settings.direction,
        "value": settings.value,
        "is_over": all(trial.has_ended for trial in trials) and not counts["waiting"],
        "counts": {state: counts[state] for state in STATES if counts[state]},
        "best": None if best is None else _entry(sweep, best),
        "over_seeds": [asdict(group) for group in over_seeds(trials, settings.is_higher_better)],
        "command": sweep.command,
    }


def command_of(trial: Trial) -> str:
    """Returns the command that trains a trial again, in a run folder of its own, as it can be pasted into a shell.

    Args:
        trial: Any.
    """
    program, *rest = shlex.split(command())
    # It is kept: a Python that is named from here would be none from another folder.
    return shlex.join([os.path.abspath(program) if rest else program, *rest, "train", *trial.words])


def _entry(sweep: Sweep, trial: Trial) -> dict[str, Any]:
    return {
        "number": trial.number,
        "value": trial.value,
        "params": trial.params,
        "folder": os.path.relpath(trial.folder, sweep.folder),
        "command": command_of(trial),
    }


def _write_table(sweep: Sweep, trials: Sequence[Trial]) -> None:
    stream = io.StringIO()
    writer = csv.DictWriter(stream, [*_BEFORE_PARAMS, *sweep.axes, *_AFTER_PARAMS], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows(sweep, trials))
    file = sweep.folder / TABLE_FILE
    temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    temporary.write_text(stream.getvalue(), encoding="utf-8")
    os.replace(temporary, file)


@lru_cache(maxsize=4096)
def _epochs(folder: Path, metric: str, stamp: tuple[int, int]) -> int:
    """Returns the epochs of a trial; ``stamp`` changes with its metrics, which are read once for each."""
    return progress(folder, metric, is_higher_better=True, ends=Limits()).epochs


def _print(sweep: Sweep, trials: Sequence[Trial], found: Importance, files: Sequence[Path]) -> None:
    console = Console() if sys.stdout.isatty() else Console(width=_PIPE_WIDTH)
    settings = sweep.settings
    best = ranked(trials, settings.is_higher_better)
    if best:
        many = f"the best {_BEST_SHOWN} of {len(best)}" if len(best) > _BEST_SHOWN else f"{len(best)}"
        console.print(Text(f"\n{sweep.name}: {many} finished trials, by {settings.value} {settings.metric}"))
        progresses = {
            trial.number: progress(trial.folder, settings.metric, settings.is_higher_better)
            for trial in best[:_BEST_SHOWN]
        }
        console.print(trial_table(View(sweep, trials, progresses), best[:_BEST_SHOWN], console.width))
    _print_failed(console, trials)
    _print_seeds(console, sweep, over_seeds(trials, settings.is_higher_better))
    lines = [f"importance: {_shares(found)}"]
    if files:
        lines.append(f"pictures in {_grouped(files)}")
    lines.append(f"table in {sweep.folder / TABLE_FILE}")
    if best:
        lines.append(f"best: trial {best[0].number}, {settings.metric} {shown_score(best[0].value)}; train it again:")
        lines.append(f"  {command_of(best[0])}")
    # Paths and commands are copied: they are not broken into lines.
    console.print(Text("\n" + "\n".join(lines)), soft_wrap=True)


def _print_failed(console: Console, trials: Sequence[Trial]) -> None:
    failed = [trial for trial in trials if trial.state == "failed"]
    for trial in failed[:_FAILED_SHOWN]:
        line = f"trial {trial.number} failed: {trial.error or 'no reason'}; see {trial.folder / LOG_FILE}"
        console.print(Text(line, style="red"), soft_wrap=True)
    if len(failed) > _FAILED_SHOWN:
        others = ", ".join(str(trial.number) for trial in failed[_FAILED_SHOWN:])
        console.print(Text(f"and {len(failed) - _FAILED_SHOWN} more failed: {others}", style="red"), soft_wrap=True)


def _print_seeds(console: Console, sweep: Sweep, groups: Sequence[OverSeeds]) -> None:
    """Prints a table of means: among seeds the best trial is the luckiest too."""
    if not groups:
        return
    names = short_names([key for key in sweep.axes if key in groups[0].params])
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in names.values():
        table.add_column(name, overflow="ellipsis", no_wrap=True)
    for head in ("mean", "deviation", "seeds"):
        table.add_column(head, justify="right", no_wrap=True)
    for group in groups[:_BEST_SHOWN]:
        seeds = str(len(group.trials)) + (f" of {group.num_asked}" if group.num_asked > len(group.trials) else "")
        values = [shown(group.params.get(key)) for key in names]
        table.add_row(*map(Text, values), *_mean(group), seeds)
    many = f"the best {_BEST_SHOWN} of {len(groups)}" if len(groups) > _BEST_SHOWN else f"{len(groups)}"
    title = f"\n{sweep.settings.metric} over seeds, mean and standard deviation; {many} setting{'s'[: len(groups) > 1]}"
    console.print(Text(title))
    console.print(table)


def _mean(group: OverSeeds) -> tuple[str, str]:
    """Returns the mean and the deviation with as many digits behind the point."""
    mean = shown_score(group.mean)
    if group.deviation is None:
        return mean, "-"
    has_digits = "e" not in mean and "." in mean
    digits = len(mean.partition(".")[2])
    return mean, f"{group.deviation:.{digits}f}" if has_digits else shown(group.deviation)


def _shares(found: Importance) -> str:
    if not found.shares:
        return f"none, {found.caption}"
    shares = ", ".join(f"{key} {100 * share:.0f} %" for key, share in found.shares.items())
    return f"{shares} ({found.caption})"


def _grouped(files: Sequence[Path]) -> str:
    """Returns the folder of pictures and what is in it, folders below with how many they hold."""
    folder = files[0].parent
    below = Counter(file.parent for file in files if file.parent != folder)
    names = [file.name for file in files if file.parent == folder]
    return f"{folder}: {', '.join([*names, *(f'{parent.name}/ ({count})' for parent, count in below.items())])}"
