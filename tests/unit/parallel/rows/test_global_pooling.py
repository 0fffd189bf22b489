"""What is pooled from split rows is the same on all ranks, and what pooling the whole map gives."""

import copy
from functools import partial

import pytest
import torch
from torch.nn import functional as F

from segframe.models.pspnet import PyramidPooling, pool_to_grids
from segframe.parallel.rows import Rows, RowTensor
from segframe.parallel.rows.replicated import Replicated
from tests.unit.parallel.rows.against_whole import differences

OPERATIONS = [
    *(partial(F.adaptive_avg_pool2d, output_size=size) for size in (1, 3, (2, 5), (None, 2), 11)),
    *(partial(F.adaptive_max_pool2d, output_size=size) for size in (1, 3, (2, 5), 11)),
    partial(pool_to_grids, grid_sizes=(1, 2, 3, 6)),
    lambda x: x.mean((2, 3), keepdim=True),
    lambda x: x.mean((-2, -1)).relu(),
    lambda x: torch.mean(x, dim=2),
    lambda x: x.sum(),
    lambda x: torch.sum(x, (0, 2)),
    lambda x: (x > 0).sum((2, 3)),
    lambda x: x.amax((2, 3), keepdim=True),
    lambda x: x.amin(2),
    lambda x: torch.amax(x.relu().round(), (2, 3)),  # equal values share the gradient
    lambda x: F.adaptive_max_pool2d(x.relu().round(), 2),  # the first of equal ones has it
    lambda x: x * F.adaptive_avg_pool2d(x, 1).sigmoid(),
    lambda x: x * F.relu(F.adaptive_avg_pool2d(x, 1), inplace=True),
    lambda x: x + F.interpolate(F.adaptive_avg_pool2d(x, 2).square(), size=x.shape[-2:], mode="bilinear"),
    lambda x: torch.cat((x, F.interpolate(x.mean((2, 3), keepdim=True), size=x.shape[2:])), 1),
]


def on_rank(rank, size):
    rows, found = Rows(rank, size), []
    for height, dtype, layout in (
        (11, torch.float64, torch.contiguous_format),
        (size, torch.float64, torch.channels_last),
        (9, torch.float32, torch.channels_last),
        (10, torch.bfloat16, torch.contiguous_format),
    ):
        x = torch.randn(2, 4, height, 7, dtype=torch.float64).to(dtype).contiguous(memory_format=layout)
        for operation in OPERATIONS if dtype == torch.float64 else OPERATIONS[::3]:
            found += differences(operation, [x], [], rows)
    found += differences(pyramid, [torch.randn(2, 8, 7, 9, dtype=torch.float64)], [*weights()], rows)
    x = RowTensor.of(torch.randn(1, 4, 8, 8).requires_grad_(), rows)
    if not isinstance(F.adaptive_avg_pool2d(x, 1).relu().view(1, 4), Replicated):
        found.append("the mark got lost")
    return found


def weights():
    return [p.double() for p in PyramidPooling(8, (1, 2, 3)).parameters()]


def pyramid(x, *parameters):
    net = PyramidPooling(8, (1, 2, 3)).double().eval()
    names = [name for name, _ in net.named_parameters()]
    return torch.func.functional_call(net, dict(zip(names, parameters, strict=True)), x)


@pytest.mark.parametrize("size", [2, 3])
def test_equals_the_whole(on_ranks, size):
    for found in on_ranks(size, on_rank):
        assert not found, "\n".join(found[:20])


def kept(x):
    """Returns how many bytes wait for the backward pass."""
    sizes = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda t: sizes.append(t.untyped_storage().nbytes()) or t, lambda t: t
    ):
        F.adaptive_avg_pool2d(x, 3), pool_to_grids(x, (1, 2, 3, 6)), x.mean((2, 3)), x.sum(2)
    return sum(sizes)


def test_averages_keep_no_map():
    x = torch.randn(2, 64, 32, 32, requires_grad=True)
    assert kept(RowTensor(x, 32, Rows(0, 1))) < 20_000 < 500_000 < kept(x)


def test_a_buffer_of_it_is_saved_and_copied_as_a_plain_tensor(tmp_path):
    pooled = Replicated.of(torch.arange(3.0), Rows(0, 2)) * 2
    assert isinstance(pooled, Replicated)
    torch.save({"buffer": pooled}, tmp_path / "saved")
    for again in (torch.load(tmp_path / "saved", weights_only=True)["buffer"], copy.deepcopy(pooled)):
        assert type(again) is torch.Tensor
        assert again.tolist() == [0, 2, 4]
