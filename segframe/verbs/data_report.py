"""What ``segframe data check`` prints and writes."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from segframe.contracts import IGNORE_INDEX
from segframe.data.check import sizes_of, tally
from segframe.data.facts import Split
from segframe.data.findings import Finding
from segframe.data.statistics import ClassStatistics
from segframe.figures.class_histogram import ClassShare, class_histogram
from segframe.losses.balance import median_frequency_weights

_SHOWN_FILES = 5
_STYLES = {"error": "bold red", "warning": "bold yellow", "note": "bold cyan"}


def show(splits: Sequence[Split], findings: Sequence[Finding], has_label_map: bool) -> None:
    """Prints tables of what was seen, and the findings.

    Args:
        splits: After their scan.
        findings: Errors first.
        has_label_map: Whether the data set takes a ``label_map``.
    """
    console = Console(highlight=False)
    console.print(_split_table(splits))
    for table in _label_tables(splits):
        console.print(table)
    shares = class_shares(splits)
    if shares:
        console.print(_class_table(shares))
    for finding in findings:
        _show(console, finding, has_label_map)


def write(out: Path, name: str, splits: Sequence[Split], findings: Sequence[Finding]) -> str:
    """Writes report.json and histogram.png; returns a sentence on where.

    Args:
        out: The folder; made if it is missing.
        name: The data set's.
        splits: After their scan.
        findings: Errors first.
    """
    shares = class_shares(splits)
    report = {
        "dataset": name,
        "result": tally(findings),
        "findings": [_plain(finding) for finding in findings],
        "splits": {split.name: _facts(split) for split in splits},
        "classes": [share._asdict() for share in shares],
        "label_map": [{"source": s, "class": c, "pixels": n} for s, c, n in _label_rows(splits)],
    }
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / "report.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
        if not shares:
            return f"report: {out / 'report.json'}"
        class_histogram(shares, out / "histogram.png")
    except OSError as error:
        return f"note: the report was not written: {out}: {error.strerror}; give another out=DIR"
    return f"report: {out / 'report.json'}  picture: {out / 'histogram.png'}"


def class_shares(splits: Sequence[Split]) -> list[ClassShare]:
    """Returns how often each class occurs; nothing where the training set could not be read."""
    by_name = {split.name: split for split in splits if split.dataset is not None}
    if "train" not in by_name:
        return []
    dataset, counts = by_name["train"].dataset, by_name["train"].counts
    assert dataset is not None
    val = by_name["val"].counts if "val" in by_name else np.zeros_like(counts)
    if not counts.any() or val.shape[1] != counts.shape[1]:
        return []
    train_shares, val_shares = (part.sum(axis=0) / max(1, part.sum()) for part in (counts, val))
    weights = median_frequency_weights(*ClassStatistics.of(counts))
    images = (counts > 0).mean(axis=0)
    rows = zip(dataset.classes, dataset.palette, train_shares, val_shares, images, weights, strict=True)
    return [
        ClassShare(name, color, float(train), float(of_val), float(held), float(weight))
        for name, color, train, of_val, held, weight in rows
    ]


def _split_table(splits: Sequence[Split]) -> Table:
    table = Table(title="splits")
    for column in ("split", "pairs", "image size", "ignored pixels", "classes that occur"):
        table.add_column(column, justify="left" if column == "split" else "right")
    for split in splits:
        facts = _facts(split)
        present = f"{facts['classes_present']} of {facts['classes']}" if split.dataset is not None else "-"
        ignored = "-" if facts["ignored_share"] is None else f"{facts['ignored_share']:.1%}"
        table.add_row(split.name, f"{facts['pairs']:,}", _span(facts["sizes"]), ignored, present)
    return table


def _facts(split: Split) -> dict[str, Any]:
    sizes = {size: len(images) for size, images in sizes_of(split).items()}
    counts = split.counts
    ignored = sum(pair.ignored for pair in split.pairs)
    total = int(counts.sum()) + ignored
    return {
        "pairs": len(split.pairs),
        "sizes": [[*size, number] for size, number in sorted(sizes.items())],
        "ignored_share": ignored / total if total else None,
        "classes": counts.shape[1],
        "classes_present": int(np.count_nonzero(counts.sum(axis=0))),
        "pixels": counts.sum(axis=0).tolist(),
        "values": {str(value): count for value, count in sorted(split.values.items(), key=str)},
    }


def _span(sizes: Sequence[Sequence[int]]) -> str:
    if not sizes:
        return "-"
    ordered = sorted(sizes, key=lambda size: size[0] * size[1])
    ends = dict.fromkeys(f"{rows}x{columns}" for rows, columns, _ in (ordered[0], ordered[-1]))
    return " to ".join(ends)


def _label_tables(splits: Sequence[Split]) -> Iterable[Table]:
    """Yields how source ids are read, where they are not class ids themselves."""
    if rows := _label_rows(splits):
        table = Table(title="label map")
        for column in ("in files", "class", "pixels"):
            table.add_column(column, justify="left" if column == "class" else "right")
        for source, target, pixels in rows:
            table.add_row(source, target, f"{pixels:,}", style="dim" if pixels == 0 else "")
        yield table


def _label_rows(splits: Sequence[Split]) -> list[tuple[str, str, int]]:
    """Returns (source, class, pixels) over all splits, in the order of the sources."""
    values = sum((split.values for split in splits), Counter[Any]())
    rows: dict[str, tuple[str, str, int]] = {}
    for split in splits:
        table = split.label_map
        if table is None or (table.is_identity and not table.colours) or split.dataset is None:
            continue
        targets: dict[Any, int] = {**table.ids}
        for source, target in (targets | {**(table.colours or {})}).items():
            name = "ignored" if target == IGNORE_INDEX else split.dataset.classes[target]
            rows.setdefault(str(source), (str(source), name, values[source]))
    return list(rows.values())


def _class_table(shares: Sequence[ClassShare]) -> Table:
    table = Table(title="classes (weight: median frequency)")
    for column in ("class", "train", "val", "of train images", "weight"):
        table.add_column(column, justify="left" if column == "class" else "right")
    for share in shares:
        cells = [f"{part:.3%}" if part else "never" for part in (share.train, share.val)]
        weight = f"{share.weight:.3f}" if share.train else "-"
        table.add_row(share.name, *cells, f"{share.images:.1%}", weight)
    return table


def _show(console: Console, finding: Finding, has_label_map: bool) -> None:
    """Prints a finding in lines that a terminal does not cut, to be copied."""
    head = Text.assemble("\n", (finding.severity, _STYLES[finding.severity]), f" in {finding.split}: {finding.what}")
    lines = [finding.cause, finding.line]
    if finding.line and not has_label_map:
        lines.append("(label_map is a key of dataset=folder, which reads any folders; other sets map in their class.)")
    limit = _SHOWN_FILES if finding.severity != "note" else 1
    if "'" in finding.line:
        lines.append("(In YAML; a command line takes a colour without quotes, its commas written \\,)")
    if any(file not in finding.what for file in finding.files[:limit]):
        lines += [f"- {file}" for file in finding.files[:limit]]
        if len(finding.files) > limit:
            lines.append(f"- and {len(finding.files) - limit} more, all in report.json")
    console.print(head, soft_wrap=True)
    for line in filter(None, lines):
        console.print(Text(f"  {line}"), soft_wrap=True)


def _plain(finding: Finding) -> dict[str, Any]:
    values = {str(value): count for value, count in finding.values.items()}
    return {**asdict(finding), "values": values, "num_files": len(finding.files)}
