"""Trials as process trees of this machine: started behind a guard, found again by a mark in their environment."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import segframe
from segframe.ranks import RUN_DIR_VARIABLE, SUPERVISED_VARIABLE
from segframe.sweep.launch import guard
from segframe.sweep.launch.job import TERMINAL_LOG

DROPPED = (
    "RANK",
    "WORLD_SIZE",
    "LOCAL_RANK",
    "LOCAL_WORLD_SIZE",
    "GROUP_RANK",
    SUPERVISED_VARIABLE,
    RUN_DIR_VARIABLE,
)
"""Variables that no trial is given: it belongs to no other run, and a word tells it its folder."""

MARK_VARIABLE = "SEGFRAME_TRIAL"
"""Set in every process of a trial to its folder's real path, so that nothing of it stays behind unseen."""

_FOREIGN = ("TORCHELASTIC_", "SLURM_", "SUBMITIT_", "PMI_", "PMIX_", "OMPI_")  # a trial belongs to no other launcher

_ELSEWHERE_S = 3 * guard.SIGN_OF_LIFE_S


def command(words: Sequence[str]) -> list[str]:
    """Returns the command line of a training.

    Args:
        words: The words of the verb train.
    """
    return [sys.executable, "-m", "segframe", "train", *words]


def environment(folder: Path, threads: int, gpus: Sequence[str] | None = None) -> dict[str, str]:
    """Returns the variables of a trial's processes.

    Args:
        folder: The trial's folder.
        threads: Of each rank; one that the user has set lower stays.
        gpus: What CUDA_VISIBLE_DEVICES is to hold; None leaves it as it is.
    """
    kept = {k: v for k, v in os.environ.items() if not k.startswith(_FOREIGN) and k not in DROPPED}
    given = kept.get("OMP_NUM_THREADS", "")
    kept["OMP_NUM_THREADS"] = str(min(threads, int(given)) if given.isdigit() and int(given) else threads)
    kept[MARK_VARIABLE] = str(folder.resolve())
    root = str(Path(segframe.__file__).resolve().parents[1])
    if os.path.basename(root) != "site-packages":  # a checkout that nobody has installed
        kept["PYTHONPATH"] = os.pathsep.join(filter(None, (root, kept.get("PYTHONPATH"))))
    if gpus is not None:
        kept["CUDA_VISIBLE_DEVICES"] = ",".join(gpus)
    return kept


def start(
    words: Sequence[str],
    folder: Path,
    variables: Mapping[str, str],
    cores: Sequence[int] = (),
    cwd: str | None = None,
    behind: bool = False,
) -> subprocess.Popen[bytes]:
    """Starts a training behind a guard, which ends it when this process is gone; returns the guard.

    Args:
        words: The words of the verb train.
        folder: The trial's folder; what it prints is appended to a file there.
        variables: Of its processes.
        cores: What it may use; empty leaves that to the system.
        cwd: Where relative paths among the words begin; None for this process's.
        behind: Whether this process may be one that is killed together with its children.
    """
    folder.mkdir(parents=True, exist_ok=True)
    how = [str(folder.absolute()), TERMINAL_LOG, ",".join(map(str, cores)) or "-", "behind" if behind else "here"]
    return subprocess.Popen(
        [sys.executable, "-I", "-S", guard.__file__, *how, *command(words)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        env=dict(variables),
        cwd=cwd,
        start_new_session=True,  # Ctrl-C is the driver's, which tells its trials in its own time
    )


def marked(folder: Path) -> list[int]:
    """Returns this user's processes on this machine that belong to a trial; needs Linux's /proc.

    Args:
        folder: The trial's folder.
    """
    mark = os.fsencode(f"{MARK_VARIABLE}={folder.resolve()}")
    proc = Path("/proc")
    numbers = (int(entry.name) for entry in proc.iterdir() if entry.name.isdigit()) if proc.is_dir() else ()
    return [pid for pid in numbers if _has(pid, mark)]


def _has(pid: int, mark: bytes) -> bool:
    """Whether a process's environment holds a variable; not for one that has ended, or another user's."""
    try:
        return mark in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return False


def signal_marked(folder: Path, number: int, all_of_them: bool = False) -> None:
    """Signals what runs of a trial, and never a process that has got the number of one since.

    Args:
        folder: The trial's folder.
        number: The signal.
        all_of_them: Also those that another process of the trial looks after.
    """
    mark = os.fsencode(f"{MARK_VARIABLE}={folder.resolve()}")
    pids = marked(folder)
    for pid in pids:
        try:
            handle = os.pidfd_open(pid)
        except OSError:
            continue
        try:
            # The handle is of whichever process has the number now; the mark shows that it is still the trial's.
            if _has(pid, mark) and (all_of_them or _parent(pid) not in pids):
                signal.pidfd_send_signal(handle, number)
        except OSError:
            continue
        finally:
            os.close(handle)


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b") ")[2].split()[1])
    except (OSError, IndexError):
        return 0


