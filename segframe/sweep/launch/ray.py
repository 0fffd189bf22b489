"""``sweep.launcher=ray``: each trial is a task of a Ray cluster that runs already."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import os
import signal
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import segframe
from segframe.config.options import ConfigError
from segframe.sweep.launch import needs, node, processes, slurm_jobs
from segframe.sweep.launch.job import TERMINAL_LOG, Job, Need
from segframe.sweep.settings import Ray

_PASSED_ON = ("SEGFRAME_", "WANDB_", "OMP_NUM_THREADS", "TORCH_HOME", "HF_HOME")
_ANSWER_S = 5.0
_SECRET = ("KEY", "TOKEN")  # a task's arguments can be read by whoever can reach the cluster


class RayLauncher:
    """Gives trials to Ray, which ends them when this process is gone.

    Args:
        parallel: Tasks at once, those that wait included.
        options: The cluster, and what a task takes of it.
        folder: The sweep folder, on a file system that all machines see.

    Raises:
        ConfigError: If Ray or its cluster is not there.
    """

    def __init__(self, parallel: int, options: Ray, folder: Path) -> None:
        self._parallel, self._options = parallel, options
        self._ray, self._place = _connected(options.address)
        self._jobs: list[RayJob] = []

    def need(self, values: Mapping[str, Any]) -> Need:
        """Returns what a trial's task takes.

        Args:
            values: The trial's resolved configuration.

        Raises:
            ConfigError: If the task can't hold the trial.
        """
        return needs.of_a_job(values, self._options.num_cpus, self._options.num_gpus, "sweep.ray.num_gpus")

    def check(self, needs: Sequence[Need]) -> None:
        """Checks that some machine of the cluster is large enough for each trial: Ray would wait for one for ever.

        Args:
            needs: What the trials take that are known by now.

        Raises:
            ConfigError: If none is.
        """
        machines = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        for name, key, asked in (
            ("CPU", "num_cpus", self._options.num_cpus),
            ("GPU", "num_gpus", max((self._gpus(need) for need in needs), default=0.0)),
        ):
            most = max((float(machine.get(name, 0)) for machine in machines), default=0.0)
            if asked > most:
                raise ConfigError(
                    f"a trial takes {asked:g} {name}s of a machine, and the largest of the Ray cluster at "
                    f"{self._options.address} has {most:g}; use sweep.ray.{key}={most:g}"
                    + (", or fewer devices." if name == "GPU" else ".")
                )

    def has_room(self, need: Need) -> bool:
        """Whether fewer tasks wait or run than may.

        Args:
            need: What the trial takes.
        """
        self._jobs = [job for job in self._jobs if job.poll() is None]
        return len(self._jobs) < self._parallel

    def start(self, number: int, words: Sequence[str], folder: Path, need: Need) -> Job:
        """Gives a trial to the cluster.

        Args:
            number: The trial's number.
            words: The words of the verb train.
            folder: The trial's run folder.
            need: What it takes.

        Raises:
            ConfigError: If the cluster is gone.
        """
        self._check_reachable()
        folder.mkdir(parents=True, exist_ok=True)
        variables = {key: text for key, text in os.environ.items() if _is_passed_on(key)}
        task = self._ray.remote(node.run).options(
            name=f"trial {number}",
            num_cpus=self._options.num_cpus,
            num_gpus=self._gpus(need),
            max_retries=0,  # the driver starts it again, so that it goes on from its checkpoint
            runtime_env={"env_vars": {"PYTHONPATH": _path_to_segframe()}},
        )
        threads = max(1, need.cores // need.ranks)
        reference = task.remote(list(words), str(folder.absolute()), os.getcwd(), threads, variables)
        self._jobs.append(RayJob(self._ray, reference, folder, self._options.address))
        return self._jobs[-1]

    def adopt(self, description: Mapping[str, Any], folder: Path) -> Job | None:
        """Returns what an earlier driver's trial has left, which ends; None where nothing runs.

        Args:
            description: What the trial's job had said of itself; empty where it came to no writing.
            folder: The trial's run folder.
        """
        return slurm_jobs.left(description, folder)

    def close(self) -> None:
        """Leaves the cluster, which ends what still runs."""
        self._ray.shutdown()

    def _check_reachable(self) -> None:
        """Checks that somebody listens: Ray itself would wait for a minute and then end this process."""
        try:
            _reach(self._place)
        except OSError as error:
            raise ConfigError(
                f"sweep.ray.address={self._options.address}: the Ray cluster is gone ({error.strerror or error}); when "
                "it runs again, the same command goes on"
            ) from None

    def _gpus(self, need: Need) -> float:
        return need.gpus if self._options.num_gpus is None else self._options.num_gpus


class RayJob:
    """A task that runs a trial.

    Args:
        ray: The package.
        reference: What the task's result is asked for by.
        folder: The trial's folder.
        address: The cluster's.
    """

    def __init__(self, ray: Any, reference: Any, folder: Path, address: str) -> None:
        self._ray, self._reference, self._folder = ray, reference, folder
        self._description = {"launcher": "ray", "address": address, "task": str(reference.task_id().hex())}
        self._machine = "queue"
        self._rest: processes.Leftover | None = None
        self._code: int | None = None

    def poll(self) -> int | None:
        """Returns None while anything of the trial runs, then its exit code, -N after signal N."""
        if self._code is None:
            done, _ = self._ray.wait([self._reference], timeout=0)
            if not done:
                return None
            self._code = self._ended()
            self._rest = processes.leftover(self._folder, self._description)
        if self._rest is not None:
            if self._rest.poll() is None:
                return None  # Ray's process is gone, the trial writes its checkpoint
            self._rest = None
        return self._code

    def stop(self) -> None:
        """Tells the trial to end with a checkpoint; a task that waits is taken back."""
        self._ray.cancel(self._reference, force=False)

    def kill(self) -> None:
        """Ends the trial at once; on another machine as soon as its guard sees that Ray's process is gone."""
        processes.signal_marked(self._folder, signal.SIGKILL, all_of_them=True)
        self._ray.cancel(self._reference, force=True)

    def describe(self) -> dict[str, Any]:
        """Returns the task's number and the cluster's address."""
        return self._description

    def where(self) -> str:
        """Returns the machine that it runs on, or that it waits."""
        self._machine = processes.machine(self._folder) or self._machine
        return self._machine

    def _ended(self) -> int:
        """Returns how the task has ended; what its function itself has failed by goes to the log."""
        errors: Any = self._ray.exceptions
        try:
            return int(self._ray.get(self._reference))
        except errors.TaskCancelledError:
            return -signal.SIGTERM
        except errors.RayTaskError as error:
            if isinstance(error.cause, KeyboardInterrupt):
                return -signal.SIGTERM
            with (self._folder / TERMINAL_LOG).open("a", encoding="utf-8") as file:
                file.write(f"error: {error.cause}\n")
            return 1
        except errors.RayError:
            return -signal.SIGKILL  # its process, or its machine, is gone


