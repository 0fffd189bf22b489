"""The pictures of a sweep: every trial has its mark, whatever is missing, and nothing is cut off or overwritten."""

import math
import random

import numpy as np
import pytest
from matplotlib.collections import PathCollection

from segframe.figures import canvas
from segframe.figures.sweep_history import sweep_history, sweep_history_figure
from segframe.figures.sweep_importance import sweep_importance_figure
from segframe.figures.sweep_parallel import sweep_parallel_figure
from segframe.figures.sweep_scale import MISSING, Point, Scale, scales
from segframe.figures.sweep_slice import sweep_slice_figure

FEW = [Point(0, "finished", 0.5, {"lr": 1e-3}), Point(1, "finished", 0.52, {"lr": 1e-2})]
FAILED = [Point(i, "failed", None, {"lr": 10.0**-i}) for i in range(4)]
ODD = [
    Point(0, "finished", math.nan, {"lr": 1e-3, "model": None, "x": 1}),
    Point(1, "finished", None, {"lr": 1e-2, "model": "a$_{b}", "x": 2}),
    Point(2, "finished", 0.4, {"lr": 0.0, "model": "b"}),
    Point(3, "interrupted", None, {"lr": 3e-2, "model": "b", "x": 4}),
    Point(4, "pruned", 0.2, {"lr": 3e-2, "model": "b", "x": 4}),
    Point(5, "failed", None, {"lr": 3e-2, "model": "b", "x": 4}),
    Point(6, "running", None, {"lr": 3e-2, "model": "b", "x": 4}),
]
LONG = [
    Point(i, "finished", 0.5 + i / 100, {"a_section.with.an_extraordinarily_long_key_" * 2: f"{'value_' * 8}{i % 9}"})
    for i in range(20)
]


def many() -> list[Point]:
    rng, points = random.Random(0), []
    for number in range(100):
        params = {"optimizer.lr": 10 ** rng.uniform(-5, -1), "model": rng.choice(["pspnet", "segnet"])}
        params["weight_decay"] = rng.choice([0.0, 1e-4, 1e-2])
        state = rng.choice(["finished", "finished", "pruned", "failed"])
        points.append(Point(number, state, None if state == "failed" else rng.random(), params))
    return points


ALL_STATES = [
    Point(i, ("finished", "pruned", "failed", "interrupted")[i % 4], 0.5, {"model": "ab"[i // 4 % 2]})
    for i in range(100)
]
PRUNED = [*FEW, Point(2, "pruned", 0.1, {"lr": 1e-4}), Point(3, "pruned", 0.2, {"lr": 1e-4})]
CASES = {
    "few": FEW,
    "pruned": PRUNED,
    "failed": FAILED,
    "all states": ALL_STATES,
    "odd": ODD,
    "long": LONG,
    "many": many(),
    "one": FEW[:1],
    "none": [],
}


def figures(points):
    yield sweep_history_figure(points, "val/miou", True)
    yield sweep_parallel_figure(points, "val/a_long_metric (best)", True, {"optimizer.lr": True})
    for scale in scales(points, {}):
        yield sweep_slice_figure(points, scale.name, "val/miou", {"optimizer.lr": True})


@pytest.mark.parametrize("points", CASES.values(), ids=CASES)
def test_nothing_is_cut_off_or_crashes(points):
    for figure in figures(points):
        picture = canvas.pixels(figure)
        border = np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]])
        assert (border == 255).all()
        for axes in figure.axes:
            if legend := axes.get_legend():
                assert figure.bbox.y1 >= legend.get_window_extent().y1
                assert figure.bbox.x1 > legend.get_window_extent().x1
            for labels in (axes.get_xticklabels(), axes.get_yticklabels()):
                boxes = [label.get_window_extent() for label in labels if label.get_text() and not label.get_rotation()]
                assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


def test_history_has_every_trial_and_the_best_so_far(tmp_path):
    (axes,) = sweep_history_figure(ODD, "val/miou", True).axes
    texts = [text.get_text() for text in axes.get_legend().get_texts()]
    assert texts == [
        "pruned (1)",
        "best so far",
        "finished (1)",
        "best: 0.4000, trial 2",
        "failed (1)",
        "interrupted (1)",
        "no value (2)",
    ]
    axes = sweep_history_figure(CASES["many"], "val/miou", True).axes[0]
    drawn = {c.get_label().split()[0]: len(c.get_offsets()) for c in axes.collections if isinstance(c, PathCollection)}
    assert drawn["finished"] + drawn["pruned"] + drawn["failed"] == 100
    best = axes.lines[0].get_ydata()
    assert list(best) == sorted(best)
    lowest = sweep_history_figure(CASES["many"], "val/loss", False).axes[0].lines[0].get_ydata()
    assert list(lowest) == sorted(lowest, reverse=True)
    assert lowest[-1] < best[-1]
    sweep_history(FEW, "val/miou", True, tmp_path / "new/history.png")
    assert (tmp_path / "new/history.png").read_bytes()[:4] == b"\x89PNG"


