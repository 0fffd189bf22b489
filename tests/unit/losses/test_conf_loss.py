"""What every option of conf/loss owes to the task, by glob."""

from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf

CONF = Path(__file__).parents[3] / "conf"
LOSSES = sorted(path.stem for path in (CONF / "loss").glob("*.yaml"))
IGNORE = 255
K = 4


@pytest.fixture(autouse=True)
def _double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def _build(name, *overrides):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose(overrides=[f"+loss={name}", *overrides])
    root = OmegaConf.merge({"dataset": {"num_classes": K, "ignore_index": IGNORE}}, cfg)
    return instantiate(root.loss)


def _case(batch=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(batch, K, 7, 9, generator=generator)
    target = torch.randint(0, K, (batch, 7, 9), generator=generator)
    # Uneven: sample 0 is nearly all ignored, sample 1 a little, the others not at all.
    target[0, 1:] = IGNORE
    target[1, :2] = IGNORE
    return logits.requires_grad_(), target


def _gradient(value, logits):
    return torch.autograd.grad(value, logits, retain_graph=True)[0]


@pytest.fixture(params=LOSSES)
def loss(request):
    return _build(request.param)


def test_there_are_options():
    assert "cross_entropy" in LOSSES


def test_value_and_gradient_are_finite_and_positive(loss):
    logits, target = _case()
    value = loss(logits, target).value
    gradient = _gradient(value, logits)
    assert value.shape == ()
    assert value > 0
    assert gradient.isfinite().all()
    assert gradient.abs().sum() > 0


@pytest.mark.parametrize("scale", [0.0, 1e3])
def test_extreme_logits_stay_finite(loss, scale):
    logits, target = _case()
    logits = (logits.detach() * scale).float().requires_grad_()
    value = loss(logits, target).value
    assert value.isfinite()
    assert _gradient(value, logits).isfinite().all()


def test_right_beats_wrong(loss):
    _, target = _case()
    right = 20 * torch.nn.functional.one_hot(target.where(target != IGNORE, 0), K).movedim(-1, 1).double()
    assert loss(right, target).value < 1e-3 < loss(-right, target).value


def test_only_ignored_pixels_give_zero_and_exactly_zero_gradients(loss):
    logits, target = _case()
    target[:] = IGNORE
    value = loss(logits, target).value
    assert value.item() == 0.0
    assert torch.equal(_gradient(value, logits), torch.zeros_like(logits))


def test_ignored_pixels_have_no_gradient_and_no_say(loss):
    logits, target = _case()
    ignored = (target == IGNORE).unsqueeze(1).expand_as(logits)
    value = loss(logits, target).value
    gradient = _gradient(value, logits)
    assert not gradient[ignored].any()
    assert gradient[~ignored].any()
    changed = logits.detach().masked_fill(ignored, 5.0)
    assert not torch.equal(changed, logits)
    torch.testing.assert_close(loss(changed, target).value, value, rtol=0, atol=1e-14)


@pytest.mark.parametrize("cut", [[1, 3], [2, 2], [1, 1, 1, 1]])
def test_summed_statistics_of_parts_give_the_whole(loss, cut):
    logits, target = _case()
    target[0] = IGNORE
    whole = loss(logits, target).value
    parts = [loss(x, y) for x, y in zip(logits.split(cut), target.split(cut), strict=True)]
    torch.testing.assert_close(parts[0].finish(sum(p.statistics for p in parts)), whole, rtol=0, atol=1e-12)
    mean_of_parts = torch.stack([p.value for p in parts]).mean()
    assert (mean_of_parts - whole).abs() > 1e-4  # a mean of parts would be another number

    summed = sum(p.statistics.detach() for p in parts).requires_grad_()
    slope = torch.autograd.grad(parts[0].finish(summed), summed)[0]
    surrogate = sum((slope * p.statistics).sum() for p in parts)
    torch.testing.assert_close(_gradient(surrogate, logits), _gradient(whole, logits), rtol=0, atol=1e-12)


def test_a_part_of_only_ignored_pixels_changes_nothing(loss):
    logits, target = _case()
    target[0] = IGNORE
    rest = loss(logits[1:], target[1:]).value
    torch.testing.assert_close(loss(logits, target).value, rest, rtol=0, atol=1e-14)


def test_target_statistics_suffice_for_the_gradient(loss):
    logits, target = _case()
    known = loss.target_statistics(target)
    if known is None:
        pytest.skip("this loss needs the predictions' statistics before it can tell")
    terms = loss(logits, target)
    assert known.shape == terms.statistics.shape
    known.requires_grad_()
    slope = torch.autograd.grad(terms.finish(known), known)[0]
    # Only statistics that the predictions enter carry gradient, and their slope needs no prediction.
    torch.testing.assert_close(
        _gradient((slope.detach() * terms.statistics).sum(), logits),
        _gradient(terms.value, logits),
        rtol=0,
        atol=1e-14,
    )
    parts = sum(loss.target_statistics(part) for part in target.split([1, 3]))
    torch.testing.assert_close(parts, known.detach(), rtol=0, atol=1e-12)


def test_half_precision_logits_are_summed_in_float32(loss):
    logits = torch.zeros(1, K, 64, 64, dtype=torch.bfloat16)
    target = torch.arange(64 * 64).view(1, 64, 64) % K
    terms = loss(logits, target)
    assert terms.statistics.dtype == torch.float32
    expected = loss(logits.double(), target).value
    torch.testing.assert_close(terms.value.double(), expected, rtol=1e-5, atol=0)


def test_autocast_does_not_round_the_sums(loss):
    logits, target = _case()
    logits = logits.detach().float()
    with torch.autocast("cpu", torch.bfloat16):
        mixed = loss(logits, target).value
    torch.testing.assert_close(mixed, loss(logits, target).value, rtol=1e-6, atol=0)


def test_nothing_of_a_loss_goes_into_checkpoints(loss):
    assert not loss.state_dict()
    assert not list(loss.parameters())


def test_an_override_reaches_a_term_of_a_sum():
    loss = _build("ce_dice", "loss.losses.cross_entropy.label_smoothing=0.1", "loss.weights.dice=0.5")
    assert loss.losses["cross_entropy"].label_smoothing == 0.1
    assert loss.weights == {"cross_entropy": 1.0, "dice": 0.5}
