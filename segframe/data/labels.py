"""From what a label map's file holds to class ids: one explicit table, and nothing passes unlisted."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from segframe.contracts import IGNORE_INDEX
from segframe.data.causes import likely_cause, spans

Pixels = NDArray[np.uint8]
Colour = tuple[int, int, int]

UNLISTED = 254
"""Marks what the table does not list, between the lookup and the error."""
MAX_CLASSES = 254
_LISTED = 8


class UnlistedLabelsError(ValueError):
    """A label map holds values that no class has.

    Attributes:
        path: The file.
        counts: Pixels by value; a colour is written ``(red, green, blue)``.
    """

    def __init__(self, path: Path, counts: dict[Any, int], expected: str, cause: str) -> None:
        self.path, self.counts = path, counts
        shown = sorted(counts.items(), key=lambda item: -item[1])[:_LISTED]
        kind = "colours" if isinstance(next(iter(counts)), tuple) else "labels"
        listed = ", ".join(f"{value} ({count} pixels)" for value, count in shown)
        more = f" and {len(counts) - _LISTED} more" if len(counts) > _LISTED else ""
        super().__init__(f"{path} holds the {kind} {listed}{more}; expected {expected}. {cause}")


class LabelMap:
    """A table from source ids, or source colours, to class ids and ``IGNORE_INDEX``.

    Args:
        num_classes: Classes K, at most 254.
        ids: Class by source id, 0 to 65535; None maps 0 to K - 1 to themselves and 255 to ignored.
        colours: Class by (red, green, blue); then files must be colour images, or, where ``ids`` are given
            too, files that hold colours are read by these and files that hold ids by those.

    Raises:
        ValueError: If a source or class is out of range.
    """

    def __init__(
        self,
        num_classes: int,
        ids: Mapping[int, int] | None = None,
        colours: Mapping[Colour, int] | None = None,
    ) -> None:
        if num_classes > MAX_CLASSES:
            raise ValueError(f"{num_classes} classes: masks are 8 bits, which hold at most {MAX_CLASSES} and ignored.")
        self.num_classes = num_classes
        identity = {**{label: label for label in range(num_classes)}, IGNORE_INDEX: IGNORE_INDEX}
        if ids is None and colours is None:
            ids = identity
        self.is_identity = ids == identity
        self.ids, self.colours = dict(ids or {}), None if colours is None else dict(colours)
        for source, target in (*self.ids.items(), *(self.colours or {}).items()):
            if not (0 <= target < num_classes or target == IGNORE_INDEX):
                raise ValueError(
                    f"label_map: {source} is mapped to {target}; expected a class, 0 to {num_classes - 1}, or ignore."
                )
        self._table = np.full(2**16, UNLISTED, np.uint8)
        for source, target in self.ids.items():
            if not 0 <= source < 2**16:
                raise ValueError(f"label_map: the source id {source} is out of range; expected 0 to 65535.")
            self._table[source] = target
        self._colour_table: Pixels | None = None

    def __call__(self, labels: NDArray[Any], path: Path) -> Pixels:
        """Returns a mask (H, W) of class ids and ``IGNORE_INDEX``.

        Args:
            labels: What the file holds: ids (H, W) or colours (H, W, 3).
            path: The file, for errors.

        Raises:
            UnlistedLabelsError: If the file holds what the table does not list.
            ValueError: If it holds colours where ids are expected, or the reverse.
        """
        labels = self.in_right_form(labels, path)
        mask = self._lookup(labels)
        if (mask == UNLISTED).any():
            raise self._unlisted(labels, mask, path)
        return mask

    def rows(self) -> list[tuple[str, int]]:
        """Returns the table as (source, class id) for display, in the order of the sources."""
        found = self.ids.items() if self.ids else (self.colours or {}).items()
        return [(str(source), target) for source, target in sorted(found)]

    def in_right_form(self, labels: NDArray[Any], path: Path) -> NDArray[Any]:
        """Returns labels as the table reads them: ids (H, W) or colours (H, W, 3).

        Raises:
            ValueError: If they are colours where ids are expected, or the reverse.
        """
        if self.colours is None and labels.ndim == 3:
            if (labels[..., :1] == labels).all():
                return np.ascontiguousarray(labels[..., 0])  # ids, written three times
            raise ValueError(
                f"{path} has shape {labels.shape} and type {labels.dtype}: one id per pixel is expected, "
                "not a colour rendering of it. Use the files that hold ids, or map colours to "
                "classes in YAML: label_map: {'R,G,B': CLASS, ...}, a key of dataset=folder."
            )
        if self.colours is not None and labels.ndim == 2 and not self.ids:
            raise ValueError(
                f"{path} holds one id per pixel (grey or palette, values {_some(np.unique(labels).tolist())}), and "
                "label_map lists colours. List ids instead: label_map: {ID: CLASS, ...}."
            )
        return labels

    def _lookup(self, labels: NDArray[Any]) -> Pixels:
        if self.colours is not None and labels.ndim == 3:
            if self._colour_table is None:
                self._colour_table = np.full(2**24, UNLISTED, np.uint8)
                for (red, green, blue), target in self.colours.items():
                    self._colour_table[(red << 16) + (green << 8) + blue] = target
            return np.asarray(self._colour_table[_packed(labels)])
        if labels.dtype == np.uint8:
            return np.asarray(cv2.LUT(labels, self._table[:256]), np.uint8)
        return np.asarray(self._table[labels])

    def _unlisted(self, labels: NDArray[Any], mask: Pixels, path: Path) -> UnlistedLabelsError:
        if self.colours is not None and labels.ndim == 3:
            packed, counts = np.unique(_packed(labels)[mask == UNLISTED], return_counts=True)
            found: dict[Any, int] = {
                (int(v) >> 16, int(v) >> 8 & 255, int(v) & 255): int(n) for v, n in zip(packed, counts, strict=True)
            }
            where = "the palette, as there is no label_map" if self.ids else "label_map"
            return UnlistedLabelsError(
                path, found, f"the {len(self.colours)} colours of {where}", _colour_remedy(found, bool(self.ids))
            )
        everything = {int(v): int(n) for v, n in zip(*np.unique(labels, return_counts=True), strict=True)}
        found = {value: count for value, count in everything.items() if value not in self.ids}
        return UnlistedLabelsError(
            path, found, self.expected(), likely_cause(everything, self.num_classes, self.is_identity)
        )

    def expected(self) -> str:
        """Returns in words which ids a file may hold."""
        if self.is_identity:
            return (
                f"0 to {self.num_classes - 1} for the {self.num_classes} classes and {IGNORE_INDEX} for ignored pixels"
            )
        return spans(sorted(self.ids))


def _colour_remedy(found: Mapping[Colour, int], by_palette: bool) -> str:
    if by_palette and all(red == green == blue for red, green, blue in found):
        return "If these are ids that are written three times, say so: label_map: {0: CLASS, ...}."
    red, green, blue = max(found, key=lambda colour: found[colour])
    every = "List every colour" if by_palette else "Add them"
    return f"{every} in label_map: {{..., '{red},{green},{blue}': CLASS}} (CLASS may be ignore)."


def _packed(colours: NDArray[Any]) -> NDArray[np.uint32]:
    packed = colours[..., 0].astype(np.uint32)
    for channel in (1, 2):
        packed <<= 8
        packed |= colours[..., channel]
    return packed


def _some(values: list[int]) -> str:
    return ", ".join(map(str, values[:_LISTED])) + ("..." if len(values) > _LISTED else "")
