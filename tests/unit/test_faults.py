import errno
import json
import signal

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from segframe import faults
from segframe.callbacks.checkpoints import Interrupted
from segframe.contracts import Batch
from segframe.data.reading import SampleError
from segframe.data.samples import EvalSamples
from segframe.nonfinite import NonFiniteLossError


def explain(error):
    return faults.explain(error, 8, 2, "48x48")


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] . DefaultCPUAllocator: can't allocate memory: you tried"),
    ],
    ids=["cuda", "python", "cpu"],
)
def test_out_of_memory_names_batch_crop_and_what_to_change(error):
    told = explain(error)
    parts = ["a batch of 8", "2 micro-batch", "48x48", "trainer.accumulate_grad_batches=4", "trainer.auto_batch"]
    parts += ["task.activation_checkpointing", "trainer.precision", "data.batch_size", "augment.sample.crop_size"]
    for part in parts:
        assert part in told
    assert "\n" not in told


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_told_in_the_writer_s_words(number):
    assert explain(OSError(number, "the checkpoint X could not be written")) == "the checkpoint X could not be written"


def test_a_dead_worker_is_explained():
    error = RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. ")
    assert "a loader process died (DataLoader worker (pid 7) is killed by signal: Killed.)" in explain(error)
    assert "data.num_workers" in explain(error)


def test_errors_of_others_keep_their_traceback():
    with pytest.raises(ValueError, match="invalid literal") as caught:
        int("x")
    assert explain(caught.value) is None
    assert explain(RuntimeError("shapes don't match")) is None


def test_an_error_of_ours_is_its_message():
    from segframe.data.sampler import TrainBatchSampler

    with pytest.raises(ValueError, match="no batch can be filled") as caught:
        TrainBatchSampler(2, 4)
    assert explain(caught.value) == str(caught.value)


class Broken:
    classes, palette = ("a",), ((0, 0, 0),)

    def __len__(self):
        return 1

    def __getitem__(self, index):
        from segframe.data.camvid import CamVid

        return CamVid("/nowhere", "train")[0]

    def name(self, index):
        return "broken"


class Foreign(Dataset):
    def __len__(self):
        return 1

    def __getitem__(self, index):
        return int("x")


@pytest.mark.filterwarnings("ignore:.*use of fork\\(\\) may lead to deadlocks.*:DeprecationWarning")
def test_an_error_in_a_worker_loses_torch_s_traceback_where_it_is_ours():
    for num_workers in (0, 1):
        with pytest.raises(SampleError) as caught:
            list(DataLoader(EvalSamples(Broken()), num_workers=num_workers))
        assert ("Original Traceback" in str(caught.value)) == bool(num_workers)
        told = explain(caught.value)
        assert told.startswith("Broken: sample 0 (broken) could not be read: FileNotFoundError: CamVid")
        assert "/nowhere" in told
        assert "Traceback" not in told
    with pytest.raises(ValueError, match="Original Traceback") as caught:
        list(DataLoader(Foreign(), num_workers=1))
    assert explain(caught.value) is None


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Interrupted(signal.SIGTERM), 143),
        (Interrupted(signal.SIGINT), 130),
        (KeyboardInterrupt(), 130),
        (ValueError("x"), 1),
        (MemoryError(), 1),
    ],
    ids=repr,
)
def test_exit_codes_tell_signals_from_errors(error, code):
    assert faults.exit_code(error) == code


def test_the_state_of_a_step_can_be_read_without_running_code(tmp_path):
    batch = Batch(torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.ones(2, 4, 4), ["a.png", "b.png"], torch.arange(2))
    said = faults.save_state(tmp_path, batch, 7, {"w": torch.ones(3)}, rank=1)
    (path,) = (tmp_path / "checkpoints").iterdir()
    assert said == f"The batch and the weights are in {path}."
    state = torch.load(path, weights_only=True)
    assert (state["step"], state["names"]) == (7, ["a.png", "b.png"])
    assert torch.equal(state["state_dict"]["w"], torch.ones(3))
    assert "the weights are in rank 0's file" in faults.save_state(tmp_path, batch, 7, {}, rank=2)
    assert explain(NonFiniteLossError("the loss of step 7 is nan", batch, 7)) == "the loss of step 7 is nan"


def test_how_a_run_ended_is_on_record(tmp_path):
    speed = {"seconds_per_step": 0.5, "images_per_s": 2.0, "peak_memory_gib": 1.0}
    faults.record(tmp_path, {"seed": 0}, speed, "failed", ValueError("of this"))
    results = json.loads((tmp_path / "results.json").read_text())
    assert (results["status"], results["error"]) == ("failed", "ValueError: of this")
    assert results["seconds_per_step"] == 0.5
    assert "of this" in (tmp_path / "error.txt").read_text()


def test_a_rank_that_is_gone_without_a_word_is_told_by_its_address():
    error = RuntimeError("[x/pair.cc:545] Read error [10.77.0.2]:63106: Connection reset by peer. This is typically")
    told = faults.explain(error, 4, 1, "48x48")
    assert "another rank on 10.77.0.2 is gone without a word" in told
    assert "pair.cc" not in told


def test_both_of_gloos_words_for_a_rank_that_hangs_are_told_alike():
    for said, waited in (
        ("Timed out waiting 8000ms for recv", "8 s"),
        ("Application timeout caused pair closure", "str"),
    ):
        told = faults.explain(RuntimeError(said), 4, 1, "48x48")
        assert told.startswith(f"waited {waited}")
        assert "for the other ranks" in told


def test_an_output_that_nobody_reads_any_more_is_told_without_a_traceback():
    assert "has closed it" in explain(BrokenPipeError(errno.EPIPE, "Broken pipe"))
    error = SystemExit(1)
    error.__context__ = BrokenPipeError()  # as rich ends a program
    assert "has closed it" in explain(error)
