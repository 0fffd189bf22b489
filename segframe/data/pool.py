"""One job per pair of a data set, in processes that leave no one waiting."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from multiprocessing.connection import Connection, wait
from typing import Any, TypeVar

import cv2
import torch
from tqdm import tqdm

T = TypeVar("T")

_PAIRS_PER_PROCESS = 16  # below, starting a process takes longer than what it saves
_CHUNKS_PER_PROCESS = 16
_LONGEST_CHUNK = 8
_TERMINAL_S, _LOG_FILE_S = 0.1, 10.0  # seconds between redraws of the bar


def usable_cores() -> int:
    """Returns how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def each(
    job: Callable[[int], T],
    count: int,
    num_workers: int,
    desc: str,
    progress: bool = True,
    unit: str = "pair",
    delay_s: float = 0.0,
) -> Generator[tuple[int, T], None, None]:
    """Yields (index, result) of a job for every index, in the order in which they are done.

    Processes are forked, so that a job may be any function and nothing is imported anew. An error of a
    job ends the pass and comes out here; so does Ctrl-C, and no process stays behind.

    Args:
        job: Takes an index; its result is pickled.
        count: Indices 0 to ``count`` - 1.
        num_workers: Processes at most; 0 works in this one.
        desc: What the progress bar says.
        progress: Whether to show it.
        unit: What it counts.
        delay_s: Seconds before the progress bar shows.

    Raises:
        RuntimeError: If a process died, as by lack of memory.
    """
    num_workers = min(num_workers, count // _PAIRS_PER_PROCESS)
    has_fork = sys.platform != "darwin" and "fork" in multiprocessing.get_all_start_methods()
    results = _forked(job, count, num_workers) if num_workers > 1 and has_fork else _here(job, count)
    with (
        closing(results),
        tqdm(
            total=count,
            desc=desc,
            unit=unit,
            disable=not progress,
            delay=delay_s,
            mininterval=_TERMINAL_S if sys.stderr.isatty() else _LOG_FILE_S,
            smoothing=0.05,
            dynamic_ncols=True,
        ) as bar,
    ):
        for item in results:
            bar.update()
            yield item


def _here(job: Callable[[int], T], count: int) -> Generator[tuple[int, T], None, None]:
    yield from ((index, job(index)) for index in range(count))


def _forked(job: Callable[[int], T], count: int, num_workers: int) -> Generator[tuple[int, T], None, None]:
    context = multiprocessing.get_context("fork")
    step = max(1, min(_LONGEST_CHUNK, count // (num_workers * _CHUNKS_PER_PROCESS)))
    chunks = iter([range(start, min(start + step, count)) for start in range(0, count, step)])
    workers: dict[Connection, Any] = {}
    try:
        for _ in range(num_workers):
            ours, theirs = context.Pipe()
            process = context.Process(target=_work, args=(theirs, [*workers, ours], job), daemon=True)
            process.start()
            theirs.close()  # a worker that dies is then the end of its pipe
            workers[ours] = process
            ours.send(next(chunks, None))
        yield from _results(workers, chunks)
    finally:
        for process in workers.values():
            process.terminate()
        for connection, process in workers.items():
            process.join()
            connection.close()


def _results(workers: dict[Connection, Any], chunks: Iterator[range]) -> Iterator[tuple[int, Any]]:
    busy = set(workers)
    while busy:
        for connection in wait(busy):
            assert isinstance(connection, Connection)
            try:
                answer = connection.recv()
            except (EOFError, ConnectionError):
                raise _died(workers[connection]) from None
            if answer is None:
                busy.discard(connection)
            elif isinstance(answer, BaseException):
                raise answer
            else:
                connection.send(next(chunks, None))
                yield from answer


def _died(process: Any) -> RuntimeError:
    process.join()
    code = process.exitcode
    how = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
    remedy = "Usually memory ran out: use fewer processes (data check: workers=1; training: data.num_workers=0)."
    return RuntimeError(f"a process that read the data set was ended {how}. {remedy}")


def _work(connection: Connection, inherited: list[Connection], job: Callable[[int], Any]) -> None:
    """Answers chunks of indices until there are no more; runs in a process of its own."""
    for other in inherited:
        other.close()  # or the pipe had no end if the first process were killed
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first process ends this one
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    try:
        while (chunk := connection.recv()) is not None:
            connection.send(_answer(job, chunk))
        connection.send(None)
    except (EOFError, ConnectionError):
        pass  # the first process has gone


def _answer(job: Callable[[int], T], chunk: range) -> list[tuple[int, T]] | Exception:
    try:
        return [(index, job(index)) for index in chunk]
    except Exception as error:
        return _portable(error)


def _portable(error: Exception) -> Exception:
    """Returns an error, as its nearest plain kind where it can't be pickled as it is."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return ValueError(str(error)) if isinstance(error, ValueError) else RuntimeError(f"{error!r}")
    return error
