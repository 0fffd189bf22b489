"""`synthetic`: generated street furniture for machines without data; every image is a function of its number."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from segframe.contracts import IGNORE_INDEX
from segframe.ranges import NonNegative, NonNegativeInt, PositiveInt

Image = NDArray[np.uint8]
Texture = NDArray[np.float32]
Colour = tuple[int, int, int]

_SPLITS = {"train": 0, "val": 1}
# Pixels: below, a stride-8 net sees an object in less than one cell of its logits.
_SMALLEST_SIDE = 48


class Synthetic:
    """Textured shapes that overlap on a cluttered ground, with noise, thin bars and regions without a label.

    Colours of the classes overlap so far that pixels alone tell little; texture and outline tell them
    apart. Images are made on first use and kept, 36 KiB each at the default size.

    Args:
        split: Which of two disjoint sequences of images.
        num_images: Images in the split.
        height: Rows of an image.
        width: Columns of an image.
        noise: Standard deviation of the Gaussian noise on each value, of 255.
        seed: Another seed is another data set.

    Raises:
        ValueError: If ``height`` or ``width`` is under 48.
    """

    classes = ("ground", "disc", "square", "triangle", "ring", "bar")
    palette: tuple[Colour, ...] = (
        (70, 70, 80),
        (230, 85, 70),
        (70, 140, 220),
        (95, 190, 90),
        (240, 190, 60),
        (170, 100, 200),
    )

    def __init__(
        self,
        split: Literal["train", "val"],
        num_images: PositiveInt = 256,
        height: PositiveInt = 96,
        width: PositiveInt = 96,
        noise: NonNegative = 14.0,
        seed: NonNegativeInt = 0,
    ) -> None:
        if min(height, width) < _SMALLEST_SIDE:
            raise ValueError(
                f"height={height}, width={width}: the shapes need at least {_SMALLEST_SIDE} pixels a side."
            )
        self.split, self.noise, self.seed = split, noise, seed
        self.height, self.width = height, width
        self._pairs: list[tuple[Image, Image] | None] = [None] * num_images

    def __len__(self) -> int:
        """Returns the number of images."""
        return len(self._pairs)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Returns a uint8 image (3, H, W), RGB, and a uint8 mask (H, W)."""
        pair = self._pairs[index]
        if pair is None:
            pair = self._pairs[index] = self._draw(index % len(self))
        image, mask = pair
        return torch.from_numpy(image).permute(2, 0, 1), torch.from_numpy(mask)

    def size(self, index: int) -> tuple[int, int]:
        """Returns the rows and columns of an image."""
        return self.height, self.width

    def name(self, index: int) -> str:
        """Returns a name in place of a file's."""
        return f"synthetic/{self.split}/{index:05d}"

    def _draw(self, index: int) -> tuple[Image, Image]:
        key = self.seed % 2**64 + (_SPLITS[self.split] << 64)
        rng = np.random.Generator(np.random.Philox(key=key, counter=[0, 0, index, 0]))
        size = self.height, self.width
        canvas = _ground(rng, size)
        mask = np.zeros(size, np.uint8)
        for label in _labels_back_to_front(rng):
            _add_object(rng, canvas, mask, label)
        _add_void(rng, canvas, mask)
        canvas += rng.normal(0.0, self.noise, canvas.shape).astype(np.float32)
        return np.clip(canvas, 0, 255).astype(np.uint8), mask


def _labels_back_to_front(rng: np.random.Generator) -> list[int]:
    """Three or four of the solid shapes, up to two more, then one or two bars that occlude them."""
    once = rng.permutation([1, 2, 3, 4])[: rng.integers(3, 5)]
    more = rng.integers(1, 5, rng.integers(0, 3))
    return [int(label) for label in (*once, *more)] + [5] * int(rng.integers(1, 3))


def _ground(rng: np.random.Generator, size: tuple[int, int]) -> Texture:
    """Soft blotches of two colours, the one surface without a pattern or an outline."""
    height, width = size
    colours = rng.uniform(40, 200, (2, 3)).astype(np.float32)
    coarse = rng.random((6, 6), dtype=np.float32)
    blend = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)[..., None]
    ground: Texture = blend * colours[0] + (1 - blend) * colours[1]
    return ground


def _add_object(rng: np.random.Generator, canvas: Texture, mask: Image, label: int) -> None:
    """Draws one shape over what is there, with a void line of a pixel on each side of its outline."""
    shape = np.zeros_like(mask)
    _OUTLINES[label](rng, shape)
    pattern = _PATTERNS[label](rng, shape)
    base = rng.uniform(30, 225, 3) * (1 - _COLOUR_SHARE) + np.array(_LEANINGS[label]) * _COLOUR_SHARE
    inside = shape > 0
    canvas[inside] = base + rng.uniform(40, 60) * pattern[inside, None]
    mask[inside] = label
    mask[cv2.morphologyEx(shape, cv2.MORPH_GRADIENT, _CROSS) > 0] = IGNORE_INDEX


