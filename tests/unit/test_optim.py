from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import nn

from segframe import optim

FILES = sorted((Path(__file__).parents[2] / "conf" / "optimizer").glob("*.yaml"))


class _Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Conv2d(4, 2, 1)
        self.encoder = nn.Sequential(nn.Conv2d(3, 4, 1, bias=False), nn.BatchNorm2d(4))
        self.norm = nn.LayerNorm((4, 4))
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x):
        return self.scale * self.head(self.norm(self.encoder(x)))


def _names(net, optimizer):
    names = {parameter: name for name, parameter in net.named_parameters()}
    return {g["name"]: [names[p] for p in g["params"]] for g in optimizer.param_groups}


@pytest.fixture
def net():
    torch.manual_seed(0)
    return _Net()


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_option_lowers_a_loss(file, net):
    optimizer = instantiate(OmegaConf.load(file))(net)
    x = torch.randn(2, 3, 4, 4)
    losses = []
    for _ in range(5):
        optimizer.zero_grad()
        loss = net(x).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert all(
        key in ("name", "params") or not OmegaConf.is_config(value) for key, value in optimizer.param_groups[0].items()
    )
    assert optimizer.state_dict()["param_groups"][0]["name"] == "net"


@pytest.mark.parametrize("factory", [optim.sgd, optim.adam, optim.adamw])
def test_plain_options_give_one_group_in_the_order_of_the_net(factory, net):
    optimizer = factory(net, weight_decay=0.5)
    assert _names(net, optimizer) == {"net": [name for name, _ in net.named_parameters()]}
    assert optimizer.param_groups[0]["weight_decay"] == 0.5


def test_heads_get_their_rate_and_vectors_no_decay(net):
    optimizer = optim.sgd(net, lr=0.01, weight_decay=0.1, head_lr_factor=10.0, decay_norm_and_bias=False)
    assert _names(net, optimizer) == {
        "head_no_decay": ["scale", "head.bias", "norm.weight", "norm.bias"],
        "head": ["head.weight"],
        "encoder": ["encoder.0.weight"],
        "encoder_no_decay": ["encoder.1.weight", "encoder.1.bias"],
    }
    options = {g["name"]: (g["lr"], g["weight_decay"]) for g in optimizer.param_groups}
    assert options == {
        "head_no_decay": (0.1, 0.0),
        "head": (0.1, 0.1),
        "encoder": (0.01, 0.1),
        "encoder_no_decay": (0.01, 0.0),
    }


def test_groups_hold_each_trainable_parameter_once(net):
    net.again = net.head  # shared weights
    net.encoder.requires_grad_(False)
    optimizer = optim.adamw(net, head_lr_factor=2.0, decay_norm_and_bias=False)
    ours = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    trainable = [parameter for parameter in net.parameters() if parameter.requires_grad]
    assert len(ours) == len(trainable) == len(set(ours))
    assert {group["name"] for group in optimizer.param_groups} == {"head", "head_no_decay"}


def test_groups_step_as_torch_does_by_hand(net):
    """The groups carry rate and decay into the update: checked on the first step of plain SGD."""
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    optimizer = optim.sgd(net, lr=0.1, momentum=0.0, weight_decay=0.5, head_lr_factor=3.0, decay_norm_and_bias=False)
    for parameter in net.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    after = dict(net.named_parameters())
    torch.testing.assert_close(after["head.weight"], before["head.weight"] - 0.3 * (1 + 0.5 * before["head.weight"]))
    torch.testing.assert_close(after["head.bias"], before["head.bias"] - 0.3)
    torch.testing.assert_close(after["encoder.1.weight"], before["encoder.1.weight"] - 0.1)


def test_state_comes_back(net):
    optimizer = optim.sgd(net, head_lr_factor=10.0)
    for parameter in net.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    again = optim.sgd(net, head_lr_factor=10.0)
    again.load_state_dict(optimizer.state_dict())
    assert [g["name"] for g in again.param_groups] == ["head", "encoder"]
    assert len(again.state) == len(optimizer.state) > 0


def test_a_head_rate_needs_an_encoder():
    with pytest.raises(ValueError, match="Sequential has no attribute `encoder`"):
        optim.adam(nn.Sequential(nn.Linear(2, 2)), head_lr_factor=10.0)


def test_something_must_be_trainable(net):
    with pytest.raises(ValueError, match="unfreeze"):
        optim.adamw(net.requires_grad_(False))


def test_nesterov_needs_momentum(net):
    with pytest.raises(ValueError, match="needs momentum"):
        optim.sgd(net, momentum=0.0, nesterov=True)
    assert optim.sgd(net, nesterov=True).param_groups[0]["nesterov"]
