import pytest

from segframe.figures.mistake_bars import mistake_bars_figure
from segframe.metrics.mistakes import Mistake

CLASSES = ["ground", "a class with a very long name and $ signs", "bar"]
PALETTE = [(70, 70, 80), (230, 85, 70), (170, 100, 200)]


@pytest.mark.parametrize("count", [1, 2, 30])
def test_bars_are_shares_of_wrong_pixels_in_the_predicted_colour(count):
    found = [Mistake(CLASSES[n % 3], CLASSES[(n + 1) % 3], 10, 0.034, 0.5 / (n + 1)) for n in range(count)]
    figure = mistake_bars_figure(found, CLASSES, PALETTE)
    (axes,) = figure.axes
    bars = [bar for container in axes.containers for bar in container]
    assert [bar.get_width() for bar in bars] == pytest.approx([50 / (n + 1) for n in range(count)])
    assert bars[0].get_facecolor()[:3] == pytest.approx([c / 255 for c in PALETTE[1]])
    assert axes.texts[0].get_text() == "50 %   (3.4 % of ground)"
    figure.canvas.draw()
    words = [text.get_window_extent() for text in (*axes.texts, *axes.get_yticklabels())]
    assert all(w.x0 >= 0 and w.x1 <= figure.bbox.width for w in words)
    for number, word in enumerate(words):
        assert not any(word.overlaps(other) for other in words[number + 1 :])


def test_nothing_wrong_is_said():
    (axes,) = mistake_bars_figure([], CLASSES, PALETTE).axes
    assert [text.get_text() for text in axes.texts] == ["no pixel is wrong"]
