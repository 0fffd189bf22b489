"""Normalisation of split rows is that of the whole map."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from segframe.parallel.rows import Rows, RowTensor, UnsplittableError
from tests.unit.parallel.rows.against_whole import differences


def group_norm(x, weight, bias):
    return F.group_norm(x, 3, weight, bias)


def instance_norm(x, weight, bias):
    return F.instance_norm(x, weight=weight, bias=bias, eps=1e-3)


def by_module(x, weight, bias):
    return torch.func.functional_call(nn.GroupNorm(2, 6), {"weight": weight, "bias": bias}, x)


def layer_norm_of_channels(x, weight, bias):
    return F.layer_norm(x.permute(0, 2, 3, 1), (6,), weight, bias).permute(0, 3, 1, 2).contiguous()


def evaluated(x, weight, bias):
    return F.batch_norm(x, weight.detach() - 1, bias.detach().abs() + 0.1, weight, bias)


OPERATIONS = [group_norm, instance_norm, by_module, layer_norm_of_channels, evaluated]


def on_rank(rank, size):
    rows, found = Rows(rank, size), []
    for height, dtype, layout in (
        (7, torch.float64, torch.contiguous_format),
        (size, torch.float64, torch.channels_last),
        (9, torch.float32, torch.channels_last),
        (10, torch.bfloat16, torch.contiguous_format),
    ):
        x = (3 * torch.randn(2, 6, height, 5, dtype=torch.float64) + 1).to(dtype).contiguous(memory_format=layout)
        parameters = [p.to(dtype) for p in torch.randn(2, 6)]
        for operation in OPERATIONS:
            found += differences(operation, [x], parameters, rows)
        found += differences(lambda x: F.group_norm(x, 6), [x], [], rows)
    with torch.autocast("cpu", torch.bfloat16):
        x = torch.randn(2, 6, 8, 5, dtype=torch.bfloat16)
        found += differences(group_norm, [x], [*torch.randn(2, 6)], rows)
    shifted = 1e6 + torch.randn(2, 6, 9, 5, dtype=torch.float64)
    found += differences(group_norm, [shifted], [*torch.randn(2, 6).double()], rows, tolerance=1e-9)
    return found


@pytest.mark.parametrize("size", [2, 3])
def test_equals_the_whole(on_ranks, size):
    for found in on_ranks(size, on_rank):
        assert not found, "\n".join(found[:20])


def kept(x):
    """Returns how many values wait for the backward pass."""
    sizes = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel()) or t, lambda t: t):
        F.group_norm(x, 4, torch.ones(8, requires_grad=True), torch.zeros(8, requires_grad=True))
    return sum(sizes)


def test_keeps_what_plain_group_norm_keeps():
    x = torch.randn(2, 8, 16, 16, requires_grad=True)
    assert kept(RowTensor(x, 16, Rows(0, 1))) <= kept(x)


@pytest.mark.parametrize(
    ("operation", "said"),
    [
        (lambda x: F.batch_norm(x, None, None, training=True), r"F\.batch_norm in training.*sync_batchnorm"),
        (lambda x: F.layer_norm(x, (4, 8, 8)), r"F\.layer_norm over the last 3 dimensions"),
        (lambda x: F.instance_norm(x, torch.zeros(4), torch.ones(4)), r"F\.instance_norm with running statistics"),
        (lambda x: F.local_response_norm(x, 2), "local_response_norm has no exact rule"),
    ],
)
def test_what_has_no_rule_is_refused_by_name(operation, said):
    with pytest.raises(UnsplittableError, match=said):
        operation(RowTensor.of(torch.randn(2, 4, 8, 8), Rows(0, 2)))
