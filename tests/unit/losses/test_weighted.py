import pytest
import torch

from segframe.losses.cross_entropy import CrossEntropy
from segframe.losses.dice import Dice
from segframe.losses.lovasz import LovaszSoftmax
from segframe.losses.weighted import WeightedSum


def test_value_is_the_weighted_sum():
    torch.manual_seed(0)
    logits, target = torch.randn(2, 3, 4, 5), torch.randint(0, 3, (2, 4, 5))
    ce, dice = CrossEntropy(255, 3), Dice(255)
    total = WeightedSum({"a": ce, "b": dice}, {"b": 0.25, "a": 2.0})
    expected = 2 * ce(logits, target).value + 0.25 * dice(logits, target).value
    torch.testing.assert_close(total(logits, target).value, expected)


def test_target_statistics_need_every_term_to_know():
    target = torch.randint(0, 3, (2, 4, 5))
    known = WeightedSum({"a": CrossEntropy(255, 3), "b": LovaszSoftmax(255)}, {"a": 1.0, "b": 1.0})
    assert known.target_statistics(target).tolist() == [0, 40, 0, 2]
    unknown = WeightedSum({"a": CrossEntropy(255, 3), "b": Dice(255)}, {"a": 1.0, "b": 1.0})
    assert unknown.target_statistics(target) is None


@pytest.mark.parametrize(("losses", "weights"), [({}, {}), ({"a": Dice(255)}, {"b": 1.0})])
def test_names_must_match(losses, weights):
    with pytest.raises(ValueError, match="under its own name"):
        WeightedSum(losses, weights)


def test_a_term_without_target_is_named():
    with pytest.raises(TypeError, match=r"losses\.a is a dict"):
        WeightedSum({"a": {"smooth": 1.0}}, {"a": 1.0})
