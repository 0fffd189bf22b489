"""``sweep.launcher=slurm``: each trial is a job of its own, submitted by the library submitit."""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import segframe
from segframe.config.options import ConfigError
from segframe.sweep.launch import needs, node, processes, slurm_jobs
from segframe.sweep.launch.job import Job, Need
from segframe.sweep.settings import Slurm

_WARNING_S = 120  # before the time limit, for a checkpoint


class SlurmLauncher:
    """Submits trials and watches their jobs, which go on when this process ends.

    Args:
        parallel: Jobs at once, those that wait included.
        options: What a job asks for.
        folder: The sweep folder, on a file system that all nodes see.

    Raises:
        ConfigError: If submitit or SLURM's commands are not there.
    """

    def __init__(self, parallel: int, options: Slurm, folder: Path) -> None:
        if importlib.util.find_spec("submitit") is None:
            raise ConfigError("sweep.launcher=slurm needs submitit, which is not there: pip install 'segframe[slurm]'")
        if options.cluster == "slurm" and shutil.which("sbatch") is None:
            raise ConfigError(
                f"sweep.launcher=slurm needs SLURM's sbatch, and {socket.gethostname()} has none; give the command on "
                "a machine that submits jobs, or try it here with sweep.slurm.cluster=local."
            )
        self._parallel, self._options = parallel, options
        self._records = (folder / "slurm").resolve()
        self._queue, self._jobs = slurm_jobs.Queue(), list[slurm_jobs.SubmittedJob]()

    def need(self, values: Mapping[str, Any]) -> Need:
        """Returns what a trial's job asks for.

        Args:
            values: The trial's resolved configuration.

        Raises:
            ConfigError: If the job can't hold the trial.
        """
        options = self._options
        return needs.of_a_job(values, options.cpus_per_task, options.gpus_per_node, "sweep.slurm.gpus_per_node")

    def check(self, needs: Sequence[Need]) -> None:
        """Checks that the cluster answers; whether it has room is its own matter.

        Args:
            needs: What the trials take that are known by now.

        Raises:
            ConfigError: If it does not answer.
        """
        if self._options.cluster == "slurm" and self._queue.entries(now=True) is None:
            raise ConfigError(
                f"SLURM's controller does not answer on {socket.gethostname()} (squeue fails; try it); or use "
                "sweep.launcher=local."
            )

    def has_room(self, need: Need) -> bool:
        """Whether fewer jobs wait or run than may.

        Args:
            need: What the trial takes.
        """
        self._jobs = [job for job in self._jobs if job.poll() is None]
        return len(self._jobs) < self._parallel

    def start(self, number: int, words: Sequence[str], folder: Path, need: Need) -> Job:
        """Submits a trial.

        Args:
            number: The trial's number.
            words: The words of the verb train.
            folder: The trial's run folder.
            need: What it takes.

        Raises:
            ConfigError: If SLURM refuses the job.
        """
        from submitit.core.utils import FailedJobError, FailedSubmissionError

        folder.mkdir(parents=True, exist_ok=True)
        threads = max(1, need.cores // need.ranks)
        executor = self._executor(number, folder, need)
        try:
            with _marked(folder):
                submitted = executor.submit(node.run, list(words), str(folder.absolute()), os.getcwd(), threads)
        except (FailedJobError, FailedSubmissionError, OSError) as error:
            said = [line for line in str(error).splitlines() if line.strip()] or [repr(error)]
            raise ConfigError(f"SLURM has refused the job of trial {number}: {said[-1]}; see sweep.slurm.*") from None
        description = slurm_jobs.described(str(submitted.job_id), self._options.cluster, self._records)
        job = slurm_jobs.SubmittedJob(description, folder, self._queue)
        self._jobs.append(job)
        return job

    def adopt(self, description: Mapping[str, Any], folder: Path) -> Job | None:
        """Returns the job of an earlier driver that still waits or runs, and goes on.

        Args:
            description: What the trial's job had said of itself; empty where it came to no writing.
            folder: The trial's run folder.
        """
        job = slurm_jobs.found_again(description, folder, self._records, self._queue)
        if job is None:
            return processes.leftover(folder, description)
        self._jobs.append(job)
        return job

    def close(self) -> None:
        """Does nothing: jobs are the cluster's."""

    def _executor(self, number: int, folder: Path, need: Need) -> Any:
        """Returns what submits a job that asks for what a trial takes."""
        import submitit

        options = self._options
        executor = submitit.AutoExecutor(folder=self._records, cluster=options.cluster)
        # The driver submits an ended job again, as another one that goes on: SLURM must not start the same one twice.
        further = {"signal": f"TERM@{_WARNING_S}", "no-requeue": True, **options.more}
        executor.update_parameters(
            name=slurm_jobs.job_name(folder),
            timeout_min=options.timeout_min,
            nodes=1,
            tasks_per_node=1,
            cpus_per_task=need.cores,
            gpus_per_node=need.gpus or None,
            mem_gb=options.mem_gib,
            slurm_partition=options.partition,
            slurm_account=options.account,
            slurm_comment=f"trial {number}",
            slurm_additional_parameters=further,
            slurm_srun_args=[f"--cpus-per-task={need.cores}"],  # since 22.05 srun doesn't take it over from sbatch
        )
        return executor


@contextmanager
def _marked(folder: Path) -> Iterator[None]:
    """Gives what is submitted the trial's mark, and a way to import segframe."""
    root = str(Path(segframe.__file__).resolve().parents[1])
    path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
    before = {name: os.environ.get(name) for name in ("PYTHONPATH", processes.MARK_VARIABLE)}
    os.environ |= {"PYTHONPATH": path, processes.MARK_VARIABLE: str(folder.resolve())}
    try:
        yield
    finally:
        for name, text in before.items():
            os.environ.pop(name, None) if text is None else os.environ.update({name: text})
