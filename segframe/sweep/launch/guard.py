"""Runs one trial's command and sees that all of its processes end: with it, or after whoever asked for it is gone.

    python -I -S guard.py FOLDER LOG CORES PLACE COMMAND...

A program of the standard library alone, so that it starts in some 20 ms and takes little memory. The pipe that is its
standard input closes when its owner dies, however that happens: then the trial is told to end with a checkpoint. Trials
are process trees of supervisor, server, ranks, loaders and trackers; what loses its parent becomes a child of this
process (Linux), which ends it. SIGTERM is passed on to the command, SIGUSR1 ends everything at once. If this process
itself is killed, the kernel sends SIGTERM to the command.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import select
import signal
import sys
import time
from typing import Any

ALIVE_FILE = ".alive"
"""A lock that holds the machine's name; its time is that of the guard's last sign of life, for other machines."""

SIGN_OF_LIFE_S = 10.0
ENDING_S = 90.0
"""How long a trial that was told to end may take to write its checkpoint."""

TWICE = os.EX_TEMPFAIL
"""The exit code where another guard's trial does not leave the folder."""

_LOOK_S = 0.2
_LEFT_S = 5.0  # for what ends by itself behind its parent
_TRACKERS = (b"resource_tracker", b"torch_shm_manager")  # they remove what killed processes have left in /dev/shm
_SUBREAPER, _PDEATHSIG = 36, 1  # of prctl
_TOLD = (signal.SIGTERM, signal.SIGUSR1)
_LINUX = sys.platform.startswith("linux")


