"""What the driver of a sweep asks of a launcher: to start, watch and end trials, wherever they run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

TERMINAL_LOG = "terminal.log"
"""The file of a trial's folder that what it prints is appended to."""


@dataclass(frozen=True)
class Need:
    """What a trial takes of the machine that it runs on.

    Attributes:
        ranks: Processes that train.
        cores: Logical cores for them and their loaders.
        gpus: GPUs, one per rank; 0 on the CPU.
    """

    ranks: int
    cores: int
    gpus: int = 0


class Job(Protocol):
    """A trial that was started."""

    def poll(self) -> int | None:
        """Returns None until everything of the trial has ended, then its exit code, -N after signal N.

        What the trial has recorded in results.json counts more: nobody has waited for the process of an adopted job,
        whose code is then -15.
        """
        ...

    def stop(self) -> None:
        """Tells the trial to end with a checkpoint; returns at once."""
        ...

    def kill(self) -> None:
        """Ends everything of the trial without a checkpoint; returns at once, and ``poll`` tells when it is done."""
        ...

    def describe(self) -> dict[str, Any]:
        """Returns what ``Launcher.adopt`` finds the trial by, as JSON has it; the same from start to end."""
        ...

    def where(self) -> str:
        """Returns where the trial runs, for a narrow column: ``cores 0-3``, ``GPU 1``, ``queue``, ``node7``."""
        ...


class Launcher(Protocol):
    """Starts trials, each as one process tree that may hold several ranks, and never more than there is room for."""

    def need(self, values: Mapping[str, Any]) -> Need:
        """Returns what a trial takes.

        Args:
            values: The trial's resolved configuration.

        Raises:
            ConfigError: If it can't run here; says what can.
        """
        ...

    def check(self, needs: Sequence[Need]) -> None:
        """Checks, before the first trial starts, that as many run at once as was asked for.

        Args:
            needs: What the trials take that are known by now.

        Raises:
            ConfigError: If the smallest of them leave no room for ``sweep.parallel`` at once, or the engine is not
                there.
        """
        ...

    def has_room(self, need: Need) -> bool:
        """Whether a trial can start now; asked for the next trial alone, so that large ones get their turn."""
        ...

    def start(self, number: int, words: Sequence[str], folder: Path, need: Need) -> Job:
        """Starts ``segframe train WORDS`` with ``run.dir`` or ``resume`` among the words; returns at once.

        Args:
            number: The trial's number.
            words: The words of the verb train.
            folder: The trial's run folder; made where it is missing.
            need: What it takes.

        Raises:
            ConfigError: If the engine refuses it.
        """
        ...

    def adopt(self, description: Mapping[str, Any], folder: Path) -> Job | None:
        """Returns the job of an earlier driver where something of it still runs or waits; None where nothing does.

        A trial that an earlier driver ran on its own machine is told to end: its checkpoint is what goes on.

        Args:
            description: What ``Job.describe`` gave.
            folder: The trial's run folder.

        Raises:
            ConfigError: If it still runs where this process can't reach it.
        """
        ...

    def close(self) -> None:
        """Gives back what the launcher holds; trials that still run are not waited for."""
        ...
