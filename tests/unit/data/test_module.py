import numpy as np
import pytest
import pytorch_lightning as pl
import torch

from segframe.contracts import Span
from segframe.data.augment import Augment
from segframe.data.imbalance import RareClass, RepeatFactor
from segframe.data.mix import ClassMix
from segframe.data.module import DataModule
from segframe.parallel.single import Single

NUM_BATCHES, NUM_EPOCHS = 4, 3

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers.*"),
    pytest.mark.filterwarnings("ignore:.*smaller than the logging interval.*"),
    pytest.mark.filterwarnings("ignore:.*your dataloader is not resumable.*"),
    pytest.mark.filterwarnings("ignore:.*treespec, LeafSpec.*"),
    pytest.mark.filterwarnings("ignore:.*GPU available but not used.*"),
    pytest.mark.filterwarnings("ignore:.*use of fork\\(\\) may lead to deadlocks.*:DeprecationWarning"),
]


class Numbers:
    """Images that tell their index and each of their pixels apart."""

    classes = ("even", "odd")
    palette = ((0, 0, 0), (255, 255, 255))

    def __init__(self, count=18):
        self.count = count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        image = torch.arange(12 * 12 * 3).view(12, 12, 3).add(index).remainder(256).to(torch.uint8)
        return image.permute(2, 0, 1), torch.full((12, 12), index % 2, dtype=torch.uint8)

    def name(self, index):
        return f"number-{index}"


class Recorder(pl.LightningModule):
    """Writes down what it is given, and saves a checkpoint whenever the test asks for one."""

    def __init__(self, folder=None):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.folder, self.seen, self.saved = folder, [], {}

    def save(self, moment):
        if self.folder is not None:
            path = self.folder / f"{moment}-{len(self.seen)}.ckpt"
            self.trainer.save_checkpoint(path)
            self.saved[moment, len(self.seen)] = path

    def training_step(self, batch, batch_idx):
        content = batch.image.long().flatten(1).mul(torch.arange(1, batch.image[0].numel() + 1)).sum(1)
        self.seen.append((self.current_epoch, batch_idx, batch.indices.tolist(), content.tolist()))
        return self.weight * 0

    def validation_step(self, batch, batch_idx):
        pass

    def on_train_batch_end(self, *_):
        self.save("batch")

    def on_validation_end(self):
        self.save("validation")

    def on_train_epoch_end(self):
        self.save("epoch")

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Batches(Recorder):
    """Keeps what it is given."""

    def __init__(self):
        super().__init__()
        self.kept = []

    def training_step(self, batch, batch_idx):
        self.kept.append(batch)
        return super().training_step(batch, batch_idx)

    def validation_step(self, batch, batch_idx):
        self.kept.append(batch)


def data(num_workers=0, **options):
    augment = Augment((8, 8), (0.8, 1.3), seed=7)
    options = {"batch_size": 4, "val_batch_size": 3, "seed": 7} | options
    return DataModule(Numbers(), Numbers(5), augment, num_workers=num_workers, **options)


def fit(module, datamodule, checkpoint=None, **options):
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=NUM_EPOCHS,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        **options,
    )
    trainer.fit(module, datamodule=datamodule, ckpt_path=checkpoint, weights_only=True)
    return module.seen


@pytest.mark.parametrize(
    "options",
    [{}, {"val_check_interval": 2}, {"limit_train_batches": 3}, {"check_val_every_n_epoch": 2}],
    ids=str,
)
def test_resumes_with_exactly_the_remaining_samples(tmp_path, options):
    undisturbed = Recorder(tmp_path)
    expected = fit(undisturbed, data(), **options)
    num_batches = options.get("limit_train_batches", NUM_BATCHES)
    assert [(epoch, batch) for epoch, batch, *_ in expected] == [
        (epoch, batch) for epoch in range(NUM_EPOCHS) for batch in range(num_batches)
    ]
    assert len({tuple(content) for *_, content in expected}) == len(expected)
    assert len(undisturbed.saved) > len(expected)
    for (_, done), path in undisturbed.saved.items():
        assert fit(Recorder(), data(), path, **options) == expected[done:], path


def all_on(sampling=RareClass, **options):
    """A run with every source of randomness: what an epoch draws, how, and what is mixed in."""
    module = data(**options, mix=ClassMix(0.7, seed=7))
    module.augment = Augment((8, 8), (0.8, 1.3), rotate=20.0, blur=0.5, seed=7)
    module.sampling = sampling(18, lambda: np.array([[144, 0], [0, 36]] * 9))
    return module


@pytest.mark.parametrize("sampling", [RareClass, RepeatFactor])
def test_resumes_in_mid_epoch_with_everything_on(tmp_path, sampling):
    undisturbed = Recorder(tmp_path)
    expected = fit(undisturbed, all_on(sampling))
    assert [row[2] for row in expected] != [row[2] for row in fit(Recorder(), data())]
    for done in (1, 6, 8, 11):
        assert fit(Recorder(), all_on(sampling), undisturbed.saved["batch", done]) == expected[done:]
    assert fit(Recorder(), all_on(sampling, num_workers=2), undisturbed.saved["batch", 6]) == expected[6:]


