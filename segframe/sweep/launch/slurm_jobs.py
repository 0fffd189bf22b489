"""Jobs of SLURM, submitted by this driver or an earlier one: watched and ended, by SLURM's commands alone."""

from __future__ import annotations

import getpass
import hashlib
import math
import pickle
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from segframe.config.options import ConfigError
from segframe.sweep.launch import processes
from segframe.sweep.launch.job import TERMINAL_LOG, Job

LOOK_S = 10.0
"""Seconds between two questions to SLURM's controller, one for all jobs; the result file tells of an end before."""

_RESULT_S = 30.0  # a network file system may show a result that long after the job's end
_WAITING = ("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "SPECIAL_EXIT")


class Entry(NamedTuple):
    """A line of the queue.

    Attributes:
        job: The job's number.
        state: SLURM's word for it, such as ``RUNNING``.
        node: Where it runs; empty while it waits.
        name: Its name.
    """

    job: str
    state: str
    node: str
    name: str


class Queue:
    """The user's jobs as squeue shows them, asked for rarely."""

    def __init__(self) -> None:
        self._entries: dict[str, Entry] | None = None
        self._asked_at = -LOOK_S

    def entries(self, now: bool = False) -> dict[str, Entry] | None:
        """Returns jobs that wait or run, by number; None while SLURM has given no answer.

        Args:
            now: Whether to ask though it was asked a moment ago.
        """
        if now or time.monotonic() - self._asked_at >= LOOK_S:
            self._asked_at = time.monotonic()
            text = _said("squeue", "--noheader", f"--user={getpass.getuser()}", "--format=%i|%T|%N|%j")
            if text is not None:
                found = [Entry(*line.split("|", 3)) for line in text.splitlines() if line.count("|") >= 3]
                self._entries = {entry.job: entry for entry in found}
        return self._entries


def job_name(folder: Path) -> str:
    """Returns the name of a trial's job, by which it is found where its number was not written down.

    Args:
        folder: The trial's folder.
    """
    return f"segframe-{hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:12]}"


class SubmittedJob:
    """A trial's job; it goes on without its driver.

    Args:
        description: ``job``, ``cluster`` (slurm or local) and ``records``, where submitit keeps the job's result.
        folder: The trial's folder.
        queue: Where the job is looked for.
    """

    def __init__(self, description: Mapping[str, Any], folder: Path, queue: Queue) -> None:
        self._description, self._folder, self._queue = dict(description), folder, queue
        self._job, self._is_local = str(description["job"]), description["cluster"] == "local"
        self._result = _result(description)
        self._submitted_at = time.monotonic()
        self._gone_at: float | None = None
        self._told_to_end = False

    def poll(self) -> int | None:
        """Returns None while the job waits or runs, then the trial's exit code, -N after signal N."""
        has_result = self._result.exists()
        if (self._is_local or not has_result) and self.is_there():
            return None
        if has_result:
            return self._code()
        self._gone_at = time.monotonic() if self._gone_at is None else self._gone_at
        if not self._is_local and time.monotonic() - self._gone_at < _RESULT_S:
            return None
        return -signal.SIGTERM if self._told_to_end else -signal.SIGKILL

    def is_there(self) -> bool:
        """Whether the job waits or runs, as far as is known."""
        if self._is_local:
            return bool(processes.marked(self._folder))
        entries = self._queue.entries()
        # A job that was submitted since the last look is not listed yet.
        return entries is None or self._job in entries or time.monotonic() - self._submitted_at < 2 * LOOK_S

    def stop(self) -> None:
        """Tells the trial to end with a checkpoint; a job that waits is taken out of the queue."""
        self._told_to_end = True
        if self._is_local:
            processes.signal_marked(self._folder, signal.SIGTERM)
        elif self._state() in _WAITING:
            _said("scancel", self._job)
            self._gone_at = -math.inf  # there will be no result
        else:
            _said("scancel", "--signal=TERM", self._job)  # scancel alone would kill after KillWait, 30 s by default

    def kill(self) -> None:
        """Ends the job at once."""
        self._told_to_end = True
        if self._is_local:
            processes.signal_marked(self._folder, signal.SIGKILL, all_of_them=True)
        else:
            _said("scancel", *(() if self._state() in _WAITING else ("--signal=KILL",)), self._job)

    def describe(self) -> dict[str, Any]:
        """Returns the job's number, and where its result will be."""
        return self._description

    def where(self) -> str:
        """Returns the node that it runs on, or that it waits."""
        if self._is_local:
            return f"job {self._job}"
        entry = (self._queue.entries() or {}).get(self._job)
        return f"job {self._job}" if entry is None else entry.node or "queue"

    def _state(self) -> str:
        entry = (self._queue.entries(now=True) or {}).get(self._job)
        return entry.state if entry else ""

    def _code(self) -> int:
        """Returns what the job's function has returned; 1 where it has failed, whose reason goes to the log."""
        outcome, content = pickle.loads(self._result.read_bytes())
        if outcome == "success":
            return int(content)
        reason = str(content).strip().splitlines()[-1].partition(": ")[2]
        with (self._folder / TERMINAL_LOG).open("a", encoding="utf-8") as file:
            file.write(f"error: {reason}\n")
        return 1


def found_again(description: Mapping[str, Any], folder: Path, records: Path, queue: Queue) -> SubmittedJob | None:
    """Returns the job of an earlier driver that still waits or runs; None where there is none.

    Args:
        description: What the job had said of itself; empty where the driver was killed before it wrote that down.
        folder: The trial's folder.
        records: Where submitit keeps results.
        queue: Where the job is looked for.
    """
    if description.get("launcher") == "slurm":
        job = SubmittedJob(description, folder, queue)
        if description["cluster"] == "local":
            return job if job.is_there() else None
        return job if str(description["job"]) in (queue.entries() or {}) else None
    if description or shutil.which("squeue") is None:
        return None
    named = [entry for entry in (queue.entries() or {}).values() if entry.name == job_name(folder)]
    return SubmittedJob(described(named[-1].job, "slurm", records), folder, queue) if named else None


def left(description: Mapping[str, Any], folder: Path) -> Job | None:
    """Returns what an earlier driver has left, whichever its launcher was; None where nothing waits or runs.

    Args:
        description: What the trial's job had said of itself; empty where it came to no writing.
        folder: The trial's folder.

    Raises:
        ConfigError: If it was a job of SLURM, and SLURM can't be asked about it here.
    """
    if description.get("launcher") != "slurm":
        return processes.leftover(folder, description)
    queue = Queue()
    job = found_again(description, folder, Path(), queue)
    if (
        job is None
        and description["cluster"] == "slurm"
        and queue.entries() is None
        and not _result(description).exists()
    ):
        raise ConfigError(
            f"{folder} was given to SLURM as job {description['job']}, and squeue does not answer here to tell whether "
            "it still waits or runs; go on with sweep.launcher=slurm where it answers, or, if the job is over, take "
            f'"job" out of {folder / "trial.json"}'
        )
    return job or processes.leftover(folder, description)


def _result(description: Mapping[str, Any]) -> Path:
    """Returns where submitit puts the result of a job."""
    return Path(description["records"]) / f"{description['job']}_0_result.pkl"


def described(job: str, cluster: str, records: Path) -> dict[str, Any]:
    """Returns what trial.json says of a job.

    Args:
        job: Its number.
        cluster: ``slurm`` or ``local``.
        records: Where submitit keeps results.
    """
    return {"launcher": "slurm", "cluster": cluster, "job": job, "records": str(records)}


def _said(*command: str) -> str | None:
    """Returns what one of SLURM's commands prints; None where it can't be asked."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    except (OSError, subprocess.SubprocessError):
        return None