def main(arguments: list[str]) -> int:
    """Runs the command and returns its exit code, 128 + N after signal N.

    Args:
        arguments: The trial's folder, the name of the file for what it prints, cores as ``0,2`` or ``-``, ``behind``
            for a place behind a process that only passes on (``here`` for none), the command.
    """
    folder, log, cores, place, *command = arguments
    # Nothing is lost before there are handlers; and an engine's worker may have blocked more than these.
    signal.pthread_sigmask(signal.SIG_SETMASK, _TOLD)
    if place == "behind" and (pid := os.fork()):
        return _passes_on(pid)
    if _LINUX:
        _prctl(_SUBREAPER, 1)
        if cores != "-":
            os.sched_setaffinity(0, {int(core) for core in cores.split(",")})
    output = os.open(os.path.join(folder, log), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    alive, code = _entered(os.path.join(folder, ALIVE_FILE))
    if code:
        os.write(output, b"another process trains in this folder; this one leaves it alone\n")
        return code
    os.ftruncate(alive, 0)
    os.write(alive, os.fsencode(os.uname().nodename))
    watch = _Watch(alive, output, command)
    code = watch.until_ended()
    _end_rest(watch.main, 0.0 if code < 0 else _LEFT_S)
    with contextlib.suppress(OSError):
        os.unlink(os.path.join(folder, ALIVE_FILE))
    return code if code >= 0 else 128 - code


def _passes_on(guard: int) -> int:
    """Stands between the guard and an engine whose worker kills its children when it ends; returns the exit code."""
    os.close(0)
    for number in _TOLD:
        signal.signal(number, lambda number, frame: _signal(guard, number))
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    code = os.waitstatus_to_exitcode(os.waitpid(guard, 0)[1])
    return code if code >= 0 else 128 - code


class _Watch:
    """The command, whose number is ``main``, and what has to happen to it."""

    def __init__(self, alive: int, output: int, command: list[str]) -> None:
        self._alive, self._output = alive, output
        self._ear, mouth = os.pipe()
        for end in (self._ear, mouth):
            os.set_blocking(end, False)
        self._got: set[int] = set()
        for number in (*_TOLD, signal.SIGCHLD, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda number, frame: self._got.add(number))
        signal.set_wakeup_fd(mouth, warn_on_full_buffer=False)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        self._deadline = float("inf")
        self.main = _started(command, output)

    def until_ended(self) -> int:
        """Returns the command's exit code as soon as it has ended, -N after signal N."""
        ears = [0, self._ear]
        while True:
            if (code := _reaped(self.main)) is not None:
                return code
            os.utime(self._alive)
            left = max(0.0, min(SIGN_OF_LIFE_S, self._deadline - time.monotonic()))
            ready, _, _ = select.select(ears, [], [], left)
            if self._ear in ready:
                with contextlib.suppress(BlockingIOError):
                    os.read(self._ear, 4096)
            if 0 in ready and not os.read(0, 4096):
                ears.remove(0)
                os.write(self._output, b"whoever has started this trial is gone; it ends with a checkpoint\n")
                self._got.add(signal.SIGTERM)
            self._pass_on()

    def _pass_on(self) -> None:
        """Does what signals and the time ask for."""
        got, self._got = self._got, set()
        if signal.SIGUSR1 in got or time.monotonic() >= self._deadline:
            for pid in _descendants():
                _signal(pid, signal.SIGKILL)
            self._deadline = time.monotonic() + SIGN_OF_LIFE_S
        elif signal.SIGTERM in got:
            self._deadline = min(self._deadline, time.monotonic() + ENDING_S)
            _signal(self.main, signal.SIGTERM)


def _started(command: list[str], output: int) -> int:
    """Starts the command in a process group of its own; returns its number."""
    parent = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    try:
        os.setpgid(0, 0)
        if _LINUX:
            _prctl(_PDEATHSIG, signal.SIGTERM)
            if os.getppid() != parent:
                os._exit(128 + signal.SIGTERM)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.execv(command[0], command)
    except OSError as error:
        os.write(output, f"{command[0]} can't be started: {error.strerror}\n".encode())
    os._exit(127)


def _reaped(main: int) -> int | None:
    """Takes up ended children; returns the exit code of ``main`` once it is among them."""
    code = None
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                break
            if pid == main:
                code = os.waitstatus_to_exitcode(status)
    return code


def _end_rest(main: int, patience_s: float) -> None:
    """Ends what is left of the tree; trackers may finish their cleaning."""
    start = time.monotonic()
    if not _LINUX:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(main, signal.SIGKILL)
    while left := _descendants():
        waited = time.monotonic() - start
        for pid in left:
            is_tracker = any(name in _command_line(pid) for name in _TRACKERS)
            if waited >= patience_s + (_LEFT_S if is_tracker else 0.0):
                _signal(pid, signal.SIGKILL)
        time.sleep(0.02)
        _reaped(0)


def _descendants() -> list[int]:
    """Returns all processes below this one that still run; elsewhere than on Linux none."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc") if _LINUX else ():
        if name.isdigit() and (fields := _stat(int(name))) and fields[0] != b"Z":
            children.setdefault(int(fields[1]), []).append(int(name))
    found, ahead = [], [os.getpid()]
    while ahead:
        below = children.get(ahead.pop(), [])
        found += below
        ahead += below
    return found


def _stat(pid: int) -> list[bytes]:
    """Returns state, parent and more of a process; empty for one that has ended."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b") ")[2].split()
    except OSError:
        return []


def _command_line(pid: int) -> bytes:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read()
    except OSError:
        return b""


def _signal(pid: int, number: int) -> None:
    """Signals a process below this one, if it is still there."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def _entered(path: str) -> tuple[int, int]:
    """Waits until no other guard is in the folder; returns its locked file and 0, else -1 and an exit code.

    A driver that sees no processes (macOS), or another machine's clock only, may come before what it takes over ends.
    """
    deadline = time.monotonic() + ENDING_S + 2 * SIGN_OF_LIFE_S
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        if _locked(file, path):
            return file, 0
        os.close(file)
        if told := signal.sigpending() & set(_TOLD):
            return -1, 128 + min(told)
        if select.select([0], [], [], _LOOK_S)[0] and not os.read(0, 4096):  # whoever has started this one is gone
            return -1, 128 + signal.SIGTERM
        if time.monotonic() > deadline:
            return -1, TWICE


def _locked(file: int, path: str) -> bool:
    """Whether the folder is this guard's now; file systems without locks say nothing."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    try:
        return os.path.samestat(os.fstat(file), os.stat(path))  # a guard that ends takes its file away
    except FileNotFoundError:
        return False


def _prctl(option: int, argument: int) -> None:
    libc: Any = ctypes.CDLL(None, use_errno=True)
    libc.prctl(option, argument, 0, 0, 0)


if __name__ == "__main__":
    os._exit(main(sys.argv[1:]))
