"""The mistakes that label maps show traces of: one function each, from values to a cause or None."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from segframe.contracts import IGNORE_INDEX

Colour = tuple[int, int, int]

_BORDER_SHARE = 0.3  # of all pixels: smoothing changes values along borders only
_CHANCE = 0.01  # a likeness that random values would have as often is none


class Cause(NamedTuple):
    """What the values of label maps look like, and what mends it.

    Attributes:
        what: Sentences.
        line: The line of YAML, empty where there is none.
    """

    what: str
    line: str = ""

    def __str__(self) -> str:
        """Returns both."""
        return f"{self.what} {self.line}".strip()


@dataclass(frozen=True)
class Values:
    """The values of label maps, as the rules below look at them.

    Attributes:
        counts: Pixels by source id.
        num_classes: Classes K.
        names: Of the classes; empty where they are not known.
        palette: The classes' colours; empty where they are not known.
        listed: The source ids that are expected; None: those of the classes and of ignored pixels.
    """

    counts: Mapping[int, int]
    num_classes: int
    names: Sequence[str] = ()
    palette: Sequence[Colour] = ()
    listed: Collection[int] | None = None

    @property
    def all(self) -> list[int]:
        """All values but that of ignored pixels."""
        return sorted(value for value in self.counts if value != IGNORE_INDEX)

    @property
    def wrong(self) -> list[int]:
        """Values that are not expected."""
        if self.listed is not None:
            return [value for value in sorted(self.counts) if value not in self.listed]
        return [value for value in self.all if value >= self.num_classes]

    def share(self, values: Sequence[int]) -> float:
        """Returns how many of all pixels hold one of some values."""
        return sum(self.counts.get(value, 0) for value in values) / max(1, sum(self.counts.values()))

    def label_map(self, targets: Mapping[int, int]) -> str:
        """Returns the line for a table from source id to class id; what isn't mapped is ignored."""
        others = {value: IGNORE_INDEX for value in self.counts if value not in targets}
        return map_line({**targets, **others}, self.names)


def map_line(targets: Mapping[int, int], names: Sequence[str] = ()) -> str:
    """Returns a ``label_map`` as a line of YAML, with names for class ids where they are known.

    >>> print(map_line({1: 0, 2: 1, 0: 255}, ["cat", "it's: a dog"]))
    label_map: {0: ignore, 1: cat, 2: "it's: a dog"}
    """
    entries = [f"{source}: {_target(target, names)}" for source, target in sorted(targets.items())]
    return f"label_map: {{{', '.join(entries)}}}"


def _target(target: int, names: Sequence[str]) -> str:
    if target == IGNORE_INDEX:
        return "ignore"
    if target >= len(names):
        return str(target)
    name = names[target]
    is_plain = re.fullmatch(r"[A-Za-z][\w -]*\w|[A-Za-z]", name) and name.lower() not in _YAML_WORDS
    return name if is_plain else json.dumps(name, ensure_ascii=False)


_YAML_WORDS = {"y", "n", "yes", "no", "true", "false", "on", "off", "null", "none", "ignore"}


def binary(values: Values) -> Cause:
    """Returns what to do where files hold nothing but 0 and 255."""
    if values.num_classes == 2:
        return Cause(
            "These are binary masks, drawn in 0 and 255: 255 stands for the second class, and is read as ignored.",
            map_line({0: 0, IGNORE_INDEX: 1}, values.names),
        )
    return Cause(
        f"These seem to be binary masks, drawn in 0 and 255, of which 255 is read as ignored; {values.num_classes} "
        "classes are named. Use the files that hold their ids, or name two classes and map both:",
        f"label_map: {{0: CLASS, {IGNORE_INDEX}: CLASS}}",
    )


def _instance_ids(values: Values) -> Cause | None:
    big = [value for value in values.all if value >= 1000]
    if not big or max(big) >= 34_000 or any(34 <= value < 1000 for value in values.all):
        return None
    return Cause(
        "These are Cityscapes' instanceIds (label id x 1000 + number of the instance). Use the files that end in "
        "_labelIds.png: dataset=cityscapes reads them."
    )


def _scaled_to_16_bits(values: Values) -> Cause | None:
    for factor in (257, 256):
        if max(values.all) > IGNORE_INDEX and all(value % factor == 0 for value in values.all):
            targets = {label * factor: label for label in range(values.num_classes)}
            return Cause(
                f"All values are multiples of {factor}: 8-bit ids were stretched to 16 bits. Convert the files back, "
                "or say what they mean:",
                values.label_map(targets),
            )
    return None


def _measurements(values: Values) -> Cause | None:
    if len(values.all) <= 1000:
        return None
    return Cause(
        f"{len(values.all)} different values, 0 to {max(values.all)}, are measurements such as depth, not labels. Use "
        "the files that hold one id per pixel."
    )


def _label_ids(values: Values) -> Cause | None:
    from segframe.data.cityscapes import EVALUATED_IDS

    if values.num_classes not in (19, 20) or not 20 < max(values.all) <= 33:
        return None
    return Cause(
        "These are Cityscapes' labelIds (0 to 33) where trainIds (0 to 18) are meant. dataset=cityscapes maps them; "
        "elsewhere:",
        values.label_map({source: target for target, source in enumerate(EVALUATED_IDS)}),
    )


