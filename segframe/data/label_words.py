"""A ``label_map`` as people write it: source ids, spans of ids or colours to class names, class ids or ``ignore``."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence

from segframe.contracts import IGNORE_INDEX
from segframe.data.labels import Colour, LabelMap

IGNORE = "ignore"
_FORMS = "expected an id (7), a span of ids ('7-10'), or a colour ('128,64,128' or '#804080')"


def label_map(
    classes: Sequence[str],
    words: Mapping[str | int, str | int] | None,
    palette: Sequence[Colour] | None,
) -> LabelMap:
    """Returns the table that a configuration describes.

    Args:
        classes: The classes' names.
        words: Class name, class id or ``ignore`` by source; None reads ids 0 to K - 1, and 255 as ignored.
        palette: The classes' colours, which colour images are read by where ``words`` is None.

    Raises:
        ValueError: If a source or target can't be read, one is given twice, ids and colours are mixed, or a
            class has no source.
    """
    if words is None:
        if palette is None:
            return LabelMap(len(classes))
        ids = {**{label: label for label in range(len(classes))}, IGNORE_INDEX: IGNORE_INDEX}
        return LabelMap(len(classes), ids, {colour: label for label, colour in enumerate(palette)})
    found_ids: dict[int, int] = {}
    found_colours: dict[Colour, int] = {}
    for source, target in words.items():
        label = _target(target, source, classes)
        colour = _colour(source)
        new: Sequence[int | Colour] = _ids(source) if colour is None else [colour]
        known: dict = found_colours if colour is not None else found_ids  # type: ignore[type-arg]
        if twice := [one for one in new if one in known]:
            raise ValueError(f"dataset.label_map: {_shown(twice[0])} is given twice; the second time as {source!r}.")
        known.update(dict.fromkeys(new, label))
    _check(words, classes, found_ids, found_colours)
    return LabelMap(len(classes), found_ids or None, found_colours or None)


def _check(
    words: Mapping[str | int, str | int],
    classes: Sequence[str],
    ids: Mapping[int, int],
    colours: Mapping[Colour, int],
) -> None:
    if ids and colours:
        one = next(source for source in words if _colour(source) is None)
        other = next(source for source in words if _colour(source) is not None)
        raise ValueError(
            f"dataset.label_map lists ids ({one}) and colours ({other}); files hold either, so list one of the two."
        )
    used = {*ids.values(), *colours.values()}
    if missing := [name for label, name in enumerate(classes) if label not in used]:
        raise ValueError(
            f"dataset.label_map maps nothing to {', '.join(missing)}; every class needs a source. Add one, or take the "
            "class out of dataset.classes."
        )


def _colour(source: str | int) -> Colour | None:
    """Returns the colour that a source is, if it is one."""
    text = str(source).strip().lower()
    if match := re.fullmatch(r"#([0-9a-f]{6})", text):
        red, green, blue = bytes.fromhex(match[1])
        return red, green, blue
    values = [int(word) for word in re.findall(r"\d+", text)]
    if not re.fullmatch(r"[(\[]?\s*\d+\s*,\s*\d+\s*,\s*\d+\s*[)\]]?", text):
        return None
    if max(values) > 255:
        raise ValueError(f"dataset.label_map: the colour {source!r} is out of range; expected values of 0 to 255.")
    return values[0], values[1], values[2]


def _ids(source: str | int) -> Sequence[int]:
    match = re.fullmatch(r"\s*(\d+)(?:\s*-\s*(\d+))?\s*", str(source))
    if match is None or isinstance(source, bool):
        raise ValueError(f"dataset.label_map: the source {source!r} can't be read; {_FORMS}.")
    first, last = int(match[1]), int(match[2] or match[1])
    if not first <= last < 2**16:
        raise ValueError(
            f"dataset.label_map: the source {source!r} is out of range; expected ids of 0 to 65535, rising."
        )
    return range(first, last + 1)


def _target(target: str | int, source: str | int, classes: Sequence[str]) -> int:
    if isinstance(target, str) and target in classes:
        return classes.index(target)
    if target in (IGNORE, IGNORE_INDEX):
        return IGNORE_INDEX
    if isinstance(target, int):
        if 0 <= target < len(classes):
            return target
        raise ValueError(
            f"dataset.label_map: {source} is mapped to {target}; expected a class id of 0 to {len(classes) - 1}, a "
            f"class name, or {IGNORE}."
        )
    lower = {name.lower(): name for name in (*classes, IGNORE)}
    near = difflib.get_close_matches(target.lower(), lower, n=1)
    hint = f"; did you mean {lower[near[0]]}?" if near else ""
    raise ValueError(
        f"dataset.label_map: {source} is mapped to {target}, which is no class{hint or ';'} "
        f"classes: {', '.join(classes)}; or {IGNORE}."
    )


def _shown(source: int | Colour) -> str:
    return f"id {source}" if isinstance(source, int) else f"colour {','.join(map(str, source))}"
