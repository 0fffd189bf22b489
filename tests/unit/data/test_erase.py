import numpy as np
import pytest

from segframe.data.erase import rectangle


@pytest.mark.parametrize("size", [(101, 203), (64, 64), (7, 90)])
def test_rectangles_have_the_area_and_aspect_that_were_asked_for(size):
    rng = np.random.default_rng(0)
    areas, aspects, places = [], [], []
    for _ in range(400):
        found = rectangle(rng, size, (0.05, 0.3), (0.5, 2.0))
        if found is None:
            continue
        (top, bottom, _), (left, right, _) = found.rows.indices(size[0]), found.columns.indices(size[1])
        assert (found.rows.stop, found.columns.stop) == (bottom, right)
        areas.append((bottom - top) * (right - left) / size[0] / size[1])
        aspects.append((bottom - top) / (right - left))
        places.append(((top + bottom) / 2 / size[0], (left + right) / 2 / size[1]))
    rounding = 0.5 if min(size) < 10 else 0.1
    assert 0.05 * (1 - rounding) < min(areas) < max(areas) < 0.3 * (1 + rounding)
    assert 0.5 * (1 - rounding) < min(aspects) < max(aspects) < 2 * (1 + rounding)
    np.testing.assert_allclose(np.mean(places, 0), 0.5, atol=0.05)
    if min(size) > 10:
        assert len(areas) > 390
        assert max(areas) > 0.28


def test_gives_up_where_none_fits():
    assert rectangle(np.random.default_rng(0), (2, 200), (0.9, 0.9), (3.0, 3.0)) is None