def _connected(address: str) -> tuple[Any, tuple[str, int]]:
    """Returns the package ray, connected to a cluster, and the host and port that listen there."""
    if importlib.util.find_spec("ray") is None:
        raise ConfigError("sweep.launcher=ray needs Ray, which is not there: pip install 'segframe[ray]'")
    ray = importlib.import_module("ray")
    try:
        place = _place_of(address)
        _reach(place)
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, RuntimeError, ValueError) as error:
        said = next((line.strip() for line in str(error).splitlines() if line.strip()), repr(error))
        raise ConfigError(
            f"sweep.ray.address={address}: no Ray cluster answers ({said}). `ray start --head` starts one on this "
            "machine, `ray start --address=HOST:6379` lets another one join it."
        ) from None
    return ray, place


def _reach(place: tuple[str, int]) -> None:
    """Raises OSError where nobody listens: Ray itself would try for minutes."""
    socket.create_connection(place, timeout=_ANSWER_S).close()


def _place_of(address: str) -> tuple[str, int]:
    """Returns a cluster's host and port."""
    services = importlib.import_module("ray._private.services")
    found = address.partition("://")[2] or services.canonicalize_bootstrap_address_or_die(address)
    host, _, port = found.partition("/")[0].rpartition(":")
    return host.strip("[]"), int(port)


def _is_passed_on(name: str) -> bool:
    return name.startswith(_PASSED_ON) and name not in processes.DROPPED and not any(word in name for word in _SECRET)


def _path_to_segframe() -> str:
    root = str(Path(segframe.__file__).resolve().parents[1])
    return os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
