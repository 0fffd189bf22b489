"""A net in stages over several ranks computes bit for bit what gradient accumulation in one process does."""

import pytest
import torch
import torch.distributed as dist
from torch import nn

from segframe.models.pspnet import PSPNet
from segframe.models.segnet_basic import SegNetBasic
from segframe.models.tiny import Tiny
from segframe.models.zoo import Zoo
from segframe.parallel.batch_norm import share_batch_norm
from segframe.parallel.crossing import Form, pack, unpack
from segframe.parallel.cuts import cut
from segframe.parallel.pipeline import Pipeline
from segframe.parallel.placed import run_placed
from segframe.parallel.placeholders import collect, keep_only, tensors_of

PARTS = 3
NETS = {
    "pspnet": lambda: PSPNet(4, "resnet18", dropout=0.5),
    "segnet_basic": lambda: SegNetBasic(4, width=8),
    "unet": lambda: Zoo("unet", 4, "resnet18"),
    "deeplabv3plus": lambda: Zoo("deeplabv3plus", 4, "resnet18"),
    "tiny": lambda: Tiny(4, dropout=0.5),
}


CASES = {
    2: (("pspnet", torch.float64, "1f1b"), ("unet", torch.float32, "gpipe"), ("tiny", torch.float32, "1f1b")),
    3: (("segnet_basic", torch.float32, "1f1b"), ("deeplabv3plus", torch.float64, "1f1b")),
}


def built(name, dtype):
    torch.manual_seed(0)
    return NETS[name]().to(dtype).to(memory_format=torch.channels_last)


def images(dtype):
    torch.manual_seed(1)
    return torch.randn(2 * PARTS, 3, 32, 48, dtype=dtype).contiguous(memory_format=torch.channels_last).chunk(PARTS)


def seed(part):
    torch.manual_seed(50 + part)


def objective(part, output):
    return (
        sum((part + 1) * m.double().square().mean() for m in (output.logits, *output.auxiliary)) + output.logits.mean()
    )


def accumulated(name, dtype):
    net = built(name, dtype)
    values = []
    for part, x in enumerate(images(dtype)):
        seed(part)
        value = objective(part, net(x))
        value.backward()
        values.append(value.detach())
    return values, net, evaluated(net, dtype)


@torch.no_grad()
def evaluated(net, dtype):
    net.eval()
    return net(images(dtype)[0][:1, :, :31, :33]).logits.clone()


def sharded(net, rank, size, schedule):
    divided = cut(net, size)
    stages = list(net.stages)
    own = stages[divided.part(rank)]
    others = {id(x) for stage in stages if stage not in own for x in tensors_of(stage)}
    keep_only(net, {id(x) for x in (*net.parameters(), *net.buffers())} - others)
    pipeline = Pipeline(net, own, dist.group.WORLD, torch.device("cpu"), schedule)
    net.forward = pipeline
    return pipeline


def on_a_rank(rank, size):
    wrong = []
    for name, dtype, schedule in CASES[size]:
        values, one, logits = accumulated(name, dtype)
        net, seen = built(name, dtype), []
        pipeline = sharded(net, rank, size, schedule)

        def watched(part, output, seen=seen):
            value = objective(part, output)
            seen.append(value.detach())
            return value

        pipeline.train(images(dtype), watched, seed)
        here = {n: p.grad for n, p in net.named_parameters() if not p.is_meta}
        wrong += [(name, n) for n, g in here.items() if not torch.equal(g, one.get_parameter(n).grad)]
        wrong += [(name, n) for n, b in net.named_buffers() if not b.is_meta and not torch.equal(b, one.get_buffer(n))]
        assert all(p.grad is None for p in net.parameters() if p.is_meta)
        assert [n for n, _ in net.named_parameters()] == [n for n, _ in one.named_parameters()]
        got = evaluated(net, dtype)
        assert torch.equal(evaluated(net, dtype), got)  # by the way that the first pass has found
        assert got.shape == logits.shape
        if pipeline.is_last:
            assert values[0] != values[1]
            assert [v.item() for v in seen] == [v.item() for v in values]
            assert logits.std() > 0
            assert torch.equal(got, logits)
        else:
            assert not got.any()
            assert not seen
        whole = collect(dict(net.state_dict()), dist.group.WORLD, torch.device("cpu"))
        if rank == 0:
            expected = one.state_dict()
            assert list(whole) == list(expected)
            wrong += [(name, n) for n, x in whole.items() if not torch.equal(x, expected[n])]
        else:
            assert not whole
        assert 0 < sum(p.numel() for p in net.parameters() if not p.is_meta) < sum(p.numel() for p in one.parameters())
        assert pipeline.bytes_sent > 0
    return wrong


