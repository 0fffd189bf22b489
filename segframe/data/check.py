"""What is wrong with, or worth knowing of, a data set as a whole."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from segframe.data.facts import PairFacts, Size, Split
from segframe.data.findings import Finding, pair_findings

_SEVERITIES = ("error", "warning", "note")
_SMALL, _LARGE = 32, 40_000_000  # pixels of a side, pixels of an image
_TWELVE_BITS = 4096
_SHOWN = 8


class Use(NamedTuple):
    """How a configuration uses images.

    Attributes:
        crop_size: Rows and columns of a training crop; None trains on whole images.
        batch_size: Images per optimizer step.
        val_batch_size: Images per evaluation batch.
    """

    crop_size: Size | None
    batch_size: int
    val_batch_size: int


def check(splits: Sequence[Split], use: Use) -> list[Finding]:
    """Returns everything that was found, errors first.

    Args:
        splits: After a scan that has decoded images.
        use: What they will be used for.
    """
    found = pair_findings(splits)
    read = [split for split in splits if split.dataset is not None and split.pairs]
    if not any(finding.kind in ("labels", "form") for finding in found):
        found += class_findings(read)
    found += _copies(read)
    for split in read:
        sizes = sizes_of(split)
        found += size_findings(split.name, sizes, use)
        found += _size_notes(split.name, sizes, use)
        found += _look_findings(split)
    return sorted(found, key=lambda finding: _SEVERITIES.index(finding.severity))


def sizes_of(split: Split) -> dict[Size, list[str]]:
    """Returns the images by their rows and columns."""
    sizes: dict[Size, list[str]] = {}
    for pair in split.pairs:
        if pair.image_size is not None:
            sizes.setdefault(pair.image_size, []).append(pair.image)
    return sizes


def size_findings(name: str, sizes: Mapping[Size, Sequence[str]], use: Use) -> Iterator[Finding]:
    """Yields errors for images that could not stand in one batch.

    Args:
        name: The split.
        sizes: Images by rows and columns.
        use: What they will be used for.
    """
    is_train = name == "train"
    batch = use.batch_size if is_train else use.val_batch_size
    if len(sizes) < 2 or batch == 1 or (is_train and use.crop_size):
        return
    listed = ", ".join(f"{rows}x{columns} ({images[0]})" for (rows, columns), images in list(sizes.items())[:2])
    key = "data.batch_size" if is_train else "data.val_batch_size"
    remedy = "augment.sample.crop_size=[ROWS,COLUMNS] or data.batch_size=1" if is_train else "data.val_batch_size=1"
    what = f"images of {len(sizes)} sizes, such as {listed}, cannot stand in one batch, and {key}={batch}."
    yield Finding("error", "batch", name, what, cause=f"Set {remedy}.")


def class_findings(splits: Sequence[Split]) -> Iterator[Finding]:
    """Yields classes that can't be learnt or have no score, by the splits' counts.

    Args:
        splits: After their scan; nothing is said without ``train``.
    """
    counts = {split.name: split.counts.sum(axis=0) for split in splits}
    by_name = {split.name: split for split in splits}
    if "train" not in counts:
        return
    dataset = by_name["train"].dataset
    assert dataset is not None
    train = counts["train"]
    val = counts.get("val", np.zeros_like(train))
    names = list(dataset.classes)
    if len(names) < 2 or np.count_nonzero(train) == 1:
        only = names[int(np.argmax(train))]
        what = f"{only} is the only class that occurs" if len(names) > 1 else f"{only} is the only class"
        cause = "Name the background too: two classes are the least that a net can tell apart."
        yield Finding("error", "classes", "train", f"{what}, so there is nothing to tell apart.", cause=cause)
        return
    groups = (
        ("error", (train == 0) & (val > 0), "never in train but in val, so they can't be learnt and score 0"),
        ("warning", (train == 0) & (val == 0), "in no label map"),
        ("note", (train > 0) & (val == 0) & ("val" in counts), "never in val, so they have no score there"),
    )
    for severity, marks, where in groups:
        if absent := [names[i] for i in np.flatnonzero(marks)]:
            more = f" and {len(absent) - _SHOWN} more" if len(absent) > _SHOWN else ""
            what = f"{len(absent)} of {len(names)} classes occur {where}: {', '.join(absent[:_SHOWN])}{more}."
            split = "train" if severity != "note" else "val"
            yield Finding(severity, "classes", split, what)  # type: ignore[arg-type]


def _copies(splits: Sequence[Split]) -> Iterator[Finding]:
    """Yields images that occur more than once, by their decoded content."""
    places: dict[bytes, list[tuple[str, PairFacts]]] = {}
    for split in splits:
        for pair in split.pairs:
            if pair.digest is not None:
                places.setdefault(pair.digest, []).append((split.name, pair))
    copies = [found for found in places.values() if len(found) > 1]
    across = [found for found in copies if len({name for name, _ in found}) > 1]
    if across:
        what = f"{_number(across)} in train and in val alike, by content; the score on val is too good for them."
        cause = "Take them out of one of the two."
        yield Finding("error", "copies", "train, val", what, [_pair_text(found) for found in across], cause=cause)
    for split in splits:
        within = [found for found in copies if len({name for name, _ in found}) == 1 and found[0][0] == split.name]
        if within:
            unlike = sum(len({pair.label_digest for _, pair in found}) > 1 for found in within)
            differ = f", {unlike} of them with different label maps" if unlike else ""
            what = f"{_number(within)} there more than once{differ}."
            yield Finding("warning", "copies", split.name, what, [_pair_text(found) for found in within])


def _number(images: Sequence[object], verb: str = "is", plural: str = "are") -> str:
    return f"1 image {verb}" if len(images) == 1 else f"{len(images)} images {plural}"


def _pair_text(found: Sequence[tuple[str, PairFacts]]) -> str:
    return " = ".join(pair.image for _, pair in found)


def _size_notes(name: str, sizes: Mapping[Size, Sequence[str]], use: Use) -> Iterator[Finding]:
    if small := [image for size, images in sizes.items() if min(size) < _SMALL for image in images]:
        what = f"{_number(small, 'has', 'have')} a side of less than {_SMALL} pixels."
        yield Finding("note", "size", name, what, small)
    if large := [image for size, images in sizes.items() if size[0] * size[1] > _LARGE for image in images]:
        what = f"{_number(large, 'has', 'have')} more than {_LARGE // 10**6} million pixels."
        cause = "Evaluate in windows: task.inference.mode=slide."
        yield Finding("note", "size", name, what, large, cause=cause)
    if len(sizes) > 1:
        (least, least_images), *_, (most, _) = sorted(sizes.items(), key=lambda item: item[0][0] * item[0][1])
        what = f"images have {len(sizes)} sizes, from {least[0]}x{least[1]} to {most[0]}x{most[1]}."
        yield Finding("note", "size", name, what, [least_images[0]])
    if name == "train" and use.crop_size is not None:
        rows, columns = use.crop_size
        padded = [image for (h, w), images in sizes.items() if h < rows or w < columns for image in images]
        total = sum(map(len, sizes.values()))
        if padded:
            what = (
                f"{len(padded)} of {total} images are smaller than the crop of {rows}x{columns} and are padded with "
                "ignored pixels."
            )
            cause = "A smaller augment.sample.crop_size trains on less padding." if len(padded) > total / 2 else ""
            yield Finding("note", "crop", name, what, padded, cause=cause)


def _look_findings(split: Split) -> Iterator[Finding]:
    """Yields images that look unlike the others, or unlike what they should."""
    dark = [pair.image for pair in split.pairs if pair.brightest is not None and pair.brightest < _TWELVE_BITS]
    if dark:
        what = (
            f"{_number(dark, 'has', 'have')} 16 bits and no value above {_TWELVE_BITS - 1}, which is read almost black."
        )
        cause = "These seem to be 12-bit values; multiply them by 16 when you convert them."
        yield Finding("warning", "dark", split.name, what, dark, cause=cause)
    seen = [pair for pair in split.pairs if pair.digest is not None]
    grey = [pair.image for pair in seen if pair.is_grey]
    if grey and len(grey) < len(seen):
        what = f"{len(grey)} of {len(seen)} images are grey, the others in colour."
        yield Finding("note", "grey", split.name, what, grey)


def tally(findings: Sequence[Finding]) -> str:
    """Returns the last line: how many errors and warnings there are.

    >>> tally([])
    'all fits'
    """
    number = Counter(finding.severity for finding in findings)
    if not number["error"] and not number["warning"]:
        return "all fits"
    return ", ".join(f"{number[kind]} {kind}{'s' * (number[kind] != 1)}" for kind in ("error", "warning"))
