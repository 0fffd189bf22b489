"""Shared BatchNorm on several ranks is plain BatchNorm in one process on all their images."""

from __future__ import annotations

import copy
import io
import pickle
import warnings

import pytest
import torch
import torch.distributed as dist
from timm.layers import BatchNormAct2d, EvoNorm2dB0, SplitBatchNorm2d
from torch import nn
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.nn.parallel import DistributedDataParallel

from segframe.memory import checkpoint_activations
from segframe.parallel.batch_norm import share_batch_norm

INPUTS = {
    "(B, C)": (nn.BatchNorm1d, (5, 6), torch.contiguous_format),
    "(B, C, L)": (nn.BatchNorm1d, (5, 6, 7), torch.contiguous_format),
    "contiguous": (nn.BatchNorm2d, (5, 6, 4, 7), torch.contiguous_format),
    "channels_last": (nn.BatchNorm2d, (5, 6, 4, 7), torch.channels_last),
    "3d": (nn.BatchNorm3d, (5, 6, 2, 4, 3), torch.contiguous_format),
    "3d channels_last": (nn.BatchNorm3d, (5, 6, 2, 4, 3), torch.channels_last_3d),
    "with activation": (BatchNormAct2d, (5, 6, 4, 7), torch.channels_last),
}
CUTS = {2: (0, 3, 5), 3: (0, 2, 5, 5)}  # uneven; of three ranks the last has no image


def summed(tensor):
    dist.all_reduce(tensor)
    return tensor


def random_norm(kind, **options):
    norm = kind(6, **options)
    for tensor in norm.parameters():
        nn.init.uniform_(tensor, -1, 1)
    return norm


def largest(difference):
    return difference.abs().max().item() if difference.numel() else 0.0


def run(norm, x, dy, images=slice(None)):
    """Returns output, gradients (of all ranks' images together) and buffers after two steps."""
    own = x[images].detach().clone(memory_format=torch.preserve_format).requires_grad_()
    for _ in range(2):
        norm.zero_grad()
        own.grad = None
        output = norm(own)
        output.backward(dy[images])
    return output, own.grad, [p.grad for p in norm.parameters()], list(norm.buffers())


def compare(rank, size, norm, x, dy):
    """Returns the largest difference between this rank's and one process's results, and without sharing."""
    images = slice(*CUTS[size][rank : rank + 2])
    whole = run(copy.deepcopy(norm), x, dy)
    differences = []
    for shared in (True, False):
        own = copy.deepcopy(norm)
        if shared:
            share_batch_norm(own)
        if not shared and images.start == images.stop:
            continue
        output, dx, gradients, buffers = run(own, x, dy, images)
        assert output.stride() == output.contiguous(memory_format=layout_of(x)).stride()
        pairs = [(output, whole[0][images]), (dx, whole[1][images]), *zip(buffers, whole[3], strict=True)]
        if shared:
            pairs += [(summed(g.clone()), w) for g, w in zip(gradients, whole[2], strict=True)]
        differences.append([largest(a - b) for a, b in pairs])
    return [max(d) for d in differences]


def layout_of(x):
    layouts = {4: torch.channels_last, 5: torch.channels_last_3d}
    layout = layouts.get(x.dim(), torch.contiguous_format)
    return layout if x.is_contiguous(memory_format=layout) else torch.contiguous_format


def compare_inputs(rank, size, options, shift):
    found = {}
    for name, (kind, shape, layout) in INPUTS.items():
        x = torch.randn(shape, dtype=torch.float64) * 2 + shift
        dy = torch.randn(shape, dtype=torch.float64)
        norm = random_norm(kind, **options).double()
        found[name] = compare(rank, size, norm, x.contiguous(memory_format=layout), dy)
    return found


@pytest.mark.parametrize(
    "options",
    [{}, {"affine": False}, {"momentum": None}, {"track_running_stats": False}],
    ids=["default", "no weight", "momentum None", "no running statistics"],
)
@pytest.mark.parametrize("size", [2, 3])
def test_equals_one_process(on_ranks, size, options):
    for found in on_ranks(size, compare_inputs, options, 1.0):
        for name, (shared, *alone) in found.items():
            assert shared < 1e-13, name
            assert all(difference > 1e-2 for difference in alone), name  # the input matters


