"""What counts as a difference, and what as nothing to compare."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, replace

import pytest
import torch
from safetensors.torch import save_file

from segframe.certificate.compare import compare, furthest
from segframe.certificate.facts import Facts, RankFacts
from segframe.certificate.guards import look
from segframe.certificate.record import Record
from segframe.certificate.report import Report

TENSORS = {
    "gradient 1/a.weight": torch.tensor([2.0, 1.0]),
    "gradient 3/a.weight": torch.tensor([1.0, -1.0]),
    "parameter/a.weight": torch.tensor([4.0, 1.0]),
    "buffer/bn.running_mean": torch.tensor([1e-3]),
    "buffer/bn.running_var": torch.tensor([100.0]),
    "buffer/bn.num_batches_tracked": torch.tensor(6),
    "average/a.weight": torch.tensor([4.0, 1.0]),
    "optimizer/0.momentum_buffer": torch.tensor([1e-4, 1e-5]),
    "optimizer/group 0.lr": torch.tensor(0.01, dtype=torch.float64),
    "confusion/matrix": torch.tensor([[30, 10], [20, 40]]),
}
FACTS = Facts(
    losses=[2.0, 1.5, 1.0],
    metrics={"val/loss": 1.0, "val/miou": 0.5},
    num_parameters=2,
    clip=(0.2, "norm"),
    gradient_norms={"gradient 1": 2.2, "gradient 3": 1.4},
    moved={"parameter": 0.1, "buffer": 1.0},
    num_val=3,
    labelled_pixels=100,
    ties=2,
)
ALONE = [RankFacts(0, 100, 0, 1, [[0, 1], [2, 3], [1, 2]], [7, 5, 6], [0, 1, 2], 2, 2, {"drop": True})]
PAIR = [
    RankFacts(0, 101, 0, 2, [[0], [2], [1]], [4, 2, 3], [0, 2], 1, 1, {"drop": True}),
    RankFacts(1, 102, 1, 2, [[1], [3], [2]], [3, 3, 3], [1], 1, 1, {"drop": True}),
]


@pytest.fixture
def record(tmp_path):
    """Writes a record and reads it."""

    def write(facts=FACTS, ranks=ALONE, **changed):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        tensors = {**TENSORS, **{key.replace("__", "/").replace("_1", " 1"): x for key, x in changed.items()}}
        save_file({key: x for key, x in tensors.items() if x is not None}, folder / "tensors.safetensors")
        (folder / "facts.json").write_text(json.dumps(asdict(facts)))
        for rank in ranks:
            (folder / f"rank-{rank.rank}.json").write_text(json.dumps(asdict(rank)))
        return Record(folder)

    return write


def rows_of(own, others, precision="fp64", tolerance=1e-9, exact=None):
    return {row.name: row for row in compare(own, others, precision, tolerance, exact)}


def test_equal_records_pass(record):
    rows = rows_of(record(), record())
    assert all(row.passed and row.difference == 0 for row in rows.values())


def test_differences_are_shares_of_the_largest_value_of_the_whole_model():
    own = {"a": torch.tensor([100.0]), "b": torch.tensor([1e-12])}
    assert furthest(own, {"a": torch.tensor([100.0]), "b": torch.tensor([1e-10])})[0] == pytest.approx(1e-12, rel=0.02)
    assert furthest(own, {"a": torch.tensor([101.0]), "b": own["b"]}) == (pytest.approx(0.01), "a")


@pytest.mark.parametrize(
    "others",
    [
        {"a": torch.tensor([math.nan])},
        {"a": torch.tensor([math.inf])},
        {"a": torch.ones(2)},
        {"a": torch.ones(1, dtype=torch.int64)},
        {},
        {"a": torch.ones(1), "b": torch.ones(1)},
    ],
    ids=["nan", "inf", "shape", "dtype", "missing", "more"],
)
def test_what_has_no_difference_is_infinitely_far(others):
    worst, name = furthest({"a": torch.ones(1)}, others)
    assert math.isinf(worst)
    assert name


def test_integers_are_equal_or_not():
    assert furthest({"a": torch.tensor(6)}, {"a": torch.tensor(6)}) == (0.0, "")
    assert furthest({"a": torch.tensor(6)}, {"a": torch.tensor(7)}) == (math.inf, "a")


def test_a_mean_is_not_measured_by_variances(record):
    rows = rows_of(record(), record(buffer__bn=None, **{"buffer__bn.running_mean": torch.tensor([1.01e-3])}))
    assert rows["BatchNorm buffers"].difference == pytest.approx(0.01, rel=1e-3)
    assert rows["BatchNorm buffers"].note == "bn.running_mean"
    assert not rows["BatchNorm buffers"].passed


@pytest.mark.parametrize(
    ("name", "value"),
    [("0.momentum_buffer", torch.tensor([1e-4, 1.1e-5])), ("group 0.lr", torch.tensor(0.0101).double())],
)
def test_each_kind_of_the_optimizer_s_state_is_measured_by_itself(record, name, value):
    row = rows_of(record(), record(**{f"optimizer__{name}": value}))["optimizer state"]
    assert row.difference == pytest.approx(0.01, rel=1e-3)
    assert row.note == name


def test_the_first_step_and_parameter_that_differ_are_named(record):
    others = record(replace(FACTS, losses=[2.0, 1.6, 1.1]), **{"gradient_1__a.weight": torch.tensor([2.0, 1.1])})
    rows = rows_of(record(), others)
    assert rows["loss"].note == "differs first at step 2 of 3"
    assert rows["gradients"].note == "a.weight, step 1"


def test_a_run_that_lost_a_step_fails(record):
    assert not rows_of(record(), record(replace(FACTS, losses=[2.0, 1.5])))["loss"].passed


def test_counts_are_exact_in_fp64_and_ties_may_move_in_fp32(record):
    others = record(
        replace(FACTS, metrics={"val/loss": 1.0, "val/miou": 0.51}), confusion__matrix=torch.tensor([[31, 9], [21, 39]])
    )
    exact = rows_of(record(), others)["confusion matrix"]
    assert (exact.difference, exact.tolerance, exact.passed) == (2, 0, False)
    rows = rows_of(record(), others, "fp32", 1e-5)
    assert (rows["confusion matrix"].difference, rows["confusion matrix"].tolerance) == (2, 2)
    assert rows["confusion matrix"].passed
    # Two pixels of 40 move a mean IoU of two classes by up to 0.075.
    assert rows["val/miou"].passed
    more = record(confusion__matrix=torch.tensor([[32, 8], [21, 39]]))
    assert not rows_of(record(), more, "fp32", 1e-5)["confusion matrix"].passed


def test_pixels_counted_twice_are_no_ties(record):
    row = rows_of(record(), record(confusion__matrix=torch.tensor([[31, 10], [20, 40]])), "fp32", 1e-5)[
        "confusion matrix"
    ]
    assert not row.passed
    assert row.note == "100 pixels were counted in one process and 101 under the strategy"


def test_fp32_gradients_may_differ_by_what_rounding_does_to_one_process(record):
    off = record(**{"gradient_1__a.weight": torch.tensor([2.0, 1.002])})
    near = record(**{"gradient_1__a.weight": torch.tensor([2.0, 1.008])})
    far = record(**{"gradient_1__a.weight": torch.tensor([2.0, 1.02])})
    # One process is 0.001 of the largest gradient from its fp64 run: 0.004 is allowed.
    assert rows_of(off, near, "fp32", 1e-5, record())["gradients"].passed
    assert not rows_of(off, far, "fp32", 1e-5, record())["gradients"].passed
    assert not rows_of(off, near, "fp32", 1e-5)["gradients"].passed
    assert not rows_of(off, near, "fp64", 1e-9)["gradients"].passed


def test_what_a_run_has_not_is_not_compared(record):
    without = {"average__a.weight": None, "buffer__bn.running_mean": None, "buffer__bn.running_var": None}
    without["buffer__bn.num_batches_tracked"] = None
    rows = rows_of(record(**without), record(**without))
    assert rows["EMA"].passed is None
    assert rows["BatchNorm buffers"].passed is None
    assert rows_of(record(), record(**without))["EMA"].passed is False


def guards_of(own, others, ranks=2, steps=3):
    return {guard.name: guard for guard in look(own, others, "fp64", ranks, steps)}


def test_everything_that_had_to_happen_is_seen(record):
    guards = guards_of(record(), record(ranks=PAIR))
    assert all(guard.passed for guard in guards.values()), guards
    assert guards["every image counts once"].found == "2 + 1 of 3 images, 100 of 100 labelled pixels"
    assert guards["ranks ignore unequally"].found == "4/3, 2/3, 3/3 pixels"
    assert guards["parameters are where they belong"].found == "shares 0.500 0.500"


@pytest.mark.parametrize(
    ("name", "facts", "ranks"),
    [
        ("every rank took part", {}, PAIR[:1]),
        ("every rank took part", {}, [PAIR[0], replace(PAIR[1], process=101)]),
        ("the loss changes", {"losses": [1.5, 1.5, 1.5]}, PAIR),
        ("the loss changes", {"losses": []}, PAIR),
        ("gradients are not 0", {"gradient_norms": {"gradient 1": 0.0}}, PAIR),
        ("gradients are not 0", {"gradient_norms": {}}, PAIR),
        ("parameters and buffers move", {"moved": {"parameter": 0.0, "buffer": 1.0}}, PAIR),
        ("parameters and buffers move", {"moved": {"parameter": 0.1, "buffer": 0.0}}, PAIR),
        ("gradients are clipped", {"clip": (5.0, "norm")}, PAIR),
        ("every image counts once", {}, [PAIR[0], replace(PAIR[1], evaluated=[1, 0])]),
        ("every image counts once", {}, [PAIR[0], replace(PAIR[1], evaluated=[])]),
        ("every image counts once", {"labelled_pixels": 101}, PAIR),
        ("the same samples", {}, [PAIR[0], replace(PAIR[1], samples=[[1], [3], [3]])]),
        ("ranks ignore unequally", {}, [PAIR[0], replace(PAIR[1], ignored=PAIR[0].ignored)]),
        ("random layers draw", {}, [replace(r, random_layers={"drop": False}) for r in PAIR]),
        ("random layers draw", {}, [replace(r, random_layers={}) for r in PAIR]),
        ("parameters are where they belong", {}, [replace(PAIR[0], local_parameters=2), PAIR[1]]),
        ("parameters are where they belong", {}, [replace(PAIR[0], local_gradients=2), PAIR[1]]),
        ("parameters are where they belong", {}, [replace(PAIR[0], local_states=2, permitted_states=1), PAIR[1]]),
        ("the whole model is in checkpoints", {"not_in_checkpoint": ["a.weight"]}, PAIR),
    ],
)
def test_what_did_not_happen_is_missed(record, name, facts, ranks):
    facts = replace(FACTS, **facts)
    guards = guards_of(record(facts), record(facts, ranks))
    assert name in [g.name for g in guards.values() if g.passed is False]


def test_constant_predictions_are_missed(record):
    matrix = torch.tensor([[40, 0], [60, 0]])
    guards = guards_of(record(confusion__matrix=matrix), record(ranks=PAIR, confusion__matrix=matrix))
    assert [g.name for g in guards.values() if not g.passed] == ["predictions are not constant"]


def test_ranks_that_share_samples_count_once(record):
    both = [replace(PAIR[0], rank=rank, process=rank, data_size=1, samples=ALONE[0].samples) for rank in (0, 1)]
    both = [replace(rank, evaluated=[0, 1, 2], ignored=[7, 5, 6]) for rank in both]
    # A rank that holds no logits has evaluated nothing.
    both[1].evaluated = []
    assert all(guard.passed for guard in guards_of(record(), record(ranks=both)).values())


def test_ranks_that_share_rows_ignore_unequally_and_see_the_same_samples(record):
    both = [replace(ALONE[0], rank=rank, process=rank, rows=(rank, 2)) for rank in (0, 1)]
    name = "ranks ignore unequally"
    assert not guards_of(record(), record(ranks=both))[name].passed
    both[1].ignored = [1, 5, 6]
    found = guards_of(record(), record(ranks=both))
    assert all(guard.passed for guard in found.values())
    assert found[name].found == "7/1, 5/5, 6/6 pixels"
    both[1].samples = [[0, 1], [2, 3], [1, 3]]
    guard = guards_of(record(), record(ranks=both))["the same samples"]
    assert (guard.passed, guard.found) == (False, "rank 1 has other samples than those that it shares images with")


def test_a_report_that_compared_nothing_fails(record):
    assert not Report("nothing", [], 2).passed
    own, others = record(), record(ranks=PAIR)
    report = Report("all", [], 2, compare(own, others, "fp64", 1e-9), look(own, others, "fp64", 2, 3))
    assert report.passed
    assert report.verdict().startswith("PASS")
    report.guards = look(own, record(ranks=PAIR[:1]), "fp64", 2, 3)
    assert not report.passed
    assert report.verdict().startswith("FAIL: what was compared proves nothing.")
