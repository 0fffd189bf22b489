"""What the ranks of each case found, put together and set against one rank and against what must be sent."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

GOAL_RATIO = 1.05
GOAL_ACTIVATIONS = 1.15
_HELD = ("parameters", "gradients", "optimizer_state")

MEANING = {
    "scaling": "strong: the global batch is the same for any number of ranks",
    "step_ms": "median over steps of the slowest rank; loading the batch doesn't count",
    "speed_up": "step time of single (where it wasn't measured: of the same strategy on one rank) over this one's",
    "efficiency": "speed-up over ranks; null where ranks share cores",
    "memory": "bytes on the rank that holds most; parameters, gradients, optimizer state: storages held between steps",
    "activations": "most bytes of storages that autograd kept for the backward pass at once; parameters don't count",
    "gathered": "most bytes of whole parameters at once in the place of shards",
    "sent": "bytes of TCP payload that a rank sent to others per step, mean over ranks, as the kernel counts them",
    "minimum": "bytes that a rank must send per step: ddp a ring all-reduce of the gradients, fsdp its gathers and one "
    "reduce-scatter, model_sharded what crosses its cuts, spatial the gradients, halo and pooled",
    "halo": "of the minimum: rows of other ranks that a layer's own rows depend on, and their gradients, counted from "
    "the net's operations on tensors without data; pooled: sums over all rows of an image",
    "batch_norm": "what shared BatchNorm statistics take beside the minimum",
    "halo_ratio": "what is left of sent without the rest of the minimum and BatchNorm's statistics, over halo",
    "in_flight_share": "share of a step in which a collective was under way, overlap included (profiler)",
    "waited_share": "share of a step in which the training thread was asleep: it waited for other ranks",
    "moving_share": "processor time of the threads that move the bytes over the step's time; they have the same core",
}
"""What the keys of a result mean."""


def summarise(cases: Sequence[dict[str, Any]], batch: int, cores: int) -> list[dict[str, Any]]:
    """Returns one flat row per case; one that failed has an ``error`` and nothing else.

    Args:
        cases: As they were measured.
        batch: Images per optimizer step over all ranks.
        cores: Cores that ranks were bound to.
    """
    rows = [case if "error" in case else _row(case, batch, cores) for case in cases]
    for row in rows:
        if "error" not in row:
            base = _base(row, rows)
            row["speed_up"] = None if base is None or not row["step_ms"] else base["step_ms"] / row["step_ms"]
            ratio = row["speed_up"]
            row["efficiency"] = None if ratio is None or row["shares_cores"] else ratio / row["ranks"]
    return rows


def _row(case: dict[str, Any], batch: int, cores: int) -> dict[str, Any]:
    ranks = case["per_rank"]
    steps = [max(times) for times in zip(*(rank["step_s"] for rank in ranks), strict=True)]
    step_s = statistics.median(steps) if steps else None
    fullest = max(ranks, key=lambda rank: sum(rank[key] for key in (*_HELD, "activations")))
    return {
        **{key: case[key] for key in ("model", "strategy", "ranks", "micro_batches")},
        "shares_cores": case["ranks"] > cores,
        "step_ms": None if step_s is None else step_s * 1e3,
        "images_per_s": None if step_s is None else batch / step_s,
        "memory": {key: fullest[key] for key in (*_HELD, "activations", "gathered", "cuda_peak_bytes")},
        "held_bytes": max(sum(rank[key] for key in _HELD) for rank in ranks),
        "peak_activations": max(rank["activations"] for rank in ranks),
        "row_parts": ranks[0]["row_parts"],
        "parameter_share": max(rank["parameter_share"] for rank in ranks),
        "traffic": _traffic(ranks),
        "in_flight_share": _mean(rank["in_flight_share"] for rank in ranks),
        "waited_share": _mean(rank["waited_share"] for rank in ranks),
        "moving_share": _mean(rank["moving_share"] for rank in ranks),
        "per_rank": ranks,
    }


def _traffic(ranks: Sequence[dict[str, Any]]) -> dict[str, Any]:
    known = {key: _mean(rank[f"{key}_bytes"] for rank in ranks) for key in ("minimum", "halo", "pooled", "batch_norm")}
    minimum, halo, pooled, batch_norm = known.values()
    # What a strategy can say of itself are parameters, gradients and what crosses cuts; rows need the images too.
    minimum = None if minimum is None else minimum + (halo or 0) + (pooled or 0)
    found: dict[str, Any] = {**known, "minimum": minimum, "ratio": None, "ratio_with_batch_norm": None}
    if any(rank["sent"] is None for rank in ranks):
        return found | {"sent": None, "halo_ratio": None, "why": ranks[0]["not_counted"]}
    sent = _mean(rank["sent"]["to_ranks"] / rank["counted_steps"] for rank in ranks)
    assert sent is not None
    if minimum:
        found |= {"ratio": sent / minimum, "ratio_with_batch_norm": sent / (minimum + (batch_norm or 0))}
    others = (minimum or 0) - (halo or 0) + (batch_norm or 0)
    return found | {"sent": sent, "halo_ratio": (sent - others) / halo if halo else None}


def _mean(values: Any) -> float | None:
    found = list(values)
    return None if None in found else statistics.fmean(found)


def _base(row: dict[str, Any], rows: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """Returns the row on one rank that a row is set against, one with as many micro-batches if there is any."""
    alone = [r for r in rows if r["model"] == row["model"] and r["ranks"] == 1 and "error" not in r]
    alone.sort(key=lambda r: r["micro_batches"] == row["micro_batches"])
    named = {r["strategy"].partition(" ")[0]: r for r in alone}
    return named.get("single") or named.get(row["strategy"].partition(" ")[0])


def goals(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns what was aimed at, as far as the rows can tell: text, value, limit, and whether it was met.

    Args:
        rows: Of ``summarise``.
    """
    found = []
    for row in (r for r in rows if r["ranks"] > 1 and "error" not in r):
        base, share = _base(row, rows), row["parameter_share"]
        if share < 1 and base is not None:
            what = f"parameters + gradients + optimizer state over those of {base['strategy']} x 1"
            found.append(_goal(row, what, row["held_bytes"] / base["held_bytes"], GOAL_RATIO * share))
        if row["row_parts"] > 1:
            found += _goals_of_rows(row, base)
        elif row["traffic"]["ratio"] is not None:
            found.append(_goal(row, "bytes sent over the minimum", row["traffic"]["ratio"], GOAL_RATIO))
    return found


def _goals_of_rows(row: dict[str, Any], base: dict[str, Any] | None) -> list[dict[str, Any]]:
    """Returns what is aimed at where ranks share the rows of images."""
    found = []
    if base is not None:
        what = f"activations over those of {base['strategy']} x 1"
        found.append(
            _goal(row, what, row["peak_activations"] / base["peak_activations"], GOAL_ACTIVATIONS / row["ranks"])
        )
    if (ratio := row["traffic"]["ratio_with_batch_norm"]) is not None:
        found.append(_goal(row, "bytes sent over the minimum with BatchNorm's statistics", ratio, GOAL_RATIO))
    return found


def _goal(row: dict[str, Any], what: str, value: float, limit: float) -> dict[str, Any]:
    case = f"{row['model']} {row['strategy']} x {row['ranks']}"
    return {"case": case, "what": what, "value": value, "limit": limit, "met": value <= limit}
