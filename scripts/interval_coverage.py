"""How often the intervals of `segframe compare` hold the true difference: a simulation, printed as a table.

Usage: python scripts/interval_coverage.py [--trials 1000] [--resamples 1000] [--seed 0]

Images hold some of 8 classes, three of them rare; how well a class is told from others depends on the class, the image,
the model and the seed that it was trained with. The truth is the difference over all images, and over all seeds where
groups are compared. Each trial draws images, and seeds, and asks whether the interval holds it. The two models of a
row without a difference are equal but for their seeds: 'told apart' is how often one of them is called better.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from segframe.runs import bootstrap, interval
from segframe.runs.bootstrap import Run

CONFIDENCE = 0.95
NUM_CLASSES, POPULATION, SEEDS = 8, 4000, 120
PRESENCE = np.array([1.0, 0.95, 0.8, 0.6, 0.4, 0.15, 0.08, 0.04])

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class World:
    """All images, and two models with all of their seeds.

    Attributes:
        true: Pixels of each image and class.
        models: The runs of each model, one per seed.
    """

    true: Floats
    models: list[list[Run]]

    def scores(self) -> Floats:
        """Returns the mIoU of each model and seed over all images."""
        return np.array([s for s, _ in bootstrap.observed(self.true, self.models, "miou", "drop")])


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=1000, help="comparisons per row")
    parser.add_argument("--resamples", type=int, default=1000, help="resamples per comparison")
    parser.add_argument("--seed", type=int, default=0, help="decides everything that is drawn")
    options = parser.parse_args()
    print("| compared | images | seeds vary | true difference | held by the interval | told apart | median width |")
    print("|---|---|---|---|---|---|---|")
    for number, spread in enumerate((0.05, 0.3)):
        draw = np.random.default_rng([options.seed, number])
        differing, equal = make_world(draw, spread, 0.25), make_world(draw, spread, 0.0)
        if not number:
            for num_images in (10, 20, 50, 100, 500):
                _print_row(differing, num_images, 1, True, options, draw)
        for num_seeds in (2, 3, 5):
            for num_images in (30, 100, 500):
                _print_row(differing, num_images, num_seeds, True, options, draw, spread)
            _print_row(equal, 100, num_seeds, True, options, draw, spread)
            _print_row(equal, 100, num_seeds, False, options, draw, spread)
        for num_seeds in (2, 3, 5):
            _print_row(equal, 100, num_seeds, False, options, draw, spread, num_first=1)


def _print_row(
    world: World,
    num_images: int,
    num_seeds: int,
    paired: bool,
    options: argparse.Namespace,
    draw: np.random.Generator,
    spread: float = 0.0,
    num_first: int | None = None,
) -> None:
    held, apart, width, truth = coverage(
        world, num_images, num_seeds, paired, options.trials, options.resamples, draw, num_first
    )
    what = "two runs" if num_seeds == 1 else f"{num_seeds} seeds each, {'the same' if paired else 'others'}"
    what = what if num_first is None else f"one run, {num_seeds} seeds"
    varies = "-" if num_seeds == 1 else f"{spread:g}"
    print(f"| {what} | {num_images} | {varies} | {truth:+.4f} | {held:.1%} | {apart:.1%} | {width:.4f} |", flush=True)


def make_world(draw: np.random.Generator, seed_spread: float, better: float) -> World:
    """Returns images and models.

    Args:
        draw: Decides all of it.
        seed_spread: Standard deviation over seeds of how well a class is told from others, in logits.
        better: By how much the second model tells classes better than the first, in logits.
    """
    shape = (POPULATION, NUM_CLASSES)
    true = np.rint((draw.random(shape) < PRESENCE) * draw.lognormal(6.0, 1.0, shape))
    of_class = np.linspace(2.0, 0.2, NUM_CLASSES)
    of_image = draw.normal(0.0, 0.7, (POPULATION, 1)) + draw.normal(0.0, 0.6, shape)
    models = []
    for level in (0.0, better):
        of_model = draw.normal(0.0, 0.5, shape) if better else 0.0
        runs = []
        for _ in range(SEEDS):
            of_seed = draw.normal(0.0, seed_spread, NUM_CLASSES)
            logit = of_class + of_image + level + of_model + of_seed + draw.normal(0.0, 0.3, shape)
            runs.append(_run(draw, true, 1 / (1 + np.exp(-logit))))
        models.append(runs)
    return World(true, models)


def _run(draw: np.random.Generator, true: Floats, recall: Floats) -> Run:
    """Returns the counts of a run that finds a share of each class and takes the rest for another class."""
    right = np.rint(true * recall)
    confused = draw.integers(1, NUM_CLASSES, true.shape)
    predicted = right.copy()
    images = np.arange(len(true))
    for k in range(NUM_CLASSES):
        predicted[images, (k + confused[:, k]) % NUM_CLASSES] += true[:, k] - right[:, k]
    return Run(right, predicted)


def coverage(
    world: World,
    num_images: int,
    num_seeds: int,
    paired: bool,
    trials: int,
    resamples: int,
    draw: np.random.Generator,
    num_first: int | None = None,
) -> tuple[float, float, float, float]:
    """Returns how often the interval holds the truth and excludes 0, its median width, and the mean truth.

    Args:
        world: What is drawn from.
        num_images: Images of a comparison.
        num_seeds: Runs of each model; of single ones the truth is that of these two runs.
        paired: Whether the comparison takes the runs of both for the same seeds.
        trials: Comparisons.
        resamples: Resamples of each.
        draw: Decides all of it.
        num_first: Runs of the first model, where they are not as many.
    """
    over_all = world.scores()
    held, apart, widths, truths = [], [], [], []
    for trial in range(trials):
        images = draw.choice(POPULATION, num_images, replace=False)
        seeds = [draw.choice(SEEDS, number, replace=False) for number in (num_first or num_seeds, num_seeds)]
        groups = [
            [Run(run.right[images], run.predicted[images]) for run in (runs[s] for s in own)]
            for runs, own in zip(world.models, seeds, strict=True)
        ]
        single = [scores[own].mean() for scores, own in zip(over_all, seeds, strict=True)]
        truth = single[1] - single[0] if num_seeds == 1 else over_all[1].mean() - over_all[0].mean()
        found = _interval(world.true[images], groups, paired, resamples, trial)
        held.append(found.low <= truth <= found.high)
        apart.append(found.sign != 0)
        widths.append(found.high - found.low)
        truths.append(truth)
    return float(np.mean(held)), float(np.mean(apart)), float(np.median(widths)), float(np.mean(truths))


def _interval(true: Floats, groups: list[list[Run]], paired: bool, resamples: int, seed: int) -> interval.Interval:
    scores = [s for s, _ in bootstrap.observed(true, groups, "miou", "drop")]
    found = bootstrap.resampled(true, groups, "miou", "drop", resamples, seed).metric
    images = interval.over_images(
        float(scores[1].mean() - scores[0].mean()), found[:, 1] - found[:, 0], len(true), CONFIDENCE
    )
    if len(groups[1]) == 1:
        return images
    return interval.with_seeds(images, list(scores[0]), list(scores[1]), paired, CONFIDENCE)


if __name__ == "__main__":
    main()
