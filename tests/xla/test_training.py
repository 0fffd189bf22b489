"""A run on an XLA device computes what a run on the CPU does, by one program for training and one for evaluation."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import pytest

pytest.importorskip("torch_xla", reason="torch_xla is in an environment of its own: make test-xla")

import torch
import torch_xla
import torch_xla.runtime
from pytorch_lightning.callbacks import Callback
from torch_xla.debug import metrics

from segframe import build
from segframe.callbacks.ema import KEY
from segframe.certificate.compare import MOST_ROUNDING, ROUNDING_FACTOR, furthest
from segframe.config.compose import compose

CORES = int(os.environ.get("CPU_NUM_DEVICES", "1"))
if CORES > 1:
    torch_xla.runtime.use_spmd()
torch_xla.device()  # before anything is differentiated: PyTorch counts its devices then

# Lightning 2.6 calls torch_xla by its older names.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Use torch_xla:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:torch_xla"),
]

ROOT = Path(__file__).parents[2]
MINI = """# parts of SegNet and PSPNet
_target_: tests.xla.mini.Mini
num_classes: ${dataset.num_classes}  # classes K
"""
WORDS = (
    "trainer=debug",
    "trainer.limit_train_batches=2",
    "dataset.train.num_images=4",
    "dataset.val.num_images=2",
    *(f"dataset.{split}.{side}=48" for split in ("train", "val") for side in ("height", "width")),
    "dataset.crop_size=[32,32]",
    "data.batch_size=2",
)


class Counts(Callback):
    """Notes the losses, and how many programs have been compiled at the end of each epoch's parts."""

    def __init__(self) -> None:
        self.losses, self.compiled = [], []

    def on_train_batch_end(self, trainer, task, outputs, batch, batch_idx):
        self.losses.append(float(task.step_loss))
        self._note()

    def on_validation_end(self, trainer, task):
        self._note()

    def _note(self):
        times = metrics.metric_data("CompileTime")
        self.compiled.append(times[0] if times else 0)


