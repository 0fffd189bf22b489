import cv2
import numpy as np
import pytest

from segframe.data.augment import Augment, Window, class_share, cut

FILL = (124, 116, 104)


@pytest.fixture
def sample():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (61, 83, 3), dtype=np.uint8)
    return image, rng.integers(0, 5, (61, 83), dtype=np.uint8)


def centres(start, length, size):
    """The source coordinates of the result's pixel centres, by definition of a resize of pixel areas."""
    return start + (np.arange(size) + 0.5) * length / size - 0.5


def grid(height, width):
    """An image that holds in red its row and in green its column, times four, and masks that hold each."""
    rows, columns = np.mgrid[:height, :width].astype(np.uint8)
    return np.stack([4 * rows, 4 * columns, 0 * rows], -1), rows, columns


@pytest.mark.parametrize("size", [(33, 47), (48, 31), (17, 59), (1, 1)])
@pytest.mark.parametrize("window", [(3, 5, 33, 47), (0, 0, 61, 63), (7, 2, 19, 23), (11, 13, 50, 41), (60, 62, 1, 1)])
def test_image_and_mask_are_cut_with_the_same_centres(window, size):
    image, rows, columns = grid(61, 63)
    window = Window(*window)
    result = cut(image, window, size, cv2.INTER_LINEAR, FILL) / 4
    y = np.clip(centres(window.top, window.height, size[0]), window.top, window.top + window.height - 1)
    x = np.clip(centres(window.left, window.width, size[1]), window.left, window.left + window.width - 1)
    assert np.abs(result[..., 0] - y[:, None]).max() < 0.26
    assert np.abs(result[..., 1] - x[None]).max() < 0.26
    for labels, truth in ((rows, y[:, None]), (columns, x[None])):
        nearest = cut(labels, window, size, cv2.INTER_NEAREST_EXACT, (255,))
        assert np.abs(nearest - truth).max() <= 0.5 + 1e-6


@pytest.mark.parametrize("window", [(-9, -4, 80, 70), (-3, 20, 20, 60), (55, -30, 20, 40), (-5, -5, 100, 10)])
@pytest.mark.parametrize("size", [(64, 64), (41, 77)])
def test_what_lies_beyond_is_filled_for_image_and_mask_alike(window, size):
    image, rows, _ = grid(61, 63)
    image[..., 2] = 255
    window = Window(*window)
    pixels = cut(image, window, size, cv2.INTER_LINEAR, (1, 2, 3))
    labels = cut(rows, window, size, cv2.INTER_NEAREST_EXACT, (255,))
    beyond = labels == 255
    assert beyond.any()
    assert not beyond.all()
    assert (pixels[beyond] == (1, 2, 3)).all()
    assert (pixels[~beyond, 2] == 255).all()
    y = centres(window.top, window.height, size[0])[:, None]
    x = centres(window.left, window.width, size[1])[None]
    # A result pixel is at most half of itself off, since the border is rounded to whole result pixels.
    step = max(window.height / size[0], window.width / size[1])
    inside = (y > -0.5 + step) & (y < 60.5 - step) & (x > -0.5 + step) & (x < 62.5 - step)
    assert not beyond[inside].any()
    assert np.abs(labels - y)[inside].max() <= 0.5 + 0.5 * step
    assert np.abs(pixels[..., 0] / 4 - y)[inside].max() <= 0.26 + 0.5 * step


def test_nearest_equals_integer_arithmetic():
    labels = np.random.default_rng(1).integers(0, 200, (97, 89), dtype=np.uint8)
    for size in ((50, 41), (97, 89), (150, 201), (33, 7), (194, 178)):
        rows = (2 * np.arange(size[0]) + 1) * 97 // (2 * size[0])
        columns = (2 * np.arange(size[1]) + 1) * 89 // (2 * size[1])
        result = cut(labels, Window(0, 0, 97, 89), size, cv2.INTER_NEAREST_EXACT, (255,))
        assert (result == labels[rows[:, None], columns]).all()


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
    assert class_share(mask, window) == 1.0
    assert class_share(mask, Window(0, 60, 40, 40)) == 0.5
    assert class_share(np.full((9, 9), 255, np.uint8), Window(0, 0, 9, 9)) == 1.0

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
