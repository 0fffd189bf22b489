"""The process that a user has started where a run takes several: it starts the ranks, and says how they ended."""

from __future__ import annotations

import json
import math
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from segframe import runfolder
from segframe.launch import Team, start_ranks
from segframe.logs import FOLDER
from segframe.ranks import SUPERVISED_VARIABLE
from segframe.wording import pasted

_FROM_THE_TERMINAL = 0x80  # Linux's SI_KERNEL: Ctrl-C, which every process of the terminal's group gets
_ONE_PRESS_S = 0.5
_PATIENCE = 3  # Ctrl-C this often ends everything at once


def supervise(
    main: Callable[[list[str]], int], words: Sequence[str], num_ranks: int, folder: Path, run_dir_variable: str | None
) -> int:
    """Runs a command line as several processes on this machine; returns the exit code of the one that failed first.

    Args:
        main: Runs a command line.
        words: The verb and its words.
        num_ranks: How many processes.
        folder: The run folder.
        run_dir_variable: The variable that tells it to the ranks; None where their words do.
    """
    environment = {SUPERVISED_VARIABLE: "1"}
    if run_dir_variable is not None:
        environment[run_dir_variable] = str(folder)
    team = start_ranks(main, (list(words),), num_ranks, environment=environment)
    with _signals_for(team):
        team.wait()
    _tell_of_the_killed(team, folder)
    if team.exit_code not in (0, 2) and words[0] == "train" and (folder / "checkpoints" / "last.ckpt").exists():
        print(f"go on with: {runfolder.command()} train {pasted('resume', folder)}", file=sys.stderr)
    return team.exit_code


def _tell_of_the_killed(team: Team, folder: Path) -> None:
    """Says and records that a rank ended without a word of its own."""
    rank = team.first_failed
    if rank is None or (code := team.processes[rank].exitcode or 0) >= 0:
        return
    name = signal.Signals(-code).name
    hint = " Nobody did? Then the machine ran out of memory." if -code == signal.SIGKILL else ""
    logs = f" What it wrote: {folder / FOLDER / f'rank-{rank}.log'}." if (folder / FOLDER).is_dir() else ""
    message = f"rank {rank} was killed by {name}"
    print(f"\nerror: {message}.{hint}{logs}", file=sys.stderr)
    results = folder / "results.json"
    try:
        content = json.loads(results.read_text(encoding="utf-8"))
        if content.get("status") == "running":
            runfolder.write_json(results, content | {"status": "failed", "error": message, "failed_rank": rank})
            (folder / "error.txt").write_text(f"{message}\n", encoding="utf-8")
    except (OSError, ValueError):
        return  # a run folder that was never begun, or a full disk


@contextmanager
def _signals_for(team: Team) -> Iterator[None]:
    """Leaves Ctrl-C and SIGTERM to the ranks, which end together and with a checkpoint."""
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "sigtimedwait"):
        yield
        return
    numbers = {signal.SIGINT, signal.SIGTERM}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    ended = threading.Event()
    thread = threading.Thread(target=_pass_on, args=(team, numbers, ended), name="signals to the ranks", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _pass_on(team: Team, numbers: set[signal.Signals], ended: threading.Event) -> None:
    """Passes on what reaches this process alone; of a Ctrl-C in the terminal the ranks know."""
    interrupts, last = 0, -math.inf
    while not ended.is_set():
        found = signal.sigtimedwait(numbers, 0.1)
        if found is None:
            continue
        if found.si_signo == signal.SIGINT:
            # One Ctrl-C may come twice: from the terminal, and from whoever passes it on.
            interrupts += time.monotonic() - last > _ONE_PRESS_S
            last = time.monotonic()
        if interrupts >= _PATIENCE:
            team.signal(signal.SIGKILL)
        elif found.si_signo == signal.SIGTERM or found.si_code != _FROM_THE_TERMINAL:
            team.signal(found.si_signo)
