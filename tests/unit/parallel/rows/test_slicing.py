"""Windows, chunks, padding and copies of split rows are those of whole tensors."""

from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from segframe.contracts import SegmentationOutput
from segframe.inference import slide
from segframe.parallel.rows import Rows, RowTensor, UnsplittableError
from tests.unit.parallel.rows.against_whole import differences

HEIGHT = 13


def filled(*shape):
    return torch.randn(shape, dtype=torch.float64)


def put(x, part):
    x = x.clone()
    x[..., 2:11, 1:4] = part
    return x


def put_apart(x, part):
    x = x * 2
    x[:, 1:, 1:13:2, :-1] = part
    return x


def add(x, part):
    total = x.new_zeros((*x.shape[:2], HEIGHT, x.shape[3]))
    total[..., 0:9, :] += part
    total[..., 4:13, :] += part * part
    total[..., 4:13, 2:4] += 1
    return total + x


WINDOWS = [
    lambda x: x[:1],
    lambda x: x[..., 3:],
    lambda x: x[:, 1:3, 2:-3, ::2],
    lambda x: x[..., 9:13, :],
    lambda x: x[:, :, ::3],
    lambda x: x[..., 1:12:2, 1:-1],
    lambda x: x.narrow(2, 5, 6),
    lambda x: x.narrow(1, 1, 2),
    lambda x: torch.narrow(x, dim=3, start=0, length=2),
    lambda x: list(x.chunk(2, 1)),
    lambda x: list(torch.chunk(x, 2, dim=2)),
    lambda x: list(x.split([4, 9], dim=2)),
    lambda x: list(torch.split(x, 3, 1)),
    lambda x: (x * 2)[..., 3:, :].mul_(3),
    lambda x: F.pad(x, (0, 0, 0, 0)).mul_(3) + x,
    lambda x: x.flip(-1),
    lambda x: torch.flip(x, (2, 3)),
    lambda x: x[:, :1].expand(2, 3, HEIGHT, -1),
    lambda x: x[:, :1].expand_as(x),
    lambda x: x.repeat(1, 2, 1, 3),
    lambda x: x.clone().float().double().to(torch.float32).type_as(x).contiguous(memory_format=torch.channels_last),
    lambda x: x.to(x) + x.detach(),
]
JOINED = [
    lambda a, b: torch.cat((a, b), 1),
    lambda a, b: torch.cat([a, b], dim=-2),
    lambda a, b: torch.cat((a, torch.arange(2.0 * 4 * HEIGHT * 6).double().reshape(2, 4, HEIGHT, 6), b), axis=1),
    lambda a, b: torch.cat((torch.arange(2.0 * 4 * 5 * 6).double().reshape(2, 4, 5, 6), a), 2),
    lambda a, b: torch.stack((a, b), 1).sum(1),
]
PADS = [
    ((1, 2, 3, 4), "constant", 2.5),
    ((1, -2, -3, 2), "constant", None),
    ((0, 0, 0, 1), "constant", None),
    ((1, 0), "constant", 1.0),
    ((0, 0, 2, 1, 1, 2), "constant", 0.5),
    ((1, 2, 3, 4), "replicate", None),
    ((1, 2, 12, 4), "reflect", None),
    ((1, 2, 0, 0), "circular", None),
    ((1, 2, 3, 4), "circular", None),
]


def windows_of_a_net(image):
    """Log-probabilities of a convolution by a sliding window."""
    torch.manual_seed(3)
    net = nn.Conv2d(4, 3, 3, padding=1, dtype=torch.float64)
    return slide(lambda x: SegmentationOutput(net(x)), image, (7, 4), (3, 2))


def everything(rank, size):
    rows, found = Rows(rank, size), []
    x, y = filled(2, 4, HEIGHT, 6), filled(2, 4, HEIGHT, 6)
    for operation in WINDOWS:
        found += differences(operation, [x], [], rows)
    for operation in JOINED:
        found += differences(operation, [x, y], [], rows)
    for pads, mode, value in PADS:
        found += differences(partial(F.pad, pad=pads, mode=mode, value=value), [x], [], rows)
    found += differences(put, [x, filled(2, 4, 9, 3)], [], rows)
    found += differences(lambda x: put(x, torch.arange(27.0).double().reshape(9, 3)), [x], [], rows)
    found += differences(lambda x: put(x, 3.0), [x], [], rows)
    found += differences(put_apart, [x, filled(2, 3, 6, 5)], [], rows)
    found += differences(add, [x, filled(2, 4, 9, 6)], [], rows)
    found += differences(lambda x, p: add(x, p), [x, filled(2, 4, 9, 6)], [], rows)
    return found + differences(windows_of_a_net, [x], [], rows)


@pytest.mark.parametrize("size", [2, 4])
def test_parts_are_those_of_whole_tensors(on_ranks, size):
    assert on_ranks(size, everything) == [[]] * size


def test_too_few_rows_are_refused():
    x = RowTensor(torch.zeros(1, 2, 2, 8), 8, Rows(0, 4))
    with pytest.raises(ValueError, match=r"a window of the rows 2 to 5 makes a map of 3 rows, and 4 ranks"):
        x[..., 2:5, :]
    with pytest.raises(ValueError, match=r"F.pad makes a map of 1 rows"):
        F.pad(x, (0, 0, -3, -4))


@pytest.mark.parametrize("index", [0, (0, slice(None)), (Ellipsis, None), torch.tensor([0]), (..., 1, slice(None))])
def test_other_indices_are_refused_by_name(index):
    with pytest.raises(UnsplittableError, match=r"the index .* has no exact rule; slices have one"):
        RowTensor(torch.zeros(1, 2, 2, 8), 4, Rows(0, 2))[index]


def test_split_rows_are_not_written_into_a_whole_tensor():
    x = RowTensor(torch.zeros(1, 2, 2, 8), 4, Rows(0, 2))
    with pytest.raises(UnsplittableError, match="can't be written into a tensor that is whole"):
        torch.zeros(1, 2, 4, 8)[..., 0:4, :] = x
