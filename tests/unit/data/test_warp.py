import tracemalloc

import numpy as np
import pytest

from segframe.data.warp import cut
from segframe.data.window import Window, to_source

FILL = (1, 2, 3)
# OpenCV below 5 rounds bilinear coordinates to a 32nd of a pixel; every version rounds the result to whole numbers.
COORDINATE, ROUNDING = 1 / 32, 1.0


def centres(window, size):
    """Rows and columns of the result's centres in the source, by definition: scale about the middle, then turn."""
    v = (np.arange(size[0]) + 0.5) * window.height / size[0] - window.height / 2
    u = (np.arange(size[1]) + 0.5) * window.width / size[1] - window.width / 2
    cosine, sine = np.cos(np.deg2rad(window.angle)), np.sin(np.deg2rad(window.angle))
    y = window.top + window.height / 2 + sine * u[None] + cosine * v[:, None]
    x = window.left + window.width / 2 + cosine * u[None] - sine * v[:, None]
    return y, x


def grid(height, width):
    """An image of which red and green are linear in row and column, and masks that hold each pixel's row and column."""
    rows, columns = np.mgrid[:height, :width]
    image = np.stack([2 * rows, 2 * columns, 0 * rows + 255], -1).astype(np.uint8)
    return image, rows.astype(np.uint8), columns.astype(np.uint8)


def check(window, size, shape):
    """Maps a grid of coordinates through image and masks, and compares every pixel with the definition."""
    image, rows, columns = grid(*shape)
    y, x = centres(window, size)
    pixels, labels_y = cut(image, rows, window, size, FILL)
    again, labels_x = cut(image, columns, window, size, FILL)
    assert (pixels == again).all()
    assert pixels.shape == (*size, 3)
    assert labels_y.shape == size
    for result in (pixels, labels_y):
        assert result.flags.c_contiguous
    tie = np.minimum(np.abs(y - np.rint(y)), np.abs(x - np.rint(x))) < 1e-6
    inside = (y >= 0) & (y < shape[0]) & (x >= 0) & (x < shape[1])
    sure = ~tie
    assert ((labels_y != 255) == inside)[sure].all()
    assert (labels_y == np.floor(y))[sure & inside].all()
    assert (labels_x == np.floor(x))[sure & inside].all()
    beyond = labels_y == 255
    assert (pixels[beyond] == FILL).all()
    assert (pixels[~beyond, 2] == 255).all()
    low, high = (0, 0), (shape[0] - 1, shape[1] - 1)
    if not window.angle:  # an upright window's colours are its own
        low = max(0, window.top), max(0, window.left)
        high = min(shape[0], window.top + window.height) - 1, min(shape[1], window.left + window.width) - 1
    for channel, coordinate in enumerate((y, x)):
        truth = 2 * np.clip(coordinate - 0.5, low[channel], high[channel])
        assert np.abs(pixels[..., channel] - truth)[~beyond].max(initial=0) <= 2 * COORDINATE + ROUNDING
    return inside.mean()


@pytest.mark.parametrize("size", [(33, 47), (48, 31), (17, 59), (1, 1)])
@pytest.mark.parametrize("angle", [0, 7, -33.3, 90, 180])
@pytest.mark.parametrize(
    "window",
    [
        (3, 5, 33, 47),
        (0, 0, 61, 63),
        (7, 2, 19, 23),
        (60, 62, 1, 1),
        (-9, -4, 80, 70),
        (-3, 20, 20, 60),
        (-5, 50, 90, 8),
        (-150, -290, 260, 480),
        (-300, 40, 480, 300),
    ],
)
def test_every_pixel_is_where_the_definition_puts_it(window, angle, size):
    check(Window(*window, angle), size, (61, 63))


def test_every_pixel_is_where_the_definition_puts_it_at_random():
    rng = np.random.default_rng(0)
    shares = []
    for _ in range(400):
        shape = tuple(rng.integers(1, 128, 2))
        size = tuple(int(v) for v in rng.integers(1, 90, 2))
        height, width = (int(v) for v in rng.integers(1, 160, 2))
        top, left = (int(rng.integers(1 - own, whole)) for own, whole in ((height, shape[0]), (width, shape[1])))
        angle = float(rng.choice([0.0, rng.uniform(-10, 10), rng.uniform(-180, 180)]))
        shares.append(check(Window(top, left, height, width, angle), size, shape))
    assert 0.2 < np.mean(shares) < 0.8
    assert max(shares) == 1


