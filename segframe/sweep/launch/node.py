"""What the job of an engine does on its machine: runs one trial behind a guard, and passes on the wish that it ends."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType

from segframe.sweep.launch import processes

_LOOK_S = 0.2


def run(words: Sequence[str], folder: str, threads: int) -> int:
    """Trains and returns the exit code, -N after signal N.

    SIGTERM, and KeyboardInterrupt where the engine has that instead, tell the trial to end with a checkpoint, once.

    Args:
        words: The words of the verb train.
        folder: The trial's folder, on a file system that this machine sees too.
        threads: Of each rank.
    """
    path = Path(folder)
    if not path.is_dir():
        raise FileNotFoundError(
            f"{path} is not there on this machine: the sweep folder has to be on a file system that all machines see."
        )
    started = processes.start(words, path, processes.environment(path, threads))
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
