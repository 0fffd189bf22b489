import json
from pathlib import Path

import pytest
from matplotlib.text import Text

from segframe.figures.certificates import certificates_figure

KEPT = Path(__file__).parents[3] / "benchmarks" / "certificate_cpu.json"


def certificate(strategy, **differences):
    rows = [
        {"name": name, "precision": "fp64", "difference": value, "tolerance": 1e-9}
        for name, value in differences.items()
    ]
    return {"strategy": strategy, "report": {"rows": [*rows, {**rows[0], "precision": "fp32", "difference": 0.1}]}}


def test_points_are_the_differences_in_fp64():
    rows = [certificate("ddp", loss=1e-15, gradients=0.0), certificate("hybrid strategy.data=2", loss=2e-4)]
    rows.append({"strategy": "spatial", "verdict": "refused", "why": "it looks at whole images"})
    (axes,) = certificates_figure({"rows": rows}).axes
    points = {line.get_label(): sorted(line.get_xdata()) for line in axes.lines if line.get_marker() != "None"}
    assert points == {"ddp": [1e-18, 1e-15], "hybrid data=2": [2e-4]}
    assert axes.get_xlim()[1] >= 2e-4
    assert [label.get_text() for label in axes.get_yticklabels()] == ["loss", "gradients"]


def test_the_kept_certificates_can_be_read():
    result = json.loads(KEPT.read_text(encoding="utf-8"))
    figure = certificates_figure(result)
    figure.canvas.draw()
    words = [t.get_window_extent() for t in figure.findobj(Text) if t.get_text() and t.get_visible()]
    assert all(w.x0 >= 0 and w.y0 >= 0 and w.x1 <= figure.bbox.width and w.y1 <= figure.bbox.height for w in words)
    for number, word in enumerate(words):
        assert not any(word.overlaps(other) for other in words[number + 1 :])


def test_nothing_compared_is_refused():
    with pytest.raises(ValueError, match=r"scripts/verify_all\.py makes some"):
        certificates_figure({"rows": []})
