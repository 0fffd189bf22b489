import math

import pytest
import torch
from pytorch_lightning.callbacks import Callback

from segframe.trainer import Trainer


def steps(rows, run):
    return [int(row["step"]) for row in rows(run.folder)]


def last(run):
    return torch.load(run.folder / "checkpoints/last.ckpt", weights_only=True)


def test_max_steps_ends_within_an_epoch_and_goes_on_to_the_same_end(fit, rows):
    whole = fit("scheduler=constant")
    cut = fit("scheduler=constant", "trainer.max_steps=6")
    logged = rows(cut.folder)
    assert steps(rows, cut) == [1, 2, 3, 4, 5, 6]
    assert [row["step"] for row in logged if row["val/miou"]] == ["4", "6"]
    assert last(cut)["global_step"] == 6
    on = fit("scheduler=constant", checkpoint=str(cut.folder / "checkpoints/last.ckpt"))
    assert steps(rows, on) == [7, 8]
    ends = [last(run)["state_dict"] for run in (whole, on, cut)]
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])
    assert not all(torch.equal(ends[0][name], ends[2][name]) for name in ends[0])


def test_max_steps_at_an_epoch_s_end_evaluates_once(fit, rows):
    run = fit("trainer.max_steps=4", "trainer.max_epochs=-1")
    assert [row["step"] for row in rows(run.folder) if row["val/miou"]] == ["4"]
    assert last(run)["global_step"] == 4


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((), 8),
        (("trainer.max_epochs=3", "data.batch_size=8"), 6),
        (("trainer.limit_train_batches=3",), 6),
        (("trainer.limit_train_batches=9",), 8),
        (("trainer.limit_train_batches=0.5",), 4),
        (("trainer.max_steps=5",), 5),
        (("trainer.max_steps=50",), 8),
        (("trainer.max_steps=5", "trainer.max_epochs=-1"), 5),
        (("trainer.accumulate_grad_batches=2",), 8),
        (("dataset.train.num_images=18",), 8),
        (("++data.overfit=4",), 2),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_the_schedule_knows_how_many_steps_run(fit, words, expected):
    run = fit(*words, "scheduler=poly")
    assert run.trainer.estimated_stepping_batches == run.trainer.global_step == expected
    assert run.trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(0, abs=1e-12)


class Seen(Callback):
    """Writes down which images were trained on and evaluated."""

    def __init__(self):
        self.train, self.val = set(), set()

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.train |= set(batch.names)

    def on_validation_batch_end(self, trainer, pl_module, outputs, batch, batch_idx, dataloader_idx=0):
        self.val |= set(batch.names)


def test_overfit_trains_and_evaluates_on_the_same_few_images(fit, rows):
    seen = Seen()
    run = fit(
        "++data.overfit=4", "augment=none", "trainer.max_epochs=60", "optimizer.lr=0.02", "scheduler=constant",
        "trainer.check_val_every_n_epoch=60", change=lambda run: run.callbacks.append(seen),
    )  # fmt: skip
    assert seen.train == seen.val
    assert len(seen.train) == 4
    logged = rows(run.folder)
    assert float(logged[-1]["train/loss"]) < 0.5 * float(logged[0]["train/loss"])


def test_limits_of_an_evaluation_and_how_often(fit):
    seen = Seen()
    fit("trainer.limit_val_batches=2", change=lambda run: run.callbacks.append(seen))
    assert len(seen.val) == 2


def test_evaluates_every_nth_epoch(fit, rows):
    run = fit("trainer.check_val_every_n_epoch=2", "trainer.max_epochs=4")
    assert [row["epoch"] for row in rows(run.folder) if row["val/miou"]] == ["1", "3"]


def trainer(**words):
    return Trainer(run_dir=".", strategy="auto", callbacks=[], loggers=[], **words)


def test_refuses_what_cannot_run():
    with pytest.raises(ValueError, match=r"16-mixed needs a GPU.*bf16-mixed"):
        trainer(accelerator="cpu", precision="16-mixed")
    with pytest.raises(ValueError, match="nothing ends the run"):
        trainer(max_epochs=-1, max_steps=-1)


def test_without_a_limit_the_number_of_steps_is_infinite(assembled):
    run = assembled("trainer.max_epochs=-1", "trainer.max_steps=5")
    run.trainer.step_limit, run.trainer.datamodule = None, run.data
    assert run.trainer.estimated_stepping_batches == math.inf
