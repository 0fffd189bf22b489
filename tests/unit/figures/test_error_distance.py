import pytest
import torch

from segframe.figures.error_distance import error_distance_figure
from segframe.metrics.boundary import range_names


def counts(*right_and_wrong):
    return torch.tensor([[[right, wrong], [0, 0]] for right, wrong in right_and_wrong])


def heights(axes):
    return [bar.get_height() for bar in axes.patches]


def test_rates_and_shares_are_those_of_the_counts():
    figure = error_distance_figure(counts((50, 50), (95, 5), (0, 0), (795, 5)), range_names((1, 2, 4)))
    left, right = figure.axes
    assert heights(left) == pytest.approx([50, 5, 0, 0.625])
    assert heights(right) == pytest.approx([100 * n / 60 for n in (50, 5, 0, 5)] + [10, 10, 0, 80])
    assert [text.get_text() for text in left.texts] == ["50", "5.0", "none", "0.6"]
    assert [label.get_text() for label in right.get_xticklabels()] == ["up to 1", "1 to 2", "2 to 4", "over 4"]
    figure.canvas.draw()
    for axes in figure.axes:
        words = [text.get_window_extent() for text in (*axes.texts, *axes.get_xticklabels())]
        words.append(axes.title.get_window_extent() if axes.get_title() else axes._left_title.get_window_extent())
        words += [axes.get_legend().get_window_extent()] if axes.get_legend() else []
        for number, word in enumerate(words):
            assert not any(word.overlaps(other) for other in words[number + 1 :])


@pytest.mark.parametrize("cell", [(0, 0), (7, 0)])
def test_nothing_counted_and_nothing_wrong_can_be_drawn(cell):
    figure = error_distance_figure(counts(cell, cell), range_names((1,)))
    assert heights(figure.axes[0]) == [0, 0]


def test_every_range_needs_a_name():
    with pytest.raises(ValueError, match="2 ranges of distance and 3 names"):
        error_distance_figure(counts((1, 1), (1, 1)), range_names((1, 2)))
