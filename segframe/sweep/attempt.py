"""One attempt at a trial: what it is started with, and what of it was reported."""

from __future__ import annotations

import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass

from segframe.config.options import ConfigError
from segframe.sweep.launch.job import Job
from segframe.sweep.outcome import epochs, missing_column
from segframe.sweep.trial import Trial
from segframe.wording import quoted


@dataclass
class Attempt:
    """A trial that runs.

    Attributes:
        trial: Which.
        job: Its processes.
        is_adopted: Whether an earlier driver has started it.
        is_pruned: Whether it was ended as hopeless.
        stopped_at: When it was told to end, of the monotonic clock.
        first_epoch: How many epochs earlier attempts have brought to an end.
    """

    trial: Trial
    job: Job
    is_adopted: bool = False
    is_pruned: bool = False
    stopped_at: float | None = None
    first_epoch: int = 0
    _reported: int = 0
    _seen: tuple[int, int] = (0, 0)

    def stop(self) -> None:
        """Tells it to end with a checkpoint."""
        self.stopped_at = time.monotonic()
        self.job.stop()

    @property
    def has_advanced(self) -> bool:
        """Whether an epoch was reported that no earlier attempt has ended."""
        return self._reported > self.first_epoch

    def new_epochs(self, metric: str) -> Iterator[tuple[int, float]]:
        """Yields the metric of each epoch that has ended since the last look.

        Args:
            metric: A column of metrics.csv.

        Raises:
            ConfigError: If an evaluation has ended without it: no trial will have it.
        """
        try:
            status = (self.trial.folder / "metrics.csv").stat()
        except OSError:
            return
        if (status.st_mtime_ns, status.st_size) == self._seen:
            return
        self._seen = status.st_mtime_ns, status.st_size
        found = self.epochs_of(self.trial, metric)
        if not found and (problem := missing_column(self.trial.folder, metric)):
            raise ConfigError(problem)
        for step, value in found:
            if step > self._reported:
                self._reported = step
                yield step, value

    @staticmethod
    def epochs_of(trial: Trial, metric: str) -> list[tuple[int, float]]:
        """Returns the metric of each epoch of a trial.

        Args:
            trial: Which.
            metric: A column of metrics.csv.
        """
        return epochs(trial.folder, metric)


def words_to_start(trial: Trial) -> tuple[bool, list[str]]:
    """Returns whether a trial goes on from a checkpoint, and the words of the verb train that start it.

    Args:
        trial: One that does not run.
    """
    folder = trial.folder.absolute()
    checkpoints = [folder / "checkpoints" / name for name in ("last.ckpt", "previous.ckpt")]
    # A checkpoint is written whole or not at all, but for a machine that lost its power.
    whole = next((path for path in checkpoints if zipfile.is_zipfile(path)), None)
    if (folder / "overrides.json").exists() and any((folder / "checkpoints").glob("*.ckpt")):
        source = whole if whole == checkpoints[1] else folder
        return whole is not None, [f"resume={quoted(str(source))}"]
    return False, [*trial.words, f"run.dir={quoted(str(folder))}"]
