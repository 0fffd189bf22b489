"""The loaders of a run: exact position after a resume, the same batches whatever the ranks and workers."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.trainer.states import TrainerFn
from torch.utils.data import DataLoader

from segframe.contracts import Batch, SegmentationDataset
from segframe.data.augment import Augment
from segframe.data.cache import CachedDataset
from segframe.data.loader import Position, TrainLoader
from segframe.data.mix import Mix
from segframe.data.sampler import EvalBatchSampler, Sampling, TrainBatchSampler, Uniform
from segframe.data.samples import EvalSamples, Sample, TrainSamples, collate_eval, collate_train, set_up_worker
from segframe.ranges import NonNegativeInt, PositiveInt


class DataModule(pl.LightningDataModule):
    """Loads batches of augmented training samples and of whole evaluation images.

    A batch is decided by (seed, epoch, position), so a resumed run reads exactly the samples that the
    stopped one would have read next, without reading what came before.

    Args:
        train: The training set.
        val: The set that is evaluated.
        augment: Applied to every training sample.
        batch_size: Samples per optimizer step, over all ranks.
        val_batch_size: Images per evaluation batch and rank; more than 1 needs images of one size.
        num_workers: Processes per rank that load training samples, and as many that load evaluation
            images; 0 loads in the training process.
        seed: Decides the order of the samples.
        pin_memory: Whether batches are put into page-locked memory; None does so for CUDA devices.
        overfit: Trains and evaluates on the first so many training samples only, in batches of at most
            so many; 0 uses all.
        mix: Pastes part of another sample into some training samples; None does not.

    Attributes:
        sampling: Which samples make an epoch; each once, unless it is replaced before training starts.

    Raises:
        ValueError: If ``overfit`` asks for more samples than there are, or there are fewer than a batch takes.
    """

    def __init__(
        self,
        train: SegmentationDataset,
        val: SegmentationDataset,
        augment: Augment,
        batch_size: PositiveInt = 8,
        val_batch_size: PositiveInt = 1,
        num_workers: NonNegativeInt = 2,
        seed: NonNegativeInt = 0,
        pin_memory: bool | None = None,
        overfit: NonNegativeInt = 0,
        mix: Mix | None = None,
    ) -> None:
        super().__init__()
        if overfit > len(train):
            raise ValueError(f"data.overfit={overfit} but the training set has {len(train)} samples; lower it.")
        self.train, self.val = train, train if overfit else val
        self.augment, self.mix, self.seed = augment, mix, seed
        batch_size = min(batch_size, overfit) if overfit else batch_size
        self.batch_size, self.val_batch_size = batch_size, val_batch_size
        self.num_workers, self.pin_memory = num_workers, pin_memory
        self.num_train, self.num_val = overfit or len(train), overfit or len(val)
        self.sampling: Sampling = Uniform(self.num_train)
        self._loaders: list[DataLoader[Sample]] = []
        TrainBatchSampler(self.num_train, batch_size)  # a set smaller than a batch ends here, not after the net is made

    def train_dataloader(self) -> TrainLoader:
        """Returns the loader of this rank's parts of the training batches."""
        rank, world_size = self._rank_and_world_size()
        parts = int(getattr(self.trainer, "num_micro_batches", 1))
        sampler = TrainBatchSampler(self.num_train, self.batch_size, rank, world_size, self.seed, self.sampling, parts)
        loader = TrainLoader(
            TrainSamples(self.train, self.augment, self.mix, self.num_train, self._row_part()),
            sampler=sampler,
            position=lambda: self.position(len(sampler)),
            collate_fn=collate_train,
            **self._loader_options(),
        )
        self._loaders.append(loader)
        return loader

    def val_dataloader(self) -> DataLoader[Sample]:
        """Returns the loader of this rank's evaluation images."""
        rank, world_size = self._rank_and_world_size()
        sampler = EvalBatchSampler(self.num_evaluated(), self.val_batch_size, rank, world_size)
        loader = DataLoader(
            EvalSamples(self.val, self._row_part()),
            batch_sampler=sampler,
            collate_fn=collate_eval,
            **self._loader_options(),
        )
        self._loaders.append(loader)
        return loader

    def close(self) -> None:
        """Ends the loader processes, which Python would otherwise end by a signal that they put off, and caches."""
        for loader in self._loaders:
            iterator, loader._iterator = loader._iterator, None
            if iterator is not None and loader.num_workers:
                iterator._shutdown_workers()  # type: ignore[attr-defined]
        self._loaders.clear()
        for dataset in (self.train, self.val):
            if isinstance(dataset, CachedDataset):
                dataset.close()

    def position(self, num_batches: int) -> Position:
        """Returns where the next training pass begins: (epoch, batch).

        Lightning makes the first iterator of a run before it has put its restored counters in order, so
        this reads them as they stand in the checkpoint.

        Args:
            num_batches: Batches of a whole epoch.
        """
        if self.trainer is None:
            return 0, 0
        epochs: Any = self.trainer.fit_loop.epoch_progress.current
        progress: Any = self.trainer.fit_loop.epoch_loop.batch_progress
        # `processed`, since `completed` is one short in a checkpoint taken at the end of a batch.
        batch: int = progress.current.processed
        whole = batch >= num_batches or (progress.is_last_batch and batch >= progress.current.ready)
        if whole and batch > 0:
            return epochs.started, 0
        return epochs.processed, batch

    def state_dict(self) -> dict[str, Any]:
        """Returns what must stay the same for a position to mean the same samples."""
        return {
            "seed": self.seed,
            "batch_size": self.batch_size,
            "num_train": self.num_train,
            "sampling": self.sampling.identity,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Checks that a resumed run's batches are those of the stopped one.

        Raises:
            ValueError: If a training run goes on with another order of samples.
        """
        if self.trainer is None or self.trainer.state.fn != TrainerFn.FITTING:
            return
        saved = {"sampling": Uniform(0).identity} | state_dict  # older checkpoints know of no other
        changed = [f"{k} was {saved[k]} and is {v}" for k, v in self.state_dict().items() if saved[k] != v]
        if changed:
            raise ValueError(
                f"the checkpoint belongs to other batches: {'; '.join(changed)}. A resumed run goes on exactly where "
                "it was stopped: use the same values, or start a new run from its weights with init_from=RUN."
            )

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Moves images and masks; positions stay, since they are read on the CPU."""
        image, mask = (x.to(device, non_blocking=True) for x in (batch.image, batch.mask))
        return batch._replace(image=image, mask=mask)

    def num_evaluated(self) -> int:
        """Returns how many images trainer.limit_val_batches leaves, whatever the number of ranks."""
        limit = getattr(self.trainer, "val_limit", 1.0)
        batches = -(-self.num_val // self.val_batch_size)
        batches = min(batches, limit) if isinstance(limit, int) else max(1, int(batches * limit))
        return min(self.num_val, batches * self.val_batch_size)

    def _rank_and_world_size(self) -> tuple[int, int]:
        strategy: Any = None if self.trainer is None else self.trainer.strategy
        return getattr(strategy, "data_rank", 0), getattr(strategy, "data_size", 1)

    def _row_part(self) -> tuple[int, int]:
        strategy: Any = None if self.trainer is None else self.trainer.strategy
        return getattr(strategy, "row_part", (0, 1))

    def _loader_options(self) -> dict[str, Any]:
        pin = self.pin_memory
        if pin is None:
            pin = self.trainer is not None and self.trainer.strategy.root_device.type == "cuda"
        return {
            "num_workers": self.num_workers,
            "persistent_workers": self.num_workers > 0,
            "worker_init_fn": set_up_worker,
            "pin_memory": pin,
            # Its own generator: a loader draws a seed for its workers, and the net's dropout must not notice.
            "generator": torch.Generator().manual_seed(self.seed),
        }
