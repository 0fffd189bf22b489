import math

import pytest
import torch

from segframe.metrics import scores

# Class 2 is absent; class 3 is predicted but not in the truth.
MATRIX = torch.tensor([[6, 2, 0, 0], [1, 3, 0, 4], [0, 0, 0, 0], [0, 0, 0, 0]])


def test_by_hand():
    assert scores.iou(MATRIX, "zero").tolist() == pytest.approx([6 / 9, 3 / 10, 0, 0])
    assert scores.dice(MATRIX, "zero").tolist() == pytest.approx([12 / 15, 6 / 13, 0, 0])
    assert scores.class_accuracy(MATRIX, "zero").tolist() == pytest.approx([6 / 8, 3 / 8, 0, 0])
    assert scores.pixel_accuracy(MATRIX).item() == pytest.approx(9 / 16)
    assert scores.frequency_weighted_iou(MATRIX).item() == pytest.approx(0.5 * 6 / 9 + 0.5 * 3 / 10)


@pytest.mark.parametrize(
    ("absent", "iou", "accuracy"),
    [
        ("drop", (6 / 9 + 0.3 + 0) / 3, (6 / 8 + 3 / 8) / 2),
        ("zero", (6 / 9 + 0.3 + 0) / 4, (6 / 8 + 3 / 8) / 4),
        ("one", (6 / 9 + 0.3 + 0 + 1) / 4, (6 / 8 + 3 / 8 + 2) / 4),
    ],
)
def test_absent_classes_count_as_named(absent, iou, accuracy):
    summary = scores.summary(MATRIX, absent)
    assert summary["miou"] == pytest.approx(iou)
    assert summary["mean_accuracy"] == pytest.approx(accuracy)
    assert list(summary) == ["miou", "pixel_accuracy", "mean_accuracy", "dice", "fwiou"]
    assert all(0 <= value <= 1 for value in summary.values())


def test_leading_dimensions_are_kept():
    matrices = torch.stack([MATRIX, MATRIX.T, 2 * MATRIX]).view(3, 1, 4, 4)
    per_image = scores.per_class(matrices)
    assert {values.shape for values in per_image.values()} == {(3, 1, 4)}
    torch.testing.assert_close(scores.mean_iou(matrices)[1, 0], scores.mean_iou(MATRIX.T))
    assert scores.mean_accuracy(matrices)[0, 0] != scores.mean_accuracy(matrices)[1, 0]


def test_only_an_empty_matrix_gives_nan():
    assert all(map(math.isnan, scores.summary(torch.zeros(3, 3, dtype=torch.int64)).values()))
    one = torch.zeros(3, 3, dtype=torch.int64)
    one[0, 1] = 1
    assert list(scores.summary(one).values()) == [0, 0, 0, 0, 0]


def test_counts_beyond_float32_are_kept_apart():
    matrix = torch.tensor([[2**40, 1], [0, 2**40]])
    assert scores.pixel_accuracy(matrix).item() < 1
