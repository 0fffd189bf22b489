"""From a composed configuration to running objects; the only module that instantiates."""

from __future__ import annotations

import copy
import json
import os
import sys
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from segframe import runfolder
from segframe.config.compose import RUN_DIR_VARIABLE, ConfigError, resolved

if TYPE_CHECKING:
    import pytorch_lightning as pl

    from segframe.data.module import DataModule
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


def train(config: DictConfig, overrides: list[str]) -> int:
    """Trains what a configuration describes and writes the run folder; returns the exit code.

    Args:
        config: The composed configuration.
        overrides: The words it was composed from.
    """
    values = resolved(config)
    folder = Path(values["run"]["dir"])
    given = os.environ.get(RUN_DIR_VARIABLE)
    os.environ[RUN_DIR_VARIABLE] = str(folder)
    try:
        return _train(config, overrides, values, folder)
    finally:
        # The next run of this process has a folder of its own.
        os.environ.pop(RUN_DIR_VARIABLE) if given is None else os.environ.update({RUN_DIR_VARIABLE: given})


def _train(config: DictConfig, overrides: list[str], values: dict[str, Any], folder: Path) -> int:
    checkpoint = _checkpoint_to_resume(values, folder)
    is_main = _is_main()
    run, started = None, time.perf_counter()
    records = runfolder.kept_records(folder) if checkpoint and is_main else {}
    try:
        if is_main:
            runfolder.prepare(folder, values, overrides)
            runfolder.write_results(folder, values, status="running")
            print(f"run folder: {folder}", file=sys.stderr, flush=True)
        run = assemble(config, folder, checkpoint)
        if is_main:
            print(description(run), file=sys.stderr, flush=True)
        run.trainer.fit(run.task, datamodule=run.data, ckpt_path=checkpoint, weights_only=True)
        if checkpoint and not run.task.has_trained and _was_finished(run, checkpoint, records):
            return 0
        if run.trainer.is_global_zero:
            from segframe import report

            report.finish(run, {**speed(run), "wall_s": time.perf_counter() - started})
    except BaseException as error:
        code = _ended_by(error, folder, values, run, is_main)
        if run is None or not run.task.has_trained:
            runfolder.restore(records)  # what was refused leaves the run as it was
        return code
    finally:
        if run is not None:
            run.data.close()
    return 0


def _was_finished(run: Run, checkpoint: str, records: dict[Path, bytes]) -> bool:
    """Evaluates a resumed run that had no step left; returns whether its results were there already."""
    from segframe.checkpoint_io import read_checkpoint

    _load_weights(run.task, read_checkpoint(Path(checkpoint)))
    run.trainer.loggers = []  # the evaluation's row is in metrics.csv
    run.trainer.validate(run.task, datamodule=run.data, verbose=False)
    if run.folder / "results.json" not in records:
        return False
    runfolder.restore(records)
    print("the run had finished; give a larger trainer.max_epochs or trainer.max_steps to go on", file=sys.stderr)
    return True


def evaluate(config: DictConfig, checkpoint: str, run_dir: str | Path) -> int:
    """Scores a run's checkpoint on its validation set; returns the exit code.

    Args:
        config: The run's configuration, with overrides.
        checkpoint: ``best``, ``last`` or the path of a checkpoint.
        run_dir: The run folder.
    """
    from segframe import report
    from segframe.checkpoint_io import read_checkpoint

    values, folder = resolved(config), Path(run_dir)
    path = (
        folder / "checkpoints" / f"{checkpoint}.ckpt"
        if checkpoint in ("best", "last", "previous")
        else Path(checkpoint)
    )
    run = None
    try:
        content = read_checkpoint(path)
        run = assemble(config, folder, None, training=False)
        _load_weights(run.task, content)
        run.trainer.validate(run.task, datamodule=run.data, verbose=False)
        report.evaluated(run, path)
    except BaseException as error:
        return _ended_by(error, folder, values, run, is_main=False)
    return 0


