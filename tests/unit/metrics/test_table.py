import csv
import io

import pytest
import torch
from rich.console import Console

from segframe.metrics.table import class_rows, class_table

MATRIX = torch.tensor([[1500, 500, 0], [0, 1000, 0], [0, 0, 0]])
CLASSES = ["road", "sky", "bus"]


def test_rows_hold_classes_and_their_mean():
    rows = class_rows(MATRIX, CLASSES)
    assert [row["class"] for row in rows] == ["road", "sky", "bus", "mean"]
    assert [row["pixels"] for row in rows] == [2000, 1000, 0, 3000]
    assert rows[0]["iou"] == 0.75
    assert rows[-1]["iou"] == pytest.approx((0.75 + 2 / 3) / 2)


def test_rows_go_through_csv():
    text = io.StringIO()
    rows = class_rows(MATRIX, CLASSES, "zero")
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    back = list(csv.DictReader(io.StringIO(text.getvalue())))
    assert float(back[-1]["iou"]) == pytest.approx((0.75 + 2 / 3) / 3)


@pytest.mark.parametrize(
    ("absent", "rule", "of_bus"),
    [("drop", "left out", "-"), ("zero", "count as 0", "0.0000"), ("one", "count as 1", "1.0000")],
)
def test_table_states_the_rule(absent, rule, of_bus):
    console = Console(width=100, file=io.StringIO())
    console.print(class_table(MATRIX, CLASSES, absent, title="val"))
    text = console.file.getvalue()
    assert "val" in text
    assert rule in text
    assert "2,000" in text
    assert of_bus in next(line for line in text.splitlines() if "bus" in line)


def test_names_must_be_one_per_class():
    with pytest.raises(ValueError, match="2 class names for a confusion matrix of 3"):
        class_rows(MATRIX, ["a", "b"])
