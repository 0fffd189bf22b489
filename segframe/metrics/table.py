"""The per-class table, for the terminal and for files."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.table import Table
from torch import Tensor

from segframe.metrics.scores import Absent, per_class, summary

_RULES = {
    "drop": "absent classes are left out of the mean",
    "zero": "absent classes count as 0",
    "one": "absent classes count as 1",
}


def class_rows(matrix: Tensor, classes: Sequence[str], absent: Absent = "drop") -> list[dict[str, str | int | float]]:
    """Returns one row per class and a last one, ``mean``, ready for ``csv.DictWriter``.

    Args:
        matrix: (K, K) pixel counts; rows are the truth.
        classes: The K names.
        absent: What a class counts as that does not occur; ``drop`` shows as NaN.

    Returns:
        Rows with the keys ``class``, ``pixels`` (of the truth), ``iou``, ``accuracy`` and ``dice``.

    Raises:
        ValueError: If the number of names is not K.
    """
    if len(classes) != matrix.shape[-1]:
        raise ValueError(
            f"{len(classes)} class names for a confusion matrix of {matrix.shape[-1]} classes; "
            "give one name per class, in the order of the ids."
        )
    pixels = matrix.sum(-1).tolist()
    scores = {key: values.tolist() for key, values in per_class(matrix, absent).items()}
    rows: list[dict[str, str | int | float]] = [
        {"class": name, "pixels": pixels[i], **{key: values[i] for key, values in scores.items()}}
        for i, name in enumerate(classes)
    ]
    means = summary(matrix, absent)
    rows.append(
        {
            "class": "mean",
            "pixels": sum(pixels),
            "iou": means["miou"],
            "accuracy": means["mean_accuracy"],
            "dice": means["dice"],
        }
    )
    return rows


def class_table(matrix: Tensor, classes: Sequence[str], absent: Absent = "drop", title: str = "classes") -> Table:
    """Returns ``class_rows`` as a table to print; the title states the rule for absent classes."""
    table = Table(title=f"{title} ({_RULES[absent]})")
    for column in ("class", "pixels", "IoU", "accuracy", "Dice"):
        table.add_column(column, justify="left" if column == "class" else "right")
    *of_classes, of_mean = class_rows(matrix, classes, absent)
    for row in of_classes:
        table.add_row(*map(_cell, row.values()))
    table.add_section()
    table.add_row(*map(_cell, of_mean.values()), style="bold")
    return table


def _cell(value: str | int | float) -> str:
    if isinstance(value, float):
        return "-" if math.isnan(value) else f"{value:.4f}"
    return f"{value:,}" if isinstance(value, int) else value
