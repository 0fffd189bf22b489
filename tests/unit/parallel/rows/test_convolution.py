"""Convolutions of split rows are those of whole tensors, gradients of input, weight and bias included."""

import warnings
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from segframe.parallel.rows import Rows, RowTensor, UnsplittableError
from tests.unit.parallel.rows.against_whole import differences

DENSE = [  # kernel, stride, padding, dilation, groups
    (3, 1, 1, 1, 1),
    (1, 1, 0, 1, 1),
    (1, 2, 0, 1, 1),
    (3, 2, 1, 1, 2),
    (7, 2, 3, 1, 1),
    (3, 1, 12, 12, 1),
    ((3, 1), (2, 1), (1, 0), (2, 1), 4),
    (2, 3, 1, 1, 1),
    ((5, 2), 1, "same", 1, 1),
    ((4, 4), 1, "same", 1, 2),
    (3, 1, "valid", 1, 1),
    (2, 2, 0, 1, 1),
]
TRANSPOSED = [  # kernel, stride, padding, output_padding, groups, dilation
    (2, 2, 0, 0, 1, 1),
    (4, 2, 1, 0, 1, 1),
    (3, 2, 1, 1, 2, 1),
    (3, 1, 1, 0, 1, 1),
    (3, 1, 4, 0, 1, 4),
    (1, 3, 0, 2, 1, 1),
    (2, 3, 0, 0, 1, 1),
    (3, 5, 0, 4, 4, 1),
    ((5, 3), (2, 1), (2, 0), (1, 0), 1, 1),
]


def filled(*shape, dtype=torch.float64, layout=torch.contiguous_format):
    return torch.randn(shape, dtype=torch.float64).to(dtype).contiguous(memory_format=layout)


def check_dense(rows, heights, kinds=((torch.float64, torch.contiguous_format),)):
    found = []
    for dtype, layout in kinds:
        for kernel, stride, padding, dilation, groups in DENSE:
            size = (kernel, kernel) if isinstance(kernel, int) else kernel
            weight, bias = filled(8, 4 // groups, *size, dtype=dtype), filled(8, dtype=dtype)
            conv = partial(F.conv2d, stride=stride, padding=padding, dilation=dilation, groups=groups)
            for height in heights:
                x = filled(2, 4, height, 9, dtype=dtype, layout=layout)
                found += differences(conv, [x], [weight, bias], rows)
    return found


def check_transposed(rows, heights, kinds=((torch.float64, torch.contiguous_format),)):
    found = []
    for dtype, layout in kinds:
        for kernel, stride, padding, extra, groups, dilation in TRANSPOSED:
            size = (kernel, kernel) if isinstance(kernel, int) else kernel
            weight, bias = filled(4, 8 // groups, *size, dtype=dtype), filled(8, dtype=dtype)
            conv = partial(F.conv_transpose2d, stride=stride, padding=padding, output_padding=extra, groups=groups,
                           dilation=dilation)  # fmt: skip
            for height in heights:
                x = filled(2, 4, height, 5, dtype=dtype, layout=layout)
                found += differences(conv, [x], [weight, bias], rows)
    return found


def check_modules(rows):
    """Modules of torch: without bias, other padding modes; a weight or an input that needs no gradient."""
    found = []
    for mode in ("zeros", "reflect", "replicate", "circular"):
        net = nn.Conv2d(3, 4, 3, padding=2, stride=2, bias=False, padding_mode=mode, dtype=torch.float64)
        found += differences(lambda x, net=net: net(x), [filled(1, 3, 17, 8)], [], rows)
    frozen = filled(4, 3, 3, 3)
    found += differences(lambda x: F.conv2d(x, frozen, padding=1), [filled(1, 3, 9, 8)], [], rows)
    weight = frozen.clone().requires_grad_()
    F.conv2d(RowTensor.of(image := filled(1, 3, 9, 8), rows), weight, padding=1).local.sum().backward()
    torch.distributed.all_reduce(weight.grad)
    F.conv2d(image, frozen.requires_grad_(), padding=1).sum().backward()
    return found if torch.allclose(weight.grad, frozen.grad) else [*found, "the gradient without that of the input"]


def check_autocast(rows):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        x, weight, bias = filled(1, 4, 9, 8).float(), filled(8, 4, 3, 3).float(), filled(8).float()
        other = filled(4, 8, 2, 2).float()
        return [
            *differences(lambda *a: F.conv2d(*a, padding=1), [x], [weight, bias], rows, 6e-2),
            *differences(lambda *a: F.conv_transpose2d(*a, stride=2), [x], [other, bias], rows, 6e-2),
        ]


def everything(rank, size):
    warnings.filterwarnings("ignore", "Using padding='same'")
    rows, last = Rows(rank, size), torch.channels_last
    kinds = ((torch.float64, last), (torch.float32, last), (torch.bfloat16, torch.contiguous_format))
    found = check_dense(rows, (19, 32) if size == 4 else (23,)) + check_transposed(rows, (size, 5))
    if size == 3:
        found += check_dense(rows, (23,), kinds) + check_transposed(rows, (7,), kinds)
        found += check_modules(rows) + check_autocast(rows)
    return found


@pytest.mark.parametrize("size", [2, 3, 4])
def test_convolutions_are_those_of_whole_tensors(on_ranks, size):
    assert on_ranks(size, everything) == [[]] * size


def test_too_few_rows_are_refused_before_anything_is_sent():
    x = RowTensor(torch.zeros(1, 2, 1, 8), 4, Rows(0, 4))
    with pytest.raises(ValueError, match=r"conv2d with a kernel of \(3, 3\) .* 2 rows, and 4 ranks"):
        F.conv2d(x, torch.zeros(2, 2, 3, 3), stride=2, padding=1)
    with pytest.raises(ValueError, match=r"conv_transpose2d .* 3 rows, and 4 ranks"):
        F.conv_transpose2d(x, torch.zeros(2, 2, 2, 2), padding=1)


def test_a_split_weight_is_refused():
    x = RowTensor(torch.zeros(1, 2, 2, 8), 4, Rows(0, 2))
    with pytest.raises(UnsplittableError, match="conv2d with a weight"):
        F.conv2d(torch.zeros(1, 2, 4, 4), x)


def test_nothing_is_kept_but_own_and_fetched_rows():
    rows = Rows(1, 3)
    x = RowTensor(torch.zeros(1, 4, 4, 8, device="meta", requires_grad=True), 12, rows)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        F.conv2d(x, torch.zeros(4, 4, 3, 3, device="meta", requires_grad=True), padding=1)
    assert sorted(t.shape[2] for t in kept if t.shape[3] == 8) == [1, 1, 4]
