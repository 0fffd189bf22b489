"""From a composed configuration to running objects; the only module that instantiates."""

from __future__ import annotations

import copy
import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from segframe import runfolder
from segframe.config.compose import resolved
from segframe.ranks import place

if TYPE_CHECKING:
    import pytorch_lightning as pl

    from segframe.contracts import SegmentationDataset
    from segframe.data.device import Preprocess
    from segframe.data.module import DataModule
    from segframe.data.sampler import Sampling
    from segframe.data.samples import TrainSamples
    from segframe.task import SegmentationTask
    from segframe.trainer import Trainer

MEDIAN_FREQUENCY = "median_frequency"


@dataclass
class Run:
    """The objects of a run.

    Attributes:
        folder: Where it writes.
        values: The resolved configuration.
        task: The LightningModule.
        data: The LightningDataModule.
        trainer: The Trainer.
    """

    folder: Path
    values: dict[str, Any]
    task: SegmentationTask
    data: DataModule
    trainer: Trainer

    @property
    def callbacks(self) -> list[pl.Callback]:
        """The trainer's callbacks."""
        found: list[pl.Callback] = getattr(self.trainer, "callbacks")  # noqa: B009 - hidden from mypy by Lightning
        return found


def assemble(
    config: DictConfig, folder: Path, checkpoint: str | None, training: bool = True, words: Sequence[str] = ()
) -> Run:
    """Returns the objects that a configuration describes.

    Args:
        config: The composed configuration.
        folder: The run folder.
        checkpoint: The file that training goes on from.
        training: Whether the run will train; an evaluation writes no metrics and no checkpoints.
        words: What the configuration was composed from, for advice.

    Raises:
        ValueError: If values of different groups don't fit each other, or the data can't be trained on.
    """
    import pytorch_lightning as pl

    from segframe import rendezvous, spans

    config = copy.deepcopy(config)
    values = resolved(config)
    spans.check_ranks(values)
    if training:
        spans.check_batch(values)  # an evaluation splits images one by one
    pl.seed_everything(values["seed"], verbose=False)
    # Before the net: XLA wants to be there before anything is differentiated, and what a strategy refuses ends here.
    strategy = _make(config.strategy)
    with rendezvous.rank_0_first("a look at the data") as is_first:
        data = _make_data(config, values, training, words)
        may_reuse = checkpoint is not None or not training or not is_first
        _fill_class_weights(config, folder, data, may_reuse)
    task = _make_task(config, values, data, training and checkpoint is None)
    if training:
        spans.check_normalisation(task.net, values)
    trainer: Any = _make(
        config.trainer,
        run_dir=str(folder),
        strategy=strategy,
        callbacks=_callbacks(config) if training else [],
        loggers=_loggers(config, folder, checkpoint) if training else [],
        **_devices(values["trainer"]),
    )
    with rendezvous.rank_0_first("the cache", on_each_node=True):
        _read_from_cache(data, values["dataset"], training)
    return Run(folder, values, task, data, trainer)


def _make_task(config: DictConfig, values: dict[str, Any], data: DataModule, is_new: bool) -> SegmentationTask:
    """Returns the task of a run, its net with the weights that a new run begins with."""
    from segframe.checkpoint import initialise_from

    task: SegmentationTask = _make(
        config.task,
        net=_make(config.model),
        loss=_make(config.loss),
        optimizer=_make(config.optimizer),
        scheduler=_make(config.scheduler),
        preprocess=_make(config.augment.batch),
        classes=list(data.val.classes),
        palette=list(data.val.palette),
        seed=values["seed"],
    )
    if is_new and values["init_from"]:
        initialise_from(task.net, values["init_from"])
    return task