@pytest.mark.parametrize("length", [333, 1014, 1535])
@pytest.mark.parametrize("size", [511, 768, 769])
def test_large_masks_are_exact(length, size):
    # Here OpenCV's own nearest neighbours are off: they add up a rounded step.
    columns = np.arange(length)
    low, high = (np.broadcast_to(part.astype(np.uint8), (length, length)) for part in (columns % 200, columns // 200))
    image = np.zeros((length, length, 3), np.uint8)
    for angle in (0.0, 11.0):
        window = Window(0, 0, length, length, angle)
        parts = [cut(image, np.ascontiguousarray(part), window, (size, size), FILL)[1] for part in (low, high)]
        y, x = centres(window, (size, size))
        sure = (np.abs(x - np.rint(x)) > 1e-6) & (x > 0) & (x < length) & (y > 0) & (y < length)
        found = parts[0] + 200 * parts[1].astype(int)
        assert (found == np.floor(x))[sure].all()
        assert sure.mean() > 0.6


def test_noise_is_interpolated_between_the_four_pixels_around():
    rng = np.random.default_rng(1)
    image = rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)
    for angle in (0.0, 23.0):
        window = Window(12, 14, 15, 19, angle)
        pixels, _ = cut(image, image[..., 0], window, (31, 27), FILL)
        y, x = (c - 0.5 for c in centres(window, (31, 27)))
        if not angle:
            y, x = np.clip(y, 12, 26), np.clip(x, 14, 32)
        y, x = np.broadcast_arrays(y, x)
        i, j = np.minimum(np.floor(y).astype(int), 38), np.minimum(np.floor(x).astype(int), 48)
        a, b = (y - i)[..., None], (x - j)[..., None]
        corners = [image[i + di, j + dj].astype(float) for di in (0, 1) for dj in (0, 1)]
        truth = (1 - a) * ((1 - b) * corners[0] + b * corners[1]) + a * ((1 - b) * corners[2] + b * corners[3])
        spread = np.max(corners, 0) - np.min(corners, 0)
        assert (np.abs(pixels - truth) <= ROUNDING + 2 * COORDINATE * spread).all()
        assert spread.mean() > 50


def test_turns_what_it_shows_anticlockwise():
    mask = np.zeros((41, 41), np.uint8)
    mask[20, 21:] = 1  # points to the right
    _, labels = cut(np.zeros((41, 41, 3), np.uint8), mask, Window(0, 0, 41, 41, 90.0), (41, 41), FILL)
    assert labels[:20, 20].all()
    assert labels.sum() == 20


def test_reads_only_what_it_shows():
    class Watched(np.ndarray):
        """Notes what is read of it."""

        def __getitem__(self, key):
            reads.append(np.ndarray.__getitem__(places, key))
            return np.ndarray.__getitem__(self, key)

    places = np.arange(400 * 500).reshape(400, 500)
    for angle, margin in ((0.0, 0), (30.0, 40)):
        reads = []
        image = np.zeros((400, 500, 3), np.uint8).view(Watched)
        cut(image, np.zeros((400, 500), np.uint8).view(Watched), Window(100, 200, 90, 80, angle), (60, 60), FILL)
        rows, columns = np.unravel_index(np.concatenate([read.ravel() for read in reads[:1]]), places.shape)
        assert rows.min() >= 100 - margin
        assert rows.max() < 190 + margin
        assert columns.min() >= 200 - margin
        assert columns.max() < 280 + margin


def test_an_image_is_not_extended_to_a_window_many_times_its_size():
    image, mask = np.full((10, 12, 3), 7, np.uint8), np.ones((10, 12), np.uint8)
    tracemalloc.start()
    try:
        pixels, labels = cut(image, mask, Window(-7045, -7044, 14000, 14000), (140, 140), FILL)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2**20
    assert labels.tolist()[70][70] == 1 == (labels == 1).sum()
    assert pixels[70, 70].tolist() == [7, 7, 7]


def test_the_map_is_one_affine_step():
    window = Window(3, 4, 30, 40, 25.0)
    matrix = to_source(window, (15, 10))
    y, x = centres(window, (15, 10))
    points = np.stack([*np.meshgrid(np.arange(10), np.arange(15)), np.ones((15, 10))], -1) @ matrix.T
    np.testing.assert_allclose(points[..., 0], x, atol=1e-9)
    np.testing.assert_allclose(points[..., 1], y, atol=1e-9)
