import numpy as np
import pytest
from matplotlib.text import Text

from segframe.data.ade20k import ADE20K
from segframe.figures import canvas
from segframe.figures.panels import Prediction
from segframe.figures.seen import seen_figure

IGNORE = 255
CLASSES, PALETTE = ADE20K.classes, ADE20K.palette


def seen(height=40, width=60, label=2, confidence=0.25):
    ids = np.full((height, width), label)
    return Prediction(np.full((height, width, 3), 90, np.uint8), ids, np.full((height, width), confidence, np.float32))


@pytest.mark.parametrize("sizes", [[(40, 60)], [(90, 20), (30, 90), (16, 16)]])
def test_pictures_and_words_stay_apart_and_inside(sizes):
    figure = seen_figure([seen(*size) for size in sizes], CLASSES, PALETTE, IGNORE)
    figure.canvas.draw()
    texts = [t for t in figure.findobj(Text) if t.get_text() and t.get_visible()]
    assert {"image", "prediction", "confidence", CLASSES[2]} <= {t.get_text() for t in texts}
    boxes = [axes.get_window_extent() for axes in figure.axes]
    assert len(boxes) == 3 * len(sizes) + 1
    for number, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[number + 1 :])
    words = [t.get_window_extent() for t in texts]
    assert all(b.x0 >= 0 and b.y0 >= 0 and b.x1 <= figure.bbox.width and b.y1 <= figure.bbox.height for b in words)
    assert not any(word.overlaps(box) for word in words for box in boxes)


def test_colours_are_those_of_classes_and_confidence():
    pictures = [canvas.pixels(seen_figure([seen(confidence=c)], CLASSES, PALETTE, IGNORE)) for c in (0.1, 0.9)]
    for picture in pictures:
        assert (picture == PALETTE[2]).all(-1).sum() > 50_000
    assert (pictures[0] != pictures[1]).any(-1).sum() > 50_000


def test_nothing_to_draw_is_refused():
    with pytest.raises(ValueError, match="no predictions to draw"):
        seen_figure([], CLASSES, PALETTE, IGNORE)
