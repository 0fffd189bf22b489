"""Ranks that are seeded alike drop together what one process drops, or each for itself."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
import torch.distributed as dist
from segmentation_models_pytorch.encoders import get_encoder
from timm.layers import DropBlock2d, DropPath
from torch import nn
from torchvision.ops import StochasticDepth

from segframe.parallel.batch_norm import share_batch_norm
from segframe.parallel.stochastic import share_randomness

OF_IMAGES = {
    "Dropout1d": (nn.Dropout1d(0.4), (4, 6, 5)),
    "Dropout2d": (nn.Dropout2d(0.4), (4, 6, 5, 7)),
    "Dropout2d inplace": (nn.Dropout2d(0.4, inplace=True), (4, 6, 5, 7)),
    "Dropout3d": (nn.Dropout3d(0.4), (4, 6, 2, 3, 2)),
    "DropPath": (DropPath(0.4), (4, 6, 5, 7)),
    "DropPath of tokens": (DropPath(0.4), (4, 10, 6)),
    "Dropout": (nn.Dropout(0.4), (4, 6, 5, 7)),
    "Dropout inplace": (nn.Dropout(0.4, inplace=True), (4, 6, 5)),
    "StochasticDepth": (StochasticDepth(0.4, "row"), (4, 6, 5, 7)),
    "StochasticDepth of a batch": (StochasticDepth(0.4, "batch"), (4, 6, 5, 7)),
}
OF_ELEMENTS = {
    "AlphaDropout": nn.AlphaDropout(0.4),
    "FeatureAlphaDropout": nn.FeatureAlphaDropout(0.4),
    "DropBlock2d": DropBlock2d(0.4, block_size=2),
}


def shared(net, rank, size):
    net = copy.deepcopy(net)
    share_randomness(net, rank, size)
    return net


def seeded(net, x, seed=0):
    torch.manual_seed(seed)
    return net(x.clone(memory_format=torch.preserve_format))


@pytest.mark.parametrize("size", [2, 4])
@pytest.mark.parametrize("name", OF_IMAGES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_ranks_together_drop_what_one_process_drops(name, size, dtype):
    module, shape = OF_IMAGES[name]
    x = torch.randn(shape, dtype=dtype) + 3
    whole = seeded(module, x)
    assert not torch.equal(whole, x)
    assert any(not torch.equal(whole, seeded(module, x, seed)) for seed in range(1, 5))  # the seed matters
    parts = [seeded(shared(module, rank, size), part) for rank, part in enumerate(x.chunk(size))]
    assert torch.equal(torch.cat(parts), whole)
    if name != "StochasticDepth of a batch":
        assert not torch.equal(torch.cat([seeded(module, part) for part in x.chunk(size)]), whole)


@pytest.mark.parametrize("module", [nn.Dropout2d(0.4), nn.Dropout(0.4)], ids=["channels", "elements"])
def test_channels_last_images_and_their_gradients(module):
    x = torch.randn(4, 6, 5, 7).contiguous(memory_format=torch.channels_last)
    inputs = [part.clone(memory_format=torch.preserve_format).requires_grad_() for part in (x, *x.chunk(2))]
    outputs = [seeded(m, i) for m, i in zip([module, *(shared(module, r, 2) for r in (0, 1))], inputs, strict=True)]
    for output in outputs:
        assert output.is_contiguous(memory_format=torch.channels_last)
        output.square().sum().backward()
    assert torch.equal(torch.cat([i.grad for i in inputs[1:]]), inputs[0].grad)


@pytest.mark.parametrize("name", OF_ELEMENTS)
def test_elements_are_drawn_for_each_rank(name):
    module, x = OF_ELEMENTS[name], torch.randn(3, 8, 6, 6) + 3
    assert torch.equal(seeded(module, x), seeded(copy.deepcopy(module), x))  # what ranks did if nothing was shared
    outputs, following = [], []
    for rank in range(3):
        own = shared(module, rank, 3)
        outputs.append(seeded(own, x))
        following.append((torch.rand(()).item(), own(x)))
        assert torch.equal(seeded(own, x), outputs[rank])
        assert not torch.equal(seeded(own, x, seed=1), outputs[rank])
    assert not any(torch.equal(outputs[a], outputs[b]) for a, b in ((0, 1), (0, 2), (1, 2)))
    assert len({number for number, _ in following}) == 1  # what comes after is in step again
    assert not torch.equal(following[0][1], outputs[0])


@pytest.mark.parametrize("size", [2, 9])
def test_ranks_drop_elements_independently(size):
    x = torch.ones(400, 400)
    kept = [seeded(shared(nn.Dropout(0.4), rank, size), x) != 0 for rank in range(2)]
    for mask in kept:
        assert mask.float().mean().item() == pytest.approx(0.6, abs=0.006)
    both = (kept[0] & kept[1]).float().mean().item()
    assert both == pytest.approx(0.36, abs=0.006)  # 5 standard deviations of 160 000 draws


@pytest.mark.parametrize("name", [*OF_IMAGES, *OF_ELEMENTS])
def test_evaluation_and_probability_0_change_and_draw_nothing(name):
    module, shape = OF_IMAGES[name] if name in OF_IMAGES else (OF_ELEMENTS[name], (2, 6, 5, 7))
    x = torch.randn(shape)
    own = shared(module, 1, 2)
    torch.manual_seed(0)
    assert own.eval()(x) is x or torch.equal(own(x), x)
    own.train()
    setattr(own, "p" if hasattr(own, "p") else "drop_prob", 0.0)
    assert torch.equal(own(x), x)
    after = torch.rand(())
    torch.manual_seed(0)
    assert torch.equal(after, torch.rand(()))


def test_copies_files_and_names():
    net = nn.Sequential(nn.Conv2d(3, 6, 1), nn.Dropout2d(0.5), nn.Sequential(nn.Dropout(0.5)), nn.Identity())
    names = list(net.state_dict())
    assert share_randomness(copy.deepcopy(net), 0, 1) == []
    assert share_randomness(net, 1, 2) == ["1", "2.0"]
    assert share_randomness(net, 1, 2) == ["1", "2.0"]
    assert list(net.state_dict()) == names
    assert isinstance(net[1], nn.Dropout2d)
    x = torch.randn(2, 3, 4, 4)
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert torch.equal(seeded(other, x), seeded(net, x))


def test_what_can_not_be_shared_is_refused():
    with pytest.raises(ValueError, match=r"rank=2 of size=2; expected 0 to 1"):
        share_randomness(nn.Sequential(), 2, 2)
    with pytest.raises(ValueError, match=r"Dropout1d got an input of shape \(6, 5\); .* at least 3 axes"):
        shared(nn.Dropout1d(0.5), 0, 2)(torch.randn(6, 5))


def test_recomputed_activations_drop_the_same():
    for module in (nn.Dropout(0.5), nn.Dropout2d(0.5)):
        net = shared(nn.Sequential(nn.Conv2d(3, 6, 1), module, nn.Conv2d(6, 2, 1)), 1, 2)
        x = torch.randn(2, 3, 4, 4)
        gradients = []
        for again in (False, True):
            net.zero_grad()
            torch.manual_seed(0)
            output = torch.utils.checkpoint.checkpoint(net, x, use_reentrant=False) if again else net(x)
            output.square().sum().backward()
            gradients.append(net[0].weight.grad.clone())
        assert torch.equal(*gradients)


def encoder_of(name):
    torch.manual_seed(0)
    encoder = get_encoder(name, weights=None, depth=3).double()
    if name == "efficientnet-b0":
        encoder._drop_connect_rate = 0.9  # a quarter of it in the last block that is used here
    return encoder


SHARE = {"norms": lambda net, rank, size: share_batch_norm(net), "randomness": share_randomness}


def encoded(rank, size, name, shares):
    """Returns this rank's features and the gradients of all ranks' images."""
    encoder, x = encoder_of(name), torch.randn(4, 3, 32, 32, dtype=torch.float64)
    for share in shares:
        SHARE[share](encoder, rank, size)
    features = seeded(encoder, x.chunk(size)[rank])[1:]
    sum(f.square().sum() for f in features).backward()
    gradients = torch.cat([p.grad.flatten() for p in encoder.parameters() if p.grad is not None])
    dist.all_reduce(gradients)
    return [f.detach() for f in features], gradients


def difference(ranks, whole):
    features = [torch.cat(parts) for parts in zip(*(f for f, _ in ranks), strict=True)]
    pairs = [(ranks[0][1], whole[1]), *zip(features, whole[0], strict=True)]
    return max(((a - b).abs().max() / b.abs().max()).item() for a, b in pairs)


@pytest.mark.parametrize(
    ("name", "rest"),
    [("efficientnet-b0", ["norms"]), ("tu-mobilenetv3_small_100", ["randomness"])],
)
def test_encoders_on_two_ranks_are_those_of_one_process(on_ranks, name, rest):
    (whole,) = on_ranks(1, encoded, name, [])
    assert difference(on_ranks(2, encoded, name, list(SHARE)), whole) < 1e-12
    assert difference(on_ranks(2, encoded, name, rest), whole) > 1e-3


def test_encoders_in_evaluation_stay_as_they_are():
    encoder, x = encoder_of("efficientnet-b0").eval(), torch.randn(2, 3, 64, 64, dtype=torch.float64)
    with torch.no_grad():
        assert torch.equal(shared(encoder, 1, 2)(x)[-1], encoder(x)[-1])
