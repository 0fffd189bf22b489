import math
import shutil

import numpy as np
import pytest
import torch
from pytorch_lightning.callbacks import Callback

from segframe.config.compose import compose_resume
from segframe.contracts import IGNORE_INDEX
from segframe.nonfinite import NonFiniteLossError
from segframe.run import evaluate

FP64 = "trainer.precision=64-true"
SGD = ("optimizer=sgd", "optimizer.lr=0.1", "scheduler=constant")
SMALL_PSPNET = ("model=pspnet", "model.encoder=resnet18", "data.batch_size=4", "trainer.max_steps=2")


class Masked:
    """A data set whose i-th mask ignores a share of its rows that depends on i."""

    def __init__(self, dataset, share):
        self.dataset, self.share = dataset, share
        self.classes, self.palette, self.name = dataset.classes, dataset.palette, dataset.name

    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, index):
        image, mask = self.dataset[index]
        mask = mask.clone()
        mask[: round(self.share(index) * mask.shape[0])] = IGNORE_INDEX
        return image, mask


def unevenly(run):
    run.data.train = Masked(run.data.train, lambda index: (0.0, 0.3, 0.9, 1.0)[index % 4])


def entirely(run):
    run.data.train = Masked(run.data.train, lambda index: 1.0)


def weights(run):
    return {name: tensor.detach().clone() for name, tensor in run.task.net.state_dict().items()}


def assert_close(first, second, tolerance=1e-12):
    assert first.keys() == second.keys()
    for name, expected in first.items():
        scale = expected.double().abs().max()
        assert (expected.double() - second[name].double()).abs().max() <= tolerance * scale, name


def differ(first, second):
    return any(not torch.equal(first[name], second[name]) for name in first)


LOSSES = {
    "cross_entropy": ("loss.class_weights=[1,5,2,1,3,0.5]",),
    "median_frequency": ("loss=cross_entropy", "loss.class_weights=median_frequency"),
    "ohem": ("loss=ohem",),
    "dice": ("loss=dice",),
    "focal": ("loss=focal",),
    "lovasz": ("loss=lovasz",),
    "ce_dice": ("loss=ce_dice",),
    "ce_lovasz": ("loss=ce_lovasz",),
}


@pytest.mark.parametrize("loss", LOSSES)
def test_accumulation_equals_the_big_batch(fit, rows, loss):
    words = (*SGD, FP64, "trainer.max_steps=3", "data.batch_size=8", *LOSSES[loss])
    whole, halves, quarters = (fit(*words, f"trainer.accumulate_grad_batches={n}", change=unevenly) for n in (1, 2, 4))
    even = fit(*words)
    assert_close(weights(whole), weights(halves))
    assert_close(weights(whole), weights(quarters))
    logged = [[float(row["train/loss"]) for row in rows(run.folder)] for run in (whole, halves, quarters)]
    assert len(logged[0]) == 3
    np.testing.assert_allclose(logged[1:], [logged[0]] * 2, rtol=1e-12)
    assert differ(weights(whole), weights(even))  # the ignored pixels matter


@pytest.mark.parametrize("algorithm", ["norm", "value"])
def test_clipping_sees_the_whole_batch_s_gradient(fit, algorithm):
    clip = ("trainer.gradient_clip_val=0.01", f"trainer.gradient_clip_algorithm={algorithm}")
    words = (*SGD, FP64, "trainer.max_steps=3")
    free, whole, halves = (fit(*words), fit(*words, *clip), fit(*words, *clip, "trainer.accumulate_grad_batches=2"))
    assert_close(weights(whole), weights(halves))
    assert differ(weights(free), weights(whole))


@pytest.mark.parametrize("algorithm", ["norm", "value"])
def test_clipping_limits_the_step(assembled, algorithm):
    run = assembled(
        *SGD, FP64, "optimizer.momentum=0", "optimizer.weight_decay=0", "trainer.max_steps=1",
        "trainer.gradient_clip_val=0.01", f"trainer.gradient_clip_algorithm={algorithm}",
    )  # fmt: skip
    before = {name: tensor.double() for name, tensor in weights(run).items()}
    run.trainer.fit(run.task, datamodule=run.data)
    step = torch.cat([(before[name] - tensor).flatten() for name, tensor in weights(run).items()])
    size = step.norm() if algorithm == "norm" else step.abs().max()
    assert float(size) == pytest.approx(0.1 * 0.01, rel=1e-4)


def test_dropout_is_a_function_of_the_seed(fit):
    words = ("trainer.max_steps=3", "model.dropout=0.5")
    first, second = fit(*words), fit(*words)
    assert not differ(weights(first), weights(second))
    assert differ(weights(first), weights(fit("trainer.max_steps=3")))  # dropout matters


