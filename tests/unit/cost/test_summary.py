"""Figures of several ranks put together, against ones worked out by hand."""

from __future__ import annotations

import pytest

from segframe.cost.summary import goals, summarise
from segframe.cost.table import WIDTH, cells, show

MIB = 2**20


def rank(step_s, share=1.0, sent=None, minimum=0.0, **changes):
    return {
        "step_s": step_s,
        "counted_steps": max(1, len(step_s)),
        "parameters": share * MIB,
        "gradients": share * MIB,
        "optimizer_state": share * 2 * MIB,
        "activations": 3 * MIB,
        "gathered": 0,
        "cuda_peak_bytes": None,
        "sent": None if sent is None else {"to_ranks": sent, "to_store": 7},
        "not_counted": "no Linux" if sent is None else None,
        "parameter_share": share,
        "minimum_bytes": minimum,
        "row_parts": 1,
        "halo_bytes": 0,
        "pooled_bytes": 0,
        "batch_norm_bytes": 0,
        "in_flight_share": 0.5,
        "waited_share": 0.25,
        "moving_share": 0.125,
        **changes,
    }


def case(strategy, *ranks, micro_batches=1):
    head = {"model": "tiny", "strategy": strategy, "ranks": len(ranks), "micro_batches": micro_batches}
    return {**head, "per_rank": list(ranks)}


@pytest.fixture
def rows():
    single = case("single", rank([2.0, 2.0, 2.0], sent=0))
    ddp = case(
        "ddp", rank([1.0, 1.0, 9.0], sent=3 * MIB, minimum=MIB), rank([1.0, 1.6, 1.0], sent=3 * MIB, minimum=MIB)
    )
    fsdp = case("fsdp", *[rank([4.0] * 3, share=0.5, sent=6 * MIB, minimum=1.95 * MIB)] * 2)
    return summarise([single, ddp, fsdp], batch=8, cores=2)


def test_a_step_takes_as_long_as_its_slowest_rank(rows):
    assert rows[1]["step_ms"] == 1600  # of 1.0, 1.6 and 9.0
    assert rows[1]["images_per_s"] == 5
    assert rows[1]["speed_up"] == pytest.approx(1.25)
    assert rows[1]["efficiency"] == pytest.approx(0.625)


def test_goals_are_met_and_missed_by_the_numbers(rows):
    found = [(goal["case"], round(goal["value"], 4), goal["limit"], goal["met"]) for goal in goals(rows)]
    assert found == [
        ("tiny ddp x 2", 1.0, 1.05, True),
        ("tiny fsdp x 2", 0.5, 0.525, True),
        ("tiny fsdp x 2", 1.0256, 1.05, True),
    ]
    rows[1]["traffic"]["ratio"], rows[2]["held_bytes"] = 1.06, 0.53 * rows[0]["held_bytes"]
    assert [goal["met"] for goal in goals(rows)] == [False, False, True]


def test_ranks_that_share_cores_have_no_efficiency():
    alone, shared = case("single", rank([2.0])), case("ddp", *[rank([1.0])] * 4)
    row = summarise([alone, shared], batch=8, cores=2)[1]
    assert row["efficiency"] is None
    assert "shared\ncores" in cells(row)


def test_bytes_that_nobody_counted_are_said_to_be_unknown():
    row = summarise([case("ddp", rank([1.0]), rank([1.0]))], batch=8, cores=2)[0]
    assert (row["traffic"]["sent"], row["traffic"]["why"]) == (None, "no Linux")
    assert goals([row]) == []


def test_the_table_is_no_wider_than_a_page(rows, capsys):
    failed = {"model": "a_long_model_name", "strategy": "model_sharded", "ranks": 16, "error": "there was no room"}
    show({"cases": [*rows, failed], "goals": goals(rows), "batch": 8, "cores": 2})
    output = capsys.readouterr().out
    assert max(map(len, output.splitlines())) <= WIDTH
    assert "a_long_model_name" in output
    assert "model_sharded x 16: there was no room" in output
    assert "goal met: tiny fsdp x 2" in output


def test_rows_have_goals_of_their_own():
    rows_of = {"row_parts": 2, "halo_bytes": 3 * MIB, "pooled_bytes": MIB, "batch_norm_bytes": 2 * MIB}
    half = [rank([], sent=8 * MIB, minimum=MIB, activations=size * MIB, **rows_of) for size in (1.6, 1.8)]
    alone = rank([], sent=0)
    rows = summarise([case("single", alone), case("spatial", *half)], batch=8, cores=2)
    assert rows[1]["traffic"]["minimum"] == 5 * MIB  # gradients, halo and what is pooled
    assert rows[1]["traffic"]["halo_ratio"] == pytest.approx(4 / 3)  # 8 - 1 - 1 - 2 of 3
    assert (rows[1]["step_ms"], rows[1]["speed_up"]) == (None, None)
    activations, sent = goals(rows)
    assert (activations["value"], activations["limit"], activations["met"]) == (0.6, 1.15 / 2, False)
    assert (sent["value"], sent["met"]) == (pytest.approx(8 / 7), False)


def test_a_case_is_set_against_one_with_as_many_micro_batches():
    whole, cut = case("single", rank([2.0])), case("single", rank([3.0]), micro_batches=4)
    rows = summarise([cut, whole, case("model_sharded", *[rank([1.0])] * 2, micro_batches=4)], batch=8, cores=2)
    assert rows[2]["speed_up"] == 3
    assert summarise([whole, cut, case("ddp", rank([1.0]))], batch=8, cores=2)[2]["speed_up"] == 2
