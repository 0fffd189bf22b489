"""The keys ``sweep.*``: conf/sweep.yaml holds their defaults, conf/sweep/NAME.yaml what each search changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Ge, Le

from segframe.ranges import NonNegative, NonNegativeInt, PositiveInt

FINITE = "grid"
"""The sampler that takes every combination of lists, once."""


@dataclass(frozen=True)
class Searching:
    """The section ``sweep.search``: who chooses parameters, and who ends trials early.

    Attributes:
        sampler: ``grid`` takes every combination; ``random`` draws; ``tpe`` learns from what was tried.
        pruner: ``median`` ends a trial that is worse than half of the others at its epoch; ``hyperband`` gives few
            epochs to many and more to the better.
        startup_trials: Trials before ``tpe`` learns and ``median`` compares.
        warmup_epochs: Epochs that every trial is given.
        seed: Decides what is drawn.
        storage: Where Optuna keeps the study: a URL of a database; None takes a file in the sweep folder.
    """

    sampler: Literal["grid", "random", "tpe"]
    pruner: Literal["none", "median", "hyperband"]
    startup_trials: NonNegativeInt
    warmup_epochs: NonNegativeInt
    seed: Annotated[int, Ge(0), Le(4294967295)]
    storage: str | None


@dataclass(frozen=True)
class Slurm:
    """The section ``sweep.slurm``: what each trial's job asks for.

    Attributes:
        cluster: ``slurm`` submits by sbatch; ``local`` runs jobs on this machine, to try.
        partition: Of the cluster; None takes its default.
        timeout_min: After how many minutes SLURM ends a job; it is submitted again and goes on.
        gpus_per_node: GPUs of a job; None takes as many as the trial has ranks on GPUs.
        cpus_per_task: Cores of a job.
        mem_gib: Memory of a job; None takes the partition's default.
        account: Who pays; None takes the default.
        more: Further options of sbatch, by their long names.
    """

    cluster: Literal["slurm", "local"]
    partition: str | None
    timeout_min: PositiveInt
    gpus_per_node: NonNegativeInt | None
    cpus_per_task: PositiveInt
    mem_gib: PositiveInt | None
    account: str | None
    more: Mapping[str, Any]


@dataclass(frozen=True)
class Ray:
    """The section ``sweep.ray``: the cluster, and what each trial takes of it.

    Attributes:
        address: ``auto`` finds a cluster on this machine; else HOST:PORT or ray://HOST:PORT.
        num_cpus: Cores of a trial.
        num_gpus: GPUs of a trial; None takes as many as the trial has ranks on GPUs.
    """

    address: str
    num_cpus: NonNegative
    num_gpus: NonNegative | None


@dataclass(frozen=True)
class Settings:
    """The section ``sweep``.

    Attributes:
        dir: The sweep folder; None takes outputs/sweeps/NAME-HASH, the same for the same search.
        trials: How many at most; None takes all of a grid.
        parallel: How many at once.
        launcher: Who runs them.
        metric: What is compared, a key of metrics.csv.
        direction: Which values are better.
        value: Whether a trial counts by its best epoch or its last one.
        retries: How often in a row one that was killed is run again without having ended another epoch.
        words: Training words that every trial is given, before those of the command line.
        space: What is searched: by key a list, {low, high, log, step}, or text in Hydra's grammar.
        search: Who chooses parameters.
        slurm: What launcher=slurm asks for.
        ray: What launcher=ray asks for.
    """

    dir: str | None
    trials: PositiveInt | None
    parallel: PositiveInt
    launcher: Literal["local", "slurm", "ray"]
    metric: str
    direction: Literal["maximize", "minimize"]
    value: Literal["best", "final"]
    retries: NonNegativeInt
    words: Sequence[str]
    space: Mapping[str, Any]
    search: Searching
    slurm: Slurm
    ray: Ray

    @property
    def is_higher_better(self) -> bool:
        """Whether larger values of the metric are better."""
        return self.direction == "maximize"


@dataclass(frozen=True)
class Sweep:
    """A sweep as everybody who runs or shows it sees it.

    Attributes:
        name: The option of the group ``sweep``, such as ``optuna_lr``.
        folder: The sweep folder.
        settings: The keys ``sweep.*``.
        axes: The keys of what is searched, in order.
        words: The training words that all trials share.
        num_trials: How many trials there will be.
        command: The command that goes on with it, ready to paste.
        num_epochs: ``trainer.max_epochs`` of its trials where it is one number for all, else None.
    """

    name: str
    folder: Path
    settings: Settings
    axes: tuple[str, ...]
    words: tuple[str, ...]
    num_trials: int
    command: str
    num_epochs: int | None = None