def test_a_large_mean_costs_no_digits(on_ranks):
    # An output of size 1 from values of size 1e4 can't be better than 1e4 * 1e-16.
    for found in on_ranks(2, compare_inputs, {}, 1e4):
        assert max(shared for shared, _ in found.values()) < 1e-10


def low_precision(rank, size, dtype, is_true):
    torch.manual_seed(0)
    x, dy = torch.randn(8, 6, 16, 16) + 3, torch.randn(8, 6, 16, 16)
    norm = random_norm(nn.BatchNorm2d)
    exact = run(copy.deepcopy(norm).double(), x.to(dtype).double(), dy.to(dtype).double())
    if is_true:
        norm.to(dtype)
    share_batch_norm(norm)
    images = slice(rank * 4, rank * 4 + 4)
    with torch.autocast("cpu", dtype=dtype, enabled=not is_true):
        output, dx, _, (mean, variance, _) = run(norm, x.to(dtype), dy.to(dtype), images)
    assert output.dtype == dx.dtype == dtype
    pairs = [(output, exact[0][images]), (dx, exact[1][images]), (mean, exact[3][0]), (variance, exact[3][1])]
    return [largest(a - b) / largest(b) for a, b in pairs]


@pytest.mark.parametrize("is_true", [False, True], ids=["autocast", "true"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_sums_in_fp32(on_ranks, dtype, is_true):
    unit = torch.finfo(dtype).eps
    for output, dx, mean, variance in on_ranks(2, low_precision, dtype, is_true):
        # Parameters of the same type are rounded too: that is one more unit.
        assert max(output, dx) < (3 if is_true else 1) * unit
        assert max(mean, variance) < (2 * unit if is_true else 1e-6)


def statistics_only(rank, size):
    x = torch.randn(4, 6, 3, 3, dtype=torch.float64)
    norm = random_norm(nn.BatchNorm2d).double()
    whole = copy.deepcopy(norm)
    share_batch_norm(norm)
    with torch.no_grad():
        norm(x[rank * 2 : rank * 2 + 2])
        whole(x)
        evaluated = norm.eval()(x[:1]) - whole.eval()(x[:1])
    unbiased = 0.9 + 0.1 * x.transpose(0, 1).flatten(1).var(1)
    differences = [largest(a - b) for a, b in zip(norm.buffers(), whole.buffers(), strict=True)]
    return max(differences), largest(norm.running_var - unbiased), largest(evaluated)


def test_statistics_without_gradients_take_the_unbiased_variance_of_all_images(on_ranks):
    assert max(map(max, on_ranks(2, statistics_only))) < 1e-14


def one_value(rank, size, images):
    norm = nn.BatchNorm2d(6)
    share_batch_norm(norm)
    try:
        output = norm(torch.randn(images[rank], 6, 1, 1))
    except ValueError as error:
        return str(error)
    return output.shape


def test_one_value_per_channel_on_all_ranks_together_is_refused_on_every_rank(on_ranks):
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        nn.BatchNorm2d(6)(torch.randn(1, 6, 1, 1))
    assert on_ranks(2, one_value, (1, 1)) == [(1, 6, 1, 1)] * 2
    assert on_ranks(2, one_value, (2, 0)) == [(2, 6, 1, 1), (0, 6, 1, 1)]
    for said in on_ranks(2, one_value, (1, 0)):
        assert "got 1 value per channel from all 2 ranks together" in said
        assert "data.batch_size" in said


def copies(rank, size):
    net = nn.Sequential(nn.Conv2d(3, 6, 1), random_norm(nn.BatchNorm2d)).double()
    group = dist.new_group([0, 1])
    assert share_batch_norm(net) == share_batch_norm(net, group) == ["1"]
    x = torch.randn(2, 3, 4, 4, dtype=torch.float64)[rank : rank + 1]
    expected = net(x)
    assert torch.equal(copy.deepcopy(net)(x), expected)
    restored = pickle.loads(pickle.dumps(net))
    assert torch.equal(restored.eval()(x), net.eval()(x))
    try:
        restored.train()(x)
    except ValueError as error:
        said = str(error)
    share_batch_norm(restored, group)
    return said, torch.equal(restored(x), expected), type(restored[1]).__name__


def test_copies_share_with_the_same_ranks_and_files_know_no_group(on_ranks):
    for said, is_equal, name in on_ranks(2, copies):
        assert "call share_batch_norm(net, group)" in said
        assert is_equal
        assert name == "SharedBatchNorm2d"


def test_names_and_one_process_stay_as_they_are():
    net = nn.Sequential(nn.BatchNorm2d(3), nn.Sequential(BatchNormAct2d(3)), nn.SyncBatchNorm(3), nn.GroupNorm(1, 3))
    net.append(nn.InstanceNorm2d(3))
    plain = copy.deepcopy(net)
    assert share_batch_norm(net) == ["0", "1.0"]
    assert isinstance(net[0], nn.BatchNorm2d)
    assert list(net.state_dict()) == list(plain.state_dict())
    restored = pickle.loads(pickle.dumps(net))
    file = io.BytesIO()
    torch.save(copy.deepcopy(restored).state_dict(), file)
    assert list(torch.load(io.BytesIO(file.getvalue()), weights_only=True)) == list(plain.state_dict())
    x = torch.randn(2, 3, 4, 4)
    for index in (0, 1, 3, 4):
        assert torch.equal(net[index](x), plain[index](x))


class Own(nn.BatchNorm2d):
    def forward(self, input):  # noqa: A002
        return super().forward(input) + 1


class Kept(nn.BatchNorm2d):
    """Has no forward pass of its own."""


def patched():
    norm = nn.BatchNorm2d(3)
    norm.forward = norm.forward
    return norm


@pytest.mark.parametrize("make", [lambda: SplitBatchNorm2d(4), lambda: EvoNorm2dB0(4), lambda: Own(4), patched])
def test_what_normalises_by_a_batch_in_another_way_is_refused_by_name(make):
    net = nn.Sequential(nn.Conv2d(3, 4, 1), make())
    with pytest.raises(ValueError, match=rf"1 is a .*{type(net[1]).__name__}, .*strategy\.sync_batchnorm=false"):
        share_batch_norm(net)
    assert share_batch_norm(nn.Sequential(Kept(3))) == ["0"]


def test_a_norm_without_its_channels_yet_is_refused():
    with pytest.raises(ValueError, match="LazyBatchNorm2d"):
        share_batch_norm(nn.Sequential(nn.LazyBatchNorm2d()))


def some_ranks(rank, size):
    groups = [dist.new_group(ranks) for ranks in ([0, 2], [1])]
    x = torch.randn(3, 6, 4, 4, dtype=torch.float64)
    norm = random_norm(nn.BatchNorm2d).double()
    wanted = copy.deepcopy(norm)(x[[1]] if rank == 1 else x[[0, 2]])
    share_batch_norm(norm, groups[rank == 1])
    difference = norm(x[rank : rank + 1])[0] - wanted[0 if rank < 2 else 1]
    try:
        share_batch_norm(norm, groups[rank != 1])
    except ValueError as error:
        return largest(difference), str(error)


def test_a_group_of_ranks(on_ranks):
    for rank, (difference, said) in enumerate(on_ranks(3, some_ranks)):
        assert difference < 1e-14
        assert f"rank {rank} is not in the group" in said


# Inside nets.


def net_of(channels):
    return nn.Sequential(
        nn.Conv2d(3, channels, 3, padding=1, bias=False),
        nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU(inplace=True), nn.Conv2d(channels, channels, 3)),
        BatchNormAct2d(channels),
        nn.Conv2d(channels, 2, 1),
    ).double()


def step(net, x):
    net(x).square().sum().backward()
    return {name: getattr(p.grad, "full_tensor", lambda p=p: p.grad)() for name, p in net.named_parameters()}


def wrapped(rank, size, wrap):
    net = net_of(8)
    x = torch.randn(size * 2, 3, 9, 9, dtype=torch.float64)
    whole = copy.deepcopy(net)
    expected = step(whole, x)
    names = share_batch_norm(net)
    got = step(wrap(net), x[rank * 2 : rank * 2 + 2])
    got = {name.removeprefix("module."): gradient * size for name, gradient in got.items()}
    scale = max(largest(g) for g in expected.values())
    buffers = [largest(a - b) for a, b in zip(net.buffers(), whole.buffers(), strict=True)]
    return names, max(largest(got[name] - expected[name]) for name in expected) / scale, max(buffers)


def sharded(net):
    for block in (net[1], net[2]):
        fully_shard(block)
    return fully_shard(net)


def checkpointed(net):
    assert checkpoint_activations(net) == ["1"]
    return DistributedDataParallel(net)


@pytest.mark.parametrize("wrap", [DistributedDataParallel, checkpointed, sharded], ids=lambda w: w.__name__)
def test_gradients_of_a_net_are_those_of_one_process(on_ranks, wrap):
    for names, gradients, buffers in on_ranks(2, wrapped, wrap):
        assert names == ["1.0", "2"]
        assert gradients < 1e-13
        assert buffers < 1e-13


def compiled(rank, size):
    # PyTorch hides this warning of its own tracing, which it can't where warnings are errors.
    warnings.filterwarnings("ignore", "The .grad attribute of a Tensor that is not a leaf")
    net = nn.Sequential(random_norm(nn.BatchNorm2d), nn.ReLU(inplace=True)).double()
    share_batch_norm(net)
    x, dy = torch.randn(2, 2, 6, 3, 3, dtype=torch.float64)
    expected = run(copy.deepcopy(net), x, dy)
    net.compile(backend="eager")
    output, dx, gradients, buffers = run(net, x, dy)
    pairs = zip([output, dx, *gradients, *buffers], [*expected[:2], *expected[2], *expected[3]], strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def test_runs_between_the_graphs_of_a_compiled_net(on_ranks):
    assert on_ranks(2, compiled) == [True, True]


def sharded_in_low_precision(rank, size):
    net = net_of(8).float()
    share_batch_norm(net)
    whole = copy.deepcopy(net)
    fully_shard(net, mp_policy=MixedPrecisionPolicy(param_dtype=torch.bfloat16))
    x = torch.randn(2, 3, 9, 9)
    net(x).float().square().sum().backward()
    whole(x).square().sum().backward()
    pairs = [(net[2].weight.grad.full_tensor() * size, summed(whole[2].weight.grad))]
    with torch.no_grad():
        pairs.append((net.eval()(x).float(), whole.eval()(x)))
    return net[2].running_var.dtype, max(largest(a - b) / largest(b) for a, b in pairs)


def test_parameters_in_low_precision_with_statistics_in_fp32(on_ranks):
    for dtype, difference in on_ranks(2, sharded_in_low_precision):
        assert dtype == torch.float32
        assert 0 < difference < 0.05


def saved(rank, size):
    kept = []
    x = torch.randn(2, 6, 8, 8, requires_grad=True)
    norm = nn.BatchNorm2d(6)
    share_batch_norm(norm)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        output = norm(x)
    (dx,) = torch.autograd.grad(output.square().sum(), x, create_graph=True)
    try:
        dx.sum().backward()
    except RuntimeError as error:
        return [tuple(t.shape) for t in kept], any(t.data_ptr() == x.data_ptr() for t in kept), str(error)


def test_keeps_what_plain_keeps_and_refuses_a_second_derivative(on_ranks):
    for shapes, holds_input, said in on_ranks(2, saved):
        assert shapes == [(2, 6, 8, 8), (6,), (6,), (6,), ()]
        assert holds_input
        assert "twice" in said
