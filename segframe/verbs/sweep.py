"""``segframe sweep``: many trainings, each a process tree of its own, in one folder that the same command goes on with.

segframe sweep [sweep=SEARCH] [sweep.parallel=N] [sweep.trials=N] [sweep.launcher=local|slurm|ray] WORDS

WORDS are those of `segframe train`; one with a list is varied: model=pspnet,segnet optimizer.lr=1e-3,1e-2 seed=0,1,2.
A search takes intervals too: 'optimizer.lr=tag(log,interval(1e-4,1e-1))'. `python train.py -m WORDS` is
`segframe sweep WORDS`. The same command again goes on where it was stopped; a larger sweep.trials adds trainings; a
finished sweep shows its result. --cfg prints the settings and stops. The exit code is 0 if a training has finished,
1 if all have failed, 2 for wrong words, 130 after Ctrl-C.
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Sequence
from contextlib import ExitStack, suppress

from segframe.config.options import ConfigError
from segframe.sweep import folder as sweep_folder
from segframe.sweep import results
from segframe.sweep.check import Needs, check
from segframe.sweep.driver import Driver
from segframe.sweep.grid import Grid
from segframe.sweep.live import display
from segframe.sweep.request import Request, read
from segframe.sweep.search import Search, StudyLostError
from segframe.sweep.settings import Sweep
from segframe.sweep.trial import Trial, read_all

_OF_DISKS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE)


def main(words: Sequence[str]) -> int:
    """Runs a sweep, or goes on with it; returns the exit code.

    Args:
        words: Those of ``train``, with lists or intervals among them, and ``sweep.*``.

    Raises:
        ConfigError: If a word is not right, or another process works on the sweep.
    """
    request = read([word for word in words if word not in ("--cfg", "-m", "--multirun")])
    if "--cfg" in words:
        print(_configuration(request), end="")
        return 0
    if request.needs_optuna:
        from segframe.sweep.optuna_storage import load_optuna

        load_optuna()
    try:
        return _swept(request)
    except OSError as error:
        if error.errno not in _OF_DISKS:
            raise
        where, again = error.filename or request.folder, sweep_folder.command_of(request)
        print(f"\nerror: {where}: {error.strerror}; when that is mended, go on with: {again}", file=sys.stderr)
        return 1


def _swept(request: Request) -> int:
    """Runs what was asked for, or shows what came of it; returns the exit code."""
    sweep_folder.check(request)
    with ExitStack() as stack:
        has_begun = (request.folder / sweep_folder.SWEEP_FILE).exists()
        if has_begun:
            stack.enter_context(sweep_folder.locked(request.folder))
        known = _known(request)
        ended = {trial.number for trial in known if trial.has_ended}
        if len(ended) >= request.num_trials:
            return _finished(request, known)
        from segframe.sweep.launch.choose import launcher

        starter = launcher(request.settings, request.folder)
        needs = Needs(starter)
        check(request, needs, ended)
        starter.check(needs.known)
        if not has_begun:  # another process may have begun it meanwhile
            stack.enter_context(sweep_folder.locked(request.folder))
            known = _known(request)
        sweep = sweep_folder.describe(request, needs.num_epochs)
        sweep_folder.enter(request, sweep)
        search = _search(sweep, request)
        shown = display(sweep)
        driver = Driver(sweep, search, starter, needs.of, shown, lambda trials: results.record(sweep, trials))
        try:
            stop_signal = driver.run([trial for trial in known if not trial.has_ended])
        except StudyLostError as error:
            print(f"\nerror: {error}; when it does again, go on with: {sweep.command}", file=sys.stderr)
            return 1
        finally:
            shown.close()
            search.close()
        if stop_signal:
            return _stopped(sweep, search.trials(), stop_signal, driver.is_hurried)
        return _told(sweep, search.trials())


def _known(request: Request) -> list[Trial]:
    try:
        return read_all(request.folder)
    except ValueError as error:
        raise ConfigError(str(error)) from error


def _search(sweep: Sweep, request: Request) -> Search:
    if not request.needs_optuna:
        return Grid(sweep.folder, request.axes, request.words, sweep.num_trials)
    from segframe.sweep.optuna_search import OptunaSearch

    return OptunaSearch(sweep, request.axes)


def _finished(request: Request, trials: Sequence[Trial]) -> int:
    """Shows the result of a sweep that has nothing left to do."""
    sweep = sweep_folder.describe(request, None)
    more = (
        "; a larger sweep.trials adds some" if request.most_trials is None or request.most_trials > len(trials) else ""
    )
    paused = sum(not trial.has_ended for trial in trials)  # beyond a sweep.trials that is smaller now
    ended = f"{len(trials) - paused} trials of {request.folder} have ended"
    print(f"{ended}, {paused} have not{more}" if paused else f"all {ended}{more}", file=sys.stderr)
    return _told(sweep, trials)


def _stopped(sweep: Sweep, trials: Sequence[Trial], stop_signal: int, is_hurried: bool) -> int:
    """Shows what came out so far, and last the command that goes on; returns the exit code."""
    if not is_hurried and any(trial.has_ended for trial in trials):
        with suppress(KeyboardInterrupt):  # one more Ctrl-C leaves the pictures out
            results.show(sweep, trials, is_sent=False)
    print(f"stopped; go on with: {sweep.command}", file=sys.stderr)
    return 128 + stop_signal


def _told(sweep: Sweep, trials: Sequence[Trial]) -> int:
    """Shows what came out and returns the exit code."""
    results.show(sweep, trials)
    return 0 if any(trial.state == "finished" for trial in trials) else 1


def _configuration(request: Request) -> str:
    """Returns the settings and what is varied, as YAML."""
    from dataclasses import asdict

    import yaml

    from segframe.sweep.request import without_password

    settings = asdict(request.settings)
    settings["search"]["storage"] = without_password(request.settings.search.storage)
    settings["dir"] = str(request.folder)
    settings["space"] = {axis.name: axis.as_json() for axis in request.axes}
    settings["words"] = list(request.words)
    return yaml.safe_dump({"sweep": settings}, sort_keys=False)
