"""What a sharded net holds, gives away and takes up again."""

from __future__ import annotations

import copy
import os

import pytest
import torch
from torch import nn

from segframe.parallel.fsdp import FSDP
from segframe.sharding import local


class InPlaceBehindView(nn.Module):
    """A block returns a view, which the net then changes in place."""

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(8, 8, 3, padding=1)

        def forward(self, x):
            return self.conv(x)[..., :6, :6]

    def __init__(self):
        super().__init__()
        self.stem, self.block, self.head = nn.Conv2d(3, 8, 3, padding=1), self.Block(), nn.Conv2d(8, 4, 1)

    def forward(self, x):
        x = self.block(self.stem(x))
        x += 1
        return self.head(x.relu())


def net():
    # No bias before BatchNorm: its gradient is rounding, which Adam would blow up.
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 15, 3, bias=False),
        nn.BatchNorm2d(15),
        nn.ReLU(),
        nn.Conv2d(15, 16, 3, padding=1),
        nn.Conv2d(16, 5, 1),
    ).double()


def sharded(rank, size, model, **options):
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(size), "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": str(size)}
    strategy = FSDP(**options)
    strategy.parallel_devices = [torch.device("cpu")] * size
    strategy.parallelize(model)
    return strategy


def stepped(model, optimizer, image, scale):
    (model(image).square().mean() * scale).backward()
    optimizer.step()
    optimizer.zero_grad()


def share(rank, size):
    model = net()
    before = copy.deepcopy(model.state_dict())
    strategy = sharded(rank, size, model)
    held = sum(local(p).numel() for p in model.parameters())
    whole = strategy.whole(model.state_dict())
    return held, list(model.state_dict()) == list(before), whole, before


@pytest.mark.parametrize("size", [2, 3])
def test_each_rank_holds_its_share_and_rank_0_can_have_all(on_ranks, size):
    results = on_ranks(size, share)
    total = sum(p.numel() for p in net().parameters())
    for rank, (held, same_names, whole, before) in enumerate(results):
        assert same_names
        assert held < total * 0.55 if size == 2 else total * 0.4
        if rank == 0:
            assert list(whole) == list(before)
            assert all(torch.equal(whole[name], before[name]) for name in before)
        else:
            assert whole == {}
    assert sum(held for held, *_ in results) == total


