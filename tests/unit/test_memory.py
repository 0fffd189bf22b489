import copy

import pytest
import torch
from torch import nn

from segframe.memory import checkpoint_activations


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.ModuleDict(
        {
            "body": nn.Sequential(
                nn.Conv2d(3, 4, 3),
                nn.BatchNorm2d(4),
                nn.Dropout(0.5),
                nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4)),
            ),
            "tail": nn.Conv2d(4, 2, 1),
        }
    )


def step(module: nn.Module, x: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor], list[torch.Tensor]]:
    torch.manual_seed(1)
    loss = module["tail"](module["body"](x)).square().mean()
    loss.backward()
    return loss.detach(), module.state_dict(), [p.grad for p in module.parameters()]


def test_recomputing_changes_no_number_and_no_name():
    plain, recomputing = net(), net()
    assert checkpoint_activations(recomputing) == ["body"]
    x = torch.randn(2, 3, 9, 9)
    before = copy.deepcopy(plain.state_dict())
    (loss, state, grads), (loss_2, state_2, grads_2) = step(plain, x), step(recomputing, x)
    assert not torch.equal(before["body.1.running_mean"], state["body.1.running_mean"])  # the input matters
    assert torch.equal(loss, loss_2)
    assert state.keys() == state_2.keys()
    assert all(torch.equal(state[key], state_2[key]) for key in state)
    assert all(torch.equal(a, b) for a, b in zip(grads, grads_2, strict=True))


def test_fewer_activations_are_kept():
    def saved(module: nn.Module) -> int:
        kept = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()) or t, lambda t: t):
            module["tail"](module["body"](torch.randn(2, 3, 9, 9)))
        return sum(kept)

    plain, recomputing = net(), net()
    checkpoint_activations(recomputing)
    assert saved(recomputing) < saved(plain) / 2


def test_evaluation_recomputes_nothing():
    module = net().eval()
    checkpoint_activations(module)
    x = torch.randn(1, 3, 9, 9)
    assert torch.equal(module["body"](x), net().eval()["body"](x))


def test_a_net_without_blocks_is_refused():
    with pytest.raises(ValueError, match="nothing to recompute in Conv2d"):
        checkpoint_activations(nn.Conv2d(3, 3, 1))


def test_what_is_kept_inside_of_other_inputs_is_seen():
    class Pair(nn.Sequential):
        def forward(self, pair):
            return super().forward(pair[0]) + pair[1]

    net = nn.Sequential(Pair(nn.Conv2d(2, 2, 1), nn.ReLU())).train()
    block = nn.ModuleDict({"pair": net[0]})
    checkpoint_activations(block)
    first, second, kept = torch.zeros(1, 2, 4, 4), torch.zeros(1, 2, 4, 4), []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        net((first, second))
    assert {t.data_ptr() for t in kept} >= {first.data_ptr(), second.data_ptr()}
