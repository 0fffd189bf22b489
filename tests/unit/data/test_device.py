import pytest
import torch

from segframe.contracts import Batch
from segframe.data.device import Preprocess, jitter, normalise

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (3, 9, 7, 3), generator=generator, dtype=torch.uint8).permute(0, 3, 1, 2)
    mask = torch.zeros(3, 9, 7, dtype=torch.uint8)
    return Batch(image, mask, ["a", "b", "c"], torch.tensor([5, 1, 8]))


def jittered_by_definition(image, brightness, contrast, saturation):
    grey = torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64)
    image = image.double() * brightness
    image = contrast * image + (1 - contrast) * (image.mean((1, 2)) * grey).sum()
    image = saturation * image + (1 - saturation) * (image * grey[:, None, None]).sum(0)
    return image.clamp(0, 255)


def test_jitter_equals_its_three_steps(batch):
    factors = torch.tensor([[1.2, 0.7, 0.5], [0.8, 1.3, 1.4], [1.0, 1.0, 1.0]], dtype=torch.float64)
    result = jitter(batch.image.double(), factors)
    for image, row, got in zip(batch.image, factors.tolist(), result, strict=True):
        torch.testing.assert_close(got, jittered_by_definition(image, *row), rtol=0, atol=1e-10)
    assert not torch.equal(result[0], batch.image[0].double())
    torch.testing.assert_close(result[2], batch.image[2].double())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_normalises_to_the_dtype_and_keeps_the_memory_order(batch, dtype):
    for epoch in (None, 0):
        result = Preprocess(MEAN, STD, 0.2, 0.2, 0.2)(batch, epoch=epoch, dtype=dtype)
        assert result.dtype == dtype
        assert result.is_contiguous(memory_format=torch.channels_last)
    expected = (batch.image[0, 1].to(dtype) / 255 - MEAN[1]) / STD[1]
    torch.testing.assert_close(normalise(batch.image, MEAN, STD, dtype)[0, 1], expected)


def test_colours_depend_on_seed_epoch_and_index_alone(batch):
    def run(batch, seed=0, epoch=0):
        return Preprocess(MEAN, STD, 0.4, 0.4, 0.4, seed)(batch, epoch=epoch, dtype=torch.float64)

    reference = run(batch)
    torch.testing.assert_close(reference, run(batch), rtol=0, atol=0)
    part = Batch(batch.image[1:], batch.mask[1:], batch.names[1:], batch.indices[1:])
    torch.testing.assert_close(run(part), reference[1:], rtol=0, atol=1e-12)
    for other in (run(batch, seed=1), run(batch, epoch=1), run(batch._replace(indices=batch.indices + 1))):
        assert (other - reference).abs().amax((1, 2, 3)).min() > 1e-3


def test_evaluation_is_not_jittered(batch):
    preprocess = Preprocess(MEAN, STD, 0.4, 0.4, 0.4)
    plain = normalise(batch.image, MEAN, STD, torch.float32)
    assert torch.equal(preprocess(batch, epoch=None, dtype=torch.float32), plain)
    assert not torch.equal(preprocess(batch, epoch=0, dtype=torch.float32), plain)
