import numpy as np
import pytest

from segframe.data.mix import ClassMix, CutMix, paste


@pytest.fixture
def pair():
    """Two samples whose pixels tell which of them they come from, and where they were."""
    rows, columns = np.mgrid[:37, :53].astype(np.uint8)
    first, second = (np.stack([rows, columns, 0 * rows + mark], -1) for mark in (0, 255))
    mask = (rows // 10 + 4 * (columns // 14)).astype(np.uint8)
    other = mask + 16
    other[:5] = 255
    return first, mask, second, other


def test_image_and_mask_are_pasted_together(pair):
    rng = np.random.default_rng(0)
    first, mask, second, other = pair
    copies = [part.copy() for part in pair]
    for mix in (CutMix(), ClassMix()):
        for _ in range(20):
            region = mix.region(rng, other.shape, other)
            pixels, labels = paste(*pair, region)
            pasted = pixels[..., 2] == 255
            assert (pasted == (region != 0)).all()
            assert (labels == np.where(pasted, other, mask)).all()
            assert (pixels[..., :2] == first[..., :2]).all()
    assert all((a == b).all() for a, b in zip(pair, copies, strict=True))
    assert second is pair[2]


def test_cutmix_pastes_rectangles_of_every_size(pair):
    rng = np.random.default_rng(0)
    shares = []
    for _ in range(500):
        region = CutMix().region(rng, pair[3].shape, pair[3])
        shares.append(region.mean())
        if region.any():
            rows, columns = np.flatnonzero(region.any(1)), np.flatnonzero(region.any(0))
            assert region[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
    assert min(shares) < 0.05
    assert max(shares) > 0.8
    # A uniform share of the area, less what reaches beyond the image.
    assert 0.2 < np.mean(shares) < 0.4
    narrow = [CutMix(alpha=50.0).region(rng, pair[3].shape, pair[3]).mean() for _ in range(200)]
    assert max(narrow) < 0.65
    # The most that isn't cut off is the share itself.
    assert np.quantile(narrow, 0.9) == pytest.approx(0.45, abs=0.1)


def test_classmix_pastes_half_of_the_classes_and_no_ignored_pixel(pair):
    rng = np.random.default_rng(0)
    other = pair[3]
    seen = set()
    for _ in range(50):
        region = ClassMix().region(rng, other.shape, other)
        inside, outside = set(np.unique(other[region != 0])), set(np.unique(other[region == 0]))
        assert not inside & outside
        assert 255 not in inside
        assert len(inside) == -(-len(np.unique(other[other != 255])) // 2)
        seen |= inside
    assert seen == set(np.unique(other)) - {255}
    one = np.full((4, 5), 3, np.uint8)
    assert ClassMix().region(rng, one.shape, one).all()
    assert not ClassMix().region(rng, (4, 5), np.full((4, 5), 255, np.uint8)).any()
