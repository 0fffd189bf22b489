"""What ``segframe compare`` prints and writes."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from segframe.figures.score_differences import Span
from segframe.runfolder import write_json
from segframe.runs.comparison import Comparison, Difference
from segframe.runs.groups import Group
from segframe.runs.interval import Interval
from segframe.runs.verdict import name_of, signed, verdict

_MOST_CLASSES = 40
_SHOWN_SEEDS = 8
_LONGEST = 28
_SCORE_WIDTH, _GROUP_WIDTH = 8, 18  # of a score; of a score and a difference


def show(
    console: Console,
    groups: Sequence[Group],
    apart: dict[str, list[str]],
    classes: Sequence[str],
    found: Comparison,
    remarks: Sequence[str],
) -> None:
    """Prints who was compared, what differs, the scores, the classes, the verdicts and how to read them.

    Args:
        console: Where.
        groups: What was compared.
        apart: What they differ in, of ``groups.differences``.
        classes: The names of the classes.
        found: The comparison.
        remarks: Of ``verdict.remarks``.
    """
    _show_who(console, groups)
    _show_apart(console, groups, apart)
    console.print(_score_table(groups, found))
    _show_classes(console, groups, classes, found)
    for number, group in enumerate(groups[1:]):
        sign = found.differences[number].metric.sign
        text = verdict(group, groups[0], found, number)
        console.print(Text(text, style="bold" if sign and " is " in text else ""), soft_wrap=True)
    for remark in remarks:
        console.print(Text(f"- {remark}"))


def write(
    out: Path,
    groups: Sequence[Group],
    apart: dict[str, list[str]],
    classes: Sequence[str],
    found: Comparison,
    remarks: Sequence[str],
) -> list[Path]:
    """Writes comparison.json and classes.csv; returns their paths.

    Args:
        out: A folder that is there.
        groups: As for ``show``.
        apart: As for ``show``.
        classes: As for ``show``.
        found: As for ``show``.
        remarks: As for ``show``.
    """
    content = {
        "metric": found.metric,
        "confidence": found.confidence,
        "images": found.num_images,
        "resamples": found.resamples,
        "groups": [_group(group, scores) for group, scores in zip(groups, found.scores, strict=True)],
        "differs": apart,
        "against": groups[0].letter,
        "differences": [
            {
                "group": group.letter,
                **_plain(d.metric),
                "paired_seeds": d.paired,
                "verdict": verdict(group, groups[0], found, number),
            }
            for number, (group, d) in enumerate(zip(groups[1:], found.differences, strict=True))
        ],
        "remarks": list(remarks),
    }
    write_json(out / "comparison.json", content)
    with (out / "classes.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(_class_rows(groups, classes, found))
    return [out / "comparison.json", out / "classes.csv"]


def spans(classes: Sequence[str], found: Comparison) -> list[tuple[str, list[Span]]]:
    """Returns what ``figures.score_differences`` draws: the metric and every class, against the first group.

    Args:
        classes: The names of the classes.
        found: The comparison.
    """
    rows = [
        (name_of(found.metric), [Span(d.metric.difference, d.metric.low, d.metric.high) for d in found.differences])
    ]
    for k, name in enumerate(classes):
        cells = []
        for g, d in enumerate(found.differences, start=1):
            interval = d.classes[k] or Interval(found.class_iou[g, k] - found.class_iou[0, k], -math.inf, math.inf)
            cells.append(Span(interval.difference, interval.low, interval.high))
        rows.append((name, cells))
    return rows


def _show_who(console: Console, groups: Sequence[Group]) -> None:
    for group in groups:
        first = group.records[0]
        what = f"{first.options.get('model', '?')} on {first.options.get('dataset', '?')}"
        if group.is_single:
            told = f"{first.folder} ({what}, seed {group.seeds[0]})"
        else:
            seeds = ", ".join(map(str, group.seeds[:_SHOWN_SEEDS])) + (
                ", ..." if len(group.seeds) > _SHOWN_SEEDS else ""
            )
            told = f"{group.text} ({what}, {len(group.records)} runs, seeds {seeds})"
        console.print(Text.assemble((group.letter, "bold"), f"  {told}"), soft_wrap=True)


def _show_apart(console: Console, groups: Sequence[Group], apart: dict[str, list[str]]) -> None:
    if not apart:
        console.print("their configurations are the same but for seeds and places")
        return
    table = Table(title="what differs", title_justify="left", box=None, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("key", overflow="fold")
    for group in groups:
        table.add_column(group.letter, overflow="fold", max_width=_LONGEST)
    for key, values in apart.items():
        table.add_row(*map(Text, (key, *values)))
    console.print(table)


def _score_table(groups: Sequence[Group], found: Comparison) -> Table:
    title = f"{name_of(found.metric)}; +- is the standard deviation over seeds"
    table = Table(title=title, title_justify="left", box=None, header_style="bold", padding=(0, 2, 0, 0))
    heads = ("", "runs", "mean", "+-", f"minus {groups[0].letter}", "interval")
    for head in heads:
        table.add_column(head, justify="left" if not head else "right")
    for number, (group, scores) in enumerate(zip(groups, found.scores, strict=True)):
        spread = "-" if group.is_single else f"{stdev(scores.tolist()):.4f}"
        cells = ["", ""] if number == 0 else _cells(found.differences[number - 1].metric)
        table.add_row(group.letter, str(len(scores)), f"{scores.mean():.4f}", spread, *cells)
    return table


def _show_classes(console: Console, groups: Sequence[Group], classes: Sequence[str], found: Comparison) -> None:
    """Prints the IoU per class; of many classes those that differ most."""
    shown = list(range(len(classes)))
    if len(shown) > _MOST_CLASSES:
        shown = sorted(sorted(shown, key=lambda k: -_size(found.differences, k))[:_MOST_CLASSES])
    is_pair = len(groups) == 2
    left = min(_LONGEST, max(len(classes[k]) for k in shown)) + 2 + _SCORE_WIDTH
    at_once = max(1, (console.width - left) // _GROUP_WIDTH)
    for start in range(1, len(groups), at_once):
        console.print(_class_table(groups, classes, found, shown, range(len(groups))[start : start + at_once]))
    if len(shown) < len(classes):
        console.print(f"the {len(shown)} of {len(classes)} classes that differ most; classes.csv has all (out=FOLDER)")
    if not is_pair:
        console.print("* its interval leaves 0 out; classes.csv has the intervals (out=FOLDER)", highlight=False)


def _class_table(
    groups: Sequence[Group], classes: Sequence[str], found: Comparison, shown: Sequence[int], others: Sequence[int]
) -> Table:
    """Returns the IoU of the first group and of some others, and how these differ from it."""
    is_pair, letters = len(groups) == 2, [groups[g].letter for g in others]
    table = Table(title="IoU per class", title_justify="left", box=None, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("class", max_width=_LONGEST, overflow="fold")
    for head in ("A", *letters, *(("B minus A", "interval") if is_pair else (f"{letter}-A" for letter in letters))):
        table.add_column(head, justify="right", no_wrap=True)
    for k in shown:
        scores = [_score(found.class_iou[g, k]) for g in (0, *others)]
        rest = _class_cells(found, k) if is_pair else [_against(found, g, k) for g in others]
        table.add_row(Text(classes[k]), *scores, *rest)
    return table


def _class_cells(found: Comparison, k: int) -> list[str]:
    interval = found.differences[0].classes[k]
    if interval is not None:
        return _cells(interval)
    difference = found.class_iou[1, k] - found.class_iou[0, k]
    return [_signed(difference), "-"]


def _against(found: Comparison, group: int, k: int) -> str:
    interval = found.differences[group - 1].classes[k]
    mark = "*" if interval is not None and interval.sign else " "
    return _signed(found.class_iou[group, k] - found.class_iou[0, k]) + mark


def _size(differences: Sequence[Difference], k: int) -> float:
    known = [abs(d.classes[k].difference) for d in differences if d.classes[k] is not None]  # type: ignore[union-attr]
    return max(known, default=-1.0)


def _cells(interval: Interval) -> list[str]:
    return [_signed(interval.difference), f"{_signed(interval.low)} to {_signed(interval.high)}"]


def _signed(value: float) -> str:
    return "-" if math.isnan(value) else signed(value)


def _score(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.4f}"


def _group(group: Group, scores: Any) -> dict[str, Any]:
    values = [float(score) for score in scores]
    return {
        "letter": group.letter,
        "named": group.text,
        "runs": [str(record.folder) for record in group.records],
        "seeds": group.seeds,
        "scores": values,
        "mean": mean(values),
        "standard_deviation": stdev(values) if len(values) > 1 else None,
    }


def _plain(interval: Interval) -> dict[str, float | None]:
    ends = {"difference": interval.difference, "low": interval.low, "high": interval.high}
    return {key: value if math.isfinite(value) else None for key, value in ends.items()}


def _class_rows(groups: Sequence[Group], classes: Sequence[str], found: Comparison) -> list[list[Any]]:
    heads: list[Any] = ["class", *(f"iou {group.letter}" for group in groups)]
    for group in groups[1:]:
        heads += [f"{group.letter} minus {groups[0].letter}", f"low {group.letter}", f"high {group.letter}"]
    rows = [heads]
    for k, name in enumerate(classes):
        row: list[Any] = [name, *(_bare(found.class_iou[g, k]) for g in range(len(groups)))]
        for g, d in enumerate(found.differences, start=1):
            interval = d.classes[k]
            row.append(_bare(found.class_iou[g, k] - found.class_iou[0, k]))
            row += ["", ""] if interval is None else [interval.low, interval.high]
        rows.append(row)
    return rows


def _bare(value: float) -> Any:
    return "" if np.isnan(value) else float(value)
