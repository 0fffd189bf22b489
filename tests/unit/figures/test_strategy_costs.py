"""The picture of what strategies cost: every case has its bars, and nothing is cut off."""

import numpy as np
import pytest

from segframe.figures import canvas
from segframe.figures.strategy_costs import strategy_costs, strategy_costs_figure

MIB = 2**20
KEYS = ("parameters", "gradients", "optimizer_state", "activations", "gathered")


def case(model, strategy, ranks, **changes):
    return {
        "model": model,
        "strategy": strategy,
        "ranks": ranks,
        "shares_cores": ranks > 2,
        "speed_up": 1.5,
        "memory": dict.fromkeys(KEYS, 10 * MIB),
        "traffic": {"sent": 30 * MIB, "minimum": 20 * MIB},
        **changes,
    }


@pytest.fixture
def result():
    unknown = {"sent": None, "minimum": None}
    cases = [
        case("pspnet", "single", 1),
        case("pspnet", "model_sharded", 4),
        {"model": "pspnet", "strategy": "fsdp", "ranks": 2, "error": "there was no room"},
        case("segnet", "ddp", 2, traffic=unknown, speed_up=None),
    ]
    return {"cases": cases}


def test_every_case_that_worked_has_its_bars(result):
    figure = strategy_costs_figure(result)
    panels = [axes for axes in figure.axes if axes.get_xlabel()]
    memory, traffic, speed = panels[:3]
    assert [label.get_text() for label in memory.get_yticklabels()] == ["single x 1", "model_sharded x 4"]
    assert [bar.get_width() for bar in memory.patches] == [10.0] * 2 * len(KEYS)
    assert [bar.get_width() for bar in traffic.patches] == [30.0]  # one rank sends nothing
    assert traffic.lines[0].get_xdata()[0] == 20.0
    assert [bar.get_width() for bar in speed.patches] == [1.5]
    assert [text.get_text() for text in speed.texts] == ["ranks share cores"]
    assert not panels[4].patches, "bytes that nobody counted have no bar"


def test_nothing_is_cut_off(result):
    picture = canvas.pixels(strategy_costs_figure(result))
    border = np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]])
    assert (border == 255).all()


def test_the_file_is_a_png(result, tmp_path):
    strategy_costs(result, tmp_path / "new/costs.png")
    assert (tmp_path / "new/costs.png").read_bytes()[:4] == b"\x89PNG"


def test_without_times_there_is_no_panel_of_speed(result):
    for row in result["cases"]:
        row["speed_up"] = None
    figure = strategy_costs_figure(result)
    assert {axes.get_xlabel() for axes in figure.axes} == {
        "",
        "MiB on the rank that holds most",
        "MiB sent per rank, step",
    }
    border = canvas.pixels(figure)[:, -1]
    assert (border == 255).all()
