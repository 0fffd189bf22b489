"""What the ranks of each case found, put together and set against one rank and against what must be sent."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

GOAL_RATIO = 1.05
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
    "reduce-scatter; batch_norm: what shared BatchNorm statistics take beside that",
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
            row["speed_up"] = None if base is None else base["step_ms"] / row["step_ms"]
            ratio = row["speed_up"]
            row["efficiency"] = None if ratio is None or row["shares_cores"] else ratio / row["ranks"]
    return rows


def _row(case: dict[str, Any], batch: int, cores: int) -> dict[str, Any]:
    ranks = case["per_rank"]
    step_s = statistics.median(max(times) for times in zip(*(rank["step_s"] for rank in ranks), strict=True))
    fullest = max(ranks, key=lambda rank: sum(rank[key] for key in (*_HELD, "activations")))
    return {
        **{key: case[key] for key in ("model", "strategy", "ranks")},
        "shares_cores": case["ranks"] > cores,
        "step_ms": step_s * 1e3,
        "images_per_s": batch / step_s,
        "memory": {key: fullest[key] for key in (*_HELD, "activations", "gathered", "cuda_peak_bytes")},
        "held_bytes": max(sum(rank[key] for key in _HELD) for rank in ranks),
        "parameter_share": max(rank["parameter_share"] for rank in ranks),
        "traffic": _traffic(ranks),
        "in_flight_share": statistics.mean(rank["in_flight_share"] for rank in ranks),
        "waited_share": _mean(rank["waited_share"] for rank in ranks),
        "moving_share": _mean(rank["moving_share"] for rank in ranks),
        "per_rank": ranks,
    }


def _traffic(ranks: Sequence[dict[str, Any]]) -> dict[str, Any]:
    minimum = _mean(rank["minimum_bytes"] for rank in ranks)
    statistics_bytes = _mean(rank["batch_norm_bytes"] for rank in ranks)
    found: dict[str, Any] = {"minimum": minimum, "batch_norm": statistics_bytes}
    if any(rank["sent"] is None for rank in ranks):
        return found | {"sent": None, "ratio": None, "ratio_with_batch_norm": None, "why": ranks[0]["not_counted"]}
    sent = _mean(rank["sent"]["to_ranks"] / rank["timed_steps"] for rank in ranks)
    assert sent is not None
    ratio = sent / minimum if minimum else None
    with_statistics = sent / (minimum + (statistics_bytes or 0)) if minimum else None
    return found | {"sent": sent, "ratio": ratio, "ratio_with_batch_norm": with_statistics}


def _mean(values: Any) -> float | None:
    found = list(values)
    return None if None in found else statistics.fmean(found)


def _base(row: dict[str, Any], rows: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """Returns the row on one rank that a row is set against."""
    alone = [r for r in rows if r["model"] == row["model"] and r["ranks"] == 1 and "error" not in r]
    named = {r["strategy"]: r for r in alone}
    return named.get("single") or named.get(row["strategy"])


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
        if row["traffic"]["ratio"] is not None:
            found.append(_goal(row, "bytes sent over the minimum", row["traffic"]["ratio"], GOAL_RATIO))
    return found


def _goal(row: dict[str, Any], what: str, value: float, limit: float) -> dict[str, Any]:
    case = f"{row['model']} {row['strategy']} x {row['ranks']}"
    return {"case": case, "what": what, "value": value, "limit": limit, "met": value <= limit}