def _one_based(values: Values) -> Cause | None:
    last = values.num_classes
    if values.wrong != [last]:
        return None
    one_based = values.label_map({label + 1: label for label in range(last)})
    if 0 not in values.counts:
        return Cause(f"The labels seem to count from 1: {last} occurs and 0 never does.", one_based)
    if IGNORE_INDEX in values.counts:
        return Cause(
            f"0 to {last} occur: files have {last + 1} classes. Either classes has one name too few, or 0 is void and "
            "labels count from 1:",
            one_based,
        )
    void_last = values.label_map({label: label for label in range(last)})
    return Cause(
        f"0 to {last} occur, one more than there are classes, so one of them is void. If it is {last}: {void_last}. "
        "If it is 0, labels count from 1:",
        one_based,
    )


def _stretched(values: Values) -> Cause | None:
    """Ids that were multiplied to be visible: 0, 64, 128, 192."""
    count, held = values.num_classes, sorted(values.counts)
    pitch = 255 / (count - 1) if count > 1 else 256.0
    if 1.9 < pitch < 255 and len(held) >= 3 and all(abs(v - round(v / pitch) * pitch) <= 1 for v in held):
        targets = {round(label * pitch): label for label in range(count)}
        off = {v: round(v / pitch) for v in held}
        return _multiplied(values, {s: t for s, t in targets.items() if t not in off.values()} | off, f"{pitch:.4g}")
    step = math.gcd(*values.all)
    if step < 2 or max(values.all) // step >= count or (len(values.all) < 3 and count > 2):
        return None
    return _multiplied(values, {label * step: label for label in range(count)}, str(step))


def _multiplied(values: Values, targets: Mapping[int, int], factor: str) -> Cause:
    return Cause(f"The ids seem multiplied by {factor}, stretched to be seen.", values.label_map(targets))


def _void(values: Values) -> Cause | None:
    if len(values.wrong) != 1:
        return None
    void = values.wrong[0]
    return Cause(
        f"{void} is the only label beyond the classes; probably it stands for void, which is {IGNORE_INDEX} here.",
        values.label_map({label: label for label in range(values.num_classes)}),
    )


def _smoothed(values: Values) -> Cause | None:
    """Many values that few pixels hold, between those that most hold."""
    main = sorted(values.counts, key=lambda value: -values.counts[value])[: values.num_classes + 1]
    rest = [value for value in values.counts if value not in main]
    if len(rest) < 5 or values.share(rest) > _BORDER_SHARE:
        return None
    shown = ", ".join(map(str, sorted(v for v in main if values.share([v]) > 0.01)[:8]))
    return Cause(
        f"Most pixels hold {shown}, and {len(rest)} other values lie along borders: the files were resized with "
        "interpolation, or saved with loss (JPEG) in between. No label_map mends that: make them again from their "
        "source, resized with nearest neighbour, as PNG."
    )


def _greyed_colours(values: Values) -> Cause | None:
    from segframe.data.voc import VOC

    if len(values.all) < 3 or len(values.all) > values.num_classes + 10:
        return None
    for palette, whose in ((values.palette, "of this data set's"), (VOC.palette, "of PASCAL VOC's")):
        near = {_luma(colour) + shift for colour in palette for shift in (-1, 0, 1)} & set(range(256))
        if palette and set(values.all) <= near and (len(near) / 256) ** len(values.wrong) < _CHANCE:
            return Cause(
                f"The values are the brightness {whose} colours: a colour rendering was read or saved as grey. Use "
                "the colour files themselves with a label_map of colours, or the files that hold ids."
            )
    return None


def _luma(colour: Colour) -> int:
    red, green, blue = colour
    return round(0.299 * red + 0.587 * green + 0.114 * blue)


def _more_classes(values: Values) -> Cause | None:
    last = max(values.all)
    if values.wrong != list(range(values.num_classes, last + 1)) or last > 254:
        return None
    line = f"label_map: {{..., {values.num_classes}: CLASS, ..., {last}: CLASS}}"
    return Cause(
        f"Files hold the ids up to {last}, which are {last + 1} classes and not {values.num_classes}. Name the others "
        "in classes, or say what they mean (CLASS may be ignore):",
        line,
    )


def _scattered(values: Values) -> Cause | None:
    """Few values with gaps between, each held by many pixels."""
    gaps = len(values.all) < 0.5 * (max(values.all) - min(values.all) + 1)
    if not gaps or max(values.all) > IGNORE_INDEX or not 3 <= len(values.wrong) <= values.num_classes + 10:
        return None
    listed = ", ".join(f"{value}: CLASS" for value in values.all[:6]) + (", ..." if len(values.all) > 6 else "")
    return Cause(
        f"{len(values.all)} values are scattered over {min(values.all)} to {max(values.all)}. Either a colour "
        "rendering was read or saved as grey (then use the files that hold ids, or the colour files with a label_map "
        "of colours), or the ids are numbered with gaps; then say what each means (CLASS may be ignore):",
        f"label_map: {{{listed}}}",
    )


RULES: tuple[Callable[[Values], Cause | None], ...] = (
    _scaled_to_16_bits,
    _instance_ids,
    _measurements,
    _label_ids,
    _one_based,
    _stretched,
    _void,
    _smoothed,
    _greyed_colours,
    _more_classes,
    _scattered,
)
"""For files whose ids are read as class ids: the surest first."""

RULES_FOR_ANY_TABLE = (_instance_ids, _measurements, _smoothed, _greyed_colours)
"""For files that are read by a table of their own."""
