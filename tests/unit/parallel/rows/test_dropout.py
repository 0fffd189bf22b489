"""Ranks that are seeded alike drop of split rows what one process drops."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from segframe.parallel.rows import Rows, RowTensor
from tests.unit.parallel.rows.against_whole import own_rows


def drop_path(x):
    keep = x.new_empty((x.shape[0],) + (1,) * (x.ndim - 1)).bernoulli_(0.5)
    return x * keep.div_(0.5)


DROPS = [
    lambda x: F.dropout2d(x, 0.4),
    nn.Dropout2d(0.4, inplace=True),
    lambda x: F.dropout(x, 0.3),
    nn.Dropout(0.3, inplace=True),
    lambda x: F.dropout(x.permute(0, 2, 3, 1), 0.3),
    drop_path,
]


@pytest.mark.parametrize("drop", DROPS)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_drops_what_one_process_drops(drop, layout):
    x = (1 + torch.rand(4, 6, 7, 5, dtype=torch.float64)).contiguous(memory_format=layout)
    torch.manual_seed(0)
    whole = drop(x.clone(memory_format=torch.preserve_format))
    assert 0 < (whole == 0).float().mean() < 1
    for rank in range(3):
        rows = Rows(rank, 3)
        torch.manual_seed(0)
        split = drop(RowTensor.of(x, rows))
        assert torch.equal(split.local, own_rows(whole, rows, split.axis))


def test_the_gradient_has_the_same_factors():
    x = torch.ones(2, 3, 8, 4, requires_grad=True)
    dropped = F.dropout(RowTensor(x, 8, Rows(0, 1)), 0.5)
    dropped.local.sum().backward()
    assert torch.equal(x.grad, dropped.local)


def test_keeps_the_factors_of_its_own_rows_alone():
    x, sizes = torch.ones(1, 4, 4, 16, requires_grad=True), []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda t: sizes.append(t.untyped_storage().nbytes()) or t, lambda t: t
    ):
        F.dropout(RowTensor(x, 16, Rows(1, 4)), 0.5)
    assert sizes == [x.untyped_storage().nbytes()]


def test_nothing_is_dropped_in_evaluation():
    x = RowTensor.of(torch.randn(1, 2, 8, 8), Rows(0, 2))
    for module in (nn.Dropout(0.5), nn.Dropout2d(0.5)):
        assert module.eval()(x) is x
        assert module.__class__(0.0).train()(x) is x


def test_more_than_eight_ranks_draw_for_themselves():
    drawn = []
    for rank in (0, 1):
        torch.manual_seed(0)
        drawn.append(F.dropout(RowTensor(torch.ones(1, 3, 2, 50), 18, Rows(rank, 9)), 0.5).local)
        after = torch.rand(1)
    assert not torch.equal(*drawn)
    assert set(drawn[0].unique().tolist()) == {0.0, 2.0}
    torch.manual_seed(0)
    F.dropout(RowTensor(torch.ones(1, 3, 2, 50), 18, Rows(5, 9)), 0.5)
    assert torch.equal(torch.rand(1), after)  # the common stream moves on alike


def test_a_probability_above_one_is_refused():
    with pytest.raises(ValueError, match=r"probability 1\.5"):
        F.dropout(RowTensor.of(torch.randn(1, 2, 8, 8), Rows(0, 2)), 1.5)
