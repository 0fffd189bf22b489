"""What a rank holds and what autograd keeps, against numbers counted by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from segframe.cost.activations import SavedTensors
from segframe.cost.memory import held, storage_bytes
from segframe.memory import checkpoint_activations

BATCH, WIDE = 8, 32


@pytest.fixture
def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, WIDE), nn.ReLU(), nn.Linear(WIDE, 5))


def step(net):
    with SavedTensors(net) as saved:
        net(torch.ones(BATCH, 3)).sum().backward()
    return saved


def test_held_bytes_are_those_of_the_formula(net):
    optimizer = torch.optim.AdamW(net.parameters())
    before = held(net, optimizer)
    step(net)
    optimizer.step()
    numbers = 3 * WIDE + WIDE + WIDE * 5 + 5
    assert before == (4 * numbers, 0, 0)
    assert held(net, optimizer) == (4 * numbers, 4 * numbers, 2 * 4 * numbers + 4 * 4)  # and one step count a tensor


def test_a_storage_counts_whole_and_once():
    bucket = torch.zeros(100)
    assert storage_bytes([bucket[:10], bucket[50:60]]) == 400
    assert storage_bytes([bucket[:10].clone(), bucket[50:60].clone()]) == 80


def test_kept_activations_are_those_of_the_formula(net):
    # Linear keeps its input; ReLU its output, which is the second Linear's input as well. sum() keeps nothing.
    assert step(net).peak_bytes == 4 * (BATCH * 3 + BATCH * WIDE)


def test_batch_norm_and_convolution_are_those_of_the_formula():
    net = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 2, 1))
    with SavedTensors(net) as saved:
        net(torch.rand(4, 3, 10, 10)).sum().backward()
    values = 4 * 10 * 10
    image, normalised_from, rectified, statistics = 3 * values, 6 * values, 6 * values, 2 * 6
    assert saved.peak_bytes == 4 * (image + normalised_from + rectified + statistics)


def test_what_the_backward_pass_has_let_go_does_not_add_up(net):
    with SavedTensors(net) as saved:
        for _ in range(3):
            net(torch.ones(BATCH, 3)).sum().backward()
    assert saved.peak_bytes == 4 * (BATCH * 3 + BATCH * WIDE)
    assert saved.peak_gathered_bytes == 0


def test_gradients_are_those_of_a_step_that_nobody_watches(net):
    step(net)
    watched = [p.grad.clone() for p in net.parameters()]
    net.zero_grad()
    net(torch.ones(BATCH, 3)).sum().backward()
    assert all(torch.equal(a, p.grad) for a, p in zip(watched, net.parameters(), strict=True))
    assert any(gradient.abs().sum() > 0 for gradient in watched)


def test_recomputed_activations_are_not_kept(net):
    deep = nn.Sequential(*(nn.Sequential(nn.Linear(WIDE, WIDE), nn.ReLU(), nn.Linear(WIDE, WIDE)) for _ in range(4)))
    x = torch.ones(BATCH, WIDE)
    with SavedTensors(deep) as kept:
        deep(x).sum().backward()
    wrapped = nn.ModuleDict({"deep": deep[0], "more": deep[1]})
    checkpoint_activations(wrapped)
    with SavedTensors(wrapped) as recomputed:
        wrapped["more"](wrapped["deep"](x)).sum().backward()
    assert 0 < recomputed.peak_bytes < kept.peak_bytes / 2
