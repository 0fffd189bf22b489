import pytest
import torch

from segframe.callbacks.auto_batch import is_out_of_memory

WORDS = (
    "trainer.auto_batch=true", "trainer.max_epochs=1", "trainer.precision=64-true", "data.batch_size=8",
    "optimizer=sgd", "scheduler=constant",
)  # fmt: skip


def holds(images):
    """Makes the net behave as on a device that holds so many images."""

    def change(run):
        def check(module, inputs):
            if len(inputs[0]) > images:
                raise torch.OutOfMemoryError("out of memory")

        run.task.net.register_forward_pre_hook(check)

    return change


@pytest.mark.parametrize(("images", "parts"), [(8, 1), (7, 2), (3, 4), (1, 8)])
def test_finds_micro_batches_that_fit_and_keeps_the_numbers(fit, rows, capsys, images, parts):
    run = fit(*WORDS, change=holds(images))
    assert run.trainer.num_micro_batches == parts
    assert f"8 images per rank run as {parts} micro-batch(es) of {8 // parts}" in capsys.readouterr().err
    plain = fit("trainer.auto_batch=false", *WORDS[1:])
    losses = [[float(row["train/loss"]) for row in rows(r.folder)] for r in (run, plain)]
    assert len(losses[0]) == 2
    assert losses[0] == pytest.approx(losses[1], rel=1e-12)
    for mine, other in zip(run.task.net.parameters(), plain.task.net.parameters(), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-12, atol=1e-14)


def test_says_so_when_not_even_one_image_fits(fit):
    with pytest.raises(MemoryError, match=r"not even 1 image\(s\) of \(48, 48\) fit.*crop_size"):
        fit(*WORDS, change=holds(0))


def test_other_errors_come_out(fit):
    def change(run):
        def fail(module, inputs):
            raise RuntimeError("shapes don't match")

        run.task.net.register_forward_pre_hook(fail)

    with pytest.raises(RuntimeError, match="shapes don't match"):
        fit(*WORDS, change=change)


def test_looking_for_a_batch_leaves_batchnorm_and_dropout_as_they_were(fit):
    words = ("model=unet", "model.encoder=resnet18", "trainer.max_steps=2", "data.batch_size=4")
    tried, plain = fit(*words, "trainer.auto_batch=true"), fit(*words)
    ends = [run.task.net.state_dict() for run in (tried, plain)]
    assert any("running_mean" in name for name in ends[0])
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


def test_tells_memory_from_other_errors():
    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory"))
    assert not is_out_of_memory(RuntimeError("shapes don't match"))
    assert not is_out_of_memory(ValueError("out of memory"))
