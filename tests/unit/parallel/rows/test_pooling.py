"""Pooling of split rows and its inverses are those of whole tensors."""

from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from segframe.models.unpooling import max_pool_with_mask, max_unpool
from segframe.parallel.rows import Rows, RowTensor, UnsplittableError
from tests.unit.parallel.rows.against_whole import differences

MAX = [  # kernel, stride, padding, dilation, ceil_mode
    (2, 2, 0, 1, False),
    (2, None, 0, 1, True),
    (3, 2, 1, 1, False),
    (3, 2, 1, 1, True),
    (3, 1, 1, 3, False),
    ((3, 2), (1, 2), (1, 0), (2, 1), True),
    (2, 3, 1, 1, True),
]
AVERAGE = [  # kernel, stride, padding, ceil_mode, count_include_pad, divisor_override
    (2, 2, 0, False, True, None),
    (3, 1, 1, False, True, None),
    (3, 1, 1, False, False, None),
    (3, 2, 1, True, True, None),
    (3, 2, 1, True, False, None),
    ((4, 3), (3, 2), (2, 1), True, True, None),
    (3, 2, 1, True, True, 5),
    (2, 3, 1, True, False, None),
]


def filled(*shape, dtype=torch.float64, layout=torch.contiguous_format):
    return torch.randn(shape, dtype=torch.float64).to(dtype).contiguous(memory_format=layout)


def by_indices(x, kernel, stride, padding, extra):
    """Pools and puts the pooled values, changed, back to where they came from."""
    pooled, indices = F.max_pool2d(x, kernel, stride, padding, return_indices=True)
    size = None if extra is None else x.shape[-2:]
    return F.max_unpool2d(pooled * pooled, indices, kernel, stride, padding, output_size=size), indices


def by_mask(x):
    pooled, mask = max_pool_with_mask(x)
    return max_unpool(pooled * pooled, mask), mask


def check(rows, heights, dtype, layout):
    found = []
    for height in heights:
        x = filled(2, 3, height, 9, dtype=dtype, layout=layout)
        for kernel, stride, padding, dilation, ceil_mode in MAX:
            pool = partial(F.max_pool2d, kernel_size=kernel, stride=stride, padding=padding, dilation=dilation,
                           ceil_mode=ceil_mode)  # fmt: skip
            found += differences(pool, [x], [], rows)
            found += differences(partial(pool, return_indices=True), [x.relu()], [], rows)  # with equal values
        for arguments in AVERAGE:
            found += differences(lambda x, a=arguments: F.avg_pool2d(x, *a), [x], [], rows)
        found += differences(by_mask, [x], [], rows)
        found += differences(by_mask, [x.relu()], [], rows)
        found += differences(lambda x: by_indices(x, 2, 2, 0, True), [x], [], rows)
        found += differences(lambda x: by_indices(x, 3, 2, 1, True), [x], [], rows)
        found += differences(lambda x: by_indices(x, (3, 1), (3, 1), 0, True), [x], [], rows)
        if height % 2 == 0:
            even = filled(1, 2, height, 8, dtype=dtype, layout=layout)
            found += differences(lambda x: by_indices(x, 2, 2, 0, None), [even], [], rows)
    lowest = torch.full((1, 1, 16, 8), float("-inf"), dtype=dtype)
    return found + differences(lambda x: F.max_pool2d(x, 3, 2, 1, return_indices=True), [lowest], [], rows)


def everything(rank, size):
    rows = Rows(rank, size)
    found = check(rows, {2: (13,), 3: (14,), 4: (12, 23)}[size], torch.float64, torch.contiguous_format)
    if size == 3:
        found += check(rows, (13,), torch.float64, torch.channels_last)
        found += check(rows, (14,), torch.float32, torch.channels_last)
        found += check(rows, (13,), torch.bfloat16, torch.contiguous_format)
    return found


@pytest.mark.parametrize("size", [2, 3, 4])
def test_pooling_is_that_of_whole_tensors(on_ranks, size):
    assert on_ranks(size, everything) == [[]] * size


def test_what_is_kept_of_max_pooling_is_its_indices_or_its_mask():
    x = RowTensor(torch.zeros(1, 4, 8, 8, requires_grad=True), 8, Rows(0, 1))
    for pool, shape in ((nn.MaxPool2d(2), (1, 4, 4, 4)), (max_pool_with_mask, (1, 4, 8, 8)), (nn.AvgPool2d(2), None)):
        kept = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, k=kept: k.append(t) or t, lambda t: t):
            pool(x)
        assert [tuple(t.shape) for t in kept] == ([shape] if shape else [])


@pytest.mark.parametrize("pool", [nn.MaxPool2d(2), nn.AvgPool2d(2), max_pool_with_mask])
def test_too_few_rows_are_refused_before_anything_is_sent(pool):
    x = RowTensor(torch.zeros(1, 2, 1, 8), 5, Rows(0, 4))
    with pytest.raises(ValueError, match=r"pool.* makes a map of [23] rows, and 4 ranks"):
        pool(x)


def test_indices_of_unknown_windows_are_refused():
    x = RowTensor(torch.zeros(1, 2, 1, 4), 4, Rows(0, 4))
    with pytest.raises(UnsplittableError, match="indices that max_pool2d returned"):
        F.max_unpool2d(x, RowTensor(torch.zeros(1, 2, 1, 4, dtype=torch.int64), 4, Rows(0, 4)), 2)
    rows = Rows(0, 1)
    pooled, indices = F.max_pool2d(RowTensor(torch.zeros(1, 1, 5, 5), 5, rows), 2, return_indices=True)
    with pytest.raises(UnsplittableError, match="give output_size the size of the map that was pooled"):
        F.max_unpool2d(pooled, indices, 2)
