"""The picture of what is split: every part of a batch has one owner, and ranks hold what they compute with."""

import numpy as np
import pytest

from segframe.figures import canvas
from segframe.figures.what_is_split import BANDS, IMAGES, LAYERS, SPLITS, what_is_split_figure

PARTS = [(image, band, layer) for image in range(IMAGES) for band in range(BANDS) for layer in range(LAYERS)]


@pytest.mark.parametrize("split", SPLITS, ids=lambda split: split.words)
def test_ranks_share_out_work_and_parameters(split):
    owners = [split.owner(*part) for part in PARTS]
    assert set(owners) == set(range(split.num_ranks))
    assert len({owners.count(rank) for rank in set(owners)}) == 1, "one rank has more to compute than another"
    for image, band, layer in PARTS:
        # What a rank computes with it holds, or gathers from those that share the layer's parameters.
        assert split.held(split.owner(image, band, layer), layer) == 1 / split.shards
    copies = sum(split.held(rank, layer) for rank in range(split.num_ranks) for layer in range(LAYERS))
    assert copies == LAYERS * split.num_ranks / split.shards / split.stages


def test_a_rank_is_numbered_as_in_a_grid_whose_last_axis_counts_fastest():
    hybrid = next(split for split in SPLITS if "data=2 spatial=2" in split.words)
    assert [hybrid.owner(image, band, 0) for image in (0, 2) for band in (0, 2)] == [0, 1, 2, 3]


def test_nothing_is_cut_off():
    picture = canvas.pixels(what_is_split_figure())
    border = np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]])
    assert (border == 255).all()
