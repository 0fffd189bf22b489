"""A sweep while it runs: a table that is drawn again on a terminal, a line per event elsewhere."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence

from rich.console import Console
from rich.live import Live
from rich.text import Text

from segframe.sweep.display import Display
from segframe.sweep.progress import Pace, Watched, seconds, whole_left_s
from segframe.sweep.settings import Sweep
from segframe.sweep.table import View, headline, in_words, overview
from segframe.sweep.trial import LOG_FILE, Trial
from segframe.wording import duration, shown_score

_REDRAW_S = 0.5
_LINE_EVERY_S = 60.0  # without a terminal, where nothing else has happened


def display(sweep: Sweep) -> Display:
    """Returns what shows a sweep on stderr: a live table where that is a terminal.

    Args:
        sweep: The sweep.
    """
    # Where the bar can't be written, what stands for it takes more than the line that is drawn again.
    has_bars = (sys.stderr.encoding or "").lower().startswith("utf")
    is_terminal = sys.stderr.isatty() and os.environ.get("TERM") != "dumb" and has_bars
    return LiveTable(sweep) if is_terminal else Lines(sweep)


class Status:
    """What is known of a sweep that runs, from one look to the next.

    Args:
        sweep: The sweep.
    """

    def __init__(self, sweep: Sweep) -> None:
        settings = sweep.settings
        self._sweep = sweep
        self._watched = Watched(settings.metric, settings.is_higher_better, sweep.num_epochs)
        self._pace = Pace()
        self._began = time.monotonic()

    def view(self, trials: Sequence[Trial]) -> View:
        """Returns how the sweep stands.

        Args:
            trials: Those that were given out, by number.
        """
        now, clock = time.time(), time.monotonic()
        found = {trial.number: self._watched.of(trial) for trial in trials}
        running = [trial for trial in trials if trial.state == "running"]
        for trial in running:
            self._pace.note(trial.number, found[trial.number].share, clock)
        lefts = {trial.number: self._pace.left_s(trial.number, clock) for trial in running}
        waiting = sum(trial.state in ("waiting", "interrupted") for trial in trials)
        waiting += max(0, self._sweep.num_trials - len(trials))
        left = whole_left_s(_took(trials, now), list(lefts.values()), waiting, self._sweep.settings.parallel)
        return View(self._sweep, trials, found, lefts, left, clock - self._began, now)


class LiveTable:
    """A ``Display`` for a terminal.

    Args:
        sweep: The sweep.
        console: The terminal; None takes stderr.
    """

    def __init__(self, sweep: Sweep, console: Console | None = None) -> None:
        self._status = Status(sweep)
        self._console = console or Console(stderr=True)
        self._live = Live(console=self._console, auto_refresh=False, vertical_overflow="crop", redirect_stdout=False)
        self._trials: Sequence[Trial] = ()
        self._drawn_at = 0.0

    def event(self, trial: Trial, what: str) -> None:
        """Writes above the table what would be lost in it; everything else is drawn."""
        self._drawn_at = 0.0
        if what == "failed" or (what == "interrupted" and trial.error):
            self.note(f"trial {trial.number} {what}: {trial.error or 'no reason'}; see {trial.folder / LOG_FILE}")

    def note(self, line: str) -> None:
        """Writes a line above the table."""
        self._console.print(Text(line), soft_wrap=True)

    def refresh(self, trials: Sequence[Trial]) -> None:
        """Draws the table, twice a second at most."""
        self._trials = trials
        if time.monotonic() - self._drawn_at < _REDRAW_S:
            return
        if not self._live.is_started:
            self._live.start()
        self._draw()
        self._drawn_at = time.monotonic()

    def close(self) -> None:
        """Draws the table for the last time and leaves it."""
        if self._live.is_started:
            self._draw()
            self._live.stop()

    def _draw(self) -> None:
        width, height = self._console.size
        self._live.update(overview(self._status.view(self._trials), width, height), refresh=True)


class Lines:
    """A ``Display`` for files and pipes.

    Args:
        sweep: The sweep.
    """

    def __init__(self, sweep: Sweep) -> None:
        self._sweep, self._status = sweep, Status(sweep)
        self._trials: Sequence[Trial] = ()
        self._said_at = time.monotonic()

    def event(self, trial: Trial, what: str) -> None:
        """Writes one line on what has happened."""
        self.note(event_line(self._status.view([trial]), trial, what))

    def note(self, line: str) -> None:
        """Writes a line."""
        print(line, file=sys.stderr, flush=True)
        self._said_at = time.monotonic()

    def refresh(self, trials: Sequence[Trial]) -> None:
        """Writes how the sweep stands where nothing has happened for a minute."""
        self._trials = trials
        if time.monotonic() - self._said_at > _LINE_EVERY_S:
            self.note(status_line(self._status.view(trials)))

    def close(self) -> None:
        """Writes how the sweep stands at its end."""
        self.note("; ".join(headline(self._status.view(self._trials))))


def event_line(view: View, trial: Trial, what: str) -> str:
    """Returns what to say of an event.

    Args:
        view: How the trial stands.
        trial: The trial.
        what: As of ``Display.event``.
    """
    metric, found = view.sweep.settings.metric, view.progress[trial.number]
    took = duration(seconds(trial, view.now))
    epoch = f"epoch {found.epochs}" + (f" of {found.num_epochs}" if found.num_epochs else "")
    text = {
        "started": in_words(trial),
        "resumed": f"from {epoch}, attempt {trial.attempts}" if found.epochs else f"attempt {trial.attempts}",
        "adopted": f"still runs, {epoch}",
        "finished": f"{metric} {shown_score(trial.value)} after {took}",
        "pruned": f"{metric} {shown_score(trial.value)} after {epoch}, {took}",
        "failed": f"{trial.error or 'no reason'} (after {took}; see {trial.folder / LOG_FILE})",
        "interrupted": f"{trial.error or 'stopped'} (after {epoch}, {took})",
    }.get(what, "")
    return f"trial {trial.number} {what}: {text}" if text else f"trial {trial.number} {what}"


def status_line(view: View) -> str:
    """Returns how the whole and each running trial stand, in one line."""
    parts = [*headline(view)]
    for trial in view.trials:
        if trial.state == "running":
            found = view.progress[trial.number]
            total = f" of {found.num_epochs}" if found.num_epochs else ""
            parts.append(f"trial {trial.number}: epoch {found.epochs}{total}, {shown_score(found.last)}")
    return "; ".join(parts)


def _took(trials: Sequence[Trial], now: float) -> list[float]:
    """Returns the seconds of trials that have ended; of those that were interrupted only where there are no others."""
    ended = [trial for trial in trials if trial.has_ended]
    whole = [trial for trial in ended if trial.attempts <= 1] or ended
    return [taken for trial in whole if (taken := seconds(trial, now)) is not None]
