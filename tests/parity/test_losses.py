"""Each loss against an independent float64 NumPy implementation, and against torch and smp where they agree."""

import math

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
from torch.nn import functional as F

from segframe.losses.cross_entropy import CrossEntropy
from segframe.losses.dice import Dice
from segframe.losses.focal import Focal
from segframe.losses.lovasz import LovaszSoftmax
from segframe.losses.ohem import OHEM

IGNORE = 255
K = 5
WEIGHTS = [0.5, 2.0, 1.0, 0.0, 4.0]  # exact in binary: the buffers are float32
EXACT = {"rtol": 1e-12, "atol": 0}


def _case(seed):
    rng = np.random.default_rng(seed)
    target = rng.integers(0, K, (3, 6, 7))
    target[0][target[0] == 2] = 1  # a class that one image does not hold
    target[rng.random(target.shape) < 0.3] = IGNORE
    target[2, 1:] = IGNORE
    return 2 * rng.standard_normal((3, K, 6, 7)), target


def _probabilities(logits):
    e = np.exp(logits - logits.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def _pixels(logits, target):
    """Per labelled pixel: image, label and the probabilities (K,)."""
    p = _probabilities(logits)
    for b, i, j in np.ndindex(target.shape):
        if target[b, i, j] != IGNORE:
            yield b, target[b, i, j], p[b, :, i, j]


def _cross_entropy(logits, target, weights, smoothing):
    total = count = 0.0
    for _, label, p in _pixels(logits, target):
        uniform = sum(-w * math.log(q) for w, q in zip(weights, p, strict=True)) / K
        total += (1 - smoothing) * weights[label] * -math.log(p[label]) + smoothing * uniform
        count += weights[label]
    return total / count


def _ohem(logits, target, threshold, min_kept):
    kept = []
    for b in range(len(target)):
        p = sorted(p[label] for image, label, p in _pixels(logits, target) if image == b)
        least = math.ceil(min_kept * len(p))
        kept += [q for rank, q in enumerate(p) if q < threshold or rank < least]
    return np.mean(-np.log(kept))


def _dice(logits, target, smooth):
    losses = []
    for c in range(K):
        p = np.array([p[c] for _, _, p in _pixels(logits, target)])
        y = np.array([label == c for _, label, _ in _pixels(logits, target)], float)
        if y.sum():
            losses.append(1 - (2 * (p * y).sum() + smooth) / (p.sum() + y.sum() + smooth))
    return np.mean(losses)


def _focal(logits, target, gamma, weights):
    pairs = [(weights[label], p[label]) for _, label, p in _pixels(logits, target)]
    return sum(w * (1 - p) ** gamma * -math.log(p) for w, p in pairs) / sum(w for w, _ in pairs)


def _jaccard_loss(truth, wrong):
    """1 - IoU of a class whose pixels ``wrong`` are mispredicted: the set function that Lovasz extends."""
    return wrong.sum() / max((truth | wrong).sum(), 1)


def _lovasz(logits, target):
    images = []
    for b in range(len(target)):
        pixels = [(label, p) for image, label, p in _pixels(logits, target) if image == b]
        losses = []
        for c in sorted({label for label, _ in pixels}):
            truth = np.array([label == c for label, _ in pixels])
            errors = np.abs(truth - np.array([p[c] for _, p in pixels]))
            loss, wrong, before = 0.0, np.zeros(len(truth), bool), 0.0
            for pixel in np.argsort(-errors):  # definition 1: error times what the pixel adds to the set function
                wrong[pixel] = True
                now = _jaccard_loss(truth, wrong)
                loss, before = loss + errors[pixel] * (now - before), now
            losses.append(loss)
        if losses:
            images.append(np.mean(losses))
    return np.mean(images)


def _ours(loss, logits, target):
    return loss(torch.from_numpy(logits), torch.from_numpy(target)).value.item()


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_cross_entropy(weights, smoothing):
    logits, target = _case(0)
    loss = CrossEntropy(IGNORE, K, class_weights=weights, label_smoothing=smoothing)
    ours = _ours(loss, logits, target)
    np.testing.assert_allclose(ours, _cross_entropy(logits, target, weights or [1.0] * K, smoothing), **EXACT)
    stock = torch.nn.CrossEntropyLoss(
        weight=None if weights is None else torch.tensor(weights, dtype=torch.float64),
        ignore_index=IGNORE,
        label_smoothing=smoothing,
    )
    np.testing.assert_allclose(ours, stock(torch.from_numpy(logits), torch.from_numpy(target)).item(), **EXACT)


def test_cross_entropy_gradient_is_that_of_torch():
    logits, target = map(torch.from_numpy, _case(1))
    logits.requires_grad_()
    weight = torch.tensor(WEIGHTS, dtype=torch.float64)
    ours = torch.autograd.grad(CrossEntropy(IGNORE, K, WEIGHTS)(logits, target).value, logits)[0]
    stock = torch.autograd.grad(F.cross_entropy(logits, target, weight, ignore_index=IGNORE), logits)[0]
    torch.testing.assert_close(ours, stock, rtol=0, atol=1e-15)


@pytest.mark.parametrize(("threshold", "min_kept"), [(0.7, 0.0), (0.05, 0.25), (0.3, 0.5), (0.0, 0.01), (0.5, 1.0)])
def test_ohem(threshold, min_kept):
    logits, target = _case(2)
    ours = _ours(OHEM(IGNORE, threshold, min_kept), logits, target)
    np.testing.assert_allclose(ours, _ohem(logits, target, threshold, min_kept), **EXACT)
    assert (ours > 1.001 * _cross_entropy(logits, target, [1.0] * K, 0.0)) == (min_kept < 1)


@pytest.mark.parametrize("smooth", [0.0, 3.0])
def test_dice(smooth):
    logits, target = _case(3)
    np.testing.assert_allclose(_ours(Dice(IGNORE, smooth), logits, target), _dice(logits, target, smooth), **EXACT)


def test_dice_leaves_out_a_class_that_no_mask_holds():
    logits, target = _case(3)
    target[target == 4] = IGNORE
    np.testing.assert_allclose(_ours(Dice(IGNORE), logits, target), _dice(logits, target, 0.0), **EXACT)


def test_dice_is_that_of_smp_where_every_class_is_present():
    logits, target = map(torch.from_numpy, _case(4))
    assert len(target.unique()) == K + 1
    stock = smp.losses.DiceLoss("multiclass", ignore_index=IGNORE)(logits, target)
    torch.testing.assert_close(Dice(IGNORE)(logits, target).value, stock, **EXACT)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_focal(gamma, weights):
    logits, target = _case(5)
    ours = _ours(Focal(IGNORE, K, gamma, weights), logits, target)
    np.testing.assert_allclose(ours, _focal(logits, target, gamma, weights or [1.0] * K), **EXACT)


@pytest.mark.parametrize("empty", [False, True])
def test_lovasz(empty):
    logits, target = _case(6)
    if empty:
        target[1] = IGNORE
    np.testing.assert_allclose(_ours(LovaszSoftmax(IGNORE), logits, target), _lovasz(logits, target), **EXACT)


def test_lovasz_of_hard_predictions_is_the_jaccard_loss():
    _, target = _case(7)
    prediction = np.roll(np.where(target == IGNORE, 0, target), 1)
    logits = 80.0 * np.moveaxis(np.eye(K)[prediction], -1, 1)
    expected = []
    for truth, guess in zip(target, prediction, strict=True):
        truth, guess = truth[truth != IGNORE], guess[truth != IGNORE]
        present = np.unique(truth)
        ious = [((truth == c) & (guess == c)).sum() / ((truth == c) | (guess == c)).sum() for c in present]
        expected.append(1 - np.mean(ious))
    assert 0 < np.mean(expected) < 1
    np.testing.assert_allclose(_ours(LovaszSoftmax(IGNORE), logits, target), np.mean(expected), rtol=1e-9)
