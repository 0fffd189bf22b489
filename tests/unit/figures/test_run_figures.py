import math

import pytest

from segframe.figures import canvas
from segframe.figures.run_curves import run_curves_figure
from segframe.figures.score_differences import Span, score_differences_figure

LONG = "B a-model-with-a-long-name optimizer.weight_decay=0.00012345 augment.sample.scale=[0.5, 2.0] and more of it"


def run(folder, rows):
    folder.mkdir()
    (folder / "metrics.csv").write_text("\n".join(["step,val/miou,val/loss", *rows]) + "\n")
    return folder


def inside(figure):
    """Whether all texts lie within the picture."""
    canvas.pixels(figure)
    renderer = figure.canvas.get_renderer()
    width, height = figure.get_size_inches() * figure.dpi
    legends = [text for legend in figure.legends for text in legend.get_texts()]
    panels = [axes for axes in figure.axes if axes.axison]
    texts = [text for axes in panels for text in (*axes.get_yticklabels(), axes.xaxis.label, axes.yaxis.label)]
    boxes = [text.get_window_extent(renderer) for text in (*texts, *legends, *figure.texts) if text.get_text()]
    return all(b.x0 >= 0 and b.y0 >= 0 and b.x1 <= width and b.y1 <= height for b in boxes)


def test_seeds_share_a_line_and_a_band(tmp_path):
    seeds = [run(tmp_path / "0", ["4,0.1,2", "8,0.3,1"]), run(tmp_path / "1", ["4,0.3,2", "8,nan,1", "12,0.5,1"])]
    lost = tmp_path / "lost"
    figure = run_curves_figure(["A", LONG, "C lost"], [seeds, [seeds[0]], [lost]], "val/miou", "mIoU")
    upper, lower = figure.axes
    mean, single = upper.lines
    assert mean.get_xydata().tolist() == [[4, pytest.approx(0.2)]]  # the one step that both have a value at
    assert single.get_xydata().tolist() == [[4, 0.1], [8, 0.3]]
    assert len(upper.collections) == 1
    assert len(lower.lines) == 2
    assert inside(figure)


def test_runs_without_any_value(tmp_path):
    figure = run_curves_figure(["A", "B"], [[tmp_path / "a"], [tmp_path / "b"]], "val/miou", "mIoU")
    assert [text.get_text() for text in figure.axes[0].texts] == ["nothing was logged"]


def test_differences_of_many_long_named_and_absent_classes():
    spans = [
        (f"a class of a very long name indeed, {k}", [Span(0.001 * k, -0.05, 0.05), Span(-0.1, -0.2, -0.01)])
        for k in range(59)
    ]
    spans += [("absent", [Span(math.nan, -math.inf, math.inf)] * 2)]
    rows = [("mIoU", [Span(0.01, 0.0, 0.02), Span(-0.1, -0.12, -0.08)]), *spans]
    figure = score_differences_figure(["A first", LONG, "C"], rows, "97.5 %")
    axes = figure.axes[0]
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert len(names) == 41
    assert names[0] == "mIoU"
    assert "40 of 60 classes" in axes.get_xlabel()
    assert {line.get_alpha() for line in axes.lines[2:]} == {0.45, 1.0}
    assert inside(figure)


def test_an_interval_without_ends_is_a_hollow_point():
    rows = [("mIoU", [Span(0.01, -math.inf, math.inf)]), ("gone", [Span(math.nan, -math.inf, math.inf)])]
    axes = score_differences_figure(["A", "B"], rows, "95 %").axes[0]
    assert [text.get_text() for text in axes.texts] == [" absent"]
    assert axes.lines[-1].get_markerfacecolor() == "white"


@pytest.mark.parametrize("count", [2, 5, 11])
def test_marks_of_many_groups_stay_in_the_row_of_their_class(count):
    rows = [(f"class {place}", [Span(0.1, 0.0, 0.2)] * count) for place in range(40)]
    figure = score_differences_figure([f"{number}" for number in range(count + 1)], rows, "95 %")
    axes = figure.axes[0]
    heights = sorted(float(line.get_ydata()[0]) for line in axes.lines if line.get_marker() != "None")
    of_row = [heights[n : n + count] for n in range(0, len(heights), count)]
    assert len(of_row) == len(axes.get_yticks())
    assert all(place - 0.5 < own[0] and own[-1] < place + 0.5 for place, own in enumerate(of_row))
    gap = (of_row[0][1] - of_row[0][0]) * axes.get_window_extent().height / figure.dpi / len(of_row)
    assert gap > 0.09  # inches, more than a mark takes
    assert figure.get_size_inches()[1] < 28


def test_titles_keep_the_letters_of_long_names():
    names = [f"{letter} {LONG}" for letter in "ABC"]
    figure = score_differences_figure(names, [("mIoU", [Span(0.1, 0.0, 0.2)] * 2)], "95 %")
    written = [text.get_text() for text in figure.texts]
    assert [title[0] for title in written if " minus A " in title] == ["B", "C"]
    assert inside(figure)
