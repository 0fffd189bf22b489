"""What must have happened for a comparison to mean anything: a certificate that compared nothing fails."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from segframe.certificate.facts import RankFacts
    from segframe.certificate.record import Record

_FEW = 1e-6  # relative: a loss that changes by less than this stands still


@dataclass(frozen=True)
class Guard:
    """One thing that had to happen.

    Attributes:
        name: What.
        precision: In which column's runs.
        passed: Whether it did; None where the run can't have it.
        found: What was seen.
    """

    name: str
    precision: str
    passed: bool | None
    found: str


def look(reference: Record, other: Record, precision: str, num_ranks: int, num_steps: int) -> list[Guard]:
    """Returns what was seen of everything that had to happen.

    Args:
        reference: The run in one process.
        other: The run under the strategy.
        precision: The name of the column.
        num_ranks: How many processes the strategy was given.
        num_steps: How many steps were asked for.
    """
    found = [
        _processes(other, num_ranks),
        _steps(reference, num_steps),
        _gradients(reference),
        _movement(reference),
        _clipping(reference),
        _predictions(reference),
        _validation(reference, other),
        _samples(reference, other),
        _ignored(reference, other),
        _random(reference, other),
        _parameters(other),
        _checkpoint(other),
    ]
    return [Guard(name, precision, passed, text) for name, passed, text in found]


_Seen = tuple[str, bool | None, str]


def _processes(other: Record, num_ranks: int) -> _Seen:
    numbers, processes = [r.rank for r in other.ranks], {r.process for r in other.ranks}
    passed = numbers == list(range(num_ranks)) and len(processes) == num_ranks
    return "every rank took part", passed, f"{len(processes)} processes of {num_ranks}"


def _steps(reference: Record, num_steps: int) -> _Seen:
    losses = reference.facts.losses
    span = max(losses) - min(losses) if losses else 0.0
    passed = len(losses) == num_steps and span > _FEW * max(map(abs, losses))
    passed = passed or (num_steps == 1 and len(losses) == 1)
    return "the loss changes", passed, " ".join(f"{loss:.6g}" for loss in losses)


def _gradients(reference: Record) -> _Seen:
    norms = reference.facts.gradient_norms
    passed = bool(norms) and all(norm > 0 for norm in norms.values())
    return "gradients are not 0", passed, ", ".join(f"norm {x:.4g} (step {k.split()[1]})" for k, x in norms.items())


def _movement(reference: Record) -> _Seen:
    moved = reference.facts.moved
    has_buffers = bool(reference.tensors("buffer"))
    passed = moved.get("parameter", 0) > 0 and (not has_buffers or moved.get("buffer", 0) > 0)
    return "parameters and buffers move", passed, ", ".join(f"{k}s by {x:.3g}" for k, x in moved.items())


def _clipping(reference: Record) -> _Seen:
    facts = reference.facts
    if facts.clip is None:
        return "gradients are clipped", None, "the run clips none"
    limit, algorithm = facts.clip
    largest = max(facts.gradient_norms.values(), default=0.0)
    if largest <= limit:
        remedy = f"lower trainer.gradient_clip_val={limit:g}, or set it to null"
        return "gradients are clipped", False, f"{algorithm} {largest:.4g} is below the limit: {remedy}"
    return "gradients are clipped", True, f"{algorithm} {largest:.4g} to {limit:g}"


def _predictions(reference: Record) -> _Seen:
    matrix = reference.tensors("confusion").get("matrix")
    count = 0 if matrix is None else int((matrix.sum(0) > 0).sum())
    text = (
        f"{count} classes are predicted"
        if count > 1
        else "one class everywhere: give verify.steps or optimizer.lr more"
    )
    return "predictions are not constant", count > 1, text


def _validation(reference: Record, other: Record) -> _Seen:
    name = "every image counts once"
    expected = list(range(reference.facts.num_val))
    images = sorted(index for group in _groups(other) for index in _fullest(r.evaluated for r in group))
    matrix = other.tensors("confusion").get("matrix")
    counted = 0 if matrix is None else int(matrix.sum())
    labelled = reference.facts.labelled_pixels
    shares = " + ".join(str(len(_fullest(r.evaluated for r in group))) for group in _groups(other))
    passed = images == expected and counted == labelled > 0
    return name, passed, f"{shares} of {len(expected)} images, {counted} of {labelled} labelled pixels"


def _samples(reference: Record, other: Record) -> _Seen:
    own = [sorted(step) for step in reference.ranks[0].samples]
    groups = [_fullest_steps(group) for group in _groups(other)]
    others = [sorted(x for group in groups for x in group[step]) for step in range(min(map(len, groups), default=0))]
    wrong = [step for step, (a, b) in enumerate(zip(own, others, strict=False), 1) if a != b]
    apart = [rank.rank for group in _groups(other) for rank in group if rank.samples not in ([], group[0].samples)]
    passed = bool(own) and len(own) == len(others) and not wrong and not apart
    text = f"{len(own)} batches of {len(own[0]) if own else 0} in {len(groups)} parts"
    if apart:
        text = f"rank {apart[0]} has other samples than those that it shares images with"
    return "the same samples", passed, text if not wrong else f"other samples at step {wrong[0]}"


def _ignored(reference: Record, other: Record) -> _Seen:
    name = "ranks ignore unequally"
    counts = list({(rank.data_rank, rank.rows[0]): rank.ignored for rank in reversed(other.ranks)}.values())[::-1]
    text = ", ".join("/".join(str(count[step]) for count in counts) for step in range(min(map(len, counts), default=0)))
    if len(counts) < 2:
        # Every rank holds the same pixels: that some are ignored is all there is to see.
        return name, any(reference.ranks[0].ignored), f"one part: {text}"
    uneven = any(len(set(step)) > 1 for step in zip(*counts, strict=False))
    return name, uneven, f"{text} pixels"


def _random(reference: Record, other: Record) -> _Seen:
    name = "random layers draw"
    drew: dict[str, bool] = {}
    for rank in other.ranks:
        for layer, did in rank.random_layers.items():
            drew[layer] = drew.get(layer, False) or did
    own = reference.ranks[0].random_layers
    if not own and not drew:
        return name, None, "the model has none that can be compared"
    passed = own.keys() == drew.keys() and any(own.values()) and drew == own
    return name, passed, f"{sum(own.values())} and {sum(drew.values())} of {len(own)}"


def _parameters(other: Record) -> _Seen:
    total = max(1, other.facts.num_parameters)
    shares = " ".join(f"{rank.local_parameters / total:.3f}" for rank in other.ranks)
    name, too_much = "parameters are where they belong", ""
    passed = all(0 < rank.local_parameters <= rank.permitted_parameters for rank in other.ranks)
    if any(rank.local_gradients > rank.permitted_parameters for rank in other.ranks):
        too_much += ", and more of the gradients"
    if any(rank.local_states > rank.permitted_states for rank in other.ranks):
        too_much += ", and more of the optimizer's state"
    return name, passed and not too_much and bool(other.ranks), f"shares {shares}{too_much}"


def _checkpoint(other: Record) -> _Seen:
    wrong = other.facts.not_in_checkpoint
    text = f"{len(wrong)} tensors are not, the first is {wrong[0]}" if wrong else "every parameter and buffer"
    return "the whole model is in checkpoints", not wrong, text


def _groups(record: Record) -> list[list[RankFacts]]:
    """Returns the ranks, those with the same samples together."""
    numbers = sorted({rank.data_rank for rank in record.ranks})
    return [[rank for rank in record.ranks if rank.data_rank == number] for number in numbers]


def _fullest(lists: Iterable[list[int]]) -> list[int]:
    """Returns the longest list: of ranks that share samples, some may be given none."""
    return max(lists, key=len, default=[])


def _fullest_steps(group: Sequence[RankFacts]) -> list[list[int]]:
    steps = max((len(rank.samples) for rank in group), default=0)
    return [_fullest(rank.samples[step] for rank in group if step < len(rank.samples)) for step in range(steps)]
