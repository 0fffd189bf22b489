"""Intervals hold what they promise; ``scripts/interval_coverage.py`` is the same at length, on harder images."""

import importlib.util
import math
import sys
from pathlib import Path

import numpy as np
import pytest

from segframe.runs.interval import Interval, over_images, t_quantile, with_seeds

SCRIPT = Path(__file__).parents[3] / "scripts/interval_coverage.py"
TRIALS, RESAMPLES = 250, 300
SLACK = 2.6 * math.sqrt(0.95 * 0.05 / TRIALS)  # of 250 trials; one of 100 runs with another seed goes beyond


@pytest.fixture(scope="module")
def simulation():
    spec = importlib.util.spec_from_file_location("interval_coverage", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where its data classes look themselves up
    spec.loader.exec_module(module)
    module.POPULATION, module.SEEDS = 1500, 40
    yield module
    del sys.modules[spec.name]


@pytest.fixture(scope="module")
def worlds(simulation):
    """Two models that differ, and two that are equal; their seeds make as much difference as their images."""
    return {better: simulation.make_world(np.random.default_rng(1), 0.25, better) for better in (0.25, 0.0)}


@pytest.mark.parametrize(("images", "seeds", "paired"), [(60, 1, True), (60, 2, True), (60, 5, True), (60, 5, False)])
def test_intervals_hold_the_truth_as_often_as_they_say(simulation, worlds, images, seeds, paired):
    draw = np.random.default_rng(2)
    held, _, _, _ = simulation.coverage(worlds[0.25], images, seeds, paired, TRIALS, RESAMPLES, draw)
    assert held >= 0.95 - SLACK


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_equal_models_are_seldom_told_apart(simulation, worlds, seeds):
    draw = np.random.default_rng(3)
    _, apart, _, _ = simulation.coverage(worlds[0.0], 60, seeds, True, TRIALS, RESAMPLES, draw)
    assert apart <= 0.05 + SLACK


def test_images_alone_would_tell_equal_models_apart(simulation, worlds, monkeypatch):
    """What seeds add matters: without it the interval misses what further seeds would show."""
    monkeypatch.setattr(simulation.interval, "with_seeds", lambda images, *rest: images)
    draw = np.random.default_rng(3)
    held, apart, _, _ = simulation.coverage(worlds[0.0], 60, 3, True, TRIALS, RESAMPLES, draw)
    assert held < 0.9
    assert apart > 0.1


def test_a_single_image_says_nothing():
    found = over_images(0.1, np.array([0.1, 0.1]), 1, 0.95)
    assert (found.low, found.high, found.sign) == (-math.inf, math.inf, 0)


def test_few_resamples_reach_as_far_as_many():
    """Twelve groups and ten images: the ends lie 4 standard deviations out, where one resample of 25,000 does."""
    draws = np.random.default_rng(0).normal(0.1, 0.02, (40, 1000))
    reach = t_quantile(1 - 0.05 / 11 / 2, 9) * math.sqrt(10 / 9)
    found = [over_images(0.1, draw, 10, 1 - 0.05 / 11) for draw in draws]
    assert np.mean([one.high - one.low for one in found]) == pytest.approx(2 * 0.02 * reach, rel=0.03)
    assert over_images(0.1, np.array([0.0, 0.2]), 10, 0.95).low <= 0


def test_without_images_that_vary_seeds_give_a_t_interval():
    images = Interval(1.0, 1.0, 1.0)
    found = with_seeds(images, [0.0, 1.0, 2.0], [1.0, 2.5, 2.5], True, 0.95)
    half = t_quantile(0.975, 2) * np.std([1.0, 1.5, 0.5], ddof=1) / math.sqrt(3)
    assert (found.low, found.high) == pytest.approx((1 - half, 1 + half))
    welch = with_seeds(images, [0.0, 1.0, 2.0], [1.0, 2.0, 3.0], False, 0.95)  # equal variances: 4 degrees of freedom
    assert welch.high - 1 == pytest.approx(t_quantile(0.975, 4) * math.sqrt(2 / 3))
    assert with_seeds(images, [0.0], [1.0], False, 0.95) == images


def test_one_run_varies_with_its_seed_as_the_several_that_it_stands_against():
    draw, apart = np.random.default_rng(0), 0
    for _ in range(400):  # equal methods, and images that hardly matter
        one, *others = draw.normal(0.5, 0.02, 6)
        difference = float(np.mean(others)) - one
        images = Interval(difference, difference - 0.002, difference + 0.002)
        found = with_seeds(images, [one], others, False, 0.95)
        apart += found.sign != 0
        back = with_seeds(Interval(-difference, -images.high, -images.low), others, [one], False, 0.95)
        assert back.high == pytest.approx(-found.low)
    assert apart / 400 <= 0.05 + 2 * math.sqrt(0.95 * 0.05 / 400)


def test_the_sign_is_that_of_an_interval_without_zero():
    assert [Interval(0.1, low, 0.2).sign for low in (-0.01, 0.0, 0.01)] == [0, 0, 1]
    assert Interval(-0.1, -0.2, -0.01).sign == -1
