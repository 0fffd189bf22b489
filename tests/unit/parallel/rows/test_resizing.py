"""Resized rows are those of PyTorch's own resizing of the whole map."""

from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from segframe.parallel.rows import Rows, RowTensor, UnsplittableError
from segframe.parallel.rows.replicated import Replicated
from tests.unit.parallel.rows.against_whole import differences, own_rows

SIZES = [(19, 13), (9, 26), (4, 3)]
FACTORS = [2, 1.5, (0.5, 3), 8]


def requests():
    for mode in ("nearest", "nearest-exact", "bilinear", "bicubic"):
        for align_corners in (None,) if mode.startswith("nearest") else (False, True):
            options = {"mode": mode, "align_corners": align_corners}
            yield from (partial(F.interpolate, size=size, **options) for size in SIZES)
            yield from (partial(F.interpolate, scale_factor=factor, **options) for factor in FACTORS)
            yield partial(F.interpolate, scale_factor=1.3, recompute_scale_factor=True, **options)
    # The same size, and yet other places; bicubic is left out, whose backward pass PyTorch takes for that of a copy.
    yield partial(F.interpolate, scale_factor=1.01, mode="bilinear")
    yield partial(F.interpolate, scale_factor=1.01, mode="nearest")
    yield nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
    yield nn.UpsamplingNearest2d(scale_factor=3)
    yield partial(F.pixel_shuffle, upscale_factor=2)


def filled(*shape, dtype=torch.float64, layout=torch.contiguous_format):
    return torch.randn(shape, dtype=torch.float64).to(dtype).contiguous(memory_format=layout)


def check(rows, heights, dtype, layout, every=1):
    found = []
    for height in heights:
        x = filled(1, 4, height, 9, dtype=dtype, layout=layout)
        for resize in list(requests())[::every]:
            if resize(x).shape[2] >= rows.size:
                found += differences(resize, [x], [], rows)
            found += replicated_differences(resize, x, rows)
        if height % 2 == 0:
            even = filled(2, 3, 2 * height, 8, dtype=dtype)
            found += differences(partial(F.pixel_unshuffle, downscale_factor=2), [even], [], rows)
    kept = F.interpolate(RowTensor.of(filled(1, 4, 13, 9, layout=layout), rows), size=(29, 30), mode="bilinear")
    if not kept.local.is_contiguous(memory_format=layout):
        found.append("the memory format is another")
    return found


def replicated_differences(resize, x, rows):
    """What differs where a map that is whole on all ranks is resized, and its rows then go with split ones."""
    leaf = x.detach().clone().requires_grad_()
    got = resize(Replicated.of(leaf, rows))
    whole = x.detach().clone().requires_grad_()
    want = resize(whole)
    if not isinstance(got, RowTensor):
        return [] if want.shape[2] < rows.size or "shuffle" in str(resize) else [f"{resize} was not split"]
    got.local.square().sum().backward()
    want.square().sum().backward()
    torch.distributed.all_reduce(leaf.grad)
    bound = {torch.float64: 1e-13, torch.float32: 3e-5, torch.bfloat16: 6e-2}[x.dtype]
    pairs = [(got.local, own_rows(want, rows)), (leaf.grad, whole.grad)]
    errors = [((a - b).abs().max() / b.abs().max()).item() for a, b in pairs]
    return [f"whole map by {resize}: {error:.1e}" for error in errors if error > bound]


def on_rank(rank, size):
    rows = Rows(rank, size)
    found = check(rows, [13], torch.float64, torch.contiguous_format)
    found += check(rows, [size], torch.float64, torch.contiguous_format, every=3)
    found += check(rows, [10], torch.float64, torch.channels_last, every=4)
    found += check(rows, [11], torch.float32, torch.channels_last, every=5)
    found += check(rows, [10], torch.bfloat16, torch.contiguous_format, every=6)
    with torch.autocast("cpu", torch.bfloat16):
        found += differences(
            partial(F.interpolate, scale_factor=2, mode="bilinear"),
            [filled(1, 2, 8, 8, dtype=torch.bfloat16)],
            [],
            rows,
        )
    return found


@pytest.mark.parametrize("size", [2, 3])
def test_equals_the_whole(on_ranks, size):
    for found in on_ranks(size, on_rank):
        assert not found, "\n".join(found[:20])


def test_rows_that_a_large_map_picks():
    # fp32 rounds a place of large sizes to a neighbouring row at times; PyTorch's kernels do so each in its own way.
    for out in (4000, 4093):
        for mode in ("nearest", "nearest-exact"):
            number = torch.arange(3001.0).view(1, 1, -1, 1).expand(1, 4, -1, 4).contiguous()
            want = F.interpolate(number, size=(out, 4), mode=mode)
            for rank in range(3):
                rows = Rows(rank, 3)
                got = F.interpolate(Replicated.of(number, rows), size=(out, 4), mode=mode)
                assert torch.equal(got.local, own_rows(want, rows))


def test_what_has_no_rule_is_refused_by_name():
    x = RowTensor.of(torch.randn(1, 2, 8, 8), Rows(0, 2))
    with pytest.raises(UnsplittableError, match="antialias=True"):
        F.interpolate(x, size=4, mode="bilinear", antialias=True)
    with pytest.raises(ValueError, match=r"F\.interpolate from 8 rows makes a map of 1 rows"):
        F.interpolate(x, size=(1, 4))
