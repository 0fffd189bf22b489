"""What a trial takes, by its own configuration; decided before it starts and without torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from segframe import planning
from segframe.config.options import ConfigError
from segframe.sweep.launch.job import Need

_MOST = 1024  # GPUs of one machine


def ranks_and_gpus(values: Mapping[str, Any], share: int, there: int) -> tuple[int, int]:
    """Returns how many processes and GPUs a trial takes.

    Args:
        values: The trial's resolved configuration.
        share: GPUs that ``trainer.devices=auto`` is to find.
        there: GPUs that there are.

    Raises:
        ConfigError: If it can't run on one machine with these.
    """
    trainer = values["trainer"]
    devices, accelerator = trainer["devices"], trainer["accelerator"]
    if trainer["num_nodes"] > 1:
        raise ConfigError(
            f"trainer.num_nodes={trainer['num_nodes']}: a trial of a sweep runs on one machine; leave it out, or train "
            "without a sweep, by scripts/torchrun.sh or scripts/slurm.sbatch."
        )
    known = share if devices == "auto" else there
    on_gpus = accelerator in ("gpu", "cuda") or (accelerator == "auto" and known > 0)
    if isinstance(devices, list) and on_gpus:
        numbers = ",".join(map(str, devices))
        raise ConfigError(
            f"trainer.devices=[{numbers}] lists GPUs by their numbers, and a sweep hands GPUs out itself; use "
            f"trainer.devices={len(devices)}, and CUDA_VISIBLE_DEVICES={numbers} before the command where the sweep "
            "is to keep to these."
        )
    plain = dict(values)
    ranks = planning.plan(plain, known)
    planning.check_batch(plain, ranks)
    if not on_gpus:
        return ranks, 0
    by_one_process = values["strategy"].get("schedule") == "none"
    return ranks, (known if devices == "auto" else int(devices)) if by_one_process else ranks


def of_a_job(values: Mapping[str, Any], cores: float, gpus: float | None, key: str) -> Need:
    """Returns what a trial takes where an engine finds the machine for it.

    Args:
        values: The trial's resolved configuration.
        cores: Cores that its job asks for.
        gpus: GPUs that it asks for; None goes by the trial.
        key: The key that says so.

    Raises:
        ConfigError: If the job can't hold the trial, or nothing says whether it is to have a GPU.
    """
    if gpus is None:
        if values["trainer"]["accelerator"] == "auto":
            raise ConfigError(
                f"trainer.accelerator=auto takes what it finds, and nothing says what a trial's job has to ask for; "
                f"give trainer=gpu or trainer=cpu, or {key}=N (0: none)."
            )
        ranks, taken = ranks_and_gpus(values, share=1, there=_MOST)
        return Need(ranks, max(1, round(cores)), taken)
    there = int(gpus) or int(gpus > 0)  # a part of a GPU is one to torch
    try:
        ranks, _ = ranks_and_gpus(values, there, there)
    except ConfigError as error:
        raise ConfigError(f"with {key}={gpus:g}: {error}") from None
    return Need(ranks, max(1, round(cores)), there)
