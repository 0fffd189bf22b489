"""The loop of a sweep: starts trials where there is room, watches them, and takes down what comes of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from segframe.config.options import ConfigError
from segframe.sweep.attempt import Attempt, words_to_start
from segframe.sweep.display import Display
from segframe.sweep.launch.job import Launcher, Need
from segframe.sweep.outcome import Outcome, judge, value_of
from segframe.sweep.retries import Retries
from segframe.sweep.search import Search
from segframe.sweep.settings import Sweep
from segframe.sweep.stopping import Stopping
from segframe.sweep.trial import State, Trial

_PAUSE_S = 0.2
_PATIENCE_S = 90.0  # for a trial that was told to end: rank 0 may still write a checkpoint


@dataclass
class Driver:
    """Runs a sweep to its end; one thread, and every step leaves the folder so that another driver can go on.

    Attributes:
        sweep: What is run.
        search: Gives trials out.
        launcher: Runs them.
        need: Returns what the words of a trial take, or raises ConfigError.
        display: Shows it.
        record: Writes tables and results of the trials so far; called after each event.
    """

    sweep: Sweep
    search: Search
    launcher: Launcher
    need: Callable[[Sequence[str]], Need]
    display: Display
    record: Callable[[Sequence[Trial]], None]
    _running: dict[int, Attempt] = field(default_factory=dict)
    _again: list[Trial] = field(default_factory=list)
    _held: tuple[Trial, Need] | None = None
    _stopping: Stopping = field(default_factory=Stopping)
    _has_told: bool = False

    def __post_init__(self) -> None:
        self._retries = Retries(self.sweep.settings.retries)

    def run(self, leftovers: Sequence[Trial]) -> int:
        """Runs until nothing is left to try or a signal says to stop; returns that signal's number, 0 for none.

        Args:
            leftovers: The trials whose folders said, before the search was opened, that they had not ended.

        Raises:
            ConfigError: If the launcher can't start trials.
            StudyLostError: If the search's database is gone.
        """
        with self._stopping.heeded():
            try:
                self._take_over(leftovers)
                while self._step():
                    self._stopping.wait(_PAUSE_S)
            except BaseException:
                self._abandon()
                raise
            finally:
                self.launcher.close()
        return self._stopping.number

    @property
    def is_hurried(self) -> bool:
        """Whether a second signal came, so that everything ends at once."""
        return self._stopping.presses > 1

    def _step(self) -> bool:
        """Does what there is to do; returns whether there will be more."""
        if self._stopping.number:
            self._stop_all()
        else:
            self._fill()
        for attempt in list(self._running.values()):
            code = attempt.job.poll()
            self._look(attempt) if code is None else self._ended(attempt, code)
        self.display.refresh(self.search.trials())
        return bool(self._running) or not (self._stopping.number or self._is_over())

    def _is_over(self) -> bool:
        """Whether nothing runs or is left to try."""
        if self._held is None:
            self._held = self._next()
        return self._held is None

    def _fill(self) -> None:
        """Starts trials while fewer run than may and there is room for the next one."""
        while len(self._running) < self.sweep.settings.parallel and not self._is_over():
            assert self._held is not None
            trial, need = self._held
            if not self.launcher.has_room(need):
                return
            self._start(trial, need)
            self._held = None

    def _next(self) -> tuple[Trial, Need] | None:
        """Returns the next trial that can be run, and what it takes; one that can't be is told as failed."""
        while (trial := self._again.pop(0) if self._again else self.search.ask()) is not None:
            try:
                return trial, self.need(trial.words)
            except ConfigError as error:
                self._tell(trial, Outcome("failed", None, " ".join(str(error).split())))
        return None

    def _start(self, trial: Trial, need: Need) -> None:
        goes_on, words = words_to_start(trial)
        before = Attempt.epochs_of(trial, self.sweep.settings.metric)
        try:
            job = self.launcher.start(trial.number, words, trial.folder, need)
        except OSError as error:
            raise ConfigError(f"trial {trial.number} can't be started: {error}") from error
        self._running[trial.number] = Attempt(trial, job, first_epoch=max((step for step, _ in before), default=0))
        trial.state, trial.attempts, trial.error, trial.ended = "running", trial.attempts + 1, None, None
        trial.started = trial.started or time.time()
        trial.job = job.describe()
        trial.write()
        self._tell_of(trial, "resumed" if goes_on else "started")

    def _look(self, attempt: Attempt) -> None:
        """Reports the epochs that have ended; ends a hopeless trial, and one that does not end when told to."""
        if attempt.stopped_at is not None:
            if time.monotonic() - attempt.stopped_at > _PATIENCE_S:
                attempt.job.kill()
            return
        trial, found = attempt.trial, list(attempt.new_epochs(self.sweep.settings.metric))
        has_epochs_left = not found or found[-1][0] != self.sweep.num_epochs
        for step, value in found:
            if self.search.report(trial, step, value) and has_epochs_left:
                # The study first: a driver that is killed here leaves a trial that is not started again.
                attempt.is_pruned = True
                self._tell(trial, Outcome("pruned", value_of(trial.folder, self.sweep.settings), None))
                attempt.stop()
                return

    def _ended(self, attempt: Attempt, code: int) -> None:
        """Takes down how an attempt ended."""
        trial = attempt.trial
        del self._running[trial.number]
        if attempt.is_pruned:
            return
        for step, value in attempt.new_epochs(self.sweep.settings.metric):
            self.search.report(trial, step, value)
        outcome = judge(trial.folder, None if attempt.is_adopted else code, self.sweep.settings)
        if outcome.state == "interrupted" and attempt.stopped_at is None and not attempt.is_adopted:
            outcome = self._retries.judge(trial.number, outcome, attempt.has_advanced)
        self._tell(trial, outcome)
        if outcome.state == "interrupted" and self._is_wanted(trial):
            self._again.append(trial)

    def _is_wanted(self, trial: Trial) -> bool:
        """Whether a trial is run at all: ``sweep.trials`` may be smaller than it was."""
        return trial.number < self.sweep.num_trials

    def _take_over(self, leftovers: Sequence[Trial]) -> None:
        """Takes up what an earlier driver has left: what runs, what has ended meanwhile, what was interrupted."""
        known = {trial.number: trial for trial in self.search.trials()}
        for left in leftovers:
            trial = known.get(left.number, left)
            job = self.launcher.adopt(left.job, left.folder)
            if job is None:
                continue
            attempt = self._running[trial.number] = Attempt(trial, job, is_adopted=True, is_pruned=trial.has_ended)
            if trial.has_ended:
                attempt.stop()
            else:
                trial.state = "running"
                self._tell_of(trial, "adopted")
        for trial in self.search.unfinished():
            if trial.number in self._running:
                continue
            outcome = judge(trial.folder, None, self.sweep.settings)
            if outcome.state == "interrupted" and self._is_wanted(trial):
                self._again.append(trial)
            elif outcome.state != trial.state:
                for step, value in Attempt.epochs_of(trial, self.sweep.settings.metric):
                    self.search.report(trial, step, value)
                self._tell(trial, outcome)

    def _tell(self, trial: Trial, outcome: Outcome) -> None:
        self.search.tell(trial, *outcome)
        self._tell_of(trial, outcome.state)

    def _tell_of(self, trial: Trial, what: State | str) -> None:
        self.display.event(trial, what)
        self.record(self.search.trials())

    def _stop_all(self) -> None:
        """Tells every trial to end with a checkpoint; to end at once, after a second Ctrl-C."""
        if self._running and not self._has_told:
            self._has_told = True
            self.display.note("stopping: the trials write their checkpoints; once more ends them at once")
        for attempt in self._running.values():
            if attempt.stopped_at is None:
                attempt.stop()
            if self.is_hurried:
                attempt.job.kill()

    def _abandon(self) -> None:
        """Ends what runs before an error ends the driver; what the study was not told is taken up by the next one."""
        if self._running:
            with suppress(OSError):  # which may be what the error is about
                self.display.note("an error ends the sweep: the trials that run write their checkpoints first")
        for attempt in self._running.values():
            attempt.stop()
        deadline = time.monotonic() + _PATIENCE_S
        while any(attempt.job.poll() is None for attempt in self._running.values()) and time.monotonic() < deadline:
            time.sleep(_PAUSE_S)
