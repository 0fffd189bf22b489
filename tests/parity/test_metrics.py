"""The scores against an independent float64 count over pixels, and against torchmetrics."""

import numpy as np
import pytest
import torch
from torchmetrics.classification import MulticlassAccuracy, MulticlassJaccardIndex

from segframe.metrics import scores
from segframe.metrics.confusion import ConfusionMatrix

IGNORE = 255
K = 7


@pytest.fixture(params=["all classes", "one absent", "one only predicted", "one only true"])
def case(request):
    rng = np.random.default_rng(0)
    target = rng.integers(0, K, (3, 20, 30))
    prediction = np.where(rng.random(target.shape) < 0.6, target, rng.integers(0, K, target.shape))
    if request.param in ("one absent", "one only predicted"):
        target[target == 4] = 5
    if request.param in ("one absent", "one only true"):
        prediction[prediction == 4] = 0
    target[rng.random(target.shape) < 0.2] = IGNORE
    return torch.from_numpy(prediction), torch.from_numpy(target)


def _matrix(prediction, target):
    metric = ConfusionMatrix(K, IGNORE)
    for p, t in zip(prediction, target, strict=True):  # image by image, as an evaluation does
        metric.update(p.unsqueeze(0), t.unsqueeze(0).byte())
    return metric.compute()


def _independent(prediction, target, absent):
    """Counts sets of pixels class by class; knows no confusion matrix."""
    valid = target.numpy() != IGNORE
    p, t = prediction.numpy()[valid], target.numpy()[valid]
    value = {"drop": np.nan, "zero": 0.0, "one": 1.0}[absent]
    iou, dice, accuracy, frequency = (np.full(K, value) for _ in range(4))
    for c in range(K):
        hits, either = np.sum((p == c) & (t == c), dtype=float), np.sum((p == c) | (t == c), dtype=float)
        if either:
            iou[c], dice[c] = hits / either, 2 * hits / (np.sum(p == c) + np.sum(t == c))
        if np.any(t == c):
            accuracy[c] = hits / np.sum(t == c)
        frequency[c] = np.mean(t == c)
    return {
        "miou": np.nanmean(iou),
        "pixel_accuracy": np.mean(p == t),
        "mean_accuracy": np.nanmean(accuracy),
        "dice": np.nanmean(dice),
        "fwiou": np.nansum(frequency * iou),
    }


@pytest.mark.parametrize("absent", ["drop", "zero", "one"])
def test_scores_are_those_of_an_independent_count(case, absent):
    ours = scores.summary(_matrix(*case), absent)
    expected = _independent(*case, absent)
    assert ours == pytest.approx(expected, rel=1e-12)
    assert 0.2 < ours["miou"] < 0.95


def test_iou_is_that_of_torchmetrics(case):
    prediction, target = case
    matrix = _matrix(prediction, target)
    each = MulticlassJaccardIndex(K, average=None, ignore_index=IGNORE)(prediction, target)
    torch.testing.assert_close(scores.iou(matrix, "zero").float(), each)
    mean = MulticlassJaccardIndex(K, average="macro", ignore_index=IGNORE)(prediction, target)
    torch.testing.assert_close(scores.mean_iou(matrix, "drop").float(), mean)


def test_accuracy_is_that_of_torchmetrics(case):
    prediction, target = case
    matrix = _matrix(prediction, target)
    micro = MulticlassAccuracy(K, average="micro", ignore_index=IGNORE)(prediction, target)
    torch.testing.assert_close(scores.pixel_accuracy(matrix).float(), micro)
    each = MulticlassAccuracy(K, average=None, ignore_index=IGNORE)(prediction, target)
    torch.testing.assert_close(scores.class_accuracy(matrix, "zero").float(), each)