@pytest.mark.parametrize("size", [2, 3])
def test_is_gradient_accumulation(on_ranks, size):
    assert on_ranks(size, on_a_rank) == [[]] * size


def refusing(rank, size):
    net = PSPNet(4, "resnet18")
    pipeline = sharded(net, rank, size, "1f1b")
    with pytest.raises(ValueError, match="only in training steps"):
        net(torch.zeros(2, 3, 32, 32))
    frozen = Tiny(4)
    frozen.stem.requires_grad_(False)
    pipeline = sharded(frozen, rank, size, "gpipe")
    pipeline.train([torch.randn(1, 3, 16, 16)], objective, seed)
    return {name: p.grad is not None for name, p in frozen.named_parameters() if not p.is_meta}


def test_gradients_outside_of_a_step_are_refused_and_frozen_stages_stay(on_ranks):
    found = {name: has for part in on_ranks(2, refusing) for name, has in part.items()}
    assert {name for name, has in found.items() if not has} == {"stem.0.weight", "stem.0.bias"}


def beside_another(rank, size):
    """A pipeline of one rank each: in the second step images of a new size come to the second alone."""
    alone = [dist.new_group([each]) for each in range(size)][rank]
    net = SegNetBasic(4, width=4).double()
    share_batch_norm(net)
    pipeline = Pipeline(net, list(net.stages), alone, torch.device("cpu"), "1f1b")
    for width in (32, 32 + 16 * rank):
        pipeline.train([torch.rand(1, 3, 32, width, dtype=torch.float64)], objective, seed)
    return dict(net.named_buffers())


def test_images_of_a_new_size_in_one_of_two_pipelines(on_ranks):
    first, second = on_ranks(2, beside_another)
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    assert {int(value) for name, value in first.items() if name.endswith("tracked")} == {2}


def test_what_crosses_keeps_its_values_shape_and_layout():
    plain = torch.randn(2, 3, 4, 5, requires_grad=True)
    last = torch.randn(2, 3, 4, 5).contiguous(memory_format=torch.channels_last)
    odd = torch.randn(2, 3, 4, 6)[..., :5] > 0
    values = (plain, last, odd, torch.empty(2, 0, 7, 7), torch.randn(2, 3))
    forms = [Form.of(x) for x in values]
    flats = pack(values, forms)
    assert [x.dim() for x in flats] == [1] * 4
    for before, after in zip(values, unpack(flats, forms, torch.device("cpu")), strict=True):
        assert torch.equal(before, after)
        assert before.is_contiguous() == after.is_contiguous() or before is odd
    assert unpack(flats, forms, torch.device("cpu"))[1].stride() == last.stride()
    assert [form.learns for form in forms] == [True, False, False, False, False]


def test_placed_parts_run_where_they_are():
    net = Tiny(4)
    image = torch.randn(2, 3, 16, 16)
    cpu, meta = torch.device("cpu"), torch.device("meta")
    parts = [net.stages[:1], net.stages[1:]]
    assert torch.equal(run_placed(parts, [cpu, cpu], image).logits, net(image).logits)
    for stage in parts[1]:
        assert isinstance(stage, nn.Module)
        stage.to(meta)
    output = run_placed(parts, [cpu, meta], image)
    assert output.logits.device == meta
    assert output.logits.shape == (2, 4, 8, 8)
    assert net.stem[0].weight.device == cpu