def assemble(config: DictConfig, folder: Path, checkpoint: str | None, training: bool = True) -> Run:
    """Returns the objects that a configuration describes.

    Args:
        config: The composed configuration.
        folder: The run folder.
        checkpoint: The file that training goes on from.
        training: Whether the run will train; an evaluation writes no metrics and no checkpoints.

    Raises:
        ValueError: If values of different groups don't fit each other.
    """
    import pytorch_lightning as pl

    config = copy.deepcopy(config)
    values = resolved(config)
    _check_spans(values)
    pl.seed_everything(values["seed"], verbose=False)
    data: Any = _make(
        config.data,
        train=_make(config.dataset.train),
        val=_make(config.dataset.val),
        augment=_make(config.augment.sample),
    )
    _fill_class_weights(config, folder, data)
    task: Any = _make(
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
    if training:
        _check_normalisation(task.net, values)
    if training and values["init_from"] and checkpoint is None:
        _initialise_from(task.net, values["init_from"])
    trainer: Any = _make(
        config.trainer,
        run_dir=str(folder),
        strategy=_make(config.strategy),
        callbacks=_callbacks(config) if training else [],
        loggers=_loggers(config, folder, checkpoint) if training else [],
    )
    return Run(folder, values, task, data, trainer)


def description(run: Run) -> str:
    """Returns one line that says what is about to train on what."""
    net, values = run.task.net, run.values
    parameters = sum(p.numel() for p in net.parameters()) / 1e6
    return (
        f"{type(net).__name__} ({parameters:.1f} M parameters) on {type(run.data.train).__name__}: "
        f"{run.data.num_train} training and {run.data.num_val} validation images, {run.data.batch_size} a step, "
        f"{values['trainer']['precision']} on {run.trainer.strategy.root_device.type} x {run.trainer.world_size}"
    )


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


def _is_main() -> bool:
    """Whether this process is the first of the run, also before Lightning knows its rank."""
    ranks = (os.environ.get(name) for name in ("RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "SLURM_PROCID"))
    return all(int(rank) == 0 for rank in ranks if rank is not None)


def _checkpoint_to_resume(values: dict[str, Any], folder: Path) -> str | None:
    """Returns the checkpoint that a resumed run goes on from; None starts from the beginning."""
    if not values["resume"]:
        return None
    asked = Path(values["resume"])
    path = asked if asked.suffix == ".ckpt" else folder / "checkpoints" / "last.ckpt"
    if asked.suffix != ".ckpt" and not path.exists():
        print(f"{folder} was stopped before its first checkpoint; it starts again from step 0.", file=sys.stderr)
        return None
    return str(path)


def _check_spans(values: dict[str, Any]) -> None:
    """Checks what no single key decides."""
    batch, parts = values["data"]["batch_size"], values["trainer"]["accumulate_grad_batches"]
    ranks = _num_ranks(values)
    if batch % (parts * ranks):
        fitting = max(parts * ranks, batch // (parts * ranks) * parts * ranks)
        raise ValueError(
            f"data.batch_size={batch} is the batch of one optimizer step and must divide into {ranks} rank(s) x "
            f"trainer.accumulate_grad_batches={parts} equal parts; the nearest that does is data.batch_size={fitting}."
        )


def _num_ranks(values: dict[str, Any]) -> int:
    devices = values["trainer"]["devices"]
    per_node = devices if isinstance(devices, int) else len(devices) if isinstance(devices, list) else 1
    return int(values["trainer"]["num_nodes"]) * per_node


def _check_normalisation(net: Any, values: dict[str, Any]) -> None:
    """Checks that BatchNorm gets more than one value per channel wherever the net pools to 1 x 1."""
    needed = getattr(net, "minimum_train_batch", 1)
    batch, parts = values["data"]["batch_size"], values["trainer"]["accumulate_grad_batches"]
    ranks = _num_ranks(values)
    if batch // (ranks * parts) < needed:
        raise ValueError(
            f"{type(net).__name__} pools to 1 x 1 before a BatchNorm, which needs {needed} images at once, and a batch "
            f"of data.batch_size={batch} over {ranks} rank(s) x trainer.accumulate_grad_batches={parts} leaves "
            f"{batch // (ranks * parts)}; set data.batch_size={needed * ranks * parts} or more, or cut it less."
        )


def _fill_class_weights(config: DictConfig, folder: Path, data: DataModule) -> None:
    """Replaces the word for computed class weights by numbers, counted once per run folder."""
    nodes = list(_nodes_with_median_frequency(config.loss))
    if not nodes:
        return
    from segframe.data.statistics import class_statistics
    from segframe.losses.balance import median_frequency_weights

    path = folder / "class_weights.json"
    if path.exists():
        weights = json.loads(path.read_text(encoding="utf-8"))
    else:
        weights = [float(w) for w in median_frequency_weights(*class_statistics(data.train))]
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


def _initialise_from(net: Any, source: str) -> None:
    """Loads what fits of another run's weights and says what doesn't."""
    from segframe.checkpoint_io import read_weights_file
    from segframe.models.transfer import load_matching

    path = Path(source)
    if path.is_dir():
        path = next(
            (p for p in (path / "checkpoints" / f"{n}.ckpt" for n in ("best", "last")) if p.exists()),
            path / "checkpoints/last.ckpt",
        )
    transfer = load_matching(net, net_weights(read_weights_file(path)))
    if _is_main():
        print(f"init_from={path}: {transfer}", file=sys.stderr)


def net_weights(content: Any) -> dict[str, Any]:
    """Returns a net's weights by name from a segframe checkpoint (its average, if it has one) or a bare state dict."""
    from segframe.callbacks.ema import KEY

    state = content.get(KEY) or content.get("state_dict", content)
    if "state_dict" in content:
        state = {**content["state_dict"], **state}
    return {name.removeprefix("net."): tensor for name, tensor in state.items()}


def _load_weights(task: SegmentationTask, content: dict[str, Any]) -> None:
    weights = net_weights(content)
    own = task.net.state_dict()
    wrong = sorted(set(own) ^ set(weights)) or [n for n in own if own[n].shape != weights[n].shape]
    if wrong:
        raise ConfigError(
            f"the checkpoint does not fit the model of this configuration: {len(wrong)} parameters differ, the first "
            f"is {wrong[0]}. Evaluate it with the overrides that it was trained with."
        )
    task.net.load_state_dict(weights)


def speed(run: Run | None) -> dict[str, float | None]:
    """Returns what results.json says of a run's speed and memory."""
    from segframe.callbacks.training_log import TrainingLog

    logs = [c for c in run.callbacks if isinstance(c, TrainingLog)] if run else []
    return {
        "seconds_per_step": logs[0].seconds_per_step if logs else None,
        "images_per_s": logs[0].images_per_s if logs else None,
        "peak_memory_gib": runfolder.peak_memory_gib(),
    }


def _ended_by(error: BaseException, folder: Path, values: dict[str, Any], run: Run | None, is_main: bool) -> int:
    """Tells and records what ended a run; returns the exit code."""
    from segframe import faults, task
    from segframe.callbacks.checkpoints import Interrupted

    error = faults.own_error(error)
    parts = run.trainer.num_micro_batches if run else values["trainer"]["accumulate_grad_batches"]
    crop = "x".join(map(str, values["augment"]["sample"].get("crop_size") or ["whole image"]))
    told = faults.explain(error, values["data"]["batch_size"], parts, crop)
    full = "".join(traceback.format_exception(error))
    if run is not None and isinstance(error, task.NonFiniteLossError) and error.batch is not None:
        path = faults.save_state(folder, error.batch, error.step, run.task.net.state_dict())
        told = f"{told} The batch and the weights are in {path}."
    stopped = isinstance(error, Interrupted | KeyboardInterrupt)
    print(f"\nerror: {told}" if told and not stopped else f"\n{told or full}", file=sys.stderr)
    if is_main and folder.is_dir():
        status = "interrupted" if stopped else "failed"
        faults.record(folder, values, speed(run), status, error)
    if (folder / "checkpoints" / "last.ckpt").exists() and is_main:
        print(f"go on with: python train.py resume={folder}", file=sys.stderr)
    return faults.exit_code(error)
