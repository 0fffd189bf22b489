import cv2
import numpy as np
import pytest
from matplotlib.text import Text

from segframe.figures.contact_sheet import Shown, contact_figure, contact_sheet
from segframe.figures.masks import overlaid

IGNORE = 255
CLASSES = ["sky", "a name with $dollar$", "white"]
PALETTE = [(9, 90, 200), (200, 30, 4), (255, 255, 255)]


def shown(height=60, width=80, name="folder/frame$_.png"):
    mask = np.zeros((height, width), np.uint8)
    mask[height // 2 :], mask[: height // 6] = 1, IGNORE
    return Shown(np.full((height, width, 3), 100, np.uint8), mask, name, f"sample 3, {height} x {width}")


def texts(figure):
    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


def inside(figure):
    figure.canvas.draw()
    boxes = [text.get_window_extent() for text in figure.findobj(Text) if text.get_text() and text.get_visible()]
    boxes += [axes.get_window_extent() for axes in figure.axes]
    return all(
        b.x0 >= -1 and b.y0 >= -1 and b.x1 <= figure.bbox.width + 1 and b.y1 <= figure.bbox.height + 1 for b in boxes
    )


def test_every_sample_stands_beside_its_labels(tmp_path):
    contact_sheet([shown()] * 3, CLASSES, PALETTE, tmp_path / "new" / "sheet.png", IGNORE, "title")
    picture = cv2.imread(str(tmp_path / "new" / "sheet.png"), cv2.IMREAD_COLOR_RGB)
    mixed = [tuple(int(0.6 * value + 40) for value in PALETTE[label]) for label in (0, 1)]
    found = [int((picture == color).all(-1).sum()) for color in ((100, 100, 100), *mixed)]
    assert min(found) > 30_000
    assert found[0] > found[2] > found[1] > found[2] / 2


def test_an_overlay_keeps_what_the_image_shows():
    one = shown()
    picture = overlaid(one.image, one.mask, PALETTE, IGNORE)
    assert (picture[one.mask == 1] == (160, 58, 42)).all()
    assert len(np.unique(picture[one.mask == IGNORE])) == 2
    brighter = overlaid(one.image + 100, one.mask, PALETTE, IGNORE)
    assert (brighter.astype(int) - picture == 40).all()


def test_names_sizes_and_classes_are_told():
    found = texts(contact_figure([shown(), shown(50, 30, "other.png")], CLASSES, PALETTE, IGNORE, "camvid, epoch 0"))
    assert {"camvid, epoch 0", "folder/frame$_.png", "other.png", "sample 3, 60 x 80", "sample 3, 50 x 30"} <= set(
        found
    )
    assert {*CLASSES, "ignored"} <= set(found)


@pytest.mark.parametrize("count", [1, 2, 5, 12])
@pytest.mark.parametrize("size", [(60, 80), (100, 30), (20, 160)])
def test_nothing_leaves_the_sheet_and_pictures_keep_their_shape(count, size):
    long = [shown(*size, name="folder/" * 40 + f"frame{number}.png") for number in range(count)]
    figure = contact_figure(long, CLASSES, PALETTE, IGNORE, "a title that is long, " * 20)
    assert inside(figure)
    assert len(figure.axes) == 2 * count
    width, height = figure.get_size_inches()
    assert width <= 17
    for axes in figure.axes:
        box = axes.get_position()
        assert box.height * height / (box.width * width) == pytest.approx(size[0] / size[1])
    assert sum(text.startswith("…") and text.endswith(".png") for text in texts(figure)) == count


def test_pictures_do_not_overlap():
    sizes = [(60, 80), (100, 30), (20, 160), (50, 50), (80, 60)]
    figure = contact_figure([shown(*size) for size in sizes], CLASSES, PALETTE, IGNORE, "title")
    boxes = [axes.get_position() for axes in figure.axes]
    for number, one in enumerate(boxes):
        for other in boxes[:number]:
            assert one.x1 <= other.x0 or other.x1 <= one.x0 or one.y1 <= other.y0 or other.y1 <= one.y0


def test_of_many_classes_those_that_occur_are_listed():
    names = [f"class {number}" for number in range(150)]
    figure = contact_figure([shown()], names, [(number, 0, 9) for number in range(150)], IGNORE, "title")
    assert [text for text in texts(figure) if text.startswith("class")] == ["class 0", "class 1"]
    assert inside(figure)


def test_no_sample_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="no samples to draw"):
        contact_sheet([], CLASSES, PALETTE, tmp_path / "sheet.png", IGNORE, "title")
