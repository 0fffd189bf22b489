"""Operators on an XLA device give the CPU's values and gradients, and none of them leaves the device."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest

pytest.importorskip("torch_xla", reason="torch_xla is in an environment of its own: make test-xla")

import torch
import torch_xla
from hydra.utils import instantiate
from torch import nn
from torch.nn import functional as F
from torch_xla.debug import metrics

from segframe.config.compose import compose
from segframe.contracts import IGNORE_INDEX
from segframe.models.pspnet import pool_to_grids
from segframe.models.unpooling import max_pool_with_mask, max_unpool
from segframe.parallel.xla_operators import register_operators

ROOT = Path(__file__).parents[2]
DEVICE = torch_xla.device()
register_operators()

SIZES = [((8, 8), (64, 64)), ((16, 16), (256, 256)), ((1, 1), (6, 8)), ((6, 6), (12, 15)), ((13, 17), (100, 131))]
SIZES += [((48, 64), (24, 32))]


def assert_as_on_the_cpu(function, x):
    metrics.clear_all()
    on_cpu, on_xla = x.clone().requires_grad_(), x.to(DEVICE).requires_grad_()
    expected, found = function(on_cpu), function(on_xla)
    weights = torch.randn_like(expected)
    (expected * weights).sum().backward()
    (found * weights.to(DEVICE)).sum().backward()
    torch_xla.sync()
    assert expected.std() > 0
    torch.testing.assert_close(found.cpu(), expected, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(on_xla.grad.cpu(), on_cpu.grad, rtol=1e-10, atol=1e-10)
    assert [name for name in metrics.counter_names() if name.startswith("aten::")] == []


@pytest.mark.parametrize(("before", "after"), SIZES)
@pytest.mark.parametrize(
    "options",
    [
        {"mode": "bilinear", "align_corners": False},
        {"mode": "bilinear", "align_corners": True},
        {"mode": "bicubic"},
        {"mode": "nearest"},
        {"mode": "nearest-exact"},
    ],
    ids=lambda options: "-".join(map(str, options.values())),
)
def test_resizing(before, after, options):
    x = torch.randn(2, 3, *before, dtype=torch.float64)
    assert_as_on_the_cpu(lambda x: F.interpolate(x, size=after, **options), x)


@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
def test_resizing_by_a_factor_that_is_not_whole(mode):
    x = torch.randn(2, 3, 6, 9, dtype=torch.float64)
    assert_as_on_the_cpu(lambda x: F.interpolate(x, scale_factor=1.7, mode=mode), x)


def test_what_is_infinite_stays_where_it_is_by_copies():
    x = torch.tensor([[[[float("inf"), 1.0], [2.0, 3.0]]]])
    found = F.interpolate(x.to(DEVICE), scale_factor=2, mode="nearest").cpu()
    assert torch.equal(found, F.interpolate(x, scale_factor=2, mode="nearest"))


@pytest.mark.parametrize("size", [1, 2, 5, (6, 4)])
def test_adaptive_pooling(size):
    assert_as_on_the_cpu(lambda x: F.adaptive_avg_pool2d(x, size), torch.randn(2, 3, 12, 15, dtype=torch.float64))


@pytest.mark.parametrize("size", [(8, 10), (9, 11)])
def test_pooling_and_unpooling_of_segnet(size):
    def there_and_back(x):
        pooled, mask = max_pool_with_mask(x)
        return max_unpool(pooled * 2, mask)

    assert_as_on_the_cpu(there_and_back, torch.randn(2, 3, *size, dtype=torch.float64).relu())


def test_pyramid_pooling_of_pspnet():
    def grids(x):
        return torch.cat([grid.flatten(2) for grid in pool_to_grids(x, (1, 2, 3, 6))], 2)

    assert_as_on_the_cpu(grids, torch.randn(2, 3, 6, 8, dtype=torch.float64))


@pytest.mark.parametrize("count", [2, 4])
def test_batch_norm_is_that_of_the_cpu(count):
    plain = nn.BatchNorm2d(3).double()
    nn.init.normal_(plain.weight)
    shifted = copy.deepcopy(plain).to(DEVICE)
    for seed in range(2):
        x = torch.randn(count, 3, 1, 1, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        x[:, 0] = 1 + 3e-3 * x[:, 0]  # whose variance is near epsilon
        on_cpu, on_xla = x.clone().requires_grad_(), x.to(DEVICE).requires_grad_()
        expected, found = plain(on_cpu), shifted(on_xla)
        torch.testing.assert_close(found.cpu(), expected, rtol=1e-10, atol=1e-10)
        for gradient in (1 + x, x * x):
            wanted = torch.autograd.grad(expected, [on_cpu, *plain.parameters()], gradient, retain_graph=True)
            got = torch.autograd.grad(found, [on_xla, *shifted.parameters()], gradient.to(DEVICE), retain_graph=True)
            torch.testing.assert_close([g.cpu() for g in got], list(wanted), rtol=1e-9, atol=1e-9)
    assert not torch.allclose(plain.running_var, torch.ones(3, dtype=torch.float64))
    torch.testing.assert_close(shifted.running_var.cpu(), plain.running_var, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(shifted.running_mean.cpu(), plain.running_mean, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(shifted.eval()(x.to(DEVICE)).cpu(), plain.eval()(x), rtol=1e-10, atol=1e-10)


def test_batch_norm_keeps_its_digits_where_the_mean_is_large():
    x = torch.randn(4, 3, 8, 8) + 100
    exact = nn.BatchNorm2d(3).double()(x.double())
    found = nn.BatchNorm2d(3).to(DEVICE)(x.to(DEVICE)).cpu().double()
    # A value of 100 is known to 4e-6; differences of squares would leave 5e-3.
    torch.testing.assert_close(found, exact, rtol=0, atol=5e-5)


def test_dropout_of_channels_drops_what_it_drops_on_the_cpu():
    found = []
    for device in ("cpu", DEVICE):
        torch.manual_seed(3)
        found.append(F.dropout2d(torch.ones(4, 5, 2, 2, device=device), 0.5).cpu())
    assert 0 < (found[0] == 0).sum() < found[0].numel()
    assert torch.equal(*found)


@pytest.mark.parametrize("loss", sorted(path.stem for path in (ROOT / "conf/loss").glob("*.yaml")))
def test_losses(loss):
    criterion = instantiate(compose([f"loss={loss}", "dataset=synthetic"]).loss)
    logits = torch.randn(2, 6, 8, 9, dtype=torch.float64)
    target = torch.randint(0, 6, (2, 8, 9))
    target[0, :2] = IGNORE_INDEX
    found = []
    for device in ("cpu", DEVICE):
        x = logits.to(device, copy=True).requires_grad_()
        value = criterion(x, target.to(device)).value
        value.backward()
        found.append((value.detach().cpu(), x.grad.cpu()))
    assert found[0][1].abs().max() > 0
    torch.testing.assert_close(found[1], found[0], rtol=1e-10, atol=1e-10)
