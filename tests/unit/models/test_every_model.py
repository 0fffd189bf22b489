"""What every file in conf/model promises, checked by glob."""

from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from segframe.contracts import SegmentationModel, SegmentationOutput
from segframe.models.stages import run_stages

CONF = Path(__file__).parents[3] / "conf" / "model"
NAMES = sorted(path.stem for path in CONF.glob("*.yaml"))
CLASSES = 5


def build(name):
    config = OmegaConf.create({"dataset": {"num_classes": CLASSES, "ignore_index": 255}})
    config.model = OmegaConf.load(CONF / f"{name}.yaml")
    torch.manual_seed(0)
    return instantiate(config.model)


@pytest.fixture(scope="module", params=NAMES)
def net(request):
    return build(request.param)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(1)


def test_there_are_models():
    assert len(NAMES) >= 16


def test_trains_at_even_and_odd_sizes_with_a_gradient_for_every_parameter(net):
    net.train()
    net.zero_grad()
    untouched = {name for name, _ in net.named_parameters()}
    for attempt, (height, width) in enumerate(((64, 64), (65, 51), (64, 64), (64, 64))):
        if not untouched:
            break
        if attempt >= 2:  # a ReLU behind one or two channels (PAN, MA-Net) may be dead by chance: move its bias
            with torch.no_grad():
                for name, parameter in net.named_parameters():
                    if name.endswith("bias"):
                        parameter += 0.5 * torch.randn_like(parameter)
        output = net(torch.randn(2, 3, height, width))
        assert isinstance(output, SegmentationOutput)
        assert output.logits.shape[:2] == (2, CLASSES)
        assert output.logits.isfinite().all()
        full = output.at_size(height, width)
        assert all(map_.shape == (2, CLASSES, height, width) for map_ in (full.logits, *full.auxiliary))
        sum(map_.square().mean() for map_ in (output.logits, *output.auxiliary)).backward()
        untouched -= {name for name, p in net.named_parameters() if p.grad is not None and p.grad.any()}
    assert all(p.grad is not None for p in net.parameters())
    # BatchNorm subtracts the bias of a convolution before it: a gradient of 0 but for rounding
    assert {name for name in untouched if not _precedes_batchnorm(net, name)} == set()


def _precedes_batchnorm(net, name):
    parent = name.removesuffix(".conv.bias")
    return parent != name and hasattr(net.get_submodule(parent), "bn")


def test_evaluates_one_image_and_depends_on_it(net):
    net.eval()
    with torch.no_grad():
        first, second = (net(torch.randn(1, 3, 65, 51)) for _ in range(2))
    assert first.auxiliary == ()
    assert (first.logits != second.logits).any()
    assert isinstance(net, SegmentationModel)


def test_output_stride_is_true(net):
    if not hasattr(net, "output_stride"):
        pytest.skip(f"{type(net).__name__} states no output stride")
    net.eval()
    with torch.no_grad():
        logits = net(torch.randn(1, 3, 64, 128)).logits
    assert logits.shape[-2:] == (64 // net.output_stride, 128 // net.output_stride)


def test_one_image_trains_or_is_refused_with_the_remedy(net):
    net.train()
    image = torch.randn(1, 3, 64, 64)
    if getattr(net, "minimum_train_batch", 1) == 1:
        assert net(image).logits.isfinite().all()
    else:
        with pytest.raises(ValueError, match="at least 2 images per device"):
            net(image)


def test_fold_of_stages_is_forward(net):
    if not hasattr(net, "stages"):
        pytest.skip("this net names no stages")
    assert len(net.stages) >= 3
    image = torch.randn(2, 3, 33, 37)
    for mode in (True, False):
        net.train(mode)
        torch.manual_seed(2)
        with torch.no_grad():
            whole = net(image)
        torch.manual_seed(2)
        with torch.no_grad():
            folded = run_stages(net.stages, image)
        assert isinstance(folded, SegmentationOutput)
        assert torch.equal(whole.logits, folded.logits)
        assert len(whole.auxiliary) == len(folded.auxiliary)
        assert all(torch.equal(a, b) for a, b in zip(whole.auxiliary, folded.auxiliary, strict=True))
    stage_parameters = [id(p) for s in net.stages for p in s.parameters()]
    assert sorted(stage_parameters) == sorted(id(p) for p in net.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_state_dict_round_trip(name):
    source, target = build(name).eval(), build(name).eval()
    with torch.no_grad():
        for value in target.state_dict().values():
            value += 1
    image = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        expected = source(image).logits
        assert not torch.equal(expected, target(image).logits)
        target.load_state_dict(source.state_dict(), strict=True)
        assert torch.equal(expected, target(image).logits)


@pytest.mark.parametrize("name", ["pspnet", "segnet", "segnet_basic", "unet"])
def test_channels_last_gives_the_same(name):
    torch.manual_seed(0)
    net = build(name).double().eval()
    image = torch.randn(2, 3, 33, 37, dtype=torch.float64)
    with torch.no_grad():
        expected = net(image).logits
        got = net.to(memory_format=torch.channels_last)(image.contiguous(memory_format=torch.channels_last)).logits
    assert expected.std(dim=(0, 2, 3)).min() > 0
    torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-12)