class Gradients(Callback):
    """Writes down the largest absolute gradient of each parameter and step."""

    def __init__(self):
        self.seen = []

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        self.seen += [float(p.grad.abs().max()) for p in pl_module.net.parameters()]


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("loss", ["cross_entropy", "ohem", "dice", "focal", "lovasz"])
def test_a_batch_of_ignored_pixels_teaches_nothing(assembled, rows, capsys, loss, parts):
    run = assembled(
        *SGD, f"loss={loss}", "optimizer.weight_decay=0", f"trainer.accumulate_grad_batches={parts}",
        "trainer.max_epochs=1",
    )  # fmt: skip
    entirely(run)
    gradients = Gradients()
    run.callbacks.append(gradients)
    before = weights(run)
    run.trainer.fit(run.task, datamodule=run.data)
    assert not differ(before, weights(run))
    assert gradients.seen == [0.0] * 6 * 4
    logged = rows(run.folder)
    assert [(float(row["train/loss"]), row["train/empty_batches"]) for row in logged] == [(0.0, "1")] * 4
    assert capsys.readouterr().err.count("only ignored pixels") == 1


def test_auxiliary_heads_enter_with_their_weight(fit):
    words = (*SGD, *SMALL_PSPNET, FP64, "trainer.max_steps=1")
    none, some, more = (float(fit(*words, f"task.auxiliary_weight={w}").task.step_loss) for w in (0, 0.4, 0.8))
    assert some > none
    assert more - none == pytest.approx(2 * (some - none), rel=1e-12)


def test_a_loss_that_is_not_finite_names_step_and_files(segframe, small, rows, tmp_path):
    code, _, said = segframe(
        "train", *small, "optimizer=sgd", "optimizer.lr=1e30", "scheduler=constant", f"run.dir={tmp_path / 'run'}"
    )
    (file,) = (tmp_path / "run/checkpoints").glob("nonfinite-step*.pt")
    state = torch.load(file, weights_only=True)
    assert code == 1
    assert f"the loss of step {state['step']} is " in said
    assert str(file) in said
    assert "Traceback" not in said
    assert len(state["names"]) == 4
    assert all(name in said for name in state["names"])
    assert state["image"].shape == (4, 3, 48, 48)
    assert state["state_dict"].keys() == {f"{part}.{kind}" for part in ("stem.0", "body.0", "head.classifier")
                                          for kind in ("weight", "bias")}  # fmt: skip
    assert len(rows(tmp_path / "run")) == state["step"]


def test_a_loss_that_is_not_finite_carries_its_batch(fit):
    with pytest.raises(NonFiniteLossError, match="the loss of step 1 is") as caught:
        fit("optimizer=sgd", "optimizer.lr=1e30", "scheduler=constant")
    assert caught.value.step == 1
    assert caught.value.batch.image.shape[0] == 4


def test_validation_counts_as_numpy_does(fit):
    run = fit("trainer.max_epochs=4", "optimizer.lr=0.01", FP64, "task.absent=zero", "data.val_batch_size=3")
    net, hits, union = run.task.net.eval(), np.zeros(6), np.zeros(6)
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    for index in range(len(run.data.val)):
        image, mask = (x.numpy() for x in run.data.val[index])
        x = ((image.transpose(1, 2, 0) / 255 - mean) / std).transpose(2, 0, 1)
        with torch.no_grad():
            guess = net(torch.from_numpy(x)[None]).at_size(48, 48).logits[0].argmax(0).numpy()
        valid = mask != IGNORE_INDEX
        assert not valid.all()
        for k in range(6):
            hits[k] += ((guess == k) & (mask == k) & valid).sum()
            union[k] += (((guess == k) | (mask == k)) & valid).sum()
    assert np.count_nonzero(hits) > 1
    expected = float((hits / union).mean())
    assert float(run.trainer.callback_metrics["val/miou"]) == pytest.approx(expected, rel=1e-12)
    worst = run.task.worst_images(2)
    assert len(worst) == 2
    assert len(set(worst)) == 2


class Recorder(Callback):
    """Writes down the weights after every step, and those of every evaluation."""

    def __init__(self):
        self.steps, self.evaluated = [], []

    def on_train_start(self, trainer, pl_module):
        self.steps.append({n: p.detach().clone() for n, p in pl_module.net.named_parameters()})

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.steps.append({n: p.detach().clone() for n, p in pl_module.net.named_parameters()})

    def on_validation_batch_start(self, trainer, pl_module, batch, batch_idx, dataloader_idx=0):
        self.evaluated.append({n: p.detach().clone() for n, p in pl_module.net.named_parameters()})


