"""Text files that list the pairs of a split."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from segframe.data.layout import nearest_existing, some


class Names:
    """Files by everything that a list may call them.

    Args:
        files: Paths by key.
        root: The folder that listed paths are relative to.
    """

    def __init__(self, files: Mapping[str, Path], root: Path) -> None:
        self._exact: dict[str, set[str]] = defaultdict(set)
        self._by_last: dict[str, set[tuple[str, str]]] = defaultdict(set)
        prefix = os.path.join(root, "")
        for key, path in files.items():
            text = str(path)
            relative = text[len(prefix) :] if text.startswith(prefix) else os.path.relpath(text, root)
            for name in {key, relative, os.path.splitext(relative)[0], text}:
                self._exact[name].add(key)
                self._by_last[name.rpartition("/")[2]].add((name, key))

    def keys(self, entry: str) -> set[str]:
        """Returns the keys of the files that an entry names: by its whole name, or else by the end of a path."""
        entry = os.path.normpath(entry)
        for name in (entry, entry.lstrip("/")):
            if name in self._exact:
                return self._exact[name]
        named = self._by_last.get(entry.rpartition("/")[2], ())
        return {key for name, key in named if name.endswith(f"/{entry}")}


def listed_pairs(
    file: Path, images: Mapping[str, Path], masks: Mapping[str, Path], root: Path
) -> list[tuple[str, str]]:
    """Returns the keys of the images and label maps that a list names, in its order.

    A line holds a key, a file name with or without its extension, or a path; or two of them, image and
    label map. ``#`` begins a comment.

    Args:
        file: The list.
        images: Paths by key.
        masks: Paths by key.
        root: What paths in the list are relative to.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no text or lists nothing, or an entry names no image, several, or one that
            stands there already.
    """
    entries = _entries(file)
    image_names, mask_names = Names(images, root), Names(masks, root)
    pairs: dict[str, str] = {}
    unknown, unclear, twice = [], [], []
    for entry in entries:
        found = image_names.keys(entry)
        matches = {(key, key) for key in found} or _in_two_columns(entry, image_names, mask_names)
        if not matches:
            unknown.append(entry)
        elif len(matches) > 1:
            unclear.append(f"{entry} ({some(sorted(image for image, _ in matches), 2)})")
        else:
            ((image, mask),) = matches
            twice += [entry] if image in pairs else []
            pairs[image] = mask
    example = f"an image of this split is called {next(iter(images))} ({next(iter(images.values()))})"
    for wrong, what in (
        (unknown, f"name no image; {example}"),
        (unclear, f"name more than one image; write more of the path; {example}"),
        (twice, "name an image that an earlier entry names; remove them"),
    ):
        if wrong:
            raise ValueError(f"{file}: {len(wrong)} of {len(entries)} entries {what}. They are: {some(wrong)}.")
    return list(pairs.items())


def _entries(file: Path) -> list[str]:
    try:
        text = file.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise FileNotFoundError(
            f"dataset=folder: split_file: {file} does not exist. {nearest_existing(file)}"
        ) from None
    except (UnicodeDecodeError, IsADirectoryError) as error:
        raise ValueError(
            f"{file} is no text file of UTF-8; split_file names a list with one entry per line."
        ) from error
    lines = (re.sub(r"(^|\s)#.*", "", line).strip() for line in text.splitlines())
    entries = [line for line in lines if line]
    if not entries:
        raise ValueError(f"{file} lists nothing; split_file names a list with one entry per line.")
    return entries


def _in_two_columns(entry: str, images: Names, masks: Names) -> set[tuple[str, str]]:
    """Returns the pairs that an entry names as image and label map, wherever blanks or a comma part the two."""
    found = set()
    for blank in re.finditer(r"\s*[,;]\s*|\s+", entry):
        left, right = entry[: blank.start()], entry[blank.end() :]
        if left and right:
            found |= {(image, mask) for image in images.keys(left) for mask in masks.keys(right)}
    return found
