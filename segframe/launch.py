"""The ranks of a run on this machine: started, watched and ended together by a process that computes nothing."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing import connection, reduction, resource_tracker, util
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

from segframe.planning import plan as plan
from segframe.ranks import ENDED_BY_ANOTHER, LISTENER_VARIABLE, AnotherRankError

PRELOADED = ("segframe.run", "segframe.report", "segframe.trainer", "segframe.data.module", "segframe.rendezvous")
"""Imported once, by the server that the ranks are forked from."""

GRACE_S = 3.0
"""How long the other ranks have to end by themselves after one has failed, and again after they were told to."""

END = signal.SIGUSR1
"""Tells a rank that another has failed; SIGTERM would make an interrupted run of a failed one."""

INTERRUPTED_GRACE_S = 60.0
"""The same after a run was told to stop: rank 0 may still write a checkpoint."""

_LONGEST_FOLDER = 70  # bytes; a socket's whole name has at most 107, and some are appended

_FOREIGN = ("TORCHELASTIC_", "SLURM_", "PMI_", "OMPI_")  # a rank that we start belongs to no other launcher


def start_ranks(
    target: Callable[..., int | None],
    arguments: Sequence[Any],
    num_ranks: int,
    log_dir: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> Team:
    """Starts processes that call ``target(*arguments)`` with torchrun's variables set; returns at once.

    They are forked from a server that has imported torch and segframe but never touched a GPU, so imports
    are paid once. Each has an equal share of the cores unless OMP_NUM_THREADS is set.

    Args:
        target: A function of a module; what it returns is the exit code, None for 0.
        arguments: What it is called with; pickled.
        num_ranks: How many processes.
        log_dir: Where each rank's whole output goes, as ``rank-N.log``; None leaves it where this process's goes.
        environment: Further variables of the ranks.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(PRELOADED))
    shared = {key: text for key, text in os.environ.items() if not key.startswith(_FOREIGN)}
    shared |= {"WORLD_SIZE": str(num_ranks), "LOCAL_WORLD_SIZE": str(num_ranks), "GROUP_RANK": "0"}
    shared.setdefault("OMP_NUM_THREADS", str(max(1, _num_cores() // num_ranks)))
    shared |= {"MASTER_ADDR": "127.0.0.1", **(environment or {})}
    team = Team([])
    # The socket is open before any rank looks for it, and no other run can take the port.
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        _start_server()
        shared["MASTER_PORT"] = str(listener.getsockname()[1])
        for rank in range(num_ranks):
            variables = shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)}
            log = None if log_dir is None else str(log_dir / f"rank-{rank}.log")
            inherited = _Inherited((1, 2, listener.fileno()) if rank == 0 else (1, 2))
            process = context.Process(
                target=_be_rank, args=(target, tuple(arguments), variables, inherited, log), name=f"rank {rank}"
            )
            try:
                with _without_main():
                    process.start()
            except BaseException:
                team.kill()
                raise
            team.processes.append(process)
    return team


class Team:
    """The ranks that one process has started.

    Attributes:
        processes: One per rank, in order.
    """

    def __init__(self, processes: Sequence[multiprocessing.process.BaseProcess]) -> None:
        self.processes = list(processes)
        self._ended: list[int] = []

    def wait(self, timeout_s: float | None = None) -> list[int]:
        """Waits until all ranks have ended; returns their exit codes, -N after signal N.

        When one fails, the others get some seconds to end, then are told to, then get SIGKILL.

        Args:
            timeout_s: After which all are killed; None waits for ever.

        Raises:
            TimeoutError: If they had to be killed for it; names those that still ran.
        """
        try:
            self._wait(None if timeout_s is None else time.monotonic() + timeout_s)
        except BaseException:
            self.kill()
            raise
        if running := self._running():
            self.kill()
            raise TimeoutError(f"ranks {', '.join(map(str, running))} had not ended after {timeout_s:g} s")
        return [process.exitcode or 0 for process in self.processes]

    def _wait(self, deadline: float | None) -> None:
        """Waits for the ranks, or until the deadline; ends the others when one has failed."""
        escalation: list[tuple[float, int]] | None = None
        while running := self._running():
            if self.first_failed is not None and escalation is None:
                escalation = self._escalation()
            now = time.monotonic()
            if deadline is not None and now >= deadline:
                return
            if escalation and now >= escalation[0][0]:
                self.signal(escalation.pop(0)[1])
            until = [t for t in (deadline, escalation[0][0] if escalation else None) if t is not None]
            connection.wait(
                [self.processes[rank].sentinel for rank in running], max(0.0, min(until) - now) if until else None
            )

    @property
    def first_failed(self) -> int | None:
        """The rank that failed first, rather one that failed by itself; None while none has."""
        failed = [rank for rank in self._ended if self.processes[rank].exitcode]
        return next(
            (r for r in failed if self.processes[r].exitcode != ENDED_BY_ANOTHER), failed[0] if failed else None
        )

    @property
    def exit_code(self) -> int:
        """The exit code of the rank that failed first, 128 + N after signal N; 0 where none did."""
        code = 0 if self.first_failed is None else self.processes[self.first_failed].exitcode or 0
        return 128 - code if code < 0 else code

    def signal(self, number: int) -> None:
        """Sends a signal to every rank that still runs."""
        for rank in self._running():
            pid = self.processes[rank].pid
            if pid is not None:
                os.kill(pid, number)

    def kill(self) -> None:
        """Ends every rank at once."""
        self.signal(signal.SIGKILL)
        for process in self.processes:
            process.join()

    def _running(self) -> list[int]:
        """Returns the ranks that still run, and notes those that have ended since."""
        for rank, process in enumerate(self.processes):
            if rank not in self._ended and process.exitcode is not None:
                self._ended.append(rank)
        return [rank for rank in range(len(self.processes)) if rank not in self._ended]

    def _escalation(self) -> list[tuple[float, int]]:
        """Returns when the others get which signal, after the first of them has failed."""
        told_to_stop = self.exit_code in (128 + signal.SIGINT, 128 + signal.SIGTERM)
        first = time.monotonic() + (INTERRUPTED_GRACE_S if told_to_stop else GRACE_S)
        return [(first, END), (first + GRACE_S, signal.SIGKILL)]


class _Inherited:
    """Open files of this process for a rank: standard output and error, which may be others than the server's."""

    def __init__(self, numbers: tuple[int, ...], copies: tuple[Any, ...] = ()) -> None:
        self._numbers, self._copies = numbers, copies

    def __reduce__(self) -> tuple[Any, ...]:
        return _Inherited, (self._numbers, tuple(reduction.DupFd(number) for number in self._numbers))

    def take(self, log: str | None) -> None:
        """Makes the first two, or a log file, the output of this process, and names the third to rank 0."""
        out, error, *listener = (copy.detach() for copy in self._copies)
        if log is not None:
            Path(log).parent.mkdir(parents=True, exist_ok=True)
            opened = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            os.dup2(opened, out)
            os.dup2(opened, error)
            os.close(opened)
        for number, copy in ((1, out), (2, error)):
            os.dup2(copy, number)
            os.close(copy)
        if listener:
            os.environ[LISTENER_VARIABLE] = str(listener[0])
        sys.stdout, sys.stderr = (open(n, "w", buffering=1, closefd=False, errors="backslashreplace") for n in (1, 2))  # noqa: SIM115


def _be_rank(
    target: Callable[..., int | None],
    arguments: tuple[Any, ...],
    variables: dict[str, str],
    inherited: _Inherited,
    log: str | None,
) -> None:
    """Runs in a rank: takes its environment and output, and ends with what ``target`` returns."""
    os.environ.clear()
    os.environ.update(variables)
    inherited.take(log)
    threading.Thread(target=_end_with_parent, daemon=True, name="end with the supervisor").start()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(END, _end_for_another)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    # The server has imported them without these variables.
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(int(variables["OMP_NUM_THREADS"]))
    if "lightning_utilities.core.rank_zero" in sys.modules:
        sys.modules["lightning_utilities.core.rank_zero"].rank_zero_only.rank = int(variables["RANK"])
    try:
        code = target(*arguments)
    except KeyboardInterrupt:
        code = 128 + signal.SIGINT
    except AnotherRankError:
        code = ENDED_BY_ANOTHER
    except Exception:
        traceback.print_exc()
        code = 1
    sys.exit(code)


def _end_for_another(number: int, frame: FrameType | None) -> None:
    raise AnotherRankError("another rank has failed")


def _end_with_parent() -> None:
    """Ends this process as soon as the one that started it is gone."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os.kill(os.getpid(), signal.SIGKILL)


def _start_server() -> None:
    """Starts the server deaf to Ctrl-C, which would break off its imports, and to SIGTERM, which the ranks take."""
    if threading.current_thread() is not threading.main_thread():
        return  # only the first one may
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        from multiprocessing import forkserver

        _start_tracker()
        _take_short_folder()
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # a scheduler may send it to every process
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        signal.signal(signal.SIGINT, before)


@contextmanager
def _without_main() -> Iterator[None]:
    """Keeps a rank from running the script that has started the ranks once more; its function is in a module."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _start_tracker() -> None:
    """Starts the process that removes what killed ranks leave behind, which would tell of it behind the last word."""
    before = os.environ.get("PYTHONWARNINGS")
    os.environ["PYTHONWARNINGS"] = ",".join(filter(None, (before, "ignore:resource_tracker:UserWarning")))
    try:
        resource_tracker.ensure_running()
    finally:
        os.environ.pop("PYTHONWARNINGS") if before is None else os.environ.update(PYTHONWARNINGS=before)


def _take_short_folder() -> None:
    """Lets the server's socket lie in /tmp where the name of TMPDIR is too long for a socket."""
    before = tempfile.tempdir
    if len(os.fsencode(tempfile.gettempdir())) > _LONGEST_FOLDER:
        tempfile.tempdir = "/tmp"
    try:
        util.get_temp_dir()  # this process keeps it
    finally:
        tempfile.tempdir = before


def _num_cores() -> int:
    """Returns how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
