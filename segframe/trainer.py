"""Lightning's Trainer, set up so that a step costs little more than the net, and checked before it starts."""

from __future__ import annotations

import logging
import math
import warnings
from pathlib import Path
from typing import Annotated, Any, Literal

import pytorch_lightning as pl
import torch
from annotated_types import MinLen
from pytorch_lightning.callbacks import Callback, Checkpoint
from pytorch_lightning.loggers import Logger
from pytorch_lightning.profilers import Profiler, PyTorchProfiler, SimpleProfiler
from pytorch_lightning.strategies import Strategy

from segframe.allocator import keep_freed_memory
from segframe.callbacks.auto_batch import AutoBatch
from segframe.callbacks.end_of_run import EndOfRun
from segframe.checkpoint_io import AtomicCheckpointIO
from segframe.ranges import Fraction, NonNegative, NonNegativeInt, PositiveInt

Precision = Literal["32-true", "16-mixed", "bf16-mixed", "64-true", "bf16-true"]

# Each is advice of Lightning's that segframe has its own answer to.
_ANSWERED_WARNINGS = (
    r".*does not have many workers.*",  # data.num_workers is a key of ours, and data stall is measured
    r".*is smaller than the logging interval.*",  # the last step of an epoch is always logged
    r".*ended before the epoch ended and your dataloader is not resumable.*",  # the sampler resumes exactly
    r".*Checkpoint directory .* exists and is not empty.*",
    r".*GPU available but not used.*",
    r".*The `srun` command is available on your system but is not used.*",  # segframe starts processes itself
    r".*Found \d+ module\(s\) in eval mode at the start of training.*",  # frozen BatchNorm is asked for
    r".*`broadcast_buffers` is deprecated.*",  # the name in every torch from 2.11
    r".*find_unused_parameters=True was specified in DDP constructor, but did not find.*",  # it varies
    r".*``compute`` method of metric ConfusionMatrix was called before.*",  # a rank may see no prediction
    r".*isinstance\(treespec, LeafSpec\).*",  # Lightning 2.6 beside torch 2.11 and later
)


