"""From start to end of a run: what the verbs train and evaluate do, and what they record."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import traceback
from pathlib import Path
from types import FrameType
from typing import Any

import yaml
from omegaconf import DictConfig

from segframe import runfolder
from segframe.build import Run, assemble
from segframe.config.compose import RUN_DIR_VARIABLE, ConfigError, resolved
from segframe.runfolder import is_main_process


def train(config: DictConfig, overrides: list[str]) -> int:
    """Trains what a configuration describes and writes the run folder; returns the exit code.

    Args:
        config: The composed configuration.
        overrides: The words it was composed from.

    Raises:
        ConfigError: If the run would overwrite another one, or can't go on with what was changed.
    """
    values = resolved(config)
    folder = Path(values["run"]["dir"])
    if is_main_process():
        _check_folder(values, folder)
    in_main_thread = threading.current_thread() is threading.main_thread()  # others get no signals
    before = signal.signal(signal.SIGTERM, _stop) if in_main_thread else None
    given = os.environ.get(RUN_DIR_VARIABLE)
    os.environ[RUN_DIR_VARIABLE] = str(folder)
    try:
        return _train(config, overrides, values, folder)
    finally:
        # The next run of this process has a folder of its own.
        os.environ.pop(RUN_DIR_VARIABLE) if given is None else os.environ.update({RUN_DIR_VARIABLE: given})
        if in_main_thread:
            signal.signal(signal.SIGTERM, before)


def _train(config: DictConfig, overrides: list[str], values: dict[str, Any], folder: Path) -> int:
    checkpoint = _checkpoint_to_resume(values, folder)
    is_main = is_main_process()
    run, started = None, time.perf_counter()
    records = runfolder.kept_records(folder) if checkpoint and is_main else {}
    try:
        if is_main:
            runfolder.prepare(folder, values, overrides)
            runfolder.write_results(folder, values, status="running")
            print(f"run folder: {folder}", file=sys.stderr, flush=True)
        run = assemble(config, folder, checkpoint, words=overrides)
        if is_main:
            print(_description(run), file=sys.stderr, flush=True)
        run.trainer.fit(run.task, datamodule=run.data, ckpt_path=checkpoint, weights_only=True)
        if checkpoint and not run.task.has_trained and _was_finished(run, checkpoint, records):
            return 0
        from segframe import report

        samples = report.collect_samples(run)
        if run.trainer.is_global_zero:
            report.finish(run, samples, {**_speed(run), "wall_s": time.perf_counter() - started})
    except BaseException as error:
        code = _ended_by(error, folder, values, run, is_main)
        if run is None or not run.task.has_trained:
            runfolder.restore(records)  # what was refused leaves the run as it was
        return code
    finally:
        if run is not None:
            run.data.close()
    return 0


def _stop(number: int, frame: FrameType | None) -> None:
    """Ends what comes before the first step and after the last; in between the checkpoint callback does."""
    from segframe.callbacks.checkpoints import Interrupted

    raise Interrupted(number, "before the first step or after the last")


def _check_folder(values: dict[str, Any], folder: Path) -> None:
    """Checks that a new run overwrites no other, and that a resumed one keeps what its state restores."""
    if not values["resume"]:
        if any((folder / "checkpoints").glob("*.ckpt")):
            raise ConfigError(
                f"run.dir={folder} holds a run with checkpoints; go on with it by resume={folder}, or give another "
                "run.dir."
            )
        return
    before = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))["optimizer"]
    changed = [f"optimizer.{k}={v} (was {before.get(k)})" for k, v in values["optimizer"].items() if before.get(k) != v]
    if changed and any((folder / "checkpoints").glob("*.ckpt")):
        raise ConfigError(
            f"a resumed run takes its optimizer from the checkpoint, so these would do nothing: {', '.join(changed)}. "
            f"Leave them out, or start a new run from these weights with init_from={folder}."
        )


def _was_finished(run: Run, checkpoint: str, records: dict[Path, bytes]) -> bool:
    """Evaluates a resumed run that had no step left; returns whether its results were there already."""
    from segframe.checkpoint import load_weights
    from segframe.checkpoint_io import read_checkpoint

    load_weights(run.task.net, read_checkpoint(Path(checkpoint)))
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
    from segframe.checkpoint import load_weights
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
        load_weights(run.task.net, content)
        run.trainer.validate(run.task, datamodule=run.data, verbose=False)
        if run.trainer.is_global_zero:
            report.evaluated(run, path)
    except BaseException as error:
        return _ended_by(error, folder, values, run, is_main=False)
    finally:
        if run is not None:
            run.data.close()
    return 0


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


def _description(run: Run) -> str:
    """Returns one line that says what is about to train on what."""
    from segframe.data.cache import original

    net, values = run.task.net, run.values
    parameters = sum(p.numel() for p in net.parameters()) / 1e6
    return (
        f"{type(net).__name__} ({parameters:.1f} M parameters) on {type(original(run.data.train)).__name__}: "
        f"{run.data.num_train} training and {run.data.num_val} validation images, {run.data.batch_size} a step, "
        f"{values['trainer']['precision']} on {run.trainer.strategy.root_device.type} x {run.trainer.world_size}"
    )


def _speed(run: Run | None) -> dict[str, float | None]:
    """Returns what results.json says of a run's speed and memory."""
    from segframe.callbacks.training_log import TrainingLog

    logs = [c for c in run.callbacks if isinstance(c, TrainingLog)] if run else []
    return {
        "seconds_per_step": logs[0].seconds_per_step if logs else None,
        "images_per_s": logs[0].images_per_s if logs else None,
        "data_stall_percent": logs[0].data_stall_percent if logs else None,
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
        saved = faults.save_state(folder, error.batch, error.step, run.task.net.state_dict(), run.trainer.global_rank)
        told = f"{told} {saved}"
    stopped = isinstance(error, Interrupted | KeyboardInterrupt)
    if faults.is_another_ranks(error):
        told = f"rank {run.trainer.global_rank if run else '?'} ended because another rank did"
    print(f"\nerror: {told}" if told and not stopped else f"\n{told or full}", file=sys.stderr)
    if is_main and folder.is_dir():
        status = "interrupted" if stopped else "failed"
        faults.record(folder, values, _speed(run), status, error)
    if (folder / "checkpoints" / "last.ckpt").exists() and is_main:
        print(f"go on with: {runfolder.command()} train resume={folder}", file=sys.stderr)
    return faults.exit_code(error)
