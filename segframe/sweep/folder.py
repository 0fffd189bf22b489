"""The folder of a sweep: which search it belongs to, and that one driver at a time works on it."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shlex
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

from segframe.config.options import ConfigError
from segframe.runfolder import command, versions, write_json
from segframe.sweep.request import Request, without_password
from segframe.sweep.settings import Sweep

SWEEP_FILE = "sweep.json"
"""The file that makes a folder one of a sweep: what is searched and how."""

STUDY_FILE = "optuna.log"
"""The file of the sweep folder that holds the study where no database does."""

_FORMAT = 1
_SHOWN = 100  # characters of a value in a list of differences


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keeps other drivers out of a sweep folder; the system takes the lock back however this process ends.

    Args:
        folder: The sweep folder; made if it is missing.

    Raises:
        ConfigError: If another process works on it; names it.
        OSError: If the folder can't be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # A lock of the process: what it forks does not hold it.
        descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise ConfigError(f"sweep.dir={folder} can't be written ({error.strerror}); give another sweep.dir") from error
    try:
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ConfigError(_refused(folder, error, os.pread(descriptor, 1000, 0))) from error
        holder = json.dumps({"host": socket.gethostname(), "pid": os.getpid()}).encode()
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, holder, 0)
        yield
    finally:
        os.close(descriptor)


def describe(request: Request, num_epochs: int | None) -> Sweep:
    """Returns a sweep as those who run and show it see it.

    Args:
        request: What the words ask for.
        num_epochs: ``trainer.max_epochs`` of its trials where it is one number for all.
    """
    return Sweep(
        name=request.name,
        folder=request.folder,
        settings=request.settings,
        axes=tuple(axis.key for axis in request.axes),
        words=request.words,
        num_trials=request.num_trials,
        command=command_of(request),
        num_epochs=num_epochs,
    )


def enter(request: Request, sweep: Sweep) -> None:
    """Writes down what is searched in a folder that this process has locked.

    Args:
        request: What the words ask for.
        sweep: The same.

    Raises:
        ConfigError: If the folder holds another search; names the differences.
    """
    check(request)
    settings = asdict(sweep.settings)
    settings["search"]["storage"] = without_password(sweep.settings.search.storage)
    content = {
        "format": _FORMAT,
        "name": sweep.name,
        "identity": request.identity(),
        "settings": settings,
        "axes": list(sweep.axes),
        "words": list(sweep.words),
        "num_trials": sweep.num_trials,
        "num_epochs": sweep.num_epochs,
        "command": sweep.command,
        "versions": versions() | _engines(),
    }
    write_json(sweep.folder / SWEEP_FILE, content)


def check(request: Request) -> None:
    """Checks that a sweep's folder holds this search or none.

    Args:
        request: What the words ask for.

    Raises:
        ConfigError: If it holds another one; names the differences.
    """
    folder = request.folder
    file = folder / SWEEP_FILE
    if not file.exists():
        if (folder / "overrides.json").exists():
            raise ConfigError(f"sweep.dir={folder} is the folder of a training; give another sweep.dir")
        if any((folder / "trials").glob("*")):
            raise ConfigError(f"sweep.dir={folder} holds trials and no {SWEEP_FILE}; give another sweep.dir")
        return
    try:
        before: Any = json.loads(file.read_text(encoding="utf-8"))["identity"]
    except OSError as error:
        raise ConfigError(f"{file} can't be read ({error.strerror}); give another sweep.dir") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{file} is not what a sweep writes ({error!r}); give another sweep.dir") from error
    differing = list(_differences(before, json.loads(json.dumps(request.identity()))))
    if differing and _is_begun(folder):
        raise ConfigError(
            f"sweep.dir={folder} holds another search; give another sweep.dir, or what it was started with:"
            + "".join(f"\n  - {line}" for line in differing)
        )


def _engines() -> dict[str, str]:
    """Returns the versions of what draws parameters and runs trials, as far as they are installed."""
    found = {}
    for package in ("optuna", "submitit", "ray"):
        with suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


def _is_begun(folder: Path) -> bool:
    """Whether anything was tried: a search that was refused at its start leaves the folder to the next one."""
    study = folder / STUDY_FILE
    return any((folder / "trials").glob("*")) or (study.exists() and study.stat().st_size > 0)


def command_of(request: Request) -> str:
    """Returns the command that goes on with a sweep; a password is left out."""
    words = [without_password(word) for word in request.own_words]
    return shlex.join([*shlex.split(command()), "sweep", *words])


def _differences(before: Mapping[str, Any], now: Mapping[str, Any], path: str = "") -> Iterator[str]:
    for key in dict.fromkeys([*before, *now]):
        old, new, where = before.get(key), now.get(key), f"{path}.{key}" if path else key
        if old == new:
            continue
        if isinstance(old, dict) and isinstance(new, dict):
            yield from _differences(old, new, where)
        elif where == "space":
            was, is_ = ({entry["key"]: entry["values"] for entry in entries} for entries in (old or [], new or []))
            yield from _differences(was, is_) if was != is_ else iter(["the order of what is searched"])
        elif where == "words":
            yield from (f"without {word}" for word in sorted(set(old or []) - set(new or [])))
            yield from (f"with {word}" for word in sorted(set(new or []) - set(old or [])))
        else:
            yield f"{where}: {_shown(new)} (was {_shown(old)})"


def _shown(value: Any) -> str:
    text = "none" if value is None else json.dumps(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _refused(folder: Path, error: OSError, content: bytes) -> str:
    """Returns what to say of a folder whose lock is not to be had."""
    if error.errno not in (errno.EACCES, errno.EAGAIN):
        return f"the file system of sweep.dir={folder} keeps no locks ({error.strerror}); give another sweep.dir"
    try:
        holder = json.loads(content)
        who = f"process {holder['pid']} on {holder['host']}"
    except (ValueError, KeyError, TypeError):
        who = "another process"
    return f"{who} works on {folder}; wait for it or stop it (Ctrl-C there; trials go on from their checkpoints)"
