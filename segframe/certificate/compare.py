"""Two records -> how far each quantity of theirs is apart."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from segframe.certificate.record import Record


@dataclass(frozen=True)
class Row:
    """One quantity of two runs.

    Attributes:
        name: The quantity.
        precision: The column.
        difference: How far apart the two runs are; NaN where there was nothing to compare.
        tolerance: The most that they may be apart; both are relative but where ``unit`` says otherwise.
        passed: Whether they are not further apart; None where the run has no such quantity, or rounding alone
            moves it too far to tell.
        note: Where the largest difference is, or why there is none.
        unit: What is counted; empty for a share of the largest value.
    """

    name: str
    precision: str
    difference: float
    tolerance: float
    passed: bool | None
    note: str = ""
    unit: str = ""


ROUNDING_FACTOR = 4.0
"""How many times as far as from its own fp64 run a run in one process may be from a strategy's: each of the two runs
may be twice as far from the truth as one process was found to be."""

MOST_ROUNDING = 0.1
"""A relative tolerance beyond which a comparison would say nothing; such a row is shown and not judged."""


_KINDS = (
    ("parameters", "parameter"),
    ("BatchNorm buffers", "buffer"),
    ("EMA", "average"),
    ("optimizer state", "optimizer"),
)


def compare(
    reference: Record, other: Record, precision: str, tolerance: float, exact: Record | None = None
) -> list[Row]:
    """Returns a row for each quantity.

    Differences are the largest absolute difference over the largest absolute value of the same kind in the
    whole model: a tensor of its own would measure a bias before BatchNorm, whose true gradient is 0, by its
    rounding.

    Args:
        reference: The run in one process.
        other: The run under the strategy.
        precision: The name of the column.
        tolerance: Of relative differences.
        exact: The run in one process in fp64, where ``precision`` is lower. What rounding alone does to one
            process is then allowed to a strategy too: ReLU's derivative jumps, and so does where pooling points.
    """
    alone = {} if exact is None else {row.name: row.difference for row in _rows(exact, reference, precision, 0.0, {})}
    rows = _rows(reference, other, precision, tolerance, alone)
    return [row if _tells(row, alone.get(row.name, 0.0)) else replace(row, passed=None) for row in rows]


def _tells(row: Row, rounding: float) -> bool:
    return bool(row.unit) or ROUNDING_FACTOR * rounding <= MOST_ROUNDING or not math.isfinite(row.difference)


def _rows(reference: Record, other: Record, precision: str, tolerance: float, alone: Mapping[str, float]) -> list[Row]:
    def allowed(name: str, least: float) -> float:
        rounding = ROUNDING_FACTOR * alone.get(name, 0.0)
        return max(least, rounding) if math.isfinite(rounding) else least

    rows = [_losses(reference.facts.losses, other.facts.losses, precision, allowed("loss", tolerance))]
    rows.append(_gradients(reference, other, precision, allowed("gradients", tolerance)))
    for name, kind in _KINDS:
        rows.append(_kind(reference, other, kind, name, precision, allowed(name, tolerance)))
    ties = 0 if precision == "fp64" else reference.facts.ties
    counted = _confusion(reference, other, precision, allowed("confusion matrix", ties))
    rows.append(counted)
    rows.append(_metric(reference, other, "val/loss", precision, allowed("val/loss", tolerance)))
    # An IoU follows from counts: pixels that were allowed to move have moved it.
    freedom = counted.difference * _iou_per_pixel(reference) if counted.passed else 0.0
    rows.append(_metric(reference, other, "val/miou", precision, allowed("val/miou", tolerance + freedom)))
    return rows


def furthest(reference: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> tuple[float, str]:
    """Returns the largest difference of named tensors, relative to their largest value, and whose it is.

    Infinite where a name is missing, shapes differ or a value is not finite. Integers must be equal.

    Args:
        reference: What is right.
        other: What is compared with it.
    """
    if missing := sorted(reference.keys() ^ other.keys()):
        where = "the strategy's run" if missing[0] in reference else "the run in one process"
        return math.inf, f"{missing[0]} ({len(missing)} missing in {where})"
    scale = max((float(x.abs().max()) for x in reference.values() if x.numel() and x.is_floating_point()), default=0.0)
    worst, name = 0.0, ""
    for key, own in reference.items():
        difference = _difference(own, other[key], scale)
        if not difference <= worst:
            worst, name = (difference if not math.isnan(difference) else math.inf), key
    return worst, name


def _difference(own: Tensor, others: Tensor, scale: float) -> float:
    if own.shape != others.shape or own.is_floating_point() != others.is_floating_point():
        return math.inf
    if own.numel() == 0:
        return 0.0
    if not own.is_floating_point():
        return 0.0 if own.equal(others) else math.inf
    absolute = float((own.double() - others.double()).abs().max())
    return absolute / scale if scale else (math.inf if absolute else 0.0)


def _losses(own: Sequence[float], others: Sequence[float], precision: str, tolerance: float) -> Row:
    scale = max(map(abs, own), default=0.0)
    if not own or len(own) != len(others):
        return Row("loss", precision, math.inf, tolerance, False, f"{len(own)} and {len(others)} steps")
    apart = [abs(a - b) / scale if scale else math.inf for a, b in zip(own, others, strict=True)]
    apart = [math.inf if math.isnan(x) else x for x in apart]
    beyond = [step for step, x in enumerate(apart, 1) if x > tolerance]
    note = f"{len(own)} steps" if not beyond else f"differs first at step {beyond[0]} of {len(own)}"
    return Row("loss", precision, max(apart), tolerance, not beyond, note)


def _gradients(reference: Record, other: Record, precision: str, tolerance: float) -> Row:
    kinds = [kind for kind in reference.kinds() if kind.startswith("gradient")]
    if not kinds:
        return Row("gradients", precision, math.nan, tolerance, False, "none were recorded")
    found = [(*furthest(reference.tensors(kind), other.tensors(kind)), kind) for kind in kinds]
    beyond = [x for x in found if not x[0] <= tolerance]
    _, name, kind = beyond[0] if beyond else max(found)
    note = f"{name}, step {kind.split()[1]}" if name else f"steps {', '.join(k.split()[1] for k in kinds)}"
    return Row("gradients", precision, max(x[0] for x in found), tolerance, not beyond, note)


def _kind(reference: Record, other: Record, kind: str, name: str, precision: str, tolerance: float) -> Row:
    own, others = reference.tensors(kind), other.tensors(kind)
    if not own and not others:
        return Row(name, precision, math.nan, tolerance, None, "the run has none")
    # Means and variances are of different sizes, and each is measured by its own kind.
    by_leaf = kind in ("buffer", "optimizer")
    leaves = sorted({key.rpartition(".")[2] for key in own | others}) if by_leaf else [""]
    found = [furthest(_ending(own, leaf), _ending(others, leaf)) for leaf in leaves]
    worst, where = max(found)
    return Row(name, precision, worst, tolerance, worst <= tolerance, where)


def _ending(named: Mapping[str, Tensor], leaf: str) -> dict[str, Tensor]:
    return {key: x for key, x in named.items() if not leaf or key.rpartition(".")[2] == leaf}


def _confusion(reference: Record, other: Record, precision: str, allowed: float) -> Row:
    """Compares counts: every pixel is counted, and no more than ``allowed`` of them elsewhere."""
    name, unit = "confusion matrix", "pixels"
    own, others = reference.tensors("confusion").get("matrix"), other.tensors("confusion").get("matrix")
    if own is None or others is None or own.shape != others.shape:
        return Row(name, precision, math.inf, 0.0, False, "nothing was evaluated", unit)
    if not own.sum(1).equal(others.sum(1)):
        note = f"{int(own.sum())} pixels were counted in one process and {int(others.sum())} under the strategy"
        return Row(name, precision, float((own - others).abs().sum()), allowed, False, note, unit)
    moved = int((own - others).abs().sum()) // 2
    return Row(name, precision, moved, allowed, moved <= allowed, f"of {int(own.sum())}", unit)


def _metric(reference: Record, other: Record, name: str, precision: str, tolerance: float) -> Row:
    own, others = reference.facts.metrics.get(name, math.nan), other.facts.metrics.get(name, math.nan)
    if math.isnan(own) or math.isnan(others):
        return Row(name, precision, math.inf, tolerance, False, f"{own} in one process, {others} under the strategy")
    apart = abs(own - others) / abs(own) if own else abs(others)
    return Row(name, precision, apart, tolerance, apart <= tolerance, f"{own:.12g} and {others:.12g}")


def _iou_per_pixel(reference: Record) -> float:
    """Returns by how much one pixel changes the mean IoU at most, relative to it: of its truth and two predictions."""
    matrix, miou = reference.tensors("confusion").get("matrix"), reference.facts.metrics.get("val/miou", 0.0)
    if matrix is None or not miou:
        return 0.0
    rows = matrix.sum(1)
    present = rows[rows > 0]
    return 3.0 / (float(present.min()) * len(present) * abs(miou)) if len(present) else 0.0
