import pytest

from segframe.losses.balance import median_frequency_weights, weight_tensor
from segframe.losses.cross_entropy import CrossEntropy
from segframe.losses.focal import Focal


def test_median_frequency_by_hand():
    # Frequencies 6/7, 1/3 and none: the median of two is their mean.
    middle = (6 / 7 + 1 / 3) / 2
    weights = median_frequency_weights([6, 1, 0], [7, 3, 0])
    assert weights == pytest.approx([middle * 7 / 6, middle * 3, 1.0])


def test_counts_of_no_pixel_are_refused():
    with pytest.raises(ValueError, match="hold none"):
        median_frequency_weights([0, 0], [0, 0])
    with pytest.raises(ValueError, match="2 classes and image_pixel_counts 3"):
        median_frequency_weights([1, 1], [2, 2, 2])


@pytest.mark.parametrize("loss", [CrossEntropy, Focal])
def test_weights_that_cannot_be_used_are_refused(loss):
    with pytest.raises(ValueError, match="median_frequency_weights"):
        loss(255, 2, class_weights="median_frequency")
    with pytest.raises(ValueError, match="3 numbers for num_classes=2"):
        loss(255, 2, class_weights=[1.0, 1.0, 1.0])


def test_weights_are_checked_for_sign():
    assert weight_tensor(None, 2) is None
    with pytest.raises(ValueError, match="one of them above 0"):
        weight_tensor([0.0, 0.0], 2)
    with pytest.raises(ValueError, match="must be >= 0"):
        weight_tensor([-1.0, 1.0], 2)
