import pytest
import torch

from segframe.metrics.mistakes import Mistake, mistakes

CLASSES = ["ground", "disc", "bar"]


def test_pairs_are_counted_and_sorted():
    matrix = torch.tensor([[90, 6, 4], [0, 50, 10], [0, 0, 0]])
    assert mistakes(matrix, CLASSES) == [
        Mistake("disc", "bar", 10, 10 / 60, 0.5),
        Mistake("ground", "disc", 6, 0.06, 0.3),
        Mistake("ground", "bar", 4, 0.04, 0.2),
    ]
    assert mistakes(matrix, CLASSES, most=1) == mistakes(matrix, CLASSES)[:1]
    assert matrix[0, 0] == 90  # it is left as it was


@pytest.mark.parametrize("matrix", [torch.zeros(3, 3), torch.eye(3) * 7])
def test_nothing_wrong_is_no_pair(matrix):
    assert mistakes(matrix, CLASSES) == []


def test_every_class_needs_a_name():
    with pytest.raises(ValueError, match=r"shape \(2, 2\); 3 class names"):
        mistakes(torch.zeros(2, 2), CLASSES)
