"""What works on each value, and what moves dimensions or looks along others than that of rows."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from segframe.parallel.rows import Rows, RowTensor, UnsplittableError
from segframe.parallel.rows.elementwise import NAMES
from tests.unit.parallel.rows.against_whole import differences

# Written in terms of others, other names of them, or methods alone; prelu's weights are those of channels.
WITHOUT_A_TAG = {
    "absolute", "and", "divide", "floor_divide", "greater", "greater_equal", "hardswish", "invert", "isclose", "less",
    "less_equal", "logsigmoid", "mod", "multiply", "negative", "not_equal", "or", "prelu", "softsign", "subtract",
    "tanhshrink", "truediv", "xor",
}  # fmt: skip


TAGGED_LATER = {"leaky_relu"} if torch.__version__ < "2.12" else set()


def test_every_name_is_said_to_be_pointwise_by_pytorch():
    for name in set(NAMES) - WITHOUT_A_TAG - TAGGED_LATER:
        kernels = getattr(torch.ops.aten, name)
        tags = [getattr(kernels, overload).tags for overload in kernels.overloads()]
        assert any(torch.Tag.pointwise in t for t in tags), name
        assert not any(torch.Tag.nondeterministic_seeded in t for t in tags), name
    for name in WITHOUT_A_TAG:
        assert any(hasattr(owner, spelled) for owner in (torch, F, Tensor) for spelled in (name, f"__{name}__")), name


def add_in_place(x, y):
    x = x * 1
    x += y
    x.mul_(2)
    return F.relu(x, inplace=True)


def mask_in_place(x, y):
    mask = x > 0
    same = mask
    same &= y > 0
    same ^= x > 1
    return x * mask


def seen_by_a_hook(x):
    x = x * 2
    if x.requires_grad:
        x.register_hook(lambda gradient: gradient - gradient.mean((2, 3), keepdim=True))
    return x


def where(x, y):
    return torch.where(x > y, x, 0.5), torch.where(y > 0, 1.0, y), x.masked_fill(x > 1, 0)


OF_TWO = [
    lambda x, y: x + y,
    lambda x, y: 2 - x / (y.abs() + 1),
    lambda x, y: torch.maximum(x, y) ** 2,
    lambda x, y: torch.max(x, other=y) + torch.min(x, y),
    lambda x, y: torch.add(x, y, alpha=3),
    lambda x, y: torch.addcmul(x, x, y, value=0.5),
    lambda x, y: torch.lerp(x, y, 0.3),
    lambda x, y: torch.atan2(x, y).clamp(-1, 1),
    lambda x, y: (x.unsqueeze(2) * torch.stack((y, x), 2)).sum(2),
    lambda x, y: torch.stack((x, y)).mean(0),
    lambda x, y: torch.stack([x, y], dim=1).softmax(1),
    add_in_place,
    mask_in_place,
    where,
]
OF_ONE = [
    F.gelu, F.silu, F.hardswish, F.hardsigmoid, F.relu6, F.mish, F.elu, F.softplus, F.logsigmoid, F.softsign,
    lambda x: F.hardtanh(x, 0, 6, inplace=False),
    lambda x: F.leaky_relu(x, 0.1),
    lambda x: F.prelu(x, torch.arange(6.0, dtype=x.dtype)),
    lambda x: F.softmax(x, dim=1),
    lambda x: x.log_softmax(1),
    lambda x: F.normalize(x, dim=1),
    lambda x: x.cumsum(3),
    lambda x: x.argmax(1),
    lambda x: torch.argmax(x, dim=1, keepdim=True),
    lambda x: x.max(dim=1),
    lambda x: x.max(1, keepdim=True).values,
    lambda x: torch.logsumexp(x, 1),
    lambda x: x.sum(1),
    lambda x: x.mean(dim=(0, 1), keepdim=True),
    lambda x: x.mean(3),
    lambda x: x.norm(dim=1),
    lambda x: x.std(1),
    lambda x: x.var(1, True) + x.var(1, False, True)[:, 0:1].squeeze(1),
    seen_by_a_hook,
    lambda x: x.amax(1),
    lambda x: x.sum(1).unsqueeze(1).squeeze(1),
    lambda x: x.sum(1, keepdim=True).squeeze(),
    lambda x: x.permute(0, 2, 3, 1) * torch.arange(6.0, dtype=x.dtype),
    lambda x: x.transpose(1, 3),
    lambda x: x.view(2, 2, 3, *x.shape[2:]).transpose(1, 2).reshape(2, -1, *x.shape[2:]),
    lambda x: x.flatten(0, 1),
    lambda x: F.linear(x.permute(0, 2, 3, 1), torch.arange(12.0, dtype=x.dtype).view(2, 6)).permute(0, 3, 1, 2),
    lambda x: x * torch.arange(6.0, dtype=x.dtype).view(1, 6, 1, 1),
    lambda x: x + torch.arange(7.0 * x.shape[2], dtype=x.dtype).view(x.shape[2], 7),  # rows that a plain tensor has
    lambda x: x.new_ones(x.shape) * x + torch.zeros_like(x) + x.new_zeros((1, 1, x.shape[2], 1)),
    lambda x: x * x.new_full((2, 1, 1, 1), 3.0) + x.new_zeros(6, 1, 1),
    lambda x: (x > 0).to(x.dtype),
    lambda x: x.isfinite() & ~(x < 0),
]  # fmt: skip


def on_rank(rank, size):
    rows, found = Rows(rank, size), []
    for height, layout in ((7, torch.contiguous_format), (size, torch.channels_last)):
        x, y = torch.randn(2, 2, 6, height, 7, dtype=torch.float64)
        x, y = x.contiguous(memory_format=layout), y.contiguous(memory_format=layout)
        for operation in OF_ONE:
            found += differences(operation, [x], [], rows)
        for operation in OF_TWO:
            found += differences(operation, [x, y], [], rows)
        for operation in OF_TWO[:6]:
            found += differences(lambda x, p, o=operation: o(x, p.view(1, 6, 1, 1)), [x], [y[0, :, 0, 0]], rows)
    return found


@pytest.mark.parametrize("size", [2, 3])
def test_equals_the_whole(on_ranks, size):
    for found in on_ranks(size, on_rank):
        assert not found, "\n".join(found[:20])


def test_in_place_changes_the_tensor_itself():
    x = RowTensor.of(torch.randn(1, 2, 8, 8), Rows(1, 2))
    before, same = x.local.clone(), x
    assert F.relu(x, inplace=True) is x
    assert x.add_(1) is x
    x *= 2
    assert x is same
    assert torch.equal(x.local, (before.relu() + 1) * 2)


@pytest.mark.parametrize(
    ("operation", "said"),
    [
        (lambda x: x.softmax(2), r"Tensor\.softmax.*over the dimension -2"),
        (lambda x: x.argmax(), r"Tensor\.argmax"),
        (lambda x: x.cumsum(2), r"Tensor\.cumsum"),
        (lambda x: x.flatten(2), r"Tensor\.flatten makes \(1, 2, 64\).*Attention"),
        (lambda x: x.view(1, 2, 64), r"Tensor\.view makes"),
        (lambda x: x.permute(0, 2, 3, 1) @ torch.ones(2, 2), "matmul"),
        (lambda x: F.conv2d(x.permute(0, 2, 3, 1), torch.ones(1, 8, 1, 1)), r"conv2d.*dimension -3"),
        (lambda x: torch.zeros(1, 2, 8, 8).add_(x), "would write rows"),
        (lambda x: torch.where(x > 0), "where"),
        (lambda x: torch.rand_like(x), "rand_like has no exact rule"),
        (lambda x: x.item(), r"Tensor\.item has no exact rule"),
        (lambda x: F.linear(x.transpose(2, 3), torch.ones(2, 8)), "linear"),
    ],
)
def test_what_has_no_rule_is_refused_by_name(operation, said):
    with pytest.raises(UnsplittableError, match=said):
        operation(RowTensor.of(torch.randn(1, 2, 8, 8), Rows(0, 2)))


def test_rows_that_do_not_fit_are_refused():
    x = RowTensor.of(torch.randn(1, 2, 8, 8), Rows(0, 2))
    with pytest.raises(ValueError, match="must have 1 or 8 rows in dimension -2"):
        x + torch.ones(4, 8)
    with pytest.raises(ValueError, match="don't have the same rows"):
        x + RowTensor.of(torch.randn(1, 2, 6, 8), Rows(0, 2))
