"""The folder of a cache: one file of pixels and an index, named by what it was made from.

``ROOT/pixels/KEY/FINGERPRINT/``: the key stands for the configuration, the fingerprint also for the files.
Whoever looks at or changes a key holds the lock ``KEY.lock``; whoever reads a cache holds a shared lock on
its file ``users``.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from segframe.contracts import SegmentationDataset
from segframe.data import locks
from segframe.data.cache_build import PIXELS, NoRoomError, Shapes, discard, gib, measure, offsets, sync, write_pixels
from segframe.data.fingerprint import file_states, fingerprint, identity_key
from segframe.data.layout import some
from segframe.data.room import free_bytes

_FORMAT = 1
_INDEX, _USERS, _BUILDING = "index.json", "users", "building-"
_LEAVE_S = 5.0  # processes that end at once wait so long for each other


class Entry:
    """Where the cache of a data set belongs, by what it is made from."""

    def __init__(self, root: Path, dataset: SegmentationDataset, identity: Mapping[str, Any]) -> None:
        key = identity_key(identity)
        self.dataset, self.family, self.lock = dataset, root / key, root / f"{key}.lock"
        self.fingerprint = fingerprint(dataset, {**identity, "code": _code(dataset), "format": _FORMAT})
        self.folder = self.family / self.fingerprint

    def shapes(self) -> Shapes | None:
        """Returns the sizes of the pairs if the cache is there and whole; removes a damaged one."""
        if not self.folder.exists():
            return None
        try:
            index = json.loads((self.folder / _INDEX).read_text(encoding="utf-8"))
            shapes = np.array(index["shapes"], np.int64).reshape(len(self.dataset), 2)
            is_whole = index["format"] == _FORMAT and (shapes >= 0).all()
            is_whole = is_whole and (self.folder / PIXELS).stat().st_size == offsets(shapes)[-1]
        except (OSError, ValueError, KeyError, TypeError):
            is_whole = False
        if is_whole:
            return shapes
        print(f"the cache {self.folder} is damaged; it is made anew", file=sys.stderr)
        discard(self.folder)
        return None

    def remove_others(self, is_told: bool) -> None:
        """Removes what a killed build left and what was made from other files; may tell what has changed since."""
        for folder in sorted(self.family.iterdir()) if self.family.is_dir() else ():
            if folder == self.folder:
                continue
            if is_told and not folder.name.startswith((_BUILDING, ".")):
                print(f"{_changed(folder, self.dataset)}: the cache is made anew", file=sys.stderr)
            if not locks.is_used(folder / _USERS):
                discard(folder)

    def build(self, shapes: Shapes) -> None:
        """Makes the cache: under another name, and under its own when it is whole and on the disk."""
        temporary = self.family / f"{_BUILDING}{os.getpid()}"
        temporary.mkdir(parents=True)
        try:
            write_pixels(self.dataset, shapes, temporary)
            index = {"format": _FORMAT, "shapes": shapes.tolist(), "files": file_states(self.dataset)}
            (temporary / _INDEX).write_text(json.dumps(index), encoding="utf-8")
            (temporary / _USERS).touch()
            sync(temporary / _INDEX)
            sync(temporary)
            temporary.rename(self.folder)
            sync(self.family)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise

    def mark_as_used(self) -> int:
        """Returns the file descriptor of a mark that keeps others from removing the cache."""
        return locks.shared(self.folder / _USERS)

    def remove_as_last(self, mark: int) -> None:
        """Gives a mark up, and removes the cache if no other process has one."""
        with locks.attempt(self.lock, _LEAVE_S) as got:
            if got and locks.is_last(mark):
                discard(self.folder)
                _remove_if_empty(self.family)
            locks.give_up(mark)


def build_missing(entries: Sequence[Entry], mode: str) -> None:
    """Makes the caches that are not there, if there is room for all of them; under their locks.

    Args:
        entries: What is needed.
        mode: ``ram`` or ``disk``, for messages.

    Raises:
        NoRoomError: If there is too little room; nothing was decoded then.
    """
    missing = list({entry.folder: entry for entry in entries if entry.shapes() is None}.values())
    for entry in entries:
        entry.remove_others(is_told=entry in missing)
    sizes = [measure(entry.dataset) for entry in missing]
    if missing:
        root, total = missing[0].lock.parent, sum(int(offsets(shapes)[-1]) for shapes in sizes)
        _check_room(root, total, mode)
        count = sum(map(len, sizes))
        print(
            f"caching {count} images: {gib(total)} in {root}, {gib(free_bytes(root))} free", file=sys.stderr, flush=True
        )
    for entry, shapes in zip(missing, sizes, strict=True):
        entry.build(shapes)


def memory_root(shared_memory: Path) -> Path:
    """Returns the folder for caches in memory, which no other user can reach.

    Raises:
        FileNotFoundError: If the system has no such place.
        ValueError: If another user has taken its name.
    """
    if not shared_memory.is_dir():
        raise FileNotFoundError(
            f"dataset.cache=ram needs {shared_memory}, memory that processes share, and this system has none; "
            "use dataset.cache=disk."
        )
    folder = shared_memory / f"segframe-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    if folder.is_symlink() or status.st_uid != os.getuid():
        raise ValueError(f"{folder} belongs to user {status.st_uid}, not to you; have it removed, or use cache=disk.")
    return folder / "pixels"


def remove_leftovers(root: Path, entries: Sequence[Entry]) -> None:
    """Removes what killed runs left in memory, but for what is about to be used again."""
    wanted = {entry.family for entry in entries}
    for lock in root.glob("*.lock"):
        family = lock.with_suffix("")
        if family in wanted or not family.is_dir():
            continue
        with locks.attempt(lock) as got:
            for folder in sorted(family.iterdir()) if got else ():
                if not locks.is_used(folder / _USERS):
                    discard(folder)
            _remove_if_empty(family)


def _check_room(root: Path, needed: int, mode: str) -> None:
    free = free_bytes(root)
    if needed <= free:
        return
    if mode == "ram":
        raise NoRoomError(
            f"dataset.cache=ram needs {gib(needed)} and {root.parent.parent} has {gib(free)} free; use "
            "dataset.cache=disk, or give it more memory (containers get 64 MB unless they are started with "
            f"--shm-size={needed // 2**30 + 1}g)."
        )
    raise NoRoomError(
        f"dataset.cache=disk needs {gib(needed)} and {root} has {gib(free)} free; free some, set dataset.cache_dir "
        "to a folder on a larger disk, or use dataset.cache=ram or none."
    )


def _changed(folder: Path, dataset: SegmentationDataset) -> str:
    """Returns in words how a data set differs from what another cache of it was made from."""
    try:
        before = {path: state for *state, path in json.loads((folder / _INDEX).read_text(encoding="utf-8"))["files"]}
    except (OSError, ValueError, KeyError, TypeError):
        before = {}
    now = {path: state for *state, path in file_states(dataset)}
    changed = sorted(path for path in before.keys() | now.keys() if before.get(path) != now.get(path))
    if not changed or not before:
        return f"the code of {type(dataset).__name__} has changed since {folder} was made"
    return f"{len(changed)} of {len(now)} files have changed since {folder} was made ({some(changed)})"


def _code(dataset: SegmentationDataset) -> str:
    """Returns a hash of the files that the data set's class and its parents are written in."""
    modules = {cls.__module__ for cls in type(dataset).__mro__} - {"builtins", "typing", "abc"}
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(name for name in modules if not name.startswith("torch")):
        path = getattr(sys.modules.get(name), "__file__", None)
        if path and Path(path).is_file():
            digest.update(Path(path).read_bytes())
    return digest.hexdigest()


def _remove_if_empty(folder: Path) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
