"""What a comparison says in words; a group is better or worse only where the interval leaves 0 out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from segframe.runs.comparison import CONFIDENCE, FEWEST_IMAGES, FEWEST_OF_CLASS, Comparison
from segframe.runs.counts import evaluated_otherwise
from segframe.runs.groups import Group
from segframe.runs.interval import t_quantile

_NAMES = {
    "miou": "mIoU",
    "pixel_accuracy": "pixel accuracy",
    "mean_accuracy": "mean accuracy",
    "dice": "mean Dice",
    "fwiou": "frequency weighted IoU",
}
_NAMED = 4  # runs that a remark names


def name_of(metric: str) -> str:
    """Returns what a metric is called in a sentence."""
    return _NAMES.get(metric, metric)


def verdict(group: Group, first: Group, found: Comparison, number: int) -> str:
    """Returns whether a group is better than the first, worse, or not shown to be either.

    Args:
        group: The group.
        first: What it is compared with.
        found: The comparison.
        number: The group's place among the differences.
    """
    interval = found.differences[number].metric
    numbers = (
        f"{name_of(found.metric)} {signed(interval.difference)}, {percent(found.confidence)} interval "
        f"{signed(interval.low)} to {signed(interval.high)}"
    )
    if found.num_images < FEWEST_IMAGES:
        return f"{found.num_images} images are too few to judge {group.letter} against {first.letter} by ({numbers})"
    if interval.sign == 0:
        return f"no difference shown between {group.letter} and {first.letter}: {numbers}"
    return f"{group.letter} is {'better' if interval.sign > 0 else 'worse'} than {first.letter}: {numbers}"


def remarks(groups: Sequence[Group], found: Comparison, checkpoint: str) -> list[str]:
    """Returns what has to be known to read the intervals.

    Args:
        groups: What was compared.
        found: The comparison.
        checkpoint: Which evaluation it is of.
    """
    return [
        *_on_unfinished(groups),
        *_on_evaluations(groups, checkpoint),
        *_on_seeds(groups, found),
        *_on_classes(found),
        *_on_images(found),
        *_on_choice(groups, found, checkpoint),
    ]


def percent(share: float) -> str:
    """Returns a share such as 0.95 as ``95 %``."""
    return f"{100 * share:.4g} %"


def signed(difference: float) -> str:
    """Returns a difference with its sign; what is not 0 does not read like it.

    >>> signed(0.0123), signed(-0.00003), signed(0.0)
    ('+0.0123', '-3.0e-05', '+0.0000')
    """
    return f"{difference:+.4f}" if abs(difference) >= 0.00005 else f"{difference:+.1e}" if difference else "+0.0000"


def _on_unfinished(groups: Sequence[Group]) -> Iterator[str]:
    found = [
        f"{record.folder} ({group.letter}, {record.state})"
        for group in groups
        for record in group.records
        if record.state != "finished"
    ]
    if found:
        more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
        yield (
            f"Not finished: {', '.join(found[:_NAMED])}{more}. Their counts are of a training that had not come to its "
            "end, so the difference is in part that of how long they trained."
        )


def _on_evaluations(groups: Sequence[Group], checkpoint: str) -> Iterator[str]:
    found = evaluated_otherwise(groups, checkpoint)
    if found:
        more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
        yield (
            f"Evaluated with other settings than it was trained with: {', '.join(found[:_NAMED])}{more}. The "
            "difference is in part that of these keys, which the table above does not show."
        )


def _on_seeds(groups: Sequence[Group], found: Comparison) -> Iterator[str]:
    single = [group.letter for group in groups if group.is_single]
    several = [group for group in groups if not group.is_single]
    if not several:
        yield (
            "Each is one run, so the intervals are over draws of images alone: they compare these runs, not the "
            "methods. Another seed may differ by more. Train further seeds, and give a group's runs with commas."
        )
        return
    if single:
        verb = "is" if len(single) == 1 else "are each"
        yield f"{' and '.join(single)} {verb} one run, taken to vary with the seed as runs of the groups against it do."
    if groups[0].is_single and len(single) > 1:
        yield (
            f"{' and '.join(single)}: one run and one run are compared over draws of images alone, which tells of "
            "these runs, not of the methods."
        )
    paired = [group.letter for group, d in zip(groups[1:], found.differences, strict=True) if d.paired]
    if paired:
        yield (
            f"{' and '.join([groups[0].letter, *paired])} have the same seeds, so runs of one seed were compared with "
            "each other; the intervals are over draws of images and of seeds."
        )
    if len(paired) + len(single) < len(groups) - 1:
        yield "Groups of other seeds were compared as wholes; the intervals are over draws of images and of seeds."
    two = [group.letter for group in several if len(group.records) == 2]
    if two:
        yield (
            f"{' and '.join(two)}: two seeds are hardly enough to judge by, as the interval has to reach "
            f"{t_quantile((1 + found.confidence) / 2, 1):.1f} standard errors to either side; with three it is "
            f"{t_quantile((1 + found.confidence) / 2, 2):.1f}."
        )


def _on_classes(found: Comparison) -> Iterator[str]:
    # Accuracies are of true pixels, which all runs share.
    if found.uneven and found.metric in ("miou", "dice"):
        more = f" and {len(found.uneven) - 6} more" if len(found.uneven) > 6 else ""
        yield (
            f"No image holds {', '.join(found.uneven[:6])}{more}: where a run predicts it, it counts as 0 in its mean, "
            "and elsewhere it is left out, so the means are of different classes (task.absent=drop)."
        )


def _on_images(found: Comparison) -> Iterator[str]:
    yield (
        f"Images: {found.resamples:,} resamples of {found.num_images} validation images, the same for all runs (paired "
        "bootstrap, percentiles widened for the number of images). They count as independent draws; frames of a video "
        "are not, and the interval is then too short."
    )
    if found.rare:
        names = [f"{name} ({count})" for name, count in found.rare.items()]
        more = f" and {len(names) - 6} more" if len(names) > 6 else ""
        yield (
            f"Fewer than {FEWEST_OF_CLASS} images hold {', '.join(names[:6])}{more}: such an IoU hardly varies among "
            "resamples, and as far as it counts the interval is too short."
        )
    if any(interval is not None for d in found.differences for interval in d.classes):
        yield f"Each class's interval is at {percent(found.confidence)} by itself: of many, some leave 0 out by chance."


def _on_choice(groups: Sequence[Group], found: Comparison, checkpoint: str) -> Iterator[str]:
    if len(groups) > 2:
        yield (
            f"{len(groups) - 1} comparisons with {groups[0].letter} share the {percent(1 - CONFIDENCE)} in which one "
            f"may be wrong: each interval is at {percent(found.confidence)} (Bonferroni)."
        )
    if checkpoint == "best":
        yield "Each run's best epoch was chosen by these images, so all scores are somewhat too high."
