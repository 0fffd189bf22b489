"""Locks on files that end with the process that holds them, however it ends.

They are ``flock`` locks: exclusive ones for whoever builds, shared ones for whoever uses what was built.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_POLL_S = 0.02
_held: set[int] = set()


@contextmanager
def exclusive(path: Path, purpose: str) -> Iterator[None]:
    """Holds a lock that one process at a time can have; says who has it if that means to wait.

    Args:
        path: The lock's file; made if it is missing, and left there.
        purpose: What is done under the lock, for the message.

    Raises:
        OSError: If the file can't be written, or its file system has no locks.
    """
    with _opened(path) as descriptor:
        if not _try(descriptor, fcntl.LOCK_EX, path):
            holder = os.pread(descriptor, 256, 0).decode(errors="replace") or "another process"
            print(f"waiting for {holder}: {purpose}", file=sys.stderr, flush=True)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        with suppress(OSError):  # a full disk takes the lock, if not the note
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)
        yield


@contextmanager
def attempt(path: Path, timeout_s: float = 0.0) -> Iterator[bool]:
    """Holds the lock if it can be had in time, and tells whether it could."""
    deadline = time.monotonic() + timeout_s
    with _opened(path) as descriptor:
        while not (got := _try(descriptor, fcntl.LOCK_EX, path)) and time.monotonic() < deadline:
            time.sleep(_POLL_S)
        yield got


def shared(path: Path) -> int:
    """Marks a file as used by this process, not by its forks, until the number that this returns is given up."""
    descriptor = _open(path)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    _held.add(descriptor)
    return descriptor


def give_up(descriptor: int) -> None:
    """Takes the mark off a file that ``shared`` has set."""
    _held.discard(descriptor)
    os.close(descriptor)


def is_used(path: Path) -> bool:
    """Returns whether any process has marked a file as used."""
    if not path.exists():
        return False
    with attempt(path) as got:
        return not got


def is_last(descriptor: int) -> bool:
    """Returns whether no other process uses the file; either way this one's mark is to be given up now."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _open(path: Path) -> int:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise OSError(
            f"{path} can't be written ({error.strerror}), so nothing can be cached there; set dataset.cache_dir to a "
            "folder of your own."
        ) from error


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    descriptor = _open(path)
    _held.add(descriptor)
    try:
        yield descriptor
    finally:
        give_up(descriptor)


def _close_in_fork() -> None:
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


# A forked process would keep the lock for seconds if its parent were killed.
os.register_at_fork(after_in_child=_close_in_fork)


def _try(descriptor: int, kind: int, path: Path) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP):
            raise
        raise OSError(
            f"the file system of {path} has no locks ({error.strerror}), and a cache needs them; "
            "set dataset.cache_dir to a folder on a local disk."
        ) from error
    return True