def shows_life(folder: Path) -> bool:
    """Whether a trial's guard has given a sign of life lately, on whichever machine that sees the folder.

    Args:
        folder: The trial's folder.
    """
    alive, probe = folder / guard.ALIVE_FILE, folder / f".probe.{socket.gethostname()}.{os.getpid()}"
    try:
        probe.touch()  # its time is that of the same clock
        age = probe.stat().st_mtime - alive.stat().st_mtime
        return age < _ELSEWHERE_S
    except OSError:
        return False
    finally:
        probe.unlink(missing_ok=True)


class Leftover:
    """What still runs of a trial that nobody waits for; it is told to end, and killed where it doesn't.

    Attributes:
        at_end: Called whenever ``poll`` finds that nothing is left.

    Args:
        folder: The trial's folder.
        description: What the job that it was had said of itself.
        code: What ``poll`` returns when it has ended.
    """

    def __init__(self, folder: Path, description: Mapping[str, Any], code: int = -signal.SIGTERM) -> None:
        self._folder, self._description, self._code = folder, dict(description), code
        self._host = _elsewhere(folder)
        self._deadline = time.monotonic() + guard.ENDING_S + guard.SIGN_OF_LIFE_S
        self.at_end: Callable[[], None] = lambda: None
        self.stop()

    def poll(self) -> int | None:
        """Returns None until nothing of it is left."""
        if shows_life(self._folder) if self._host else marked(self._folder):
            if time.monotonic() > self._deadline:
                self.kill()
            return None
        self.at_end()
        return self._code

    def stop(self) -> None:
        """Tells it to end with a checkpoint; on another machine its guard does that by itself."""
        if self._host is None:
            signal_marked(self._folder, signal.SIGTERM)

    def kill(self) -> None:
        """Ends it at once, where it runs on this machine."""
        if self._host is None:
            signal_marked(self._folder, signal.SIGKILL, all_of_them=True)

    def describe(self) -> dict[str, Any]:
        """Returns what the job that it was had said of itself."""
        return self._description

    def where(self) -> str:
        """Returns where it ends."""
        return "ending" if self._host is None else f"ending on {self._host}"


def leftover(folder: Path, description: Mapping[str, Any]) -> Leftover | None:
    """Returns what runs of a trial that an earlier driver has left; None where nothing does.

    Args:
        folder: The trial's folder.
        description: What its job had said of itself; empty where the driver came to no writing.
    """
    is_running = shows_life(folder) if _elsewhere(folder) else bool(marked(folder))
    return Leftover(folder, description) if is_running else None


def machine(folder: Path) -> str | None:
    """Returns the name of the machine that a trial runs on, or was on when it was killed; None where it ended.

    Args:
        folder: The trial's folder.
    """
    try:
        return (folder / guard.ALIVE_FILE).read_text(encoding="utf-8") or None
    except OSError:
        return None


def _elsewhere(folder: Path) -> str | None:
    """Returns the name of another machine that a trial was last seen on; None for this one."""
    name = machine(folder)
    return None if name == socket.gethostname() else name


def signalled(code: int) -> int:
    """Returns a guard's exit code with signals as negative numbers.

    Args:
        code: As a shell has it, 128 + N after signal N; or negative already.

    Example:
        >>> signalled(143), signalled(1)
        (-15, 1)
    """
    return 128 - code if 128 < code < 128 + signal.NSIG else code
