"""The parts of encoders, and of nets with them, do what the whole does."""

import pytest
import segmentation_models_pytorch as smp
import torch

from segframe.models.encoder_parts import blocks, encoder_parts, leading_maps
from segframe.models.pspnet import PSPNet
from segframe.models.pyramid import Pyramid
from segframe.models.stages import run_stages
from segframe.models.zoo import Zoo

ENCODERS = ("resnet18", "se_resnet50", "vgg11", "mobilenet_v2", "densenet121", "efficientnet-b0", "mit_b0")


def same(net, image):
    """Compares a net in training, random layers included, with the fold of its stages."""
    outputs = []
    for run in (net, lambda x: run_stages(net.stages, x)):
        torch.manual_seed(3)
        with torch.no_grad():
            outputs.append(run(image))
    a, b = outputs
    assert a.logits.std() > 0
    assert torch.equal(a.logits, b.logits)
    assert len(a.auxiliary) == len(b.auxiliary)
    assert all(torch.equal(x, y) for x, y in zip(a.auxiliary, b.auxiliary, strict=True))
    assert sorted(id(p) for s in net.stages for p in s.parameters()) == sorted(id(p) for p in net.parameters())


@pytest.mark.parametrize("name", ENCODERS)
def test_maps_of_parts_are_those_of_the_encoder(name):
    torch.manual_seed(0)
    encoder = smp.encoders.get_encoder(name, in_channels=3, depth=5, weights=None)
    image = torch.randn(2, 3, 128, 128)
    torch.manual_seed(1)  # EfficientNet drops paths
    with torch.no_grad():
        expected = encoder(image)
    found = encoder_parts(encoder)
    assert found is not None
    maps, x = leading_maps(image, found.before), image
    torch.manual_seed(1)
    with torch.no_grad():
        for part in found.parts:
            x = part(x)
            maps.append(x)
    assert [x.shape[2:] for x in maps] == [x.shape[2:] for x in expected]
    assert len(maps) - found.before >= 4
    assert all(
        torch.equal(a, b) and a.std() > 0 for a, b in zip(maps[found.before :], expected[found.before :], strict=True)
    )
    x = image
    torch.manual_seed(1)
    with torch.no_grad():
        for block in (block for part in found.parts for block in blocks(part)):
            x = block(x)
    assert torch.equal(x, expected[-1])
    own = {id(p) for part in found.parts for p in part.parameters()}
    # EfficientNet has a last convolution that no map depends on.
    assert {n.split(".")[0] for n, p in encoder.named_parameters() if id(p) not in own} <= {"_conv_head", "_bn1"}


@pytest.mark.parametrize(
    ("architecture", "name"),
    [
        ("unet", "vgg11_bn"),
        ("unet", "mit_b0"),
        ("deeplabv3plus", "efficientnet-b0"),
        ("fpn", "tu-mobilenetv3_small_050"),
    ],
)
def test_stages_with_other_encoders_are_the_net(architecture, name):
    torch.manual_seed(0)
    net = Zoo(architecture, 4, name)
    assert len(net.stages) >= (3 if name.startswith("tu-") else 6)
    same(net, torch.randn(2, 3, 100, 120))


@pytest.mark.parametrize("name", ["mobilenet_v2", "efficientnet-b0", "tu-mobilenetv3_small_050"])
def test_stages_of_own_nets_with_other_encoders_are_the_net(name):
    torch.manual_seed(0)
    image = torch.randn(2, 3, 150, 129)
    same(PSPNet(4, name, output_stride=32), image)
    same(Pyramid(4, name, output_stride=32, scales=(1.0, 0.9), width=8, attention_width=8), image)


def test_blocks_have_weights_each_and_what_recomputes_as_a_whole_stays_whole():
    found = encoder_parts(smp.encoders.get_encoder("resnet18", in_channels=3, depth=5, weights=None))
    assert [len(blocks(part)) for part in found.parts] == [1, 2, 2, 2, 2]
    *_, last = found.parts
    last.forward = lambda x: x
    assert blocks(last) == [last]


def test_an_encoder_without_known_parts_has_none():
    assert encoder_parts(torch.nn.Identity()) is None