def optimizer_state(rank, size):
    model, plain = net(), net()
    strategy = sharded(rank, size, model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    reference = torch.optim.AdamW(plain.parameters(), lr=0.1)
    torch.manual_seed(1)
    images = torch.randn(size, 2, 3, 6, 6, dtype=torch.float64)
    stepped(model, optimizer, images[rank], 1.0)
    stepped(plain, reference, images.flatten(0, 1), 1.0)
    found = strategy.optimizer_state(optimizer)
    # Taken up again by a fresh sharded net, and after one more step of both compared with the plain one.
    again = net()
    second = sharded(rank, size, again)
    second.optimizers = [torch.optim.AdamW(again.parameters(), lr=0.1)]
    with torch.no_grad():
        for own, other in zip(again.parameters(), model.parameters(), strict=True):
            local(own).copy_(local(other))
        for own, other in zip(again.buffers(), model.buffers(), strict=True):
            own.copy_(other)
    second.load_optimizer_state_dict({"optimizer_states": [copy.deepcopy(reference.state_dict())]})
    stepped(again, second.optimizers[0], images[rank], 1.0)
    stepped(plain, reference, images.flatten(0, 1), 1.0)
    states = found, reference.state_dict(), second.optimizer_state(second.optimizers[0])
    return *states, second.whole(again.state_dict()), plain.state_dict()


def test_the_optimizer_s_state_is_that_of_one_process(on_ranks):
    (first, reference, state, weights, plain), (other, *_) = on_ranks(2, optimizer_state)
    assert other == {}
    assert first["param_groups"] == reference["param_groups"]
    assert {k: v.shape for k, v in first["state"][0].items()} == {k: v.shape for k, v in reference["state"][0].items()}
    for index, expected in reference["state"].items():
        assert int(state["state"][index]["step"]) == 2
        for key in ("exp_avg", "exp_avg_sq"):
            torch.testing.assert_close(state["state"][index][key], expected[key], rtol=1e-9, atol=1e-15)
    assert float(first["state"][0]["exp_avg"].abs().max()) > 0
    for name in plain:
        torch.testing.assert_close(weights[name], plain[name], rtol=1e-9, atol=1e-12)


def evaluation(rank, size):
    model = net()
    strategy = sharded(rank, size, model)
    image = torch.ones(1, 3, 6, 6, dtype=torch.float64)
    stepped(model, torch.optim.SGD(model.parameters(), lr=0.1), image + rank, 1.0)
    model.eval()
    strategy.on_validation_start()
    whole = [p.numel() for p in model.parameters()]
    with torch.no_grad():
        # A gather in here would wait for the other rank for ever.
        outputs = [model(image) for _ in range(1 + 2 * rank)]
    strategy.on_validation_end()
    model.train()
    held = sum(local(p).numel() for p in model.parameters())
    stepped(model, torch.optim.SGD(model.parameters(), lr=0.1), image + rank, 1.0)
    return whole, outputs[0], held


def test_ranks_evaluate_as_much_as_they_like(on_ranks):
    (whole, first, held), (_, second, other) = on_ranks(2, evaluation)
    total = sum(p.numel() for p in net().parameters())
    assert sum(whole) == total
    assert held + other == total
    assert torch.equal(first, second)
    assert float(first.std()) > 0


def in_place(rank, size):
    torch.manual_seed(0)
    model = InPlaceBehindView().double()
    plain = copy.deepcopy(model)
    strategy = sharded(rank, size, model)
    images = torch.randn(size, 2, 3, 8, 8, dtype=torch.float64)
    for _ in range(2):
        stepped(model, torch.optim.SGD(model.parameters(), lr=0.5), images[rank], 1.0)
        stepped(plain, torch.optim.SGD(plain.parameters(), lr=0.5), images.flatten(0, 1), 1.0)
    return strategy.whole(model.state_dict()), plain.state_dict()


def test_a_view_that_is_changed_in_place_trains_right(on_ranks):
    weights, plain = on_ranks(2, in_place)[0]
    for name in plain:
        torch.testing.assert_close(weights[name], plain[name], rtol=1e-9, atol=1e-12)


def gathers_in_halves(rank, size):
    model = net().float()
    strategy = sharded(rank, size, model, param_dtype="bfloat16", reduce_dtype="float32")
    output = model(torch.ones(2, 3, 6, 6))
    output.float().mean().backward()
    return (
        output.dtype,
        {p.dtype for p in model.parameters()},
        {p.grad.dtype for p in model.parameters()},
        strategy.minimum_bytes_sent(model),
    )


def test_parameters_can_be_gathered_in_a_shorter_type(on_ranks):
    dtype, parameters, gradients, sent = on_ranks(2, gathers_in_halves)[0]
    assert dtype == torch.bfloat16
    assert parameters == gradients == {torch.float32}
    total = sum(p.numel() for p in net().parameters())
    assert total * (2 + 4) // 2 <= sent <= total * (2 * 2 + 4) // 2


def test_offloading_needs_a_gpu():
    strategy = FSDP(cpu_offload=True)
    strategy.parallel_devices = [torch.device("cpu")]
    with pytest.raises(ValueError, match=r"strategy.cpu_offload=true.*on the CPU; set strategy.cpu_offload=false"):
        strategy.parallelize(net())


class PoolsToOne(nn.Module):
    """A map that was pooled to 1 x 1 joins another, and elements are dropped behind."""

    def __init__(self):
        super().__init__()
        self.stem, self.pooled = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 1)
        self.join, self.drop, self.head = nn.Conv2d(16, 8, 3, padding=1), nn.Dropout(0.5), nn.Conv2d(8, 4, 1)

    def forward(self, x):
        x = self.stem(x)
        context = nn.functional.interpolate(self.pooled(x.mean((2, 3), keepdim=True)), x.shape[-2:])
        return self.head(self.drop(self.join(torch.cat([x, context], 1))))


def in_channels_last(rank, size):
    torch.manual_seed(0)
    model = PoolsToOne().double().to(memory_format=torch.channels_last)
    plain = copy.deepcopy(model)
    strategy = sharded(rank, size, model)
    images = torch.randn(size * 2, 3, 8, 8, dtype=torch.float64).to(memory_format=torch.channels_last)
    for step in range(2):
        torch.manual_seed(step)
        part = images[rank * 2 : rank * 2 + 2]
        stepped(model, torch.optim.SGD(model.parameters(), lr=0.5), part, 1.0)
        torch.manual_seed(step)
        stepped(plain, torch.optim.SGD(plain.parameters(), lr=0.5), images, 1.0)
    layouts = []
    model.join.register_forward_hook(lambda m, i, o: layouts.append(o.is_contiguous(memory_format=torch.channels_last)))
    model(images[:2])
    return strategy.whole(model.state_dict()), plain.state_dict(), layouts


def test_maps_stay_in_channels_last_and_elements_are_dropped_as_in_one_process(on_ranks):
    weights, plain, layouts = on_ranks(2, in_channels_last)[0]
    assert layouts == [True]
    for name in plain:
        torch.testing.assert_close(weights[name], plain[name], rtol=1e-9, atol=1e-12)


def test_a_parameter_without_an_axis_is_refused_by_name():
    model = net()
    model[0].gain = nn.Parameter(torch.tensor(1.0))
    with pytest.raises(ValueError, match=r"0\.gain of Sequential has none: make it a vector .* or take strategy=ddp"):
        FSDP().parallelize(model)
