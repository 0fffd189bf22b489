"""One training of a sweep: what it was given, where it ran, what came of it; ``trial.json`` in its folder holds it."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from segframe.runfolder import write_json

TRIAL_FILE = "trial.json"
"""The file of a trial's run folder that makes it one."""

LOG_FILE = "terminal.log"
"""What the trial printed, beside it; every attempt is appended."""

State = Literal["waiting", "running", "finished", "pruned", "failed", "interrupted"]
"""Where a trial stands. The driver knows ``waiting`` of those that it will start; they have no file yet."""

STATES: tuple[State, ...] = get_args(State)
"""All of them, in the order in which tables and counts show them."""

ENDED: frozenset[State] = frozenset({"finished", "pruned", "failed"})
"""Those that nothing follows: the trial is not run again."""


@dataclass
class Trial:
    """A trial; its number, parameters and folder never change, over any number of attempts.

    Attributes:
        number: From 0, in the order in which trials were made.
        params: The value of every axis of the search, by the axis's key.
        words: All words of the training but for ``run.dir``.
        folder: Its run folder, ``SWEEP/trials/NNNN``.
        state: Where it stands.
        attempts: How often it was started, by any driver.
        value: The best or last value of the sweep's metric; None where there is none.
        error: What went wrong, in one line.
        started: When the first attempt began, in seconds since 1970.
        ended: When the last attempt ended.
        job: What the launcher wrote down to find the last attempt's processes again (``Job.describe``).
    """

    number: int
    params: dict[str, Any]
    words: list[str]
    folder: Path
    state: State = "waiting"
    attempts: int = 0
    value: float | None = None
    error: str | None = None
    started: float | None = None
    ended: float | None = None
    job: dict[str, Any] = field(default_factory=dict)

    def write(self) -> None:
        """Writes trial.json whole or not at all; makes the folder.

        Raises:
            OSError: If the folder can't be written.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        content = asdict(self)
        del content["folder"]  # where the file lies, so that a sweep may be moved
        write_json(self.folder / TRIAL_FILE, content)

    @property
    def has_ended(self) -> bool:
        """Whether it is never run again."""
        return self.state in ENDED

    def end(self, state: State, value: float | None, error: str | None) -> None:
        """Takes how an attempt ended and writes it down.

        Args:
            state: Where the trial stands now.
            value: As the attribute.
            error: As the attribute.

        Raises:
            OSError: If the folder can't be written.
        """
        self.state, self.value, self.error, self.ended = state, value, error, time.time()
        self.write()


def trial_folder(sweep: Path, number: int) -> Path:
    """Returns the run folder of a trial.

    Args:
        sweep: The sweep folder.
        number: The trial's number.
    """
    return sweep / "trials" / f"{number:04d}"


def read(folder: Path) -> Trial | None:
    """Returns the trial of a run folder; None where the folder is none of a trial.

    Args:
        folder: The run folder.

    Raises:
        ValueError: If trial.json is not what a sweep writes.
    """
    file = folder / TRIAL_FILE
    try:
        content: Any = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError as error:
        raise ValueError(f"{file} is no valid JSON ({error}); delete the file to run the trial again") from error
    try:
        if not isinstance(content, Mapping) or content["state"] not in STATES:
            raise TypeError("unknown state")
        if type(content["number"]) is not int:
            raise TypeError(f"number {content['number']!r}")
        return Trial(folder=folder, **content)
    except (TypeError, KeyError) as error:
        raise ValueError(f"{file} is not what a sweep writes ({error}); delete it to run the trial again") from error


def read_all(sweep: Path) -> list[Trial]:
    """Returns the trials of a sweep folder that were ever started, by number.

    Args:
        sweep: The sweep folder.

    Raises:
        ValueError: If a trial.json is not what a sweep writes.
    """
    found = (read(folder) for folder in sorted((sweep / "trials").glob("*")))
    # A copy of a trial's folder that somebody has put beside it is none of the sweep's.
    own = (trial for trial in found if trial is not None and trial.folder == trial_folder(sweep, trial.number))
    return sorted(own, key=lambda trial: trial.number)
