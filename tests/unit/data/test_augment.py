import numpy as np
import pytest

from segframe.data.augment import Augment, Wanted, class_shares
from segframe.data.window import Window


@pytest.fixture
def sample():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (61, 83, 3), dtype=np.uint8)
    return image, rng.integers(0, 5, (61, 83), dtype=np.uint8)


def grid(height, width):
    """An image that holds in red its row and in green its column, times four, and masks that hold each."""
    rows, columns = np.mgrid[:height, :width].astype(np.uint8)
    return np.stack([4 * rows, 4 * columns, 0 * rows], -1), rows, columns


def test_mirroring_moves_image_and_mask_alike():
    image, rows, columns = grid(31, 37)
    pixels, labels = Augment(None, (1, 1), flip=1.0)(image, columns, 0, 0)
    assert (labels == columns[:, ::-1]).all()
    assert (pixels[..., 1] == 4 * labels).all()
    assert (pixels[..., 0] == 4 * rows).all()


def test_is_a_pure_function_of_seed_epoch_and_index(sample):
    def run(seed, epoch, index):
        return Augment((40, 40), seed=seed)(*sample, epoch, index)

    reference = run(1, 2, 3)
    assert all((a == b).all() for a, b in zip(reference, run(1, 2, 3), strict=True))
    for other in ((2, 2, 3), (1, 3, 3), (1, 2, 4), (1, 3, 2)):
        assert (reference[0] != run(*other)[0]).any()


def test_gives_the_crop_size_whatever_the_scale(sample):
    augment = Augment((45, 70), scale=(0.3, 3.0))
    for index in range(40):
        image, mask = augment(*sample, 0, index)
        assert image.shape == (45, 70, 3)
        assert mask.shape == (45, 70)
        assert image.flags.c_contiguous
        assert mask.flags.c_contiguous


def test_scale_spans_its_range(sample):
    # Every column holds its own number, so neighbours of a crop tell the factor.
    columns = np.tile(np.arange(200, dtype=np.uint8), (200, 1))
    image = np.zeros((200, 200, 3), np.uint8)
    augment = Augment((50, 50), scale=(0.5, 2.0), flip=0.0)
    spans = [int(np.ptp(augment(image, columns, 0, index)[1])) for index in range(200)]
    assert 22 <= min(spans) < 30
    assert 90 < max(spans) <= 100


def test_limits_the_share_of_a_class():
    mask = np.zeros((100, 100), np.uint8)
    mask[:, 80:] = 1
    image = np.zeros((100, 100, 3), np.uint8)
    window = Window(0, 0, 100, 40)
    assert class_shares(mask, window)[0] == 1.0
    assert class_shares(mask, Window(0, 60, 40, 40))[:3].tolist() == [0.5, 0.5, 0]
    assert not class_shares(np.full((9, 9), 255, np.uint8), Window(0, 0, 9, 9)).any()

    def shares(limit):
        augment = Augment((40, 40), (1, 1), flip=0.0, max_class_share=limit)
        return [np.mean(augment(image, mask, 0, index)[1] == 0) for index in range(40)]

    assert max(shares(1.0)) == 1.0
    assert np.mean(shares(0.75)) < np.mean(shares(1.0))
    assert sum(share <= 0.8 for share in shares(0.75)) > 25


def test_refuses_a_scale_without_a_crop_or_upside_down():
    with pytest.raises(ValueError, match=r"scale=\[0.5, 2.0\] needs a crop_size"):
        Augment(None)
    with pytest.raises(ValueError, match=r"scale=\[2.0, 1.0\] must be \[smallest, largest\]"):
        Augment((8, 8), (2.0, 1.0))
    with pytest.raises(ValueError, match=r"blur_sigma=\[2.0, 1.0\] must be \[smallest, largest\]"):
        Augment((8, 8), blur_sigma=(2.0, 1.0))


def test_prefers_windows_that_hold_what_is_wanted():
    mask = np.zeros((100, 100), np.uint8)
    mask[:20, :20] = 3
    image = np.zeros((100, 100, 3), np.uint8)
    augment = Augment((40, 40), (1, 1), max_class_share=1.0)

    def holds(wanted):
        return np.mean([np.mean(augment(image, mask, 0, index, wanted)[1] == 3) >= 0.02 for index in range(100)])

    assert holds(None) < 0.15
    assert holds(Wanted(3, 0.02)) > 0.4
    assert holds(Wanted(3, 0.02)) < 1.0
    # A class that the image doesn't hold changes nothing but the number of draws.
    assert augment(image, mask, 0, 0, Wanted(5, 0.02))[1].shape == (40, 40)


@pytest.mark.parametrize("size", [(45, 71), (64, 64), (1, 33)])
def test_rotation_moves_image_and_mask_alike(size):
    image, rows, columns = grid(63, 61)
    augment = Augment(size, (0.7, 1.5), rotate=30.0)
    for index in range(20):
        pixels, y = augment(image, rows, 0, index)
        again, x = augment(image, columns, 0, index)
        assert (pixels == again).all()
        shown = y != 255
        assert ((x != 255) == shown).all()
        assert (pixels[~shown] == augment.fill).all()
        # Every label is the pixel that holds the centre, and every colour is its coordinate: half a pixel apart.
        for channel, labels in enumerate((y, x)):
            assert np.abs(pixels[..., channel] / 4 - labels)[shown].max(initial=0) < 0.5 + 0.3


def test_rotation_spans_its_range():
    image, rows, columns = grid(63, 61)
    augment = Augment((21, 21), (1, 1), flip=0.0, rotate=30.0)
    angles = []
    for index in range(100):
        y, x = (augment(image, labels, 0, index)[1].astype(float) for labels in (rows, columns))
        if 255 not in y:
            angles.append(np.rad2deg(np.arctan2(y[10, 20] - y[10, 0], x[10, 20] - x[10, 0])))
    assert len(angles) > 50
    assert -33 < min(angles) < -24
    assert 24 < max(angles) < 33


def test_rotation_and_blur_leave_the_other_draws_alone():
    image, rows, _ = grid(63, 61)
    plain = Augment((40, 40), (0.7, 1.5))
    seldom = Augment((40, 40), (0.7, 1.5), rotate=10.0, rotate_probability=0.5, blur=0.5)
    same_mask = same_image = 0
    for index in range(60):
        (pixels, labels), (other, other_labels) = plain(image, rows, 0, index), seldom(image, rows, 0, index)
        same_mask += (labels == other_labels).all()
        same_image += (pixels == other).all()
    assert 15 < same_mask < 45
    assert 5 < same_image < same_mask


def test_blurs_the_image_alone(sample):
    sharp, blurred = (Augment((40, 41), (1, 1), blur=p, blur_sigma=(1.0, 1.0)) for p in (0.0, 1.0))
    (image, mask), (soft, soft_mask) = sharp(*sample, 0, 0), blurred(*sample, 0, 0)
    assert (mask == soft_mask).all()
    kernel = np.exp(-(np.arange(-4, 5) ** 2) / 2)
    kernel /= kernel.sum()
    rows = sum(weight * image[k : k + 32].astype(float) for k, weight in enumerate(kernel))
    truth = sum(weight * rows[:, k : k + 33] for k, weight in enumerate(kernel))
    assert np.abs(soft[4:-4, 4:-4] - truth).max() < 2
    assert soft.std() < 0.5 * image.std()


def test_turns_whole_images_too(sample):
    image, mask = Augment(None, (1, 1), flip=0.0, rotate=20.0)(*sample, 0, 0)
    assert image.shape == sample[0].shape
    assert (mask == 255).any()
    assert (mask != sample[1]).any()
