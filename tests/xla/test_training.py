"""A run on an XLA device computes what a run on the CPU does, by one program for training and one for evaluation."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch_xla", reason="torch_xla is in an environment of its own: make test-xla")

import torch
import torch_xla
from pytorch_lightning.callbacks import Callback
from torch_xla.debug import metrics

from segframe import build
from segframe.config.compose import compose

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
    "model=mini",
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

    def run(name, *words):
        folder = tmp_path / name
        words = [f"--config-dir={tmp_path / 'conf'}", *WORDS, *words, f"run.dir={folder}"]
        made = build.assemble(compose(words), folder, None, words=words)
        counts = Counts()
        made.trainer.callbacks.insert(0, counts)
        made.trainer.fit(made.task, datamodule=made.data)
        made.data.close()
        return made, counts

    return run


def weights(run):
    return {name: x.cpu() for name, x in run.task.net.state_dict().items()}


def test_a_run_is_that_of_the_cpu(train):
    words = ("trainer.precision=64-true", "trainer.gradient_clip_val=1")
    there, counts = train("xla", "strategy=xla", *words)
    here, expected = train("cpu", "strategy=single", *words)
    assert len(set(expected.losses)) == 4
    assert counts.losses == pytest.approx(expected.losses, rel=1e-9)
    torch.testing.assert_close(weights(there), weights(here), rtol=1e-7, atol=1e-9)
    assert torch.equal(there.task.confusion.matrix.cpu(), here.task.confusion.matrix)
    # Two steps, an evaluation, and all of it again: what is compiled is compiled by then.
    first_step, second_step, evaluation, *again = counts.compiled
    assert second_step == first_step
    assert evaluation == second_step + 1
    assert set(again) == {evaluation}


def test_a_checkpoint_opens_on_the_cpu_and_back(train, tmp_path):
    there, _ = train("xla", "strategy=xla", "callbacks.ema.decay=0.9")
    path = tmp_path / "xla/checkpoints/last.ckpt"
    content = torch.load(path, weights_only=True)
    assert {x.device.type for x in content["state_dict"].values()} == {"cpu"}
    torch.testing.assert_close(
        {name.removeprefix("net."): x for name, x in content["state_dict"].items() if name.startswith("net.")},
        weights(there),
    )
    for strategy in ("single", "xla"):
        words = [f"--config-dir={tmp_path / 'conf'}", *WORDS, f"strategy={strategy}", "callbacks.ema.decay=0.9"]
        words += ["trainer.max_epochs=3", f"run.dir={tmp_path / strategy}"]
        made = build.assemble(compose(words), tmp_path / strategy, str(path), words=words)
        made.trainer.fit(made.task, datamodule=made.data, ckpt_path=str(path), weights_only=True)
        made.data.close()
        assert made.trainer.global_step == 6
