"""A tensor on split rows looks like the whole one and refuses what it can't do exactly."""

import copy

import pytest
import torch
from torch.nn import functional as F
from torch.utils._pytree import tree_flatten, tree_unflatten

from segframe.parallel.rows import Rows, RowTensor, UnsplittableError, rule
from segframe.parallel.rows.tensor import has_rule


def of(rank=1, size=3, height=7, **options):
    return RowTensor.of(torch.arange(2.0 * 3 * height * 4, **options).reshape(2, 3, height, 4), Rows(rank, size))


def test_its_shape_is_that_of_the_whole_tensor():
    x = of(dtype=torch.float64)
    assert x.shape == torch.Size((2, 3, 7, 4))
    assert (x.size(2), x.size(-1), x.dim(), x.ndim, len(x), x.numel()) == (7, 4, 4, 4, 2, 168)
    assert (x.dtype, x.device, x.requires_grad) == (torch.float64, torch.device("cpu"), False)
    assert torch.equal(x.local[0, 0, :, 0], torch.tensor([8.0, 12.0], dtype=torch.float64))
    assert repr(x) == "RowTensor(shape=(2, 3, 7, 4), rows=(2, 4), dtype=torch.float64)"


def test_own_rows_let_go_of_the_others():
    whole = torch.zeros(1, 1, 8, 4)
    assert RowTensor.of(whole, Rows(0, 2)).local.untyped_storage().nbytes() == whole.nbytes // 2


def test_rows_of_another_rank_are_refused():
    with pytest.raises(ValueError, match=r"rank 1 of 3 owns the rows 2 to 4 of 7, and got a tensor \(1, 1, 3, 4\)"):
        RowTensor(torch.zeros(1, 1, 3, 4), 7, Rows(1, 3))


@pytest.mark.parametrize(
    ("operation", "name"),
    [
        (torch.sort, "torch.sort"),
        (lambda x: x.median(), "torch.Tensor.median"),
        (lambda x: x @ torch.ones(4, 2), "torch.Tensor.__matmul__"),
        (lambda x: F.grid_sample(x, torch.zeros(1, 2, 2, 2)), "torch.nn.functional.grid_sample"),
        (lambda x: x.T, "Tensor.T"),
    ],
)
def test_an_operation_without_a_rule_is_refused_by_name(operation, name):
    with pytest.raises(UnsplittableError, match=f"{name} has no exact rule"):
        operation(of())


def test_it_has_no_truth_value_and_no_attributes_of_its_own():
    with pytest.raises(UnsplittableError, match="truth value"):
        bool(of())
    with pytest.raises(UnsplittableError, match="iterated"):
        list(of())
    assert not hasattr(of(), "no_such_attribute")


def test_rules_are_found_by_function_and_by_name():
    @rule("tests.some.function")
    def double(function, args, kwargs):
        return args[0].like(2 * args[0].local)

    def function(x):
        return torch.overrides.handle_torch_function(function, (x,), x)

    function.__module__, function.__qualname__ = "tests.some", "function"
    assert has_rule(function)
    assert not has_rule(torch.sort)
    assert torch.equal(function(of()).local, 2 * of().local)


def test_trees_and_copies_keep_what_it_is():
    x = of()
    leaves, tree = tree_flatten({"x": [x]})
    assert leaves[0] is x.local
    again = tree_unflatten([leaves[0] + 1], tree)["x"][0]
    assert torch.equal(again.local, x.local + 1)
    assert (again.height, again.rows) == (x.height, x.rows)
    assert copy.deepcopy(x).rows is x.rows


def everything(rank, size):
    whole = torch.arange(2.0 * 3 * 7 * 4).reshape(2, 3, 7, 4)
    return torch.equal(RowTensor.of(whole, Rows(rank, size)).whole(), whole)


def test_all_rows_come_together(on_ranks):
    assert on_ranks(3, everything) == [True] * 3
