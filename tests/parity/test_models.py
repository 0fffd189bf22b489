"""PSPNet and SegNet against references written here, with copied random weights, in float64."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from segframe.models.pspnet import PSPNet, pool_to_grids
from segframe.models.segnet import SegNet
from segframe.models.segnet_basic import SegNetBasic
from segframe.models.unpooling import max_pool_with_mask, max_unpool
from segframe.models.zoo import _NETS, Zoo


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def randomise(net):
    """Draws BatchNorm's parameters and statistics, so that each of them matters."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return net.double().eval()


@pytest.mark.parametrize("size", [(1, 1), (6, 6), (5, 3), (9, 7), (45, 60), (64, 31)])
def test_pooling_equals_adaptive_average_pooling(size):
    x = torch.randn(2, 4, *size, dtype=torch.float64, requires_grad=True)
    for grid, g in zip(pool_to_grids(x, (1, 2, 3, 6)), (1, 2, 3, 6), strict=True):
        expected = F.adaptive_avg_pool2d(x, g)
        torch.testing.assert_close(grid, expected, rtol=1e-12, atol=1e-14)
        ours, theirs = (torch.autograd.grad(y.square().sum(), x, retain_graph=True)[0] for y in (grid, expected))
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("size", [(8, 8), (7, 8), (5, 3), (1, 1)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_unpooling_equals_torchs_with_ties(size, layout):
    # three values only, so that nearly every window has a tie
    image = torch.randint(0, 3, (2, 3, *size)).double().contiguous(memory_format=layout)
    ours, theirs = image.clone().requires_grad_(), image.clone().requires_grad_()
    pooled, mask = max_pool_with_mask(ours)
    expected, indices = F.max_pool2d(theirs, 2, ceil_mode=True, return_indices=True)
    assert torch.equal(pooled, expected)
    weights = torch.randn_like(pooled)
    back = max_unpool(weights * pooled, mask)
    back_expected = F.max_unpool2d((weights * expected).contiguous(), indices.contiguous(), 2, output_size=size)
    assert torch.equal(back, back_expected)
    for y in (back, back_expected):
        (y * torch.arange(y.numel()).view(y.shape)).sum().backward()
    assert torch.equal(ours.grad, theirs.grad)
    ties = F.interpolate(expected, scale_factor=2)[..., : size[0], : size[1]] == image
    assert mask.sum() == pooled.numel()
    assert size == (1, 1) or ties.sum() > pooled.numel()


def reference_segnet(net, x, blocks, relu_in_decoder):
    """Walks the layers by hand, with torch's own pooling indices."""
    memory = []
    encoders, decoders = blocks
    for block in encoders:
        for layer in block:
            if isinstance(layer, nn.Conv2d):
                x = F.conv2d(x, layer.weight, layer.bias, padding=layer.kernel_size[0] // 2)
            elif isinstance(layer, nn.BatchNorm2d):
                x = F.relu(F.batch_norm(x, layer.running_mean, layer.running_var, layer.weight, layer.bias))
        size = x.shape[-2:]
        x, indices = F.max_pool2d(x, 2, ceil_mode=True, return_indices=True)
        memory.append((indices, size))
    for block in decoders:
        indices, size = memory.pop()
        x = F.max_unpool2d(x, indices, 2, output_size=size)
        for layer in block:
            if isinstance(layer, nn.Conv2d):
                x = F.conv2d(x, layer.weight, layer.bias, padding=layer.kernel_size[0] // 2)
            elif isinstance(layer, nn.BatchNorm2d):
                x = F.batch_norm(x, layer.running_mean, layer.running_var, layer.weight, layer.bias)
                x = F.relu(x) if relu_in_decoder else x
    return x


@pytest.mark.parametrize("size", [(32, 64), (45, 35)])
@pytest.mark.parametrize("name", ["segnet", "segnet_basic"])
def test_segnet_equals_the_reference(name, size):
    net = randomise(SegNet(4) if name == "segnet" else SegNetBasic(4, width=8))
    blocks = (net.encoder, net.decoder) if name == "segnet" else (net.encoders, net.decoders)
    image = torch.randn(2, 3, *size, dtype=torch.float64)
    image[1] = image[1].round()  # flat regions: ties
    with torch.no_grad():
        got = net(image).logits
        expected = reference_segnet(net, image, blocks, relu_in_decoder=name == "segnet")
    assert expected.std(dim=(0, 2, 3)).min() > 0
    torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-12)


def test_segnet_has_the_papers_layers():
    net = SegNet(11)
    encoder, decoder = (
        [(m.in_channels, m.out_channels) for m in part.modules() if isinstance(m, nn.Conv2d)]
        for part in (net.encoder, net.decoder)
    )
    assert len(encoder) == len(decoder) == 13
    # the mirror image, but for the image's 3 channels and the classes
    assert decoder[:-1] == [(b, a) for a, b in reversed(encoder)][:-1]
    assert decoder[-1] == (64, 11)


class ReferencePSPNet(nn.Module):
    """The paper's net behind a given encoder, with torch's adaptive pooling."""

    def __init__(self, channels, before, classes):
        super().__init__()

        def block(c_in, c_out, k):
            return nn.Sequential(
                nn.Conv2d(c_in, c_out, k, padding=k // 2, bias=False), nn.BatchNorm2d(c_out), nn.ReLU()
            )

        self.bins = nn.ModuleList(block(channels, channels // 4, 1) for _ in range(4))
        self.fuse = block(2 * channels, channels // 4, 3)
        self.classifier = nn.Conv2d(channels // 4, classes, 1)
        self.auxiliary = nn.Sequential(block(before, before // 4, 3), nn.Conv2d(before // 4, classes, 1))

    def forward(self, last, before):
        context = [
            F.interpolate(conv(F.adaptive_avg_pool2d(last, g)), last.shape[-2:], mode="bilinear", align_corners=False)
            for g, conv in zip((1, 2, 3, 6), self.bins, strict=True)
        ]
        return self.classifier(self.fuse(torch.cat([last, *context], 1))), self.auxiliary(before)


@pytest.mark.parametrize("size", [(64, 96), (75, 51)])
def test_pspnet_equals_the_reference(size):
    net = randomise(PSPNet(4, "resnet18", dropout=0.0))
    reference = ReferencePSPNet(512, 256, 4).double().eval()
    ours, theirs = net.head.state_dict(), reference.state_dict()
    assert [v.shape for v in ours.values()] == [v.shape for v in theirs.values()]
    reference.load_state_dict(dict(zip(theirs, ours.values(), strict=True)))
    image = torch.randn(2, 3, *size, dtype=torch.float64)
    with torch.no_grad():
        features = net.encoder(image)
        expected, auxiliary = reference(features[-1], features[-2])
        got = net(image).logits
        net.head.training = True  # the auxiliary head runs, BatchNorm stays as it is
        got_auxiliary = net(image).auxiliary[0]
    assert expected.std(dim=(0, 2, 3)).min() > 0
    torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(got_auxiliary, auxiliary, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", sorted(_NETS))
def test_zoo_equals_smp_where_no_padding_is_needed(name):
    encoder = {"dpt": "tu-test_vit", "segformer": "mit_b0"}.get(name, "resnet18")
    net = Zoo(name, 4, encoder).eval()
    extra = {"dynamic_img_size": True, "num_classes": 0} if name == "dpt" else {}
    theirs = _NETS[name](encoder, encoder_weights=None, classes=4, **extra).eval()
    _, unexpected = theirs.load_state_dict(net.net.state_dict(), strict=False)
    assert unexpected == []
    image = torch.randn(1, 3, 128, 160)
    with torch.no_grad():
        assert torch.equal(net(image).logits, theirs(image))
