import numpy as np

from segframe.data.colours import distinct_colours


def test_colours_differ_and_stay_the_same():
    colours = distinct_colours(254)
    assert len(set(colours)) == 254
    assert distinct_colours(19) == colours[:19]
    greys = [colour for colour in colours[:40] if max(colour) - min(colour) < 20]
    assert greys == []
    distances = np.linalg.norm(np.array(colours[:20])[:, None] - np.array(colours[:20]), axis=-1)
    assert distances[~np.eye(20, dtype=bool)].min() > 50