@pytest.fixture
def train(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    (tmp_path / "conf/model").mkdir(parents=True)
    (tmp_path / "conf/model/mini.yaml").write_text(MINI)

    def run(name, *words, model="mini", checkpoint=None):
        folder = tmp_path / name
        words = [f"--config-dir={tmp_path / 'conf'}", f"model={model}", *WORDS, *words, f"run.dir={folder}"]
        made = build.assemble(compose(words), folder, checkpoint, words=words)
        counts = Counts()
        made.trainer.callbacks.insert(0, counts)
        resumed = {} if checkpoint is None else {"ckpt_path": checkpoint, "weights_only": True}
        made.trainer.fit(made.task, datamodule=made.data, **resumed)
        made.data.close()
        return made, counts

    return run


def weights(run):
    return {name: x.cpu() for name, x in run.task.net.state_dict().items()}


def test_a_run_is_that_of_the_cpu(train):
    words = ("trainer.precision=64-true", "trainer.gradient_clip_val=1")
    there, counts = train("xla", "strategy=xla", *words)
    here, expected = train("cpu", "strategy=single", *words)
    # make test-xla runs this test once more, with a batch that is split over two cores.
    assert there.trainer.strategy.num_cores == CORES
    assert len(set(expected.losses)) == 4
    assert counts.losses == pytest.approx(expected.losses, rel=1e-9)
    torch.testing.assert_close(weights(there), weights(here), rtol=1e-7, atol=1e-9)
    assert torch.equal(there.task.confusion.matrix.cpu(), here.task.confusion.matrix)
    # Two steps, an evaluation, and all of it again: what is compiled is compiled by then.
    first_step, second_step, evaluation, *again = counts.compiled
    assert second_step == first_step
    assert evaluation == second_step + 1
    assert set(again) == {evaluation}


WHOLE = (
    "optimizer=sgd",  # Adam divides by gradients, those that are but rounding too
    "optimizer.lr=0.001",  # at 0.01 rounding moves SegNet's weights too far to tell
    "trainer.max_epochs=1",
    "trainer.limit_train_batches=3",
    "trainer.limit_val_batches=1",
    "dataset.train.num_images=12",
    "dataset.train.height=64",
    "dataset.crop_size=[64,32]",  # SegNet's deepest BatchNorm has 8 values
    "data.batch_size=4",
)


@pytest.mark.parametrize("model", ["segnet", "pspnet"])
def test_a_whole_model_trains_to_the_numbers_of_the_cpu(train, model):
    runs, losses = {}, {}
    for key in itertools.product(("single", "xla"), (64, 32)):
        strategy, bits = key
        name = f"{strategy}{bits}"
        runs[key], counts = train(name, f"strategy={strategy}", f"trainer.precision={bits}-true", *WHOLE, model=model)
        losses[key] = counts.losses
        if strategy == "xla":
            *steps, evaluation = counts.compiled
            assert len(set(steps)) == 1
            assert evaluation == steps[0] + 1

    def apart(one, other):
        """Returns how far losses, parameters and BatchNorm's statistics are apart."""
        of_losses = max(abs(a / b - 1) for a, b in zip(losses[one], losses[other], strict=True))
        tensors = [weights(runs[key]) for key in (other, one)]
        own = {name for name, _ in runs[one].task.net.named_parameters()}
        kinds = [
            [{name: x for name, x in state.items() if (name in own) is kind} for state in tensors]
            for kind in (True, False)
        ]
        return of_losses, *(furthest(*states)[0] for states in kinds)

    assert len(set(losses["single", 64])) == 3
    assert max(apart(("xla", 64), ("single", 64))) < 1e-9
    assert torch.equal(*(runs[strategy, 64].task.confusion.matrix.cpu() for strategy in ("single", "xla")))
    # In fp32 as the certificate judges it: by how far one process's fp32 is from its fp64.
    alone, found = apart(("single", 32), ("single", 64)), apart(("xla", 32), ("single", 32))
    print(f"{model} in fp32: {found} from the CPU, whose own is {alone} from its fp64")
    for difference, rounding in zip(found, alone, strict=True):
        assert difference < max(1e-5, ROUNDING_FACTOR * rounding) < MOST_ROUNDING


def test_checkpoints_open_on_the_cpu_and_back(train, tmp_path):
    words = ("callbacks.ema.decay=0.9", "trainer.precision=64-true")
    runs, contents = {}, {}
    for first, second in (("xla", "single"), ("single", "xla")):
        begun, counts = train(first, f"strategy={first}", *words)
        saved = torch.load(tmp_path / first / "checkpoints/last.ckpt", weights_only=True)
        assert {x.device.type for x in saved["state_dict"].values()} == {"cpu"}
        if first == "xla":
            assert len(set(counts.compiled[2:])) == 1  # nor does the average compile again
        runs[second], _ = train(
            f"{first}_{second}",
            f"strategy={second}",
            *words,
            "trainer.max_epochs=3",
            checkpoint=str(tmp_path / first / "checkpoints/last.ckpt"),
        )
        assert runs[second].trainer.global_step == 6
        contents[second] = torch.load(tmp_path / f"{first}_{second}/checkpoints/last.ckpt", weights_only=True)
        assert furthest(weights(begun), weights(runs[second]))[0] > 1e-4
    torch.testing.assert_close(weights(runs["xla"]), weights(runs["single"]), rtol=1e-7, atol=1e-9)
    torch.testing.assert_close(contents["xla"][KEY], contents["single"][KEY], rtol=1e-7, atol=1e-9)
    last = {name: contents["single"]["state_dict"][name] for name in contents["single"][KEY]}
    assert furthest(last, contents["single"][KEY])[0] > 1e-5  # the two differ by far more than they may be apart
    assert torch.equal(runs["xla"].task.confusion.matrix.cpu(), runs["single"].task.confusion.matrix)
