"""A net is tried on split rows without data: what can't be is named before training."""

import re

import pytest
import torch
from torch import nn

from segframe.models.segnet import SegNet
from segframe.models.zoo import Zoo
from segframe.parallel.rows import UnsplittableError
from segframe.parallel.rows.trial import trial


def net(*layers):
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), *layers)


class Looks(nn.Module):
    def forward(self, x):
        return x * 2 if x.mean() > 0 else x


class Flattens(nn.Module):
    def forward(self, x):
        return x.flatten(2)


class Own(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x

    @staticmethod
    def backward(ctx, gradient):
        return -gradient


class Reverses(nn.Module):
    def forward(self, x):
        return Own.apply(x) + x


class Asks(nn.Sequential):
    def forward(self, x):
        return super().forward(x) if isinstance(x, torch.Tensor) else x


class Writes(nn.Module):
    def forward(self, x):
        part = x[:, :, 1:]
        part += 1
        return x


def with_hook():
    layer = nn.Conv2d(4, 4, 1)
    layer.register_full_backward_hook(lambda *_: None)
    return layer


def test_says_nothing_where_all_is_exact_and_changes_nothing():
    model = SegNet(5)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = torch.get_rng_state()
    trial(model, 97, 65, 3)
    assert torch.equal(torch.get_rng_state(), state)
    assert model.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize(
    ("model", "size", "said"),
    [
        (
            lambda: Zoo("manet", 5, "resnet18"),
            64,
            r"manet with .* net\.decoder\.center \(PABBlock\): torch\.Tensor\.flatten",
        ),
        (lambda: net(nn.LocalResponseNorm(2)), 8, r"1 \(LocalResponseNorm\): torch\..*has no exact rule"),
        (lambda: net(Flattens()), 8, r"Sequential with the rows of 8x8 images.* 2 ranks in 1 \(Flattens\)"),
        (lambda: net(Looks()), 8, r"1 \(Looks\): it looks at values"),
        (lambda: net(nn.AdaptiveAvgPool2d(1)), 8, "is the same on all ranks"),
        (lambda: net(Reverses()), 8, r"1 \(Reverses\): .*\.Own, a torch\.autograd\.Function, has no exact rule"),
        (lambda: net(with_hook()), 8, r"1 \(Conv2d\) has a hook on its backward pass"),
        (lambda: net(Asks(nn.Conv2d(4, 4, 1))), 8, r"calls 1 \(.* where it calls 1\.0 \(.*isinstance\(x, Tensor\)"),
    ],
)
def test_what_has_no_rule_is_named_with_its_module(model, size, said):
    with pytest.raises(UnsplittableError, match=said) as caught:
        trial(model(), size, size, 2)
    assert re.search("Choose a model|Use ", str(caught.value))


def test_a_window_that_was_changed_and_is_returned_is_refused():
    with pytest.raises(ValueError, match="the output: a window of rows was changed in place"):
        trial(net(Writes()), 8, 8, 2)
    assert Own.apply(torch.ones(1)) == 1  # functions are as before


def test_too_few_rows_are_named_with_their_module():
    with pytest.raises(ValueError, match=r"SegNet with the rows of 65x65.* in encoder\.4 \(PoolingBlock\).*3 rows"):
        trial(SegNet(5), 65, 65, 4)
