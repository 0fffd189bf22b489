import os
import signal
import threading
import time

import pytest
import torch
from pytorch_lightning.callbacks import Callback

from segframe.callbacks.checkpoints import Checkpoints, Interrupted
from segframe.checkpoint_io import is_intact
from segframe.faults import own_error


def step_of(path):
    return torch.load(path, weights_only=True)["global_step"]


class At(Callback):
    """Does something once, at the end of a step or of an evaluation batch."""

    def __init__(self, step, action, hook="train"):
        self.step, self.action, self.hook = step, action, hook

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self._act("train", trainer)

    def on_validation_batch_start(self, trainer, pl_module, batch, batch_idx, dataloader_idx=0):
        self._act("val", trainer)

    def _act(self, hook, trainer):
        if hook == self.hook and trainer.global_step == self.step and self.action is not None:
            action, self.action = self.action, None
            action(trainer)


def at(step, action, hook="train"):
    return lambda run: run.callbacks.insert(0, At(step, action, hook))


def kill(number):
    return lambda trainer: os.kill(os.getpid(), number)


def test_last_previous_and_best_are_what_their_names_say(fit, rows):
    run = fit("trainer.max_epochs=4", "optimizer.lr=0.05")
    folder = run.folder / "checkpoints"
    assert sorted(path.name for path in folder.iterdir()) == ["best.ckpt", "last.ckpt", "previous.ckpt"]
    assert all(map(is_intact, folder.iterdir()))
    scores = {int(row["step"]): float(row["val/miou"]) for row in rows(run.folder) if row["val/miou"]}
    assert step_of(folder / "last.ckpt") == 16
    assert step_of(folder / "previous.ckpt") == 12
    assert step_of(folder / "best.ckpt") == max(scores, key=scores.get)


def test_the_worst_by_name_is_the_best_by_mode(fit, rows):
    run = fit("callbacks.checkpoints.monitor=val/loss", "callbacks.checkpoints.mode=min", "trainer.max_epochs=3")
    scores = {int(row["step"]): float(row["val/loss"]) for row in rows(run.folder) if row["val/loss"]}
    assert step_of(run.folder / "checkpoints/best.ckpt") == min(scores, key=scores.get)


@pytest.mark.parametrize("words", [["every_n_steps=3"], ["every_minutes=0"]], ids=str)
def test_checkpoints_within_an_epoch(fit, words):
    found = []
    run = fit(
        *(f"callbacks.checkpoints.{word}" for word in words), "trainer.max_epochs=1",
        change=at(4, lambda trainer: found.append(step_of(Checkpoints.folder(trainer) / "last.ckpt"))),
    )  # fmt: skip
    assert found == [3]
    assert step_of(run.folder / "checkpoints/last.ckpt") == 4


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize(
    ("step", "hook", "kept"), [(2, "train", 2), (4, "train", None), (8, "val", 4), (8, "train", 4)]
)
def test_a_signal_ends_the_run_with_a_checkpoint_of_the_step(fit, number, step, hook, kept):
    handlers = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    folders = []

    def change(run):
        folders.append(run.folder / "checkpoints/last.ckpt")
        at(step, kill(number), hook)(run)

    with pytest.raises(Interrupted) as caught:
        fit(change=change)
    assert caught.value.number == number
    assert (step_of(folders[0]) if folders[0].exists() else None) == kept
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == handlers


def test_a_second_ctrl_c_ends_at_once(fit):
    def twice(trainer):
        kill(signal.SIGINT)(trainer)
        time.sleep(0.55)
        kill(signal.SIGINT)(trainer)

    with pytest.raises(SystemExit) as caught:
        fit(change=at(2, twice))
    assert isinstance(own_error(caught.value), KeyboardInterrupt)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_one_ctrl_c_that_comes_twice_still_writes_a_checkpoint(fit):
    folders = []

    def change(run):
        folders.append(run.folder)
        at(2, lambda trainer: [kill(signal.SIGINT)(trainer) for _ in range(3)])(run)

    with pytest.raises(Interrupted):
        fit(change=change)
    assert step_of(folders[0] / "checkpoints/last.ckpt") == 2


def test_a_run_of_another_thread_trains_too(fit):
    errors = []

    def train():
        try:
            fit("trainer.max_epochs=1")
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=train)
    thread.start()
    thread.join()
    assert errors == []
