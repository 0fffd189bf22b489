"""What is wrong with pairs, told once for all files that it is wrong with."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from segframe.contracts import IGNORE_INDEX
from segframe.data.cause_rules import Cause, Values
from segframe.data.causes import TRAIN_IDS, explain, is_train_ids, silent_cause, spans
from segframe.data.facts import PairFacts, Split, Value
from segframe.data.labels import LabelMap

Severity = Literal["error", "warning", "note"]

_SHOWN = 8  # values that are named in a sentence
_MANY_COLOURS = 300
_FEW_FILES = 3
_MOSTLY = 0.99

_TITLES = {
    "unreadable": "a file cannot be read",
    "missing": "a file is missing",
    "size": "image and label map differ in size",
    "form": "the label map has the wrong form",
    "failed": "reading fails",
}


@dataclass
class Finding:
    """One thing that was found.

    Attributes:
        severity: An error is mended before training; a warning may be meant; a note is to know.
        kind: What it is about, in a word.
        split: Where; several are joined by a comma.
        what: What was found, in sentences.
        files: Where it is so.
        values: Pixels by value, for what is about values.
        cause: Why it is so, and what to do.
        line: The line of YAML that mends it; empty where there is none.
    """

    severity: Severity
    kind: str
    split: str
    what: str
    files: list[str] = field(default_factory=list)
    values: Mapping[Any, int] = field(default_factory=dict)
    cause: str = ""
    line: str = ""


def pair_findings(splits: Sequence[Split]) -> list[Finding]:
    """Returns what keeps pairs from being trained on or evaluated.

    Args:
        splits: After their scan; what they have in common is told once.
    """
    found: list[Finding] = _missing_splits(splits)
    for split in splits:
        found += _of_split(split)
        found += _problems(split)
    for group in _of_one_table(splits):
        labels = [*_wrong_labels(group), *_silently_wrong(group)]
        found += labels or [finding for split in group for finding in _ignored(split)]
    return found


def _missing_splits(splits: Sequence[Split]) -> list[Finding]:
    """Returns why splits could not be had; what is the same for several is told once."""
    found: list[Finding] = []
    for split in (split for split in splits if split.error is not None):
        text = str(split.error)
        if not isinstance(split.error, ValueError | OSError | TypeError):
            text = f"{type(split.error).__name__}: {text}"
        head, _, rest = text.partition("\n")
        alike = next((one for one in found if one.what.partition("\n")[2] == rest), None)
        if alike is not None and alike.what == text:
            alike.split = f"{alike.split}, {split.name}"
        elif alike is not None and rest:
            head = head.removesuffix(" Expected:")
            found.append(Finding("error", "split", split.name, f"{head} What was expected stands above."))
        else:
            found.append(Finding("error", "split", split.name, text))
    return found


def _of_split(split: Split) -> Iterator[Finding]:
    for group in split.unpaired.unpaired if split.unpaired else ():
        yield Finding("error", "unpaired", split.name, str(group), list(group.files))
    if split.dataset is not None and len(split.dataset) == 0:
        yield Finding(
            "error", "empty", split.name, "there are no pairs.", cause="Look at the data set's root and split."
        )


def _problems(split: Split) -> Iterator[Finding]:
    """Yields what is wrong with files, those of one reason together."""
    groups: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for pair in split.pairs:
        for kind, file, text in pair.problems:
            if kind != "labels":
                reason = re.sub(r"\d+", "#", text.replace(pair.file, "").replace(pair.image, ""))
                groups.setdefault((kind, reason), []).append((file, text))
    for (category, _), members in groups.items():
        files = [file for file, _ in members]
        what = members[0][1]
        if len(files) > 1:
            what = f"{len(files)} of {len(split.pairs)} pairs: {_TITLES[category]}. The first: {what}"
        cause = _colours(split) if category == "form" else Cause("")
        yield Finding("error", category, split.name, what, files, cause=cause.what, line=cause.line)


def _colours(split: Split) -> Cause:
    """Returns what colours in the place of ids may mean."""
    assert split.dataset is not None
    found: Counter[Value] = Counter()
    for pair in split.pairs:
        if any(problem.kind == "form" for problem in pair.problems):
            found.update(pair.values)
    colours = {value: count for value, count in found.items() if isinstance(value, tuple)}
    if not colours:
        return Cause("")
    if len(colours) > _MANY_COLOURS:
        return Cause(
            f"{len(colours)} colours or more are those of photographs, or of label maps saved with loss; are the "
            "folders of images and label maps the right way round?"
        )
    palette = {tuple(colour): label for label, colour in enumerate(split.dataset.palette)}
    known = sum(count for colour, count in colours.items() if colour in palette)
    if known > 0.9 * sum(colours.values()):
        names = split.dataset.classes
        line = ", ".join(f"'{red},{green},{blue}': {names[i]}" for (red, green, blue), i in palette.items())
        others = "".join(f", {_word(colour)}: ignore" for colour in colours if colour not in palette)
        return Cause("The colours are those of the data set's palette:", f"label_map: {{{line}{others}}}")
    frequent = sorted(colours, key=lambda colour: -colours[colour])[:_SHOWN]
    listed = ", ".join(f"{_word(colour)}: CLASS" for colour in frequent)
    more = ", ..." if len(colours) > _SHOWN else ""
    return Cause(f"{len(colours)} colours occur; say what each means:", f"label_map: {{{listed}{more}}}")


def _of_one_table(splits: Sequence[Split]) -> list[list[Split]]:
    """Returns splits in groups whose label maps are read by one table."""
    groups: dict[str, list[Split]] = {}
    for split in splits:
        if split.dataset is not None and split.pairs:
            table = split.label_map
            key = "" if table is None or table.is_identity else str((table.ids, table.colours))
            groups.setdefault(f"{len(split.dataset.classes)} {key}", []).append(split)
    return list(groups.values())


def _wrong_labels(group: Sequence[Split]) -> Iterator[Finding]:
    pairs = [(split, pair) for split in group for pair in split.pairs if pair.has("labels")]
    if not pairs:
        return
    listed = _listed(group[0])
    wrong: Counter[Value] = Counter()
    for _, pair in pairs:
        wrong.update({value: count for value, count in pair.values.items() if value not in listed})
    total = sum(len(split.pairs) for split in group)
    names = ", ".join(dict.fromkeys(split.name for split, _ in pairs))
    kind = "colours" if all(isinstance(value, tuple) for value in wrong) else "labels"
    what = (
        f"{len(pairs)} of {total} label maps hold {kind} that no class has: {_with_pixels(wrong)}; expected "
        f"{_expected(group[0])}."
    )
    cause = _cause_of(group, wrong)
    if len(pairs) <= _FEW_FILES < total / 10:
        cause = cause._replace(what=f"The other {total - len(pairs)} files fit, so look at these first. {cause.what}")
    yield Finding("error", "labels", names, what, [pair.file for _, pair in pairs], dict(wrong), *cause)


def _listed(split: Split) -> set[Value]:
    assert split.dataset is not None
    if split.label_map is None:
        return {*range(len(split.dataset.classes)), IGNORE_INDEX}
    return {*split.label_map.ids, *(split.label_map.colours or ())}


def _expected(split: Split) -> str:
    assert split.dataset is not None
    table = split.label_map
    if table is None or table.is_identity:
        last = len(split.dataset.classes) - 1
        return f"0 to {last} for the {last + 1} classes and {IGNORE_INDEX} for ignored pixels"
    if not table.ids:
        return f"the {len(table.colours or ())} colours of label_map"
    return spans(sorted(table.ids))


def _cause_of(group: Sequence[Split], wrong: Mapping[Value, int]) -> Cause:
    """Returns why labels are wrong, by the values of all files."""
    dataset, table = group[0].dataset, group[0].label_map
    assert dataset is not None
    if not all(isinstance(value, int) for value in wrong):
        return _cause_of_colours(table, dataset.classes, wrong)
    listed = table.ids if table is not None and not table.is_identity else None
    return explain(Values(_ids(group), len(dataset.classes), dataset.classes, dataset.palette, listed))


def _cause_of_colours(table: LabelMap | None, names: Sequence[str], wrong: Mapping[Value, int]) -> Cause:
    frequent = sorted(wrong, key=lambda value: -wrong[value])[:_SHOWN]
    entries = [f"{_word(value)}: CLASS" for value in frequent]
    palette = table.colours if table is not None and table.ids else None
    known = [f"{_word(value)}: {names[i]}" for value, i in palette.items()] if palette else ["..."]
    line = f"label_map: {{{', '.join([*known, *entries])}}}"
    if len(wrong) > _SHOWN:
        why = "So many are traces of smoothing, of JPEG, or of another palette. If not, say"
        return Cause(f"{why} what each means (CLASS may be ignore):", line)
    return Cause("Say what they mean (CLASS may be ignore):", line)


def _word(value: Value) -> str:
    return str(value) if isinstance(value, int) else f"'{','.join(map(str, value))}'"


def _ids(group: Sequence[Split]) -> dict[int, int]:
    total = sum((split.values for split in group), Counter[Value]())
    return {value: count for value, count in total.items() if isinstance(value, int)}


def _silently_wrong(group: Sequence[Split]) -> Iterator[Finding]:
    """Yields values that are all allowed and yet can't be meant."""
    dataset, table = group[0].dataset, group[0].label_map
    assert dataset is not None
    ids = _ids(group)
    if table is not None and not table.is_identity:
        yield from _train_ids(group, table)
        return
    cause = silent_cause(Values(ids, len(dataset.classes), dataset.classes))
    if cause is None:
        return
    files = [pair.file for split in group for pair in split.pairs if IGNORE_INDEX in pair.values]
    what = f"{len(files)} label maps hold {IGNORE_INDEX}, and none holds a class but 0: {_with_pixels(ids)}."
    yield Finding("error", "labels", ", ".join(s.name for s in group), what, files, ids, *cause)