def _add_void(rng: np.random.Generator, canvas: Texture, mask: Image) -> None:
    """Covers a corner with a surface that belongs to no class, as the bonnet of a camera car does."""
    height, width = mask.shape
    corner = (int(rng.integers(0, 2) * width), int(rng.integers(0, 2) * height))
    axes = (int(width * rng.uniform(0.12, 0.3)), int(height * rng.uniform(0.12, 0.3)))
    void = np.zeros_like(mask)
    cv2.ellipse(void, corner, axes, 0, 0, 360, 1, cv2.FILLED)
    canvas[void > 0] = rng.uniform(0, 255, 3)
    mask[void > 0] = IGNORE_INDEX


def _centre(rng: np.random.Generator, shape: Image) -> tuple[float, float, float]:
    """Returns x, y and half the size of a solid object, in pixels."""
    height, width = shape.shape
    x, y = rng.uniform(0.1, 0.9, 2) * (width, height)
    return x, y, rng.uniform(0.13, 0.23) * min(height, width)


def _disc(rng: np.random.Generator, shape: Image) -> None:
    x, y, r = _centre(rng, shape)
    cv2.circle(shape, (round(x), round(y)), round(r), 1, cv2.FILLED)


def _ring(rng: np.random.Generator, shape: Image) -> None:
    x, y, r = _centre(rng, shape)
    cv2.circle(shape, (round(x), round(y)), round(1.1 * r), 1, cv2.FILLED)
    cv2.circle(shape, (round(x), round(y)), round(0.5 * r), 0, cv2.FILLED)


def _polygon(rng: np.random.Generator, shape: Image, corners: int, stretch: float) -> None:
    x, y, r = _centre(rng, shape)
    angles = rng.uniform(0, 2 * np.pi) + np.arange(corners) * 2 * np.pi / corners
    points = np.stack([x + stretch * r * np.cos(angles), y + stretch * r * np.sin(angles)], axis=1)
    cv2.fillPoly(shape, [points.round().astype(np.int32)], 1)


def _square(rng: np.random.Generator, shape: Image) -> None:
    _polygon(rng, shape, 4, 1.2)


def _triangle(rng: np.random.Generator, shape: Image) -> None:
    _polygon(rng, shape, 3, 1.4)


def _bar(rng: np.random.Generator, shape: Image) -> None:
    """A pole through the whole image, some 7 pixels thick at 96 x 96."""
    height, width = shape.shape
    x, lean = rng.uniform(0.1, 0.9) * width, rng.uniform(-0.2, 0.2) * width
    ends = (round(x - lean), 0), (round(x + lean), height)
    thickness = round(min(height, width) * rng.uniform(0.06, 0.085))
    cv2.line(shape, *ends, 1, thickness)


def _grid(rng: np.random.Generator, shape: Image, angle: float) -> tuple[Texture, Texture]:
    """Returns two phases in radians that grow along two orthogonal directions, with a period of 6 to 8 pixels."""
    rows, columns = np.mgrid[: shape.shape[0], : shape.shape[1]].astype(np.float32)
    pace = np.float32(2 * np.pi / rng.uniform(6, 8))
    start = rng.uniform(0, 2 * np.pi, 2).astype(np.float32)
    along, across = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return (
        (columns * along + rows * across) * pace + start[0],
        (rows * along - columns * across) * pace + start[1],
    )


def _stripes(rng: np.random.Generator, shape: Image) -> Texture:
    return np.sign(np.sin(_grid(rng, shape, rng.uniform(0, np.pi))[0]))


def _checks(rng: np.random.Generator, shape: Image) -> Texture:
    u, v = _grid(rng, shape, rng.uniform(0, np.pi))
    checks: Texture = np.sign(np.sin(u) * np.sin(v))
    return checks


def _dots(rng: np.random.Generator, shape: Image) -> Texture:
    u, v = _grid(rng, shape, rng.uniform(0, np.pi))
    return np.where(np.sin(u) + np.sin(v) > 0.7, np.float32(1.3), np.float32(-0.5))


def _tube(rng: np.random.Generator, shape: Image) -> Texture:
    """Brighter towards the middle of the material, as a round tube is."""
    depth = cv2.distanceTransform(shape, cv2.DIST_L2, 3)
    return (depth * (2 / max(1.0, float(depth.max()))) - 1).astype(np.float32)


def _rungs(rng: np.random.Generator, shape: Image) -> Texture:
    """Horizontal stripes, as on a barrier."""
    return np.sign(np.sin(_grid(rng, shape, np.pi / 2)[0]))


_CROSS = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
_OUTLINES: dict[int, Callable[[np.random.Generator, Image], None]] = {
    1: _disc,
    2: _square,
    3: _triangle,
    4: _ring,
    5: _bar,
}
_PATTERNS: dict[int, Callable[[np.random.Generator, Image], Texture]] = {
    1: _dots,
    2: _checks,
    3: _stripes,
    4: _tube,
    5: _rungs,
}
_COLOUR_SHARE = 0.35
_LEANINGS = {1: (230, 60, 60), 2: (60, 60, 230), 3: (60, 220, 60), 4: (230, 220, 60), 5: (200, 60, 220)}