class Trainer(pl.Trainer):
    """The Trainer with segframe's own samplers, checkpoints, progress bar and accumulation.

    Args:
        run_dir: The folder that the run writes to.
        strategy: What is split over which devices: a strategy, or ``"auto"``.
        callbacks: In the order in which they are called.
        loggers: Where metrics go.
        accelerator: The kind of device.
        devices: How many of them, or ``"auto"``.
        num_nodes: Machines.
        precision: Number format of parameters (``true``) or of the arithmetic (``mixed``).
        max_epochs: Passes over the training set; -1 for no limit.
        max_steps: Optimizer steps; -1 for no limit.
        accumulate_grad_batches: Micro-batches that a rank's share of the global batch is cut into.
        gradient_clip_val: Largest gradient norm or value; None does not clip.
        gradient_clip_algorithm: What ``gradient_clip_val`` limits.
        log_every_n_steps: Steps per logged row.
        check_val_every_n_epoch: Epochs per evaluation.
        limit_train_batches: Batches per training epoch: a count, or a share of all.
        limit_val_batches: Batches per evaluation: a count, or a share of all.
        profiler: A table of where the time went, at the end.
        deterministic: Whether only deterministic algorithms are used.
        benchmark: Whether cuDNN picks its algorithms by timing them.
        auto_batch: Whether the batch is cut into micro-batches that fit the memory, before training.

    Raises:
        ValueError: If the precision cannot run on the accelerator, or neither limit ends the run.
    """

    def __init__(
        self,
        *,
        run_dir: str,
        strategy: Strategy | str,
        callbacks: list[Callback],
        loggers: list[Logger],
        accelerator: Literal["auto", "cpu", "gpu", "cuda", "mps", "tpu"] = "auto",
        devices: PositiveInt | Literal["auto"] | Annotated[list[NonNegativeInt], MinLen(1)] = "auto",
        num_nodes: PositiveInt = 1,
        precision: Precision = "32-true",
        max_epochs: PositiveInt | Literal[-1] = 8,
        max_steps: PositiveInt | Literal[-1] = -1,
        accumulate_grad_batches: PositiveInt = 1,
        gradient_clip_val: NonNegative | None = None,
        gradient_clip_algorithm: Literal["norm", "value"] = "norm",
        log_every_n_steps: PositiveInt = 10,
        check_val_every_n_epoch: PositiveInt = 1,
        limit_train_batches: PositiveInt | Fraction = 1.0,
        limit_val_batches: NonNegativeInt | Fraction = 1.0,
        profiler: Literal["simple", "pytorch"] | None = None,
        deterministic: bool = False,
        benchmark: bool = False,
        auto_batch: bool = False,
    ) -> None:
        if max_epochs == -1 and max_steps == -1:
            raise ValueError("trainer.max_epochs=-1 and trainer.max_steps=-1: nothing ends the run; set one of them.")
        _check_precision(precision, accelerator)
        if _is_on_cpu(accelerator):
            keep_freed_memory()
        self.num_micro_batches = accumulate_grad_batches
        self.step_limit = None if max_steps == -1 else max_steps
        self.val_limit = limit_val_batches  # of all ranks together, so the data module applies it
        _quieten()
        super().__init__(
            strategy=strategy,
            callbacks=[*([AutoBatch()] if auto_batch else []), *callbacks, EndOfRun()],
            logger=loggers,
            accelerator="auto" if getattr(strategy, "_accelerator", None) else accelerator,  # some bring their own
            devices=devices,
            num_nodes=num_nodes,
            precision=precision,
            max_epochs=max_epochs,
            max_steps=-1,
            gradient_clip_val=gradient_clip_val,
            gradient_clip_algorithm=gradient_clip_algorithm,
            log_every_n_steps=log_every_n_steps,
            check_val_every_n_epoch=check_val_every_n_epoch,
            limit_train_batches=limit_train_batches,
            limit_val_batches=1.0 if limit_val_batches else 0,
            profiler=_profiler(profiler, Path(run_dir)),
            deterministic=deterministic,
            benchmark=benchmark,
            plugins=[AtomicCheckpointIO()],
            default_root_dir=run_dir,
            use_distributed_sampler=False,
            inference_mode=False,  # tensors that a sharded net gathers for an evaluation are used in training too
            num_sanity_val_steps=0,
            enable_checkpointing=any(isinstance(callback, Checkpoint) for callback in callbacks),
            enable_progress_bar=False,
            enable_model_summary=False,
        )

    @property
    def estimated_stepping_batches(self) -> int | float:
        """Optimizer steps of the whole run; infinite without ``max_epochs`` and ``max_steps``.

        Lightning's own count makes the training iterator, before a resumed run knows its place in the epoch.
        """
        data: Any = getattr(self, "datamodule")  # noqa: B009 - Lightning defines it where mypy can't see it
        limit, batches = self.limit_train_batches, data.num_train // data.batch_size
        batches = min(batches, limit) if isinstance(limit, int) else int(batches * limit)
        assert self.max_epochs is not None
        steps = math.inf if self.max_epochs == -1 else batches * self.max_epochs
        return steps if self.step_limit is None else min(steps, self.step_limit)


def _profiler(name: str | None, folder: Path) -> Profiler | None:
    if name == "simple":
        return SimpleProfiler(dirpath=folder, filename="profile")
    if name == "pytorch":
        return PyTorchProfiler(dirpath=folder, filename="profile")
    return None


def _is_on_cpu(accelerator: str) -> bool:
    return accelerator == "cpu" or (accelerator == "auto" and not torch.accelerator.is_available())


def _check_precision(precision: str, accelerator: str) -> None:
    if precision == "16-mixed" and _is_on_cpu(accelerator):
        raise ValueError(
            "trainer.precision=16-mixed needs a GPU and this run is on the CPU; "
            "use bf16-mixed, which has the same memory use and needs no loss scaling, or 32-true."
        )


def _quieten() -> None:
    """Silences Lightning's greetings and the warnings that segframe answers itself."""
    for name in ("pytorch_lightning", "lightning.pytorch", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in _ANSWERED_WARNINGS:
        warnings.filterwarnings("ignore", message=message)
