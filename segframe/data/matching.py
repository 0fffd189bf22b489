"""Files by a folder or a glob, each with a key: what its wildcards matched, without the file's ending."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from segframe.data.decode import IMAGE_SUFFIXES
from segframe.data.layout import contents, nearest_existing, some, unlistable

_WILDCARD = re.compile(r"(\*+|\?|\[!?\]?[^\]]*\])")


class Search:
    """A folder with everything below it, or a glob.

    The key of a file is what the wildcards matched, joined by slashes; a folder counts as
    ``folder/**/*``. Hidden files and folders are left out, links are followed.

    Args:
        root: What ``place`` is relative to.
        place: A folder, or a glob in which ``**`` stands for any number of folders; may be absolute.
        suffix: What the names end with, and what their keys lack; None takes every image file and cuts
            its extension off.
        argument: What errors call ``place``: ``images`` or ``masks``.

    Attributes:
        path: The folder or glob below the root.
    """

    def __init__(self, root: Path, place: str, suffix: str | None, argument: str) -> None:
        given = Path(place).expanduser()
        self.path, self.suffix, self._said = root / given, suffix, f"dataset=folder: {argument}={place}"
        self._suffix_key = f"{argument[:-1]}_suffix"
        if self.path.is_dir():
            self._start, self._parts = self.path, ["**", "*"]
            return
        parts = given.parts
        fixed = next((number for number, part in enumerate(parts) if _WILDCARD.search(part)), len(parts))
        self._start, self._parts = root.joinpath(*parts[:fixed]), list(parts[fixed:])
        if self._parts and self._parts[-1] == "**":
            self._parts.append("*")

    def files(self) -> dict[str, Path]:
        """Returns the files by their keys, sorted by path.

        Raises:
            FileNotFoundError: If there is no such folder, or no file that matches.
            ValueError: If two files have one key.
        """
        self._check_start()
        pattern = re.compile(_regex(self._parts))
        # A name that the glob spells out to its end is taken whatever its extension.
        any_name = self.suffix is not None or _WILDCARD.split(self._parts[-1])[-1] != ""
        found: dict[str, Path] = {}
        seen: list[str] = []
        for relative in _below(self._start, None if "**" in self._parts else len(self._parts)):
            match = pattern.fullmatch(relative)
            if (
                match
                and (any_name or relative.lower().endswith(IMAGE_SUFFIXES))
                and relative.endswith(self.suffix or "")
            ):
                key = _key(match, len(self.suffix or os.path.splitext(relative)[1]))
                if key in found:
                    raise self._ambiguous(key, found[key], self._start / relative)
                found[key] = self._start / relative
            elif len(seen) < 6:
                seen.append(relative)
        if not found:
            raise self._nothing(sorted(seen))
        return dict(sorted(found.items(), key=lambda item: item[1].parts))

    def _check_start(self) -> None:
        if self._start.is_dir() and self._parts:
            return
        if self._start.exists():
            raise FileNotFoundError(f"{self._said}: {self._start} is a file; give a folder, or a glob.")
        raise FileNotFoundError(
            f"{self._said}: expected a folder below dataset.root, or a glob such as */images/*.jpg. "
            f"{nearest_existing(self._start)}"
        )

    def _nothing(self, seen: Sequence[str]) -> FileNotFoundError:
        kind = "image file" if self.suffix is None else f"file that ends with {self.suffix} ({self._suffix_key})"
        there = f"there are: {some(seen)}" if seen else f"it holds: {contents(self._start)}"
        if self._parts == ["**", "*"]:
            return FileNotFoundError(f"{self._said}: no {kind} in {self._start} or below; {there}.")
        return FileNotFoundError(f"{self._said}: no {kind} in {self._start} matches {'/'.join(self._parts)}; {there}.")

    def _ambiguous(self, key: str, one: Path, other: Path) -> ValueError:
        same = os.path.splitext(one)[0] == os.path.splitext(other)[0]
        hint = f"such as {self._suffix_key}={one.suffix}" if same else "a longer suffix or another glob"
        return ValueError(
            f"{self._said}: {one} and {other} have one key, {key}, and a pair has one file of each kind. "
            f"Remove one of them, or say which is meant: {hint}."
        )


def apart(images: dict[str, Path], masks: dict[str, Path], suffixes: tuple[str | None, str | None]) -> None:
    """Takes files that are found as images and as masks out of the one of the shorter suffix.

    So ``a.png`` and ``a_mask.png`` may lie in one folder.

    Args:
        images: Files by key; changed.
        masks: Files by key; changed.
        suffixes: Of the images, of the masks.

    Raises:
        ValueError: If no suffix tells them apart.
    """
    shared = set(images.values()) & set(masks.values())
    if not shared:
        return
    lengths = [len(suffix or "") for suffix in suffixes]
    if lengths[0] == lengths[1]:
        raise ValueError(
            f"dataset=folder: {min(shared)} is found both as image and as mask. Give images and masks different "
            "folders, globs or endings (dataset.image_suffix, dataset.mask_suffix)."
        )
    loser = images if lengths[0] < lengths[1] else masks
    for key in [key for key, path in loser.items() if path in shared]:
        del loser[key]


def likely_suffix(images: Mapping[str, Path], masks: Mapping[str, Path]) -> str:
    """Returns a word on the endings that would make pairs where no key of images and masks is equal, or nothing."""
    for short, long, argument in ((images, masks, "mask_suffix"), (masks, images, "image_suffix")):
        for key in sorted(short)[:50]:
            longer = sorted(other for other in long if other.startswith(key))
            if longer:
                path = long[longer[0]]
                return f" Did you mean dataset.{argument}={longer[0][len(key) :]}{path.suffix}?"
    return ""


def _below(start: Path, depth: int | None) -> Iterator[str]:
    """Yields the files below a folder as paths relative to it, down to so many levels."""
    for folder, names, files in os.walk(start, onerror=_refuse, followlinks=True):
        relative = os.path.relpath(folder, start)
        prefix = "" if relative == "." else f"{relative}/"
        is_deepest = depth is not None and prefix.count("/") >= depth - 1
        names[:] = [] if is_deepest else sorted(n for n in names if not n.startswith(".") and not _is_loop(folder, n))
        yield from (f"{prefix}{name}" for name in files if not name.startswith("."))


def _refuse(error: OSError) -> None:
    """Ends the search: a folder that is passed over would be samples that are silently missing."""
    raise unlistable(error.filename, error) from error


def _is_loop(folder: str, name: str) -> bool:
    """Whether a folder is a link to one that it lies in."""
    path = os.path.join(folder, name)
    return os.path.islink(path) and Path(folder).resolve().is_relative_to(Path(path).resolve())


def _regex(parts: Sequence[str]) -> str:
    """Returns the regular expression of a glob, every wildcard a group."""
    folders = ("((?:[^/]+/)*)" if part == "**" else f"{_part(part)}/" for part in parts[:-1])
    return "".join(folders) + _part(parts[-1])


def _part(part: str) -> str:
    pieces = []
    for number, text in enumerate(_WILDCARD.split(part)):
        if number % 2 == 0:
            pieces.append(re.escape(text))
        elif text.startswith("["):
            inside = text[1:-1].replace("\\", r"\\")
            pieces.append(f"([{'^' + inside[1:] if inside.startswith('!') else inside}])")
        else:
            pieces.append("([^/])" if text == "?" else "([^/]*)")
    return "".join(pieces)


def _key(match: re.Match[str], ending: int) -> str:
    """Returns what the wildcards matched before the file's ending of so many characters."""
    last = len(match.string) - ending
    spans = (match.span(number + 1) for number in range(len(match.groups())))
    words = (match.string[begin : min(end, last)].strip("/") for begin, end in spans)
    return "/".join(word for word in words if word)
