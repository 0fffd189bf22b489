"""The check before training: some pairs at once, then every pair, once until a file changes."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, Literal, NamedTuple

import numpy as np

from segframe.contracts import FileBacked, SegmentationDataset
from segframe.data import statistics
from segframe.data.check import Use, class_findings, size_findings, sizes_of
from segframe.data.facts import Size, Split
from segframe.data.findings import Finding, pair_findings
from segframe.data.fingerprint import cache_root, fingerprint
from segframe.data.layout import some
from segframe.data.pool import usable_cores
from segframe.data.scan import scan
from segframe.runfolder import write_json

Mode = Literal["full", "sample", "none"]

_VERSION = 2  # of what a check looks at; another number checks again what is remembered
_SAMPLE = 8  # pairs per split that are looked at first
_SHOWN = 5  # errors that are told; `data check` tells all
_DELAY_S = 0.5  # a check that takes less shows no progress bar
_LIMIT_S = 20.0  # for data sets without files, which can't be remembered


class Checked(NamedTuple):
    """A split to check.

    Attributes:
        name: ``train`` or ``val``.
        dataset: The pairs.
        identity: The data set's node of the configuration, as plain values.
        num_pairs: How many of its first pairs are used; fewer than all are not remembered.
    """

    name: str
    dataset: SegmentationDataset
    identity: Mapping[str, Any]
    num_pairs: int


def verify(splits: Sequence[Checked], mode: Mode, use: Use, num_workers: int, advice: str) -> None:
    """Looks at the data before time is spent on training.

    Of files, label maps are decoded and images looked at by header and end. What was checked is
    remembered under ``cache_root()`` until a file or the configuration changes. A data set without files
    can't be remembered; as many of its pairs are looked at as 20 seconds allow.

    Args:
        splits: The data sets.
        mode: ``full``; ``sample`` for some pairs alone; ``none``.
        use: What images are used for.
        num_workers: 0 works in this process; otherwise all cores are used.
        advice: The last sentence of an error.

    Raises:
        ValueError: If something would fail, or be learnt wrongly; tells causes and remedies.
    """
    if mode == "none":
        return
    sizes = {split.name: _remembered(split) if mode == "full" else None for split in splits}
    new = [split for split in splits if sizes[split.name] is None]
    first = [_scanned(split, _spread(split.num_pairs), images=True) for split in new]
    seen = f", seen in {sum(len(split.pairs) for split in first)} pairs that were looked at first"
    _refuse(pair_findings(first), seen, advice)
    if mode == "sample":
        return
    workers = usable_cores() if num_workers else 0
    scanned = [_scanned(split, range(split.num_pairs), images=False, num_workers=workers) for split in new]
    found = pair_findings(scanned)
    sizes |= {split.name: sizes_of(split) for split in scanned}
    sizes.setdefault("val", sizes["train"])  # data.overfit evaluates on what it trains on
    found += [finding for name, of_split in sizes.items() for finding in size_findings(name, of_split or {}, use)]
    _refuse(found, "", advice)
    found += _shared(splits)
    # A class that can't be learnt spoils a score but not a run: data.overfit and fine-tuning may mean it.
    found += [finding for finding in class_findings(scanned) if finding.severity == "error"]
    for finding in found:
        if finding.severity != "note":
            print(f"warning: {brief(finding)}", file=sys.stderr)
    _tell(new, scanned)


def _shared(splits: Sequence[Checked]) -> Iterator[Finding]:
    """Yields the images that splits share by their paths; `data check` compares contents too."""
    sets = [split.dataset for split in splits if isinstance(split.dataset, FileBacked)]
    if len(sets) < 2:
        return
    real = cache(os.path.realpath)  # per folder: links to single files are left to the comparison of contents
    images = [[files.files(i)[0] for i in range(len(files))] for files in sets]
    paths = [{f"{real(path.parent)}/{path.name}" for path in of_split} for of_split in images]
    if shared := sorted(paths[0] & paths[1]):
        what = f"{len(shared)} images are in both, so the score on val is too good for them."
        yield Finding("warning", "copies", "train, val", what, shared)


def brief(finding: Finding) -> str:
    """Returns a finding as one paragraph."""
    parts = [f"{finding.split}: {finding.what}", finding.cause, finding.line]
    if finding.files and (len(finding.files) > 1 or finding.files[0] not in finding.what):
        parts.append(f"Files: {some(finding.files, 3)}.")
    return " ".join(part for part in parts if part)


def remember(split: Checked, pairs: Split) -> str:
    """Keeps that a whole split was found right; returns why that failed, or nothing.

    Args:
        split: The split.
        pairs: What its scan saw.
    """
    if not isinstance(split.dataset, FileBacked) or len(pairs.pairs) < len(split.dataset):
        return ""
    path = cache_root() / "checked" / f"{fingerprint(split.dataset, split.identity)}.json"
    sizes = [[*size, len(images), images[0]] for size, images in sizes_of(pairs).items()]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, {"version": _VERSION, "pairs": len(pairs.pairs), "sizes": sizes})
    except OSError as error:
        return f"{path.parent} cannot be written to ({error.strerror}), so the next start checks again."
    statistics.remember(split.dataset, split.identity, pairs.counts)
    return ""


def _remembered(split: Checked) -> dict[Size, list[str]] | None:
    """Returns the sizes of a split that was found right; an example stands for the images of each."""
    if not isinstance(split.dataset, FileBacked) or split.num_pairs < len(split.dataset):
        return None
    path = cache_root() / "checked" / f"{fingerprint(split.dataset, split.identity)}.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["version"] != _VERSION or content["pairs"] != len(split.dataset):
            return None
        return {(int(rows), int(columns)): [str(example)] for rows, columns, _, example in content["sizes"]}
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _spread(count: int) -> list[int]:
    """Returns some indices from the first to the last."""
    return sorted({round(float(at)) for at in np.linspace(0, count - 1, min(count, _SAMPLE))})


def _scanned(split: Checked, indices: Sequence[int], images: bool, num_workers: int = 0) -> Split:
    result = Split(split.name, split.dataset)
    has_files = isinstance(split.dataset, FileBacked)
    limit_s = float("inf") if has_files else _LIMIT_S
    scan(result, indices, images, num_workers if has_files else 0, delay_s=_DELAY_S, limit_s=limit_s)
    return result


def _refuse(findings: Iterable[Finding], where: str, advice: str) -> None:
    errors = [brief(finding) for finding in findings if finding.severity == "error"]
    if errors:
        more = [f"and {len(errors) - _SHOWN} more"] if len(errors) > _SHOWN else []
        text = "\n".join(f"  {error}" for error in [*errors[:_SHOWN], *more])
        raise ValueError(f"the data cannot be trained on{where}:\n{text}\n{advice}")


def _tell(checked: Sequence[Checked], scanned: Sequence[Split]) -> None:
    """Says what was looked at, where it is worth a line."""
    notes = {note for split, pairs in zip(checked, scanned, strict=True) if (note := remember(split, pairs))}
    files = [pairs for split, pairs in zip(checked, scanned, strict=True) if isinstance(split.dataset, FileBacked)]
    if files:
        kept = "" if notes else "; remembered until a file changes"
        print(f"checked {sum(len(pairs.pairs) for pairs in files)} pairs: all fit{kept}", file=sys.stderr)
    for split, pairs in zip(checked, scanned, strict=True):
        if len(pairs.pairs) < split.num_pairs:
            print(
                f"checked {len(pairs.pairs)} of {split.num_pairs} pairs of {split.name} in {_LIMIT_S:.0f} s: they fit; "
                "check=sample looks at some only",
                file=sys.stderr,
            )
    for note in sorted(notes):
        print(f"note: {note}", file=sys.stderr)
