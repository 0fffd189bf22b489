import pytest
from pytorch_lightning.callbacks import Callback

from segframe.callbacks.training_log import TrainingLog


class Losses(Callback):
    def __init__(self):
        self.seen = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.seen.append(float(pl_module.step_loss))


def test_rows_are_means_over_their_steps_and_epochs_end_a_row(fit, rows):
    losses = Losses()
    run = fit("trainer.log_every_n_steps=3", change=lambda run: run.callbacks.append(losses))
    logged = rows(run.folder)
    assert [(row["step"], row["epoch"]) for row in logged] == [("3", "0"), ("4", "0"), ("6", "1"), ("8", "1")]
    seen = losses.seen
    means = [sum(seen[:3]) / 3, seen[3], sum(seen[4:6]) / 2, sum(seen[6:]) / 2]
    assert [float(row["train/loss"]) for row in logged] == pytest.approx(means, rel=1e-15)
    assert len(set(means)) == 4


def test_measures_the_speed_and_counts_no_empty_batch(fit, rows):
    run = fit()
    (log,) = [callback for callback in run.callbacks if isinstance(callback, TrainingLog)]
    assert log.images_per_s == pytest.approx(4 / log.seconds_per_step)
    assert log.seconds_per_step > 0
    assert {row["train/empty_batches"] for row in rows(run.folder)} == {"0"}
    assert all(float(row["images_per_s"]) > 0 for row in rows(run.folder))


def test_without_a_step_there_is_no_speed():
    assert TrainingLog().seconds_per_step is None
    assert TrainingLog().images_per_s is None
    assert TrainingLog().data_stall_percent is None
