import numpy as np
import pytest
import torch

from segframe.metrics.boundary import EDGES, boundary_distance, confusion_by_distance, range_names
from segframe.metrics.confusion import confusion_matrix

IGNORE = 255


def labelled(seed, side=6, height=24, width=31, num_classes=4):
    """Square patches of classes with some ignored ones."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, num_classes, (height // side + 1, width // side + 1))
    coarse[rng.random(coarse.shape) < 0.15] = IGNORE
    return np.kron(coarse, np.ones((side, side), int))[:height, :width].astype(np.uint8)


def by_brute_force(labels):
    """Looks at every pair of pixels, in float64."""
    rows, columns = np.indices(labels.shape).reshape(2, -1)
    ids = labels.ravel()
    squared = (rows[:, None] - rows) ** 2 + (columns[:, None] - columns) ** 2
    other = (ids[:, None] != ids) & (ids != IGNORE)
    distance = np.sqrt(np.where(other, squared, np.inf).min(1))
    distance[ids == IGNORE] = np.nan
    return distance.reshape(labels.shape)


@pytest.mark.parametrize("seed", range(6))
def test_distances_are_those_of_every_pair_of_pixels(seed):
    labels = labelled(seed)
    expected = by_brute_force(labels)
    assert len(np.unique(expected[np.isfinite(expected)])) > 5  # the input matters
    assert np.isnan(expected).any()
    np.testing.assert_allclose(boundary_distance(labels, IGNORE), expected, rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.uint8, np.int64])
def test_one_class_has_no_boundary_and_nothing_no_distance(dtype):
    labels = np.full((3, 4), 2, dtype)
    assert np.isposinf(boundary_distance(labels, IGNORE)).all()
    labels[0] = IGNORE
    assert np.isposinf(boundary_distance(labels, IGNORE)[1:]).all()
    labels[:] = IGNORE
    assert np.isnan(boundary_distance(labels, IGNORE)).all()


def test_an_ignored_strip_takes_no_part():
    labels = np.array([[0, 0, IGNORE, IGNORE, 1, 1]], np.uint8)
    assert boundary_distance(labels, IGNORE)[0, [0, 1, 4, 5]].tolist() == [4, 3, 3, 4]


@pytest.mark.parametrize("edges", [EDGES, (1.0,), (1.5, 3.0)])
def test_ranges_are_counted_as_a_loop_does_and_sum_to_the_matrix(edges):
    truth = labelled(1, side=20, height=38, width=60)
    prediction = labelled(2, height=38, width=60) % 4
    counts = confusion_by_distance(prediction, truth, 4, IGNORE, edges)
    expected = torch.zeros(len(edges) + 1, 4, 4, dtype=torch.int64)
    for true, guess, distance in zip(truth.flat, prediction.flat, by_brute_force(truth).flat, strict=True):
        if true != IGNORE:
            expected[sum(distance > edge for edge in edges), true, guess] += 1
    assert (expected.sum((1, 2)) > 0).all()
    assert torch.equal(counts, expected)
    whole = confusion_matrix(torch.from_numpy(prediction), torch.from_numpy(truth), 4, IGNORE)
    assert torch.equal(counts.sum(0), whole)
    assert len(range_names(edges)) == len(counts)


def test_an_image_of_one_class_is_far_from_every_boundary():
    truth = np.ones((4, 4), np.uint8)
    counts = confusion_by_distance(truth, truth, 2, IGNORE)
    assert counts[-1].sum() == 16 == counts.sum()


def test_what_is_no_map_or_no_order_is_refused():
    with pytest.raises(ValueError, match=r"shape \(1, 2, 2\); expected one map"):
        boundary_distance(np.zeros((1, 2, 2), np.uint8), IGNORE)
    with pytest.raises(ValueError, match=r"edges=\[2, 1\] must ascend"):
        confusion_by_distance(np.zeros((2, 2), np.uint8), np.zeros((2, 2), np.uint8), 1, IGNORE, [2, 1])
