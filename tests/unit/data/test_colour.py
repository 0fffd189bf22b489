import math

import numpy as np
import pytest
import torch

from segframe.data import colour
from segframe.data.colour import GREY, Factors, Normalisation, matrix_of, mean_colours, transform

PLAIN = Normalisation((0.0, 0.0, 0.0), (1 / 255, 1 / 255, 1 / 255))
"""Keeps the numbers of 0 to 255."""
NORMALISATION = Normalisation((0.4, 0.5, 0.6), (0.2, 0.25, 0.3))
FACTORS = [Factors(1.2, 0.7, 0.5), Factors(0.8, 1.3, 1.4, 0.1), Factors(1.0, 1.0, 1.0), Factors(1.9, 0.1, 2.0, -0.4)]


def images(size=(9, 7), count=4):
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, *size, 3), generator=generator, dtype=torch.uint8).permute(0, 3, 1, 2)


def by_definition(image, factors):
    grey = torch.tensor(GREY)
    image = image.double() * factors.brightness
    image = factors.contrast * image + (1 - factors.contrast) * (image.mean((1, 2)) * grey).sum()
    luma = (image * grey[:, None, None]).sum(0)
    # Blue and red minus luma, and green that keeps it: another way to write the plane of equal luma.
    image = factors.saturation * image + (1 - factors.saturation) * luma
    if factors.hue:
        yiq = torch.tensor(colour._luma_and_chroma()[0])
        y, i, q = torch.einsum("ij,jhw->ihw", yiq, image)
        turned = (i + 1j * q) * complex(math.cos(2 * math.pi * factors.hue), math.sin(2 * math.pi * factors.hue))
        image = torch.einsum("ij,jhw->ihw", torch.linalg.inv(yiq), torch.stack([y, turned.real, turned.imag]))
    return image.clamp(0, 255)


def test_equals_its_steps():
    batch = images()
    result = transform(batch, FACTORS, PLAIN, torch.float64)
    for image, factors, got in zip(batch, FACTORS, result, strict=True):
        torch.testing.assert_close(got, by_definition(image, factors), rtol=0, atol=1e-10)
    assert not torch.equal(result[0], batch[0].double())
    torch.testing.assert_close(result[2], batch[2].double())


def test_normalisation_is_part_of_the_same_pass():
    batch = images()
    mean, std = (torch.tensor(v, dtype=torch.float64)[:, None, None] for v in NORMALISATION)
    expected = (transform(batch, FACTORS, PLAIN, torch.float64) / 255 - mean) / std
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 1e-5)):
        result = transform(batch, FACTORS, NORMALISATION, dtype)
        torch.testing.assert_close(result.double(), expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("size", [(9, 7), (1, 1), (1, 5), (64, 33)])
@pytest.mark.parametrize("factors", [None, FACTORS])
def test_the_ways_for_cpu_and_device_agree(size, factors):
    planes, means = images(size), None
    if factors is not None:
        means = mean_colours(planes, size[0] * size[1])
        torch.testing.assert_close(means, planes.double().mean((2, 3)))
    batch = planes.permute(0, 2, 3, 1).contiguous()
    ways = [way(batch, factors, NORMALISATION, torch.float64, means) for way in (colour._on_cpu, colour._on_device)]
    torch.testing.assert_close(*ways, rtol=0, atol=1e-12)
    ways = [way(batch, factors, NORMALISATION, torch.float32, means) for way in (colour._on_cpu, colour._on_device)]
    torch.testing.assert_close(*ways, rtol=0, atol=1e-5)


def test_takes_images_in_any_memory_order():
    batch = images()
    planes = batch.contiguous()
    assert planes.stride() != batch.stride()
    assert torch.equal(*(transform(x, FACTORS, NORMALISATION, torch.float32) for x in (batch, planes)))


def test_hue_keeps_luma_and_grey_and_comes_round():
    for hue in (0.1, 0.25, 0.5, -0.3):
        matrix, share = matrix_of(Factors(1.0, 1.0, 1.0, hue))
        assert share == 0
        np.testing.assert_allclose(GREY @ matrix, GREY, atol=1e-12)
        np.testing.assert_allclose(matrix.sum(1), 1, atol=1e-12)
        assert np.abs(matrix - np.eye(3)).max() > 0.3
    third = matrix_of(Factors(1.0, 1.0, 1.0, 1 / 3))[0]
    np.testing.assert_allclose(np.linalg.matrix_power(third, 3), np.eye(3), atol=1e-12)
