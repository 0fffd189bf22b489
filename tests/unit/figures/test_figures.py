from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from segframe import figures
from segframe.figures.canvas import ink_on, short
from segframe.figures.confusion_map import confusion_figure
from segframe.figures.iou_bars import iou_figure
from segframe.figures.panels import Sample
from segframe.figures.sample_grid import colored, errors, predictions_figure
from segframe.figures.training_curves import curves_figure

IGNORE = 255
CLASSES = ["sky", "a name with $dollar$ and _underscore_", "white"]
PALETTE = [(9, 90, 200), (200, 30, 4), (255, 255, 255)]


def sample(height: int = 60, width: int = 80, miou: float = 0.5, worst: bool = False) -> Sample:
    truth = np.zeros((height, width), np.uint8)
    truth[height // 2 :], truth[: height // 6] = 1, IGNORE
    prediction = np.where(np.arange(width) < width // 2, 0, 2) * np.ones((height, 1), np.int64)
    image = np.full((height, width, 3), 90, np.uint8)
    return Sample(f"frame$_{height}.png", image, truth, prediction, miou, worst)


def read(path: Path) -> np.ndarray:
    return cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)


def places(picture: np.ndarray, color: tuple[int, int, int]) -> np.ndarray:
    """The rows and columns where a picture has a colour."""
    return np.argwhere((picture == color).all(-1))


def texts(figure: object) -> list[str]:
    from matplotlib.text import Text

    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


def test_predictions_have_the_palette_in_the_right_columns(tmp_path: Path) -> None:
    figures.predictions([sample()], CLASSES, PALETTE, tmp_path / "new" / "p.png", IGNORE)
    picture = read(tmp_path / "new" / "p.png")
    assert picture.shape[1] == round(160 * (4 * 3 + 3 * 0.08 + 2 * 0.15))
    legend = picture.shape[0] - 80
    margin, column = 160 * 0.15, 160 * 3.08
    for color, first, last in (((9, 90, 200), 1, 2), ((200, 30, 4), 1, 1), ((225, 30, 45), 3, 3)):
        found = places(picture[:legend], color)
        assert len(found) > 5000
        assert {int((c - margin + 1) // column) for _, c in found} == set(range(first, last + 1))
        assert len(places(picture[legend:], color)) > 500


def test_predictions_name_what_they_show() -> None:
    shown = texts(predictions_figure([sample(), sample(miou=0.25, worst=True)], CLASSES, PALETTE, IGNORE))
    assert {"image", "truth", "prediction", "error", "ignored", "wrong (error)", "sky"} <= set(shown)
    assert "frame$_60.png   mIoU 0.500" in shown
    assert "frame$_60.png   mIoU 0.250   worst" in shown
    nothing = sample(miou=float("nan"))._replace(truth=np.full((60, 80), 1, np.uint8))
    shown = texts(predictions_figure([nothing], CLASSES, PALETTE, IGNORE))
    assert "frame$_60.png   not scored" in shown
    assert "ignored" not in shown


@pytest.mark.parametrize("shape", [(64, 64), (60, 80), (50, 100), (100, 50)])
def test_pictures_keep_their_shape(shape: tuple[int, int]) -> None:
    figure = predictions_figure([sample(*shape)], CLASSES, PALETTE, IGNORE)
    width, height = figure.get_size_inches()
    for axes in figure.axes:
        box = axes.get_position()
        assert box.height * height / (box.width * width) == pytest.approx(shape[0] / shape[1])
        assert box.x0 >= 0
        assert box.x1 <= 1
        assert 0 <= box.y0 < box.y1 <= 1


def test_long_names_do_not_run_over_the_edge() -> None:
    figure = predictions_figure([sample()._replace(name="folder/" * 60 + "frame.png")], CLASSES, PALETTE, IGNORE)
    (caption,) = (text for text in texts(figure) if "mIoU" in text)
    assert caption.startswith("…")
    assert caption.endswith("frame.png   mIoU 0.500")
    assert short("x" * 40) == "x" * 29 + "…"


def test_legend_of_many_classes_lists_those_that_occur() -> None:
    names = [f"class {i}" for i in range(150)]
    shown = texts(predictions_figure([sample()], names, [(i, 0, 0) for i in range(150)], IGNORE))
    assert [text for text in shown if text.startswith("class")] == ["class 0", "class 1", "class 2"]


def test_colored_and_errors() -> None:
    one = sample()
    ignored = one.truth == IGNORE
    picture = colored(one.truth, PALETTE, IGNORE)
    assert (picture[one.truth == 1] == PALETTE[1]).all()
    assert set(np.unique(picture[ignored]).tolist()) == {128, 168}
    wrong = errors(one, IGNORE)
    red = (wrong == (225, 30, 45)).all(-1)
    assert (red == ((one.truth != one.prediction) & ~ignored)).all()
    assert 0 < red.sum() < red.size
    assert set(np.unique(wrong[ignored]).tolist()) == {128, 168}


def test_no_sample_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no samples to draw"):
        figures.predictions([], CLASSES, PALETTE, tmp_path / "p.png", IGNORE)


def test_confusion(tmp_path: Path) -> None:
    matrix = torch.tensor([[1000, 2, 0], [50, 150, 0], [0, 0, 0]])
    figures.confusion(matrix, CLASSES, tmp_path / "c.png")
    assert len(places(read(tmp_path / "c.png"), (228, 228, 228))) > 5000  # the grey row of an absent class
    shown = texts(confusion_figure(matrix, CLASSES))
    assert {"white (absent)", "white", "sky", "prediction", "truth (each row sums to 100 %)"} <= set(shown)
    assert {"100", "25", "75"} <= set(shown)
    with pytest.raises(ValueError, match=r"has the shape \(3, 3\); 2 classes need \(2, 2\)"):
        confusion_figure(matrix, CLASSES[:2])


@pytest.mark.parametrize("count", [2, 25, 26])
def test_confusion_numbers_its_cells_up_to_25_classes(count: int) -> None:
    shown = texts(confusion_figure(np.eye(count) * 3, [f"class {i}" for i in range(count)]))
    assert shown.count("100") == (count if count <= 25 else 0)


def inside(figure: object) -> bool:
    """Whether no text leaves the picture."""
    figure.canvas.draw()
    from matplotlib.text import Text

    frame = figure.bbox
    boxes = [t.get_window_extent() for t in figure.findobj(Text) if t.get_text() and t.get_visible()]
    return all(b.x0 >= -1 and b.y0 >= -1 and b.x1 <= frame.width + 1 and b.y1 <= frame.height + 1 for b in boxes)


@pytest.mark.parametrize("count", [2, 6, 11, 19, 60])
def test_no_label_is_cut_off(count: int) -> None:
    names = [f"chest of drawers, bureau, dresser {i}" if i % 2 else f"c{i}" for i in range(count)]
    colors = [(i, 2 * i, 90) for i in range(count)]
    matrix = np.eye(count)
    matrix[1] = 0
    assert inside(confusion_figure(matrix, names))
    assert inside(iou_figure(np.linspace(0, 1, count).tolist(), names, colors, 0.5))
    assert inside(predictions_figure([sample(100, 50)], names + ["x"] * 3, colors + [(0, 0, 0)] * 3, IGNORE))


def test_iou(tmp_path: Path) -> None:
    figures.iou([0.75, 0.25, float("nan")], CLASSES, PALETTE, 0.5, tmp_path / "i.png")
    picture = read(tmp_path / "i.png")
    widths = [np.ptp(places(picture, color)[:, 1]) for color in PALETTE[:2]]
    assert widths[0] / widths[1] == pytest.approx(3, rel=0.05)
    assert places(picture, PALETTE[0])[0, 0] < places(picture, PALETTE[1])[0, 0]
    shown = texts(iou_figure([0.75, 0.25, float("nan")], CLASSES, PALETTE, float("nan")))
    assert {"0.750", "0.250", "absent"} <= set(shown)
    assert not any("mean" in text for text in shown)
    with pytest.raises(ValueError, match="2 IoUs, 3 class names and 3 colours"):
        iou_figure([0.1, 0.2], CLASSES, PALETTE, 0.5)


@pytest.mark.parametrize(
    ("text", "panels"),
    [
        ("", 0),
        ("step,epoch\n", 0),
        ("step,epoch,train/loss,lr\n10,0,0.5,0.1\n", 2),
        ("step,epoch,train/loss,val/miou\n1,0,nan,0.1\n", 1),
        ("step,epoch,train/loss,val/loss,val/miou,val/pixel_accuracy,lr\n1,0,2,,,,0.1\n2,,1,1.5,0.5,0.8,0.2\n", 3),
    ],
)
def test_curves_of_short_and_empty_files(tmp_path: Path, text: str, panels: int) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text(text)
    figures.curves(path, tmp_path / "c.png")
    assert read(tmp_path / "c.png").shape[1] == 1280
    assert len(curves_figure(path).axes) == panels


def test_curves_of_a_long_run(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    noise = np.random.default_rng(0).random(5000)
    rows = [f"{i},{i // 500},{100 / (1 + i) + noise[i]},{0.5 if i % 500 == 499 else ''}" for i in range(5000)]
    path.write_text("step,epoch,train/loss,val/miou\n" + "\n".join(rows) + "\n")
    loss, scores = (figure := curves_figure(path)).axes
    raw, smooth = (line.get_ydata() for line in loss.lines)
    assert len(raw) <= 2000
    assert np.std(np.diff(smooth[200:])) < np.std(np.diff(raw[200:])) / 10
    assert loss.get_yscale() == "log"
    assert len(scores.lines[0].get_xdata()) == 10
    assert "mIoU: best 0.500, last 0.500" in texts(figure)


def test_ink_is_readable() -> None:
    assert ink_on((1, 1, 0.2)) == "black"
    assert ink_on((0.1, 0, 0.5)) == "white"