def _devices(trainer: dict[str, Any]) -> dict[str, Any]:
    """Returns what is to be said of devices where others than the configuration decide: torchrun or srun."""
    here = place()
    if here.world_size == 1:
        return {}
    devices = trainer["devices"]
    nodes = -(-here.world_size // here.local_world_size)
    return {"devices": devices if isinstance(devices, list) else here.local_world_size, "num_nodes": nodes}


def _make_data(config: DictConfig, values: dict[str, Any], training: bool, words: Sequence[str]) -> DataModule:
    """Returns the data of a run, looked at where it will be trained on."""
    from segframe import spans

    data: DataModule = _make(
        config.data,
        train=make_dataset(config, "train"),
        val=make_dataset(config, "val"),
        augment=_make(config.augment.sample),
        mix=_make(config.mix) if config.mix else None,
    )
    spans.check_classes(values["dataset"], (data.train, data.val))
    if training and runfolder.is_main_process():
        _check_data(values, data, words)
    if training:
        data.sampling = make_sampling(config, data.train, data.num_train, data.num_workers)
    return data


def make_dataset(config: DictConfig, split: str) -> SegmentationDataset:
    """Returns a data set that a configuration describes.

    Args:
        config: The composed configuration.
        split: ``train`` or ``val``.
    """
    dataset: SegmentationDataset = _make(config.dataset[split])
    return dataset


def make_train_samples(config: DictConfig, train: SegmentationDataset) -> TrainSamples:
    """Returns a training set with the augmentation and mixing that a configuration describes.

    Args:
        config: The composed configuration.
        train: The pairs.
    """
    from segframe.data.samples import TrainSamples

    return TrainSamples(train, _make(config.augment.sample), _make(config.mix) if config.mix else None)


def make_sampling(config: DictConfig, train: SegmentationDataset, num_train: int, num_workers: int) -> Sampling:
    """Returns what decides how often which samples come, for which the masks may have to be counted.

    Args:
        config: The composed configuration.
        train: The pairs.
        num_train: How many of them are trained on, from the first.
        num_workers: Processes that count.
    """
    from segframe.data.statistics import class_counts

    def counts() -> Any:
        return class_counts(train, resolved(config)["dataset"]["train"], num_workers)[:num_train]

    sampling: Sampling = _make(config.sampling)(num_train, counts)
    return sampling


def make_preprocess(config: DictConfig) -> Preprocess:
    """Returns what a configuration does to batches on their device."""
    preprocess: Preprocess = _make(config.augment.batch)
    return preprocess


def _read_from_cache(data: DataModule, dataset: dict[str, Any], training: bool) -> None:
    """Puts what dataset.cache asks for before the data sets; last, since decoding may take minutes."""
    from segframe.data.cache import cached

    val_split = "train" if data.val is data.train else "val"
    pairs = [(data.val, dataset[val_split])]
    if training and val_split == "val":
        pairs.append((data.train, dataset["train"]))
    made = cached(pairs, dataset["cache"], dataset["cache_dir"])
    data.val = made[0]
    if training:
        data.train = made[-1]


def _make(node: DictConfig, **extra: Any) -> Any:
    """Instantiates a node; an error of a constructor comes out as itself."""
    from hydra.errors import InstantiationException
    from hydra.utils import instantiate

    try:
        return instantiate(node, **extra, _convert_="all")
    except InstantiationException as error:
        if error.__cause__ is not None:
            raise error.__cause__ from None
        raise


def _callbacks(config: DictConfig) -> list[pl.Callback]:
    made = (_make(node) for node in config.callbacks.values() if node is not None)
    return [callback for callback in made if callback is not None]


def _loggers(config: DictConfig, folder: Path, checkpoint: str | None) -> list[Any]:
    from segframe.checkpoint_io import read_checkpoint
    from segframe.loggers.metrics_csv import MetricsCsv

    step = None if checkpoint is None else int(read_checkpoint(Path(checkpoint))["global_step"])
    loggers: list[Any] = [MetricsCsv(folder / "metrics.csv", resume_step=step)]
    if config.logger:
        loggers.append(_make(config.logger))
        loggers[-1].log_hyperparams(resolved(config))
    return loggers


def _check_data(values: dict[str, Any], data: DataModule, words: Sequence[str]) -> None:
    """Looks at the data before a net is made for it."""
    from segframe import spans
    from segframe.data.verified import Checked, verify

    splits = [Checked("train", data.train, values["dataset"]["train"], data.num_train)]
    if data.val is not data.train:
        splits.append(Checked("val", data.val, values["dataset"]["val"], data.num_val))
    about_data = ("dataset", "experiment", "--config-dir")
    kept = [word for word in words if word.split("=")[0].lstrip("+").split(".")[0] in about_data]
    advice = f"See everything: {runfolder.command()} data check {shlex.join(kept)}".strip()
    verify(splits, values["check"], spans.data_use(values), values["data"]["num_workers"], advice)


def _fill_class_weights(config: DictConfig, folder: Path, data: DataModule, may_reuse: bool) -> None:
    """Replaces the word for computed class weights by numbers, counted once per run folder."""
    nodes = list(_nodes_with_median_frequency(config.loss))
    if not nodes:
        return
    from segframe.data.statistics import ClassStatistics, class_counts
    from segframe.losses.balance import median_frequency_weights

    path = folder / "class_weights.json"
    if may_reuse and path.exists():
        weights = json.loads(path.read_text(encoding="utf-8"))
    else:
        values = resolved(config)
        counts = class_counts(data.train, values["dataset"]["train"], values["data"]["num_workers"])
        weights = [float(w) for w in median_frequency_weights(*ClassStatistics.of(counts))]
        folder.mkdir(parents=True, exist_ok=True)
        runfolder.write_json(path, weights)
    for node in nodes:
        node.class_weights = weights


def _nodes_with_median_frequency(node: Any) -> Any:
    if not OmegaConf.is_dict(node):
        return
    if node.get("class_weights") == MEDIAN_FREQUENCY:
        yield node
    for key in node:
        yield from _nodes_with_median_frequency(node[key])