def test_the_average_is_what_a_hand_computes_and_what_is_evaluated(fit, rows):
    recorder = Recorder()
    run = fit(
        "callbacks.ema.decay=0.3", "optimizer.lr=0.02", FP64, "trainer.max_epochs=3",
        change=lambda run: run.callbacks.append(recorder),
    )  # fmt: skip
    average = dict(recorder.steps[0])
    for step, now in enumerate(recorder.steps[1:], start=1):
        decay = min(0.3, (1 + step) / (10 + step))
        average = {name: decay * average[name] + (1 - decay) * now[name] for name in now}
    assert differ(average, recorder.steps[-1])
    assert_close(average, recorder.evaluated[-1])
    assert not differ(recorder.steps[-1], weights(run))  # the net got its weights back
    kept = torch.load(run.folder / "checkpoints/last.ckpt", weights_only=True)
    assert_close({f"net.{name}": tensor for name, tensor in average.items()}, kept["ema_state_dict"])
    assert not differ({f"net.{n}": t for n, t in recorder.steps[-1].items()}, kept["state_dict"])


def test_early_stopping_ends_the_run(fit, rows):
    run = fit("callbacks.early_stopping.patience=2", "optimizer.lr=1e-30", "trainer.max_epochs=9")
    assert [row["epoch"] for row in rows(run.folder) if row["val/miou"]] == ["0", "1", "2"]


@pytest.mark.parametrize("model", [(), SMALL_PSPNET], ids=["tiny", "pspnet"])
def test_memory_order_changes_no_number(fit, model):
    words = (*SGD, *model, FP64, "trainer.max_steps=2")
    on, off = fit(*words), fit(*words, "task.channels_last=false")
    assert next(p for p in on.task.net.parameters() if p.ndim == 4 and p.shape[1] > 1).is_contiguous(
        memory_format=torch.channels_last
    )
    assert_close(weights(on), weights(off))


@pytest.mark.parametrize("model", ["pspnet", "segnet_basic"])
def test_recomputing_activations_changes_no_bit(fit, model):
    words = (*SGD, f"model={model}", "trainer.max_steps=2")
    plain, recomputing = fit(*words), fit(*words, "task.activation_checkpointing=true")
    assert any("running_mean" in name and tensor.any() for name, tensor in weights(plain).items())
    assert not differ(weights(plain), weights(recomputing))


@pytest.mark.skipif(shutil.which("g++") is None and shutil.which("c++") is None, reason="there is no C++ compiler")
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_compiling_keeps_names_and_numbers(fit):
    words = (*SGD, "trainer.max_steps=2", "trainer.limit_val_batches=0")
    plain, compiled = fit(*words), fit(*words, "task.compile=true")
    assert compiled.task.net._compiled_call_impl is not None
    assert_close(weights(plain), weights(compiled), 1e-4)


@pytest.mark.parametrize("precision", ["32-true", "64-true", "bf16-mixed", "bf16-true"])
def test_every_precision_of_a_cpu_trains(fit, rows, precision):
    run = fit(f"trainer.precision={precision}", "trainer.max_epochs=3", "optimizer.lr=0.01")
    losses = [float(row["train/loss"]) for row in rows(run.folder)]
    assert all(map(math.isfinite, losses))
    assert losses[-1] < losses[0]
    dtype = {"64-true": torch.float64, "bf16-true": torch.bfloat16}.get(precision, torch.float32)
    assert {p.dtype for p in run.task.net.parameters()} == {dtype}


@pytest.mark.parametrize("average", [(), ("callbacks.ema.decay=0.9",)], ids=["weights", "average"])
def test_a_checkpoint_evaluates_to_the_run_s_own_score(fit, small, rows, capsys, average):
    import json

    words = (*average, "optimizer.lr=0.05", "trainer.max_epochs=3")
    run = fit(*words)
    names = {word.split("=")[0] for word in words}
    (run.folder / "overrides.json").write_text(
        json.dumps([*(w for w in small if w.split("=")[0] not in names), *words])
    )
    logged = {row["epoch"]: float(row["val/miou"]) for row in rows(run.folder) if row["val/miou"]}
    for which, expected in (("last", logged["2"]), ("best", max(logged.values()))):
        assert evaluate(compose_resume(run.folder, [], for_training=False), which, run.folder) == 0
        found = json.loads((run.folder / f"evaluation-{which}.json").read_text())["metrics"]["val/miou"]
        assert found == expected