def test_refuses_to_resume_with_another_sampling(tmp_path):
    undisturbed = Recorder(tmp_path)
    fit(undisturbed, all_on())
    with pytest.raises(ValueError, match=r"sampling was rare_class .temperature=0.01.* and is uniform.*init_from=RUN"):
        fit(Recorder(), data(), undisturbed.saved["batch", 2])
    with pytest.raises(ValueError, match=r"sampling was rare_class .* and is repeat_factor .threshold=0.1"):
        fit(Recorder(), all_on(RepeatFactor), undisturbed.saved["batch", 2])


def test_resumes_checkpoints_that_know_of_no_sampling(tmp_path):
    undisturbed = Recorder(tmp_path)
    expected = fit(undisturbed, data())
    path = undisturbed.saved["batch", 2]
    checkpoint = torch.load(path, weights_only=True)
    del checkpoint["DataModule"]["sampling"]
    torch.save(checkpoint, path)
    assert fit(Recorder(), data(), path) == expected[2:]
    with pytest.raises(ValueError, match=r"sampling was uniform and is rare_class"):
        fit(Recorder(), all_on(), path)


@pytest.mark.parametrize("done", [2, 4, 5])
def test_resumes_with_workers(tmp_path, done):
    undisturbed = Recorder(tmp_path)
    expected = fit(undisturbed, data())
    assert fit(Recorder(), data(num_workers=2), undisturbed.saved["batch", done]) == expected[done:]


def test_resumes_after_an_error_in_the_middle_of_a_batch(tmp_path):
    class Failing(Recorder):
        def training_step(self, batch, batch_idx):
            if len(self.seen) == 6:
                raise InterruptedError
            return super().training_step(batch, batch_idx)

        def on_exception(self, *_):
            raise AssertionError

    class SaveOnError(pl.Callback):
        def on_exception(self, trainer, module, error):
            trainer.save_checkpoint(tmp_path / "error.ckpt")

    expected = fit(Recorder(), data())
    failing = Failing()
    with pytest.raises(InterruptedError):
        fit(failing, data(), callbacks=[SaveOnError()])
    assert failing.seen == expected[:6]
    assert fit(Recorder(), data(), tmp_path / "error.ckpt") == expected[6:]


def test_number_of_workers_changes_nothing():
    assert fit(Recorder(), data(num_workers=2)) == fit(Recorder(), data())


def test_loaders_leave_the_global_random_state_alone():
    state = torch.get_rng_state()
    module = data()
    assert len(list(module.train_dataloader())) == NUM_BATCHES
    assert len(list(module.val_dataloader())) == 2
    assert torch.equal(state, torch.get_rng_state())


def test_overfit_trains_and_evaluates_on_the_same_few_samples():
    module = data(overfit=4)
    trained = [index for batch in module.train_dataloader() for index in batch.indices.tolist()]
    evaluated = [index for batch in module.val_dataloader() for index in batch.indices.tolist()]
    assert sorted(trained) == evaluated == [0, 1, 2, 3]
    with pytest.raises(ValueError, match=r"data.overfit=19 but the training set has 18"):
        data(overfit=19)


def test_refuses_to_resume_with_other_batches(tmp_path):
    undisturbed = Recorder(tmp_path)
    fit(undisturbed, data())
    with pytest.raises(ValueError, match=r"batch_size was 4 and is 2.*init_from=RUN"):
        fit(Recorder(), data(batch_size=2), undisturbed.saved["batch", 2])


def test_batches_hold_uint8_in_the_memory_order_of_decoders():
    batch = next(iter(data().train_dataloader()))
    assert batch.image.dtype == batch.mask.dtype == torch.uint8
    assert batch.image.shape == (4, 3, 8, 8)
    assert batch.image.is_contiguous(memory_format=torch.channels_last)
    assert batch.names == [f"number-{index}" for index in batch.indices.tolist()]


class Middle(Single):
    """One process that holds the rows of one of three."""

    row_part = (1, 3)


def test_a_rank_that_holds_rows_loads_them_alone():
    def fitted(num_workers, **options):
        module = data(num_workers=num_workers)
        fit(recorder := Batches(), module, max_steps=2, limit_val_batches=2, val_check_interval=1, **options)
        return recorder.kept

    whole, part = fitted(0), fitted(2, strategy=Middle("cpu"))
    assert {batch.span for batch in whole} == {None}
    assert {batch.span for batch in part} == {Span(2, 5, 8), Span(4, 8, 12)}
    assert len(part) == len(whole)
    for batch, expected in zip(part, whole, strict=True):
        rows = slice(batch.span.start, batch.span.stop)
        assert torch.equal(batch.image, expected.image[:, :, rows])
        assert torch.equal(batch.mask, expected.mask[:, rows])
        assert (batch.names, batch.indices.tolist()) == (expected.names, expected.indices.tolist())
