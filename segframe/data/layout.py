"""What to say when a data set is not where it was looked for: the expected tree and the nearest thing found."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

_DEPTH = 3  # folders below a root's parent that are searched for the data set
_VISITED = 2000  # folders that are looked at, at most: a slow disk must not delay an error
_ARCHIVES = (".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".7z", ".rar")


class Layout:
    """The folders of a data set as they should be.

    Args:
        name: What the data set is called in messages.
        tree: The expected tree; ``{root}`` stands for the root.
        markers: Folders below the root by which it is recognised.
        key: The configuration key that names the root.
    """

    def __init__(self, name: str, tree: str, markers: Sequence[str], key: str = "dataset.root") -> None:
        self.name, self.tree, self.markers, self.key = name, tree, tuple(markers), key

    def files(self, root: Path, folder: str, pattern: str, kind: str) -> list[Path]:
        """Returns the sorted files of a folder below ``root``; hidden ones, such as macOS adds, are left out.

        Args:
            root: The root.
            folder: Below the root.
            pattern: A glob below the folder, ``*.png`` or ``*/*.png``.
            kind: What is looked for, such as ``PNG file``.

        Raises:
            FileNotFoundError: If the folder is missing or has no such file.
            ValueError: If a folder can't be listed.
        """
        path = self.folder(root, folder)
        found = matching(path, pattern)
        if not found:
            raise FileNotFoundError(
                f"{self.name}: the folder {path} holds no {kind} ({contents(path)}). {self.explain(root)}"
            )
        return found

    def folder(self, root: Path, folder: str) -> Path:
        """Returns a folder below ``root``.

        Raises:
            FileNotFoundError: If it is missing.
            ValueError: If this user may not look there.
        """
        path = root / folder
        if not is_folder(path):
            raise FileNotFoundError(f"{self.name}: the folder {path} does not exist. {self.explain(root)}")
        return path

    def explain(self, root: Path) -> str:
        """Returns the expected tree, and what is there instead."""
        elsewhere = self._elsewhere(root)
        hint = f"Found in {root}: {contents(root)}." if root.is_dir() else nearest_existing(root, elsewhere is None)
        hints = [hint]
        start = _existing(root)
        if archives := [name for name in _names(start) if name.lower().endswith(_ARCHIVES)]:
            hints.append(f"{start} holds archives: {some(archives)}. Unpack there what is not unpacked yet.")
        if missing := [marker for marker in dict.fromkeys(self.markers) if not (root / marker).is_dir()]:
            hints += self._found_instead(root, missing, elsewhere)
            folders = ", ".join(dict.fromkeys(self.markers))
            hints.append(f"Set {self.key}=... to the folder that holds {folders}.")
        expected = self.tree.format(root=root)
        return "\n".join([f"Expected:\n{expected}", *hints])

    def _found_instead(self, root: Path, missing: Sequence[str], elsewhere: Path | None) -> list[str]:
        """Returns where the data set, or pieces of it, lie."""
        if elsewhere is not None:
            return [f"Did you mean {self.key}={elsewhere}?"]
        pieces = {}
        for folder in _folders(root):
            pieces.update({m: folder for m in missing if m not in pieces and (folder / m).is_dir()})
        if not pieces:
            return []
        return [f"Move into one folder: {', '.join(str(folder / piece) for piece, folder in pieces.items())}."]

    def _elsewhere(self, root: Path) -> Path | None:
        """Returns the nearest folder that holds all the markers."""
        start = _existing(root)
        for here in start.parents[:_DEPTH]:
            if all((here / marker).is_dir() for marker in self.markers):
                return here
        for place in [start, start.parent] if start == root.absolute() else [start]:
            if len(place.parts) < 2:
                continue
            for here in _folders(place):
                if here != root.absolute() and all((here / marker).is_dir() for marker in self.markers):
                    return here
        return None


def matching(folder: Path, pattern: str) -> list[Path]:
    """Returns the sorted files in a folder, or in the folders in it, that match a glob and are not hidden.

    Args:
        folder: Where; nothing is found where there is none.
        pattern: ``*.png``, or ``*/*.png`` for one folder further down.

    Raises:
        ValueError: If a folder can't be listed, whose files would be missing without a word.
    """
    if not folder.is_dir():
        return []
    *above, name = pattern.split("/")
    places = [folder] if not above else [path for path in _listed(folder) if path.is_dir()]
    return sorted(path for place in places for path in _listed(place) if fnmatchcase(path.name, name))


def _listed(folder: Path) -> list[Path]:
    try:
        names = os.listdir(folder)
    except OSError as error:
        raise unlistable(folder, error) from error
    return [folder / name for name in names if not name.startswith(".")]


def is_folder(path: Path) -> bool:
    """Returns whether there is such a folder.

    Raises:
        ValueError: If a folder above it lets this user not look.
    """
    try:
        return path.is_dir()
    except PermissionError as error:
        above = next(
            (folder for folder in reversed(path.absolute().parents) if not os.access(folder, os.X_OK)), path.parent
        )
        raise unlistable(above, error) from error


def unlistable(folder: str | Path, error: OSError) -> ValueError:
    """Returns the error for a folder whose names can't be read: left out, its samples would silently be missing."""
    return ValueError(f"{folder} can't be listed: {error.strerror}; allow it with: chmod u+rx FOLDER.")


def _folders(place: Path) -> Iterator[Path]:
    """Yields a folder and those below it, not too deep and not too many."""
    for number, (folder, names, _) in enumerate(os.walk(place)):
        here = Path(folder)
        if len(here.parts) - len(place.parts) >= _DEPTH or number > _VISITED:
            names.clear()
        names[:] = sorted(name for name in names if not name.startswith("."))
        yield here


def _existing(root: Path) -> Path:
    """Returns the root, or its nearest parent that exists."""
    return next((p for p in (root.absolute(), *root.absolute().parents) if p.is_dir()), Path("/"))


def _names(folder: Path) -> list[str]:
    try:
        return sorted(entry.name for entry in folder.iterdir() if entry.is_file())
    except OSError:
        return []


def contents(path: Path, limit: int = 5) -> str:
    """Returns the first names in a folder, folders before files and with a slash."""
    try:
        listed = sorted((not entry.is_dir(), entry.name) for entry in path.iterdir())
        entries = [name if is_file else f"{name}/" for is_file, name in listed]
    except OSError as error:
        return f"it cannot be listed: {error.strerror}"
    return some(entries, limit) if entries else "nothing"


def some(names: Sequence[str], limit: int = 5) -> str:
    """Returns the first of some names, and how many more there are."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def nearest_existing(root: Path, guess: bool = True) -> str:
    """Returns what there is in place of a folder that is not there, and with ``guess`` what it may be called."""
    if root.exists():
        return f"{root} is a file, and a folder is expected."
    there = _existing(root)
    missing = root.absolute().relative_to(there).parts[0]
    try:
        alike = difflib.get_close_matches(missing, [p.name for p in there.iterdir() if p.is_dir()], n=1)
    except OSError:
        alike = []
    hint = f" Did you mean {there / alike[0]}?" if alike and guess else ""
    return f"{root} does not exist; {there} does, and holds: {contents(there)}.{hint}"
