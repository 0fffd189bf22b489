"""``sweep.launcher=local``: trials on this machine, each on cores and GPUs of its own."""

from __future__ import annotations

import signal
import socket
import subprocess
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from segframe.config.options import ConfigError
from segframe.sweep.launch import devices, processes, slurm_jobs
from segframe.sweep.launch.job import Job, Need
from segframe.sweep.launch.needs import ranks_and_gpus
from segframe.sweep.launch.pool import Pool, Share


class LocalLauncher:
    """Starts trials on this machine; none outlives the process that has started it by more than a checkpoint takes.

    Args:
        parallel: Trials at once.
        pool: The cores and GPUs that they share; None takes all that this process may use.
    """

    def __init__(self, parallel: int, pool: Pool | None = None) -> None:
        self._parallel = parallel
        self._pool = pool or Pool(devices.cores(), devices.gpus(), parallel)

    def need(self, values: Mapping[str, Any]) -> Need:
        """Returns what a trial takes: its share, or more where it has more ranks.

        Args:
            values: The trial's resolved configuration.

        Raises:
            ConfigError: If this machine can't hold it.
        """
        if values["trainer"]["accelerator"] == "tpu" and self._parallel > 1:
            raise ConfigError("a TPU can't be shared out to several trials at once; use sweep.parallel=1.")
        pool, equal = self._pool, self._pool.equal
        ranks, gpus = ranks_and_gpus(values, equal.gpus, len(pool.gpus))
        # More ranks than there are cores are the user's wish; such a trial has all of them.
        return Need(ranks, min(len(pool.cores), max(equal.cores, ranks)), gpus)

    def check(self, needs: Sequence[Need]) -> None:
        """Checks that as many trials as ``sweep.parallel`` says fit this machine at once.

        Args:
            needs: What the trials take that are known by now.

        Raises:
            ConfigError: If they don't; says how many do.
        """
        self._pool.check(needs)

    def has_room(self, need: Need) -> bool:
        """Whether what a trial takes is free.

        Args:
            need: What it takes.
        """
        return self._pool.has_room(need)

    def start(self, number: int, words: Sequence[str], folder: Path, need: Need) -> Job:
        """Starts a trial and returns at once.

        Args:
            number: The trial's number.
            words: The words of the verb train.
            folder: The trial's run folder.
            need: What it takes.
        """
        share = self._pool.take(need)
        gpus = share.gpus if self._pool.gpus and self._pool.gpus != ("mps",) else None
        variables = processes.environment(folder, max(1, need.cores // need.ranks), gpus)
        try:
            started = processes.start(words, folder, variables, share.cores)
        except BaseException:
            self._pool.give_back(share)
            raise
        return LocalJob(started, folder, share, self._pool)

    def adopt(self, description: Mapping[str, Any], folder: Path) -> Job | None:
        """Returns what an earlier driver's trial has left, which is told to end; None where nothing runs.

        Args:
            description: What the trial's job had said of itself; empty where it came to no writing.
            folder: The trial's run folder.
        """
        job = slurm_jobs.left(description, folder)
        if isinstance(job, processes.Leftover):
            cores, gpus = (tuple(description.get(key, ())) for key in ("cores", "gpus"))
            job.at_end = partial(self._pool.give_back, self._pool.keep(Share(cores, gpus)))
        return job

    def close(self) -> None:
        """Does nothing: trials end by themselves when this process does."""


class LocalJob:
    """A trial that this process has started.

    Args:
        started: Its guard.
        folder: The trial's folder.
        share: What it has of the machine.
        pool: Which that goes back to.
    """

    def __init__(self, started: subprocess.Popen[bytes], folder: Path, share: Share, pool: Pool) -> None:
        self._guard, self._folder, self._share, self._pool = started, folder, share, pool
        self._rest: processes.Leftover | None = None
        self._code: int | None = None
        self._description = {
            "launcher": "local",
            "host": socket.gethostname(),  # for whoever reads trial.json
            "pid": started.pid,
            "cores": list(share.cores),
            "gpus": list(share.gpus),
        }

    def poll(self) -> int | None:
        """Returns None while anything of the trial runs, then its exit code, -N after signal N."""
        if self._code is not None:
            return self._code
        code = self._rest.poll() if self._rest else self._guard.poll()
        if code is None:
            return None
        if code < 0 and self._rest is None:  # somebody has killed the guard, which looks after nothing now
            self._rest = processes.Leftover(self._folder, self._description, code)
            return self.poll()
        self._pool.give_back(self._share)
        if self._guard.stdin is not None:
            self._guard.stdin.close()
        self._code = processes.signalled(code)
        return self._code

    def stop(self) -> None:
        """Tells the trial to end with a checkpoint."""
        self._rest.stop() if self._rest else self._guard.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Ends everything of the trial at once."""
        self._rest.kill() if self._rest else self._guard.send_signal(signal.SIGUSR1)

    def describe(self) -> dict[str, Any]:
        """Returns where the trial runs; its process is the guard's."""
        return self._description

    def where(self) -> str:
        """Returns the cores or GPUs that it has."""
        return devices.share_text(self._share.cores, self._share.gpus, self._pool.gpus)
