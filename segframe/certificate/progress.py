"""Which of a certificate's runs is under way, and how far it is."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

PROGRESS_FILE = "progress"
"""A file to which rank 0 adds a byte when a run starts, for each step, and when it is written."""

_REFRESH_S = 0.2
_LINE_EVERY_S = 20.0  # where no terminal shows a bar


def advance(folder: Path) -> None:
    """Notes that a run is one tick further.

    Args:
        folder: The run's; it is there.
    """
    with (folder / PROGRESS_FILE).open("ab") as file:
        file.write(b".")


@contextmanager
def under_way(runs: Sequence[tuple[str, Path]], ticks: int) -> Iterator[None]:
    """Shows on stderr how far several runs are, while the block runs.

    Args:
        runs: In their order, what each is called and the folder that it writes to.
        ticks: How often each advances.
    """
    finished = threading.Event()
    follow = _draw if sys.stderr.isatty() else _tell
    thread = threading.Thread(target=follow, args=(runs, ticks, finished), daemon=True)
    thread.start()
    try:
        yield
    finally:
        finished.set()
        thread.join()


def _draw(runs: Sequence[tuple[str, Path]], ticks: int, finished: threading.Event) -> None:
    from tqdm import tqdm

    with tqdm(total=len(runs) * ticks, file=sys.stderr, leave=False, bar_format="{desc} |{bar:30}| {elapsed}") as bar:
        while True:
            text, bar.n = _state(runs, ticks)
            bar.set_description_str(text, refresh=True)
            if finished.wait(_REFRESH_S):
                return


def _tell(runs: Sequence[tuple[str, Path]], ticks: int, finished: threading.Event) -> None:
    """Writes a line when another run starts, and when there has been none for long."""
    last, when = "", 0.0
    while True:
        text, _ = _state(runs, ticks)
        run = text.partition(":")[0]
        if run != last or time.monotonic() - when > _LINE_EVERY_S:
            print(text, file=sys.stderr, flush=True)
            last, when = run, time.monotonic()
        if finished.wait(_REFRESH_S):
            return


def _state(runs: Sequence[tuple[str, Path]], ticks: int) -> tuple[str, int]:
    """Returns a text on the first run that is not done, and how many ticks all have made."""
    done = [min(ticks, _size(folder / PROGRESS_FILE)) for _, folder in runs]
    current = next((index for index, count in enumerate(done) if count < ticks), len(runs) - 1)
    names = ["starts", *(f"step {step} of {ticks - 2}" for step in range(1, ticks - 1)), "evaluates", "done"]
    text = f"{current + 1} of {len(runs)} ({runs[current][0]}): {names[done[current]]}"
    return text, sum(done)


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0
