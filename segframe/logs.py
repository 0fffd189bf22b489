"""Every rank's output in the run folder: rank 0 writes to the terminal too, the others only their errors."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, TextIO

from segframe.ranks import place
from segframe.runfolder import unwritable

FOLDER = "logs"
_MOVES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")

_current: IO[str] | None = None
_terminal: TextIO | None = None


def current() -> IO[str] | None:
    """Returns this rank's log, None where there is one process or no run folder yet."""
    return _current


def terminal() -> TextIO:
    """Returns where a rank that has failed tells it: standard error as it was at the start."""
    return _terminal or sys.stderr


@contextmanager
def kept(folder: Path) -> Iterator[None]:
    """Keeps what this rank writes in ``folder/logs/rank-N.log``; does nothing where there is one process.

    Rank 0 still writes to the terminal. What the others write, from C++ too, goes into their logs alone.

    Args:
        folder: The run folder.

    Raises:
        OSError: If the logs can't be written.
    """
    global _current, _terminal
    here = place()
    if here.world_size == 1:
        yield
        return
    path = folder / FOLDER / f"rank-{here.rank}.log"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        log = path.open("a", encoding="utf-8", buffering=1)
    except OSError as error:
        raise unwritable(folder, error) from error
    _record_flights(path.parent)
    _current = log
    try:
        with _copied(log) if here.rank == 0 else _redirected(log):
            yield
    finally:
        _current = _terminal = None
        with suppress(OSError):  # of a full disk
            log.close()


def _record_flights(folder: Path) -> None:
    """Lets NCCL's flight recorder write its last collective operations beside the logs when one times out."""
    os.environ.setdefault("TORCH_NCCL_DUMP_ON_TIMEOUT", "1")
    os.environ.setdefault("TORCH_FR_BUFFER_SIZE", "2000")
    os.environ.setdefault("TORCH_FR_DUMP_TEMP_FILE", str(folder.absolute() / "flight-recorder-rank-"))


class Tee:
    """A text stream that also writes its lines into a log, as they stand when nothing redraws them any more.

    Args:
        stream: What the user sees; all else is asked of it.
        log: Where lines are kept.
    """

    def __init__(self, stream: TextIO, log: IO[str]) -> None:
        self._stream, self._log, self._line = stream, log, ""

    def write(self, text: str) -> int:
        """Writes to both; a line reaches the log once it is complete."""
        self._stream.write(text)
        *lines, self._line = (self._line + text).split("\n")
        for line in lines:
            self._keep(line)
        # Only what a bar has drawn last can still stand there when the line ends.
        self._line = self._line.rpartition("\r")[2] if "\r" in self._line[:-1] else self._line
        return len(text)

    def flush(self) -> None:
        """Flushes both."""
        self._stream.flush()
        with suppress(OSError):
            self._log.flush()

    def finish(self) -> None:
        """Keeps a last line without an end."""
        if self._line.strip():
            self._keep(self._line)
        self._line = ""

    def _keep(self, line: str) -> None:
        kept = _MOVES.sub("", line.rstrip("\r").rpartition("\r")[2]).rstrip()
        if kept or not line:
            with suppress(OSError):  # a full disk is told by what needs it more
                self._log.write(kept + "\n")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def _copied(log: IO[str]) -> Iterator[None]:
    """Copies this process's output into a log."""
    global _terminal
    before = _, _terminal = sys.stdout, sys.stderr
    tees = Tee(sys.stdout, log), Tee(sys.stderr, log)
    sys.stdout, sys.stderr = tees
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
        for tee in tees:
            tee.finish()


@contextmanager
def _redirected(log: IO[str]) -> Iterator[None]:
    """Turns this process's standard output and error into a log, for code of all languages."""
    global _terminal
    sys.stdout.flush()
    sys.stderr.flush()
    saved = [os.dup(number) for number in (1, 2)]
    before = sys.stdout, sys.stderr
    with os.fdopen(os.dup(saved[1]), "w", buffering=1, encoding="utf-8", errors="backslashreplace") as own:
        _terminal = own
        for number in (1, 2):
            os.dup2(log.fileno(), number)
        sys.stdout = sys.stderr = log
        try:
            yield
        finally:
            with suppress(OSError):
                log.flush()
            sys.stdout, sys.stderr = before
            for number, descriptor in zip((1, 2), saved, strict=True):
                os.dup2(descriptor, number)
                os.close(descriptor)
