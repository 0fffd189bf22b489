"""The picture of the largest image: every size is drawn to scale, and nothing is cut off."""

import pytest
from matplotlib.patches import Rectangle

from segframe.figures import canvas
from segframe.figures.largest_image import largest_image_figure


@pytest.fixture
def figure():
    cases = [("single", 1, 100), ("spatial", 2, 150), ("spatial", 4, 200), ("hybrid+fsdp=2+spatial=2", 4, 220)]
    keys = ("strategy", "ranks", "height")
    return largest_image_figure(
        {"model": "pspnet", "limit_bytes": 2**29, "cases": [dict(zip(keys, case, strict=True)) for case in cases]}
    )


def test_each_panel_has_one_rank_and_its_own(figure):
    sizes = [
        {(p.get_width(), p.get_height()) for p in axes.patches if isinstance(p, Rectangle)} for axes in figure.axes
    ]
    assert sizes == [{(200, 100), (300, 150), (400, 200)}, {(200, 100), (440, 220)}]
    assert len({axes.get_xlim() for axes in figure.axes}) == 1, "panels have different scales"
    texts = [text.get_text() for text in figure.texts]
    assert "4 ranks: 200 x 400" in texts
    assert "hybrid fsdp=2 spatial=2" in texts


def test_nothing_is_cut_off(figure):
    picture = canvas.pixels(figure)
    for edge in (picture[0], picture[-1], picture[:, 0], picture[:, -1]):
        assert (edge == 255).all()
