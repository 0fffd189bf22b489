from functools import partial

import numpy as np
import pytest

from segframe.data.imbalance import RareClass, RepeatFactor, class_probabilities, repeat_factors
from segframe.data.sampler import TrainBatchSampler


def make_counts(num=40, seed=0):
    """Four classes: one everywhere, one in half of the images, one in two, and one that never occurs."""
    rng = np.random.default_rng(seed)
    counts = np.zeros((num, 4), np.int64)
    counts[:, 0] = rng.integers(800, 1000, num)
    counts[::2, 1] = rng.integers(50, 100, num // 2)
    counts[[3, 11], 2] = 20, 1
    return counts


def rare(counts, **options):
    return RareClass(len(counts), lambda: counts, **options)


def test_class_probabilities_are_those_of_the_paper():
    pixels = np.array([700, 250, 50, 0])
    expected = np.exp((1 - pixels[:3] / 1000) / 0.1)
    expected /= expected.sum()
    found = class_probabilities(pixels, 0.1)
    np.testing.assert_allclose(found[:3], expected)
    assert found[3] == 0
    assert class_probabilities(pixels, 1e-4)[2] == pytest.approx(1)
    assert class_probabilities(np.array([100, 0]), 1e-3).tolist() == [1, 0]


def test_rare_classes_are_drawn_as_often_as_they_should():
    counts = make_counts()
    sampling = rare(counts, temperature=0.5, min_share=0.005)
    draws = [sampling.draw(0, epoch) for epoch in range(200)]
    labels = np.concatenate([draw.label for draw in draws])
    samples = np.concatenate([draw.sample for draw in draws])
    shares = np.bincount(labels, minlength=4) / len(labels)
    np.testing.assert_allclose(shares, sampling.probabilities, atol=0.02)
    assert shares[3] == 0
    # Image 11 holds a single pixel of the class, too little to be drawn for it.
    assert set(samples[labels == 2]) == {3}
    assert set(samples[labels == 1]) == set(range(0, 40, 2))
    assert (counts[samples, labels] > 0).all()
    assert {len(draw.sample) for draw in draws} == {40}


def test_a_class_that_no_image_holds_enough_of_is_drawn_all_the_same():
    draws = [rare(make_counts(), temperature=0.5, min_share=0.5).draw(0, epoch) for epoch in range(20)]
    assert {int(s) for draw in draws for s in draw.sample[draw.label == 2]} == {3, 11}


def test_repeat_factors_are_those_of_the_paper():
    counts = make_counts()
    factors = repeat_factors(counts, 0.6)
    assert factors[1] == 1  # the class that is everywhere
    assert factors[0] == pytest.approx(np.sqrt(0.6 / 0.5))
    assert factors[3] == factors[11] == pytest.approx(np.sqrt(0.6 / 0.05))
    assert repeat_factors(np.zeros((3, 4), np.int64), 0.6).tolist() == [1, 1, 1]


def test_images_come_in_proportion_to_their_factors():
    counts = make_counts()
    sampling = RepeatFactor(len(counts), lambda: counts, threshold=0.6)
    expected = sampling.factors * len(counts) / sampling.factors.sum()
    epochs = np.array([np.bincount(sampling.draw(0, epoch).sample, minlength=len(counts)) for epoch in range(400)])
    assert (epochs.sum(1) == len(counts)).all()
    assert (epochs >= np.floor(expected)).all()
    assert (epochs <= np.ceil(expected)).all()
    np.testing.assert_allclose(epochs.mean(0), expected, atol=0.1)
    assert epochs.mean(0)[3] > 2 * epochs.mean(0)[1]


def test_without_rare_classes_every_image_comes_once():
    counts = np.ones((30, 3), np.int64)
    draws = RepeatFactor(30, lambda: counts).draw(1, 2)
    assert sorted(draws.sample) == list(range(30))
    assert list(draws.sample) != list(range(30))
    assert not draws.repeat.any()


@pytest.mark.parametrize("make", [RareClass, partial(RepeatFactor, threshold=0.9)])
def test_draws_are_a_pure_function_of_seed_and_epoch(make):
    counts = make_counts()

    def keys(rank=0, world_size=1, seed=1, epoch=0, batch=0):
        sampler = TrainBatchSampler(40, 12, rank, world_size, seed, make(40, lambda: counts))
        sampler.set_position(epoch, batch)
        return list(sampler)

    whole = keys()
    assert whole == keys()
    assert whole != keys(seed=2)
    assert [[k.sample for k in batch] for batch in whole] != [[k.sample for k in batch] for batch in keys(epoch=1)]
    assert keys(batch=2) == whole[2:]
    for world_size in (2, 3, 4):
        parts = [keys(rank, world_size) for rank in range(world_size)]
        assert [[k for share in shares for k in share] for shares in zip(*parts, strict=True)] == whole
    flat = [key for batch in whole for key in batch]
    assert len({(key.sample, key.repeat) for key in flat}) == len(flat)
    assert max(key.repeat for key in flat) > 0
    if make is RareClass:
        assert all(key.wanted is not None and key.wanted.share == 0.005 for key in flat)


def test_identity_changes_with_what_changes_the_draws():
    counts, other = make_counts(), make_counts(seed=1)
    made = [rare(counts), rare(other), rare(counts, temperature=0.1), RepeatFactor(40, lambda: counts)]
    assert len({sampling.identity for sampling in made}) == 4
    assert rare(counts).identity == rare(counts.copy()).identity


@pytest.mark.parametrize(("make", "word"), [(RareClass, "rare_class"), (RepeatFactor, "repeat_factor")])
def test_refuses_masks_without_labels(make, word):
    with pytest.raises(ValueError, match=rf"sampling={word}.*none of the 5 training masks.*sampling=uniform"):
        make(5, lambda: np.zeros((5, 3), np.int64))
