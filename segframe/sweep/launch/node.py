"""What the job of an engine does on its machine: runs one trial behind a guard, and passes on the wish that it ends."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType, MappingProxyType

from segframe.sweep.launch import processes

_LOOK_S = 0.2


def run(
    words: Sequence[str], folder: str, cwd: str, threads: int, variables: Mapping[str, str] = MappingProxyType({})
) -> int:
    """Trains and returns the exit code, -N after signal N.

    SIGTERM, and KeyboardInterrupt where the engine has that instead, tell the trial to end with a checkpoint.

    Args:
        words: The words of the verb train.
        folder: The trial's folder.
        cwd: Where relative paths among the words begin.
        threads: Of each rank.
        variables: Further ones of its processes.

    Raises:
        FileNotFoundError: If this machine does not see the folders.
    """
    path = Path(folder)
    for needed in (path, Path(cwd)):
        if not needed.is_dir():
            raise FileNotFoundError(
                f"{needed} is not there on {socket.gethostname()}: the sweep folder and the folder of the command have "
                "to be on a file system that all machines see."
            )
    started = processes.start(words, path, {**processes.environment(path, threads), **variables}, cwd=cwd, behind=True)
    with _terminated_with(started):
        while True:
            try:
                return processes.signalled(started.wait(_LOOK_S))
            except subprocess.TimeoutExpired:
                continue
            except KeyboardInterrupt:
                started.send_signal(signal.SIGTERM)


@contextlib.contextmanager
def _terminated_with(started: subprocess.Popen[bytes]) -> Iterator[None]:
    """Passes on SIGTERM; an engine may send it to every process of a job, also more than once."""

    def pass_on(number: int, frame: FrameType | None) -> None:
        started.send_signal(signal.SIGTERM)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, pass_on)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