def test_one_value_that_dwarfs_the_others_does_not_flatten_them():
    points = [Point(i, "finished", value, {"lr": i}) for i, value in enumerate((0.4, 0.5, 1e5, 0.6))]
    assert sweep_history_figure(points, "val/loss", False).axes[0].get_yscale() == "log"
    assert sweep_history_figure(points[:2], "val/loss", False).axes[0].get_yscale() == "linear"


def test_parallel_coordinates_draw_the_best_last_and_thickest():
    for is_maximized, best in ((True, 1), (False, 0)):
        axes = sweep_parallel_figure(FEW, "val/miou", is_maximized, {}).axes[0]
        lines = [line for line in axes.lines if line.get_zorder() == 2]
        assert [round(line.get_linewidth(), 1) for line in lines] == [1.1, 2.6]
        lr, value = lines[-1].get_ydata()
        assert (lr > 0.5) == (value > 0.5) == bool(best)
        light, dark = (sum(line.get_color()[:3]) for line in lines)
        assert light > dark
    lines = sweep_parallel_figure(ODD, "val/miou", True, {}).axes[0].lines
    assert sum(line.get_linestyle() == "--" for line in lines) == 1, "a pruned trial is dashed"


def test_slices_show_the_mean_where_values_repeat():
    points = [Point(i, "finished", [0.1, 0.3, 0.6, 0.8][i], {"model": "ab"[i // 2], "lr": 0.1 * i}) for i in range(4)]
    axes = sweep_slice_figure(points, "model", "val/miou", {}).axes[0]
    means = [line.get_ydata()[0] for line in axes.lines if len(line.get_xdata()) == 2 and line.get_linewidth() == 2]
    assert means == pytest.approx([0.2, 0.7])
    figure = sweep_slice_figure(points, "lr", "val/miou", {})
    assert not figure.axes[0].lines
    assert len(figure.axes) == 2, "numbers that do not repeat are coloured by trial"
    with pytest.raises(ValueError, match="same value in all trials"):
        sweep_slice_figure(points[:2], "model", "val/miou", {})


def test_importance_is_sorted_and_needs_a_parameter():
    axes = sweep_importance_figure({"a": 0.1, "b": 0.7, "c" * 80: 0.2}, "fANOVA over 9 trials").axes[0]
    assert [bar.get_width() for bar in axes.patches] == [0.7, 0.2, 0.1]
    assert axes.get_yticklabels()[0].get_text() == "b"
    with pytest.raises(ValueError, match="no parameter varies"):
        sweep_importance_figure({}, "nothing")


@pytest.mark.parametrize(
    ("values", "is_log", "kind"),
    [
        ([1e-4, 1e-3, 1e-2], None, "log"),
        ([0.0, 1e-4, 1e-2], None, "names"),  # listed numbers that would lie on each other
        ([0, 1, 2], None, "numbers"),
        ([1e-5, 2e-5, 0.09], True, "log"),
        ([0.001, 0.3, 0.5], False, "numbers"),
        ([1, "a", None], None, "names"),
        ([True, False], None, "names"),
        ([[48, 48], [96, 96]], None, "names"),
        ([0.01, MISSING, 0.02], True, "log"),
    ],
)
def test_scale(values, is_log, kind):
    scale = Scale("x", values, is_log)
    assert ("names" if scale.is_categorical else "log" if scale.is_log else "numbers") == kind
    places = [scale.place(value) for value in values]
    low, high = scale.limits
    assert all(math.isnan(p) if v is MISSING else low < p < high for p, v in zip(places, values, strict=True))
    assert len({p for p in places if not math.isnan(p)}) == len([v for v in values if v is not MISSING])
    ticks = scale.ticks()
    assert len(ticks) > 1
    assert all(low <= place <= high for place, _ in ticks)
    assert len({text for _, text in ticks}) == len(ticks)


def test_whole_numbers_have_whole_ticks():
    assert [text for _, text in Scale("seed", [0, 1, 2], False).ticks()] == ["0", "1", "2"]
