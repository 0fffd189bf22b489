"""A window of split rows is a copy: what would differ from a view is refused, and what is right goes on."""

import pytest
import torch
from torch.nn import functional as F

from segframe.parallel.rows import Rows, RowTensor


def written(x):
    x[..., 2:, :].mul_(2)


def written_by_a_module(x):
    F.relu(x[:, :, 1:], inplace=True)


def written_through_a_view(x):
    x[..., 1:, :][:, :1].mul_(2)


def written_in_a_window(x):
    x[..., 1:, :][..., 2:, :].mul_(2)


def written_in_a_part(x):
    x.narrow(2, 0, 4)[:, :1] = 1


def not_written_back(x):
    part = x[..., 2:, :]
    part += 1
    return x * 2


def another_written_back(x):
    part = x[..., 2:, :]
    part += 1
    x[..., 2:, :] = part * 1


def a_number_written_instead(x):
    part = x[..., 2:, :]
    part += 1
    x[..., 2:, :] = 1


def read_after_a_change(x):
    part = x[..., 2:, :]
    x.mul_(2)
    return part + 1


def rows():
    return RowTensor(torch.empty(1, 2, 4, 3, device="meta"), 8, Rows(0, 2))


@pytest.mark.parametrize(
    "function",
    [
        written,
        written_by_a_module,
        written_through_a_view,
        written_in_a_window,
        written_in_a_part,
        not_written_back,
        another_written_back,
        a_number_written_instead,
        read_after_a_change,
    ],
)
def test_what_differs_from_a_view_is_refused(function):
    with pytest.raises(ValueError, match=r": a window of rows .* is a copy, no view\. Take the window's clone\(\)"):
        function(rows())


def test_what_does_not_goes_on():
    x = rows()
    x[..., 2:, :] += 1
    x[..., 2:, :] *= x[..., :6, :]
    x[..., 2:, :].clone().mul_(2)
    x = x[..., 1:, :]  # nobody has the whole map any longer
    x += 1
    assert F.relu(x, inplace=True).shape == (1, 2, 7, 3)
