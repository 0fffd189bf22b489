"""Run folders and sweeps below a folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from segframe.config.options import nearest
from segframe.sweep.folder import SWEEP_FILE
from segframe.sweep.trial import TRIAL_FILE

_MARKS = ("overrides.json", "environment.json", "results.json", TRIAL_FILE)
"""A folder with one of these and no sweep's file is that of a run, in whatever state it was left."""

_MARKS_OF_PARTS = ("config.yaml", "metrics.csv")
"""Two files that only a run has side by side, where all others are lost."""


def is_run(folder: Path) -> bool:
    """Whether a folder is that of a run; one that can't be listed is not."""
    try:
        return _is_run(set(os.listdir(folder)))
    except OSError:
        return False


def is_sweep(folder: Path) -> bool:
    """Whether a folder is that of a sweep."""
    return os.path.isfile(folder / SWEEP_FILE)  # pathlib raises where a folder can't be entered


def nearest_folder(missing: Path) -> Path | None:
    """Returns the folder whose name is like that of one that is not there, if there is any.

    Args:
        missing: The path of what was asked for.
    """
    above = next((parent for parent in missing.absolute().parents if os.path.isdir(parent)), None)
    if above is None or not os.access(above, os.R_OK | os.X_OK):
        return None
    guess = nearest(missing.name, [path.name for path in above.iterdir() if os.path.isdir(path)])
    return above / guess if guess else None


def run_folders(root: Path) -> list[Path]:
    """Returns the run folders at or below a folder, at any depth; what can't be listed is left out.

    Args:
        root: Where to look; links to folders are followed.
    """
    return sorted(_below(root, set()))


def sweep_of(run: Path) -> Path | None:
    """Returns the sweep folder that a run is a trial of, if it is one."""
    sweep = run.parent.parent
    return sweep if run.parent.name == "trials" and is_sweep(sweep) else None


def _below(folder: Path, seen: set[str]) -> Iterator[Path]:
    real = os.path.realpath(folder)
    if real in seen:
        return
    seen.add(real)
    try:
        with os.scandir(folder) as entries:
            found = list(entries)
    except OSError:
        return
    if _is_run({entry.name for entry in found}):
        yield folder
        return
    for entry in found:
        # A link that leads round in a circle, or into a folder that can't be entered, raises in entry.is_dir().
        is_folder = os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir()
        if is_folder and not entry.name.startswith("."):
            yield from _below(folder / entry.name, seen)


def _is_run(names: set[str]) -> bool:
    if SWEEP_FILE in names:
        return False
    return bool(names.intersection(_MARKS)) or names.issuperset(_MARKS_OF_PARTS)
