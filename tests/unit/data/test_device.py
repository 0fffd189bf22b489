import pytest
import torch

from segframe.contracts import Batch
from segframe.data.device import Preprocess

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)


def make_batch(size=(9, 7), count=3):
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (count, *size, 3), generator=generator, dtype=torch.uint8).permute(0, 3, 1, 2)
    mask = torch.zeros(count, *size, dtype=torch.uint8)
    return Batch(image, mask, [str(number) for number in range(count)], torch.arange(count) * 3 % 8)


@pytest.fixture
def batch():
    return make_batch()


def part_of(batch, rows):
    return Batch(batch.image[rows], batch.mask[rows], batch.names[rows], batch.indices[rows])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_normalises_to_the_dtype_and_keeps_the_memory_order(batch, dtype):
    for epoch in (None, 0):
        result = Preprocess(MEAN, STD, 0.2, 0.2, 0.2)(batch, epoch=epoch, dtype=dtype)
        assert result.dtype == dtype
        assert result.is_contiguous(memory_format=torch.channels_last)
    mean, std = (torch.tensor(v, dtype=torch.float64)[:, None, None] for v in (MEAN, STD))
    expected = ((batch.image.double() / 255 - mean) / std).to(dtype)
    result = Preprocess(MEAN, STD, 0.2, 0.2, 0.2)(batch, epoch=None, dtype=dtype)
    torch.testing.assert_close(result, expected, rtol=1e-2 if dtype == torch.bfloat16 else 1e-6, atol=1e-6)


@pytest.mark.parametrize("size", [(9, 7), (1, 1), (1, 30), (33, 1)])
def test_colours_and_erasing_depend_on_seed_epoch_and_index_alone(size):
    batch = make_batch(size, 6)

    def run(batch, seed=0, epoch=0):
        preprocess = Preprocess(MEAN, STD, 0.4, 0.4, 0.4, hue=0.3, erase=0.7, seed=seed)
        return preprocess(batch, epoch=epoch, dtype=torch.float64)

    reference = run(batch)
    assert torch.equal(reference, run(batch))
    # Micro-batches and ranks cut a batch in parts: no image may notice.
    for cuts in ([slice(0, 1), slice(1, 6)], [slice(0, 2), slice(2, 4), slice(4, 6)]):
        assert torch.equal(torch.cat([run(part_of(batch, cut)) for cut in cuts]), reference)
    if size == (9, 7):
        for other in (run(batch, seed=1), run(batch, epoch=1), run(batch._replace(indices=batch.indices + 1))):
            assert (other - reference).abs().amax((1, 2, 3)).min() > 1e-3


def test_evaluation_varies_nothing(batch):
    varied, plain = Preprocess(MEAN, STD, 0.4, 0.4, 0.4, hue=0.2, erase=1.0), Preprocess(MEAN, STD)
    expected = plain(batch, epoch=0, dtype=torch.float32)
    assert torch.equal(varied(batch, epoch=None, dtype=torch.float32), expected)
    assert not torch.equal(varied(batch, epoch=0, dtype=torch.float32), expected)


def test_hue_and_erasing_leave_the_other_draws_alone(batch):
    one, other = Preprocess(MEAN, STD, 0.4, 0.4, 0.4), Preprocess(MEAN, STD, 0.4, 0.4, 0.4, hue=0.5)
    for index in range(5):
        assert one.factors(2, index)[:3] == other.factors(2, index)[:3]
        assert one.factors(2, index).hue == 0
        assert 0 < abs(other.factors(2, index).hue) <= 0.5


def test_erases_a_rectangle_to_the_mean_and_keeps_the_labels():
    batch = make_batch((41, 57), 8)
    erasing = Preprocess(MEAN, STD, erase=0.5, erase_area=(0.1, 0.2), erase_aspect=(0.5, 2.0))
    plain = Preprocess(MEAN, STD)(batch, epoch=0, dtype=torch.float32)
    mask = batch.mask.clone()
    image = erasing(batch, epoch=0, dtype=torch.float32)
    assert torch.equal(batch.mask, mask)
    erased = (image != plain).any(1)
    assert 0 < erased.flatten(1).any(1).sum() < 8
    for gone, pixels, before in zip(erased, image, plain, strict=True):
        assert torch.equal(pixels[:, ~gone], before[:, ~gone])
        if gone.any():
            rows, columns = (torch.nonzero(gone.any(dim)).flatten() for dim in (1, 0))
            area = pixels[:, rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
            assert (area == 0).all()
            assert 0.08 < area[0].numel() / gone.numel() < 0.22


@pytest.mark.parametrize("key", ["erase_area", "erase_aspect"])
def test_refuses_ranges_upside_down(key):
    with pytest.raises(ValueError, match=rf"{key}=\[0.9, 0.1\] must be \[smallest, largest\]"):
        Preprocess(MEAN, STD, **{key: (0.9, 0.1)})
