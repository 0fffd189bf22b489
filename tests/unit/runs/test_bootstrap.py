import numpy as np
import pytest

from segframe.runs import bootstrap
from segframe.runs.bootstrap import Run
from segframe.runs.scores import METRICS, class_iou

N, K, R = 30, 4, 50


@pytest.fixture
def counted():
    draw = np.random.default_rng(0)
    true = draw.integers(0, 100, (N, K)) * (draw.random((N, K)) < [1, 1, 0.5, 0.05])
    runs = [Run(np.floor(true * draw.random((N, K))), draw.integers(0, 100, (N, K)) * (true > 0)) for _ in range(3)]
    return true.astype(float), [[runs[0]], [runs[1], runs[2]]]


@pytest.mark.parametrize("metric", METRICS)
def test_counts_are_summed_over_the_drawn_images_before_ratios_are_taken(counted, metric, monkeypatch):
    true, groups = counted
    monkeypatch.setattr(bootstrap, "_CHUNK", R * N)  # all at once, so that the same images are drawn here
    found = bootstrap.resampled(true, groups, metric, "drop", R, 3)
    drawn = np.random.default_rng(3).integers(0, N, (R, N))
    for r in range(R):
        for g, group in enumerate(groups):
            sums = [[x[drawn[r]].sum(0) for x in (run.right, true, run.predicted)] for run in group]
            assert found.metric[r, g] == pytest.approx(np.mean([METRICS[metric](*s, "drop") for s in sums]), rel=1e-12)
            expected = np.array([class_iou(*s, "drop") for s in sums])
            absent = np.isnan(expected).all(0)
            np.testing.assert_allclose(found.iou[r, g][~absent], np.nanmean(expected[:, ~absent], axis=0), rtol=1e-12)
            assert np.isnan(found.iou[r, g][absent]).all()
    assert np.isnan(found.iou).any()  # a rare class is missing from some resamples


def test_all_images_give_what_was_measured(counted):
    true, groups = counted
    (first, first_iou), (others, _) = bootstrap.observed(true, groups, "miou", "drop")
    right, predicted = groups[0][0].right.sum(0), groups[0][0].predicted.sum(0)
    assert first.tolist() == [METRICS["miou"](right, true.sum(0), predicted, "drop")]
    assert len(others) == 2
    np.testing.assert_array_equal(first_iou[0], class_iou(right, true.sum(0), predicted, "drop"))