def _train_ids(group: Sequence[Split], table: LabelMap) -> Iterator[Finding]:
    pairs = [(split, pair) for split in group for pair in split.pairs if is_train_ids(_ids_of(pair), table.ids)]
    if pairs:
        total = sum(len(split.pairs) for split in group)
        names = ", ".join(dict.fromkeys(split.name for split, _ in pairs))
        what = f"{len(pairs)} of {total} label maps hold {IGNORE_INDEX} and nothing above 18."
        yield Finding("error", "labels", names, what, [pair.file for _, pair in pairs], cause=TRAIN_IDS.what)


def _ids_of(pair: PairFacts) -> list[int]:
    return [value for value in pair.values if isinstance(value, int)]


def _ignored(split: Split) -> Iterator[Finding]:
    """Yields label maps that teach nothing."""
    counted = [pair for pair in split.pairs if pair.counts is not None and not pair.problems]
    empty = [pair.file for pair in counted if not np.any(pair.counts)]
    if empty and len(empty) == len(counted):
        what = f"in all {len(empty)} label maps every pixel is ignored, so there is nothing to learn or to measure."
        yield Finding("error", "ignored", split.name, what, empty, dict(split.values), "Look at label_map.")
    elif empty:
        what = f"in {len(empty)} of {len(counted)} label maps every pixel is ignored."
        yield Finding("warning", "ignored", split.name, what, empty, cause="They teach nothing; leave them out.")
    mostly = [pair.file for pair in counted if np.any(pair.counts) and _ignored_share(pair) > _MOSTLY]
    if mostly:
        what = f"in {len(mostly)} of {len(counted)} label maps more than {_MOSTLY:.0%} of the pixels are ignored."
        yield Finding("note", "ignored", split.name, what, mostly)


def _ignored_share(pair: PairFacts) -> float:
    assert pair.counts is not None
    return pair.ignored / max(1, pair.ignored + int(pair.counts.sum()))


def _with_pixels(values: Mapping[Any, int]) -> str:
    frequent = sorted(values.items(), key=lambda item: -item[1])
    listed = ", ".join(f"{value} ({count:,} pixels)" for value, count in frequent[:_SHOWN])
    return listed + (f" and {len(frequent) - _SHOWN} more" if len(frequent) > _SHOWN else "")
