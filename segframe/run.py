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

from omegaconf import DictConfig

from segframe import logs, rendezvous, restarts, runfolder, verdict
from segframe.build import Run, assemble
from segframe.callbacks.checkpoints import Interrupted
from segframe.config.compose import resolved
from segframe.planning import check_folder
from segframe.ranks import ENDED_BY_ANOTHER, RUN_DIR_VARIABLE, SUPERVISED_VARIABLE, is_main_process, place
from segframe.wording import pasted

_MOST_LINES = 17  # on who holds what


def train(config: DictConfig, overrides: list[str]) -> int:
    """Trains what a configuration describes and writes the run folder; returns the exit code.

    Args:
        config: The composed configuration.
        overrides: The words it was composed from.

    Raises:
        ConfigError: If the run would overwrite another one, or can't go on with what was changed.
    """
    values = resolved(config)
    in_main_thread = threading.current_thread() is threading.main_thread()  # others get no signals
    before = signal.signal(signal.SIGTERM, _stop) if in_main_thread else None
    given = os.environ.get(RUN_DIR_VARIABLE)
    folder = Path(values["run"]["dir"])
    try:
        rendezvous.join(restarts.start_timeout_s(values))
        folder = Path(rendezvous.agree("the run folder", str(folder)))
        with rendezvous.rank_0_first("a look at the run folder") as is_first:
            if is_first:
                check_folder(values)
        config.run.dir = values["run"]["dir"] = os.environ[RUN_DIR_VARIABLE] = str(folder)
        with logs.kept(folder):
            return _train(config, overrides, values, folder)
    except (OSError, rendezvous.AnotherRankError, Interrupted) as error:
        return _ended_by(error, folder, values, None)
    finally:
        if in_main_thread:
            signal.signal(signal.SIGTERM, before)
        rendezvous.leave()
        # The next run of this process has a folder of its own.
        os.environ.pop(RUN_DIR_VARIABLE, None) if given is None else os.environ.update({RUN_DIR_VARIABLE: given})


def _train(config: DictConfig, overrides: list[str], values: dict[str, Any], folder: Path) -> int:
    checkpoint = rendezvous.agree("the checkpoint", _checkpoint_to_resume(values, folder))
    is_main = is_main_process()
    run, started = None, time.perf_counter()
    records = runfolder.kept_records(folder) if checkpoint and is_main else {}
    try:
        if is_main:
            runfolder.prepare(folder, values, overrides, restarts.job_name())
            runfolder.write_results(folder, values, status="running")
            print(f"run folder: {folder}", file=sys.stderr, flush=True)
        run = assemble(config, folder, checkpoint, words=overrides)
        if is_main:
            print("\n".join([_description(run), *_layout(run)]), file=sys.stderr, flush=True)
        run.trainer.fit(run.task, datamodule=run.data, ckpt_path=checkpoint, weights_only=True)
        if checkpoint and not run.task.has_trained and _was_finished(run, checkpoint, records):
            return 0
        from segframe import report

        samples = report.collect_samples(run)
        run.trainer.strategy.barrier("the end")  # only a run that no rank has failed in is finished
        if run.trainer.is_global_zero:
            report.finish(run, samples, {**_speed(run), "wall_s": time.perf_counter() - started})
    except BaseException as error:
        code = _ended_by(error, folder, values, run)
        if run is None or not run.task.has_trained:
            runfolder.restore(records)  # what was refused leaves the run as it was
        return code
    finally:
        if run is not None:
            run.data.close()
    return 0


def _stop(number: int, frame: FrameType | None) -> None:
    """Ends what comes before the first step and after the last; in between the checkpoint callback does."""
    raise Interrupted(number, "before the first step or after the last")


def _was_finished(run: Run, checkpoint: str, records: dict[Path, bytes]) -> bool:
    """Evaluates a resumed run that had no step left; returns whether its results were there already."""
    from segframe.checkpoint import net_weights
    from segframe.checkpoint_io import read_checkpoint

    weights = net_weights(read_checkpoint(Path(checkpoint)))
    strategy: Any = run.trainer.strategy  # which knows the parts that this rank has
    strategy.load_model_state_dict({"state_dict": {f"net.{name}": tensor for name, tensor in weights.items()}})
    run.trainer.loggers = []  # the evaluation's row is in metrics.csv
    run.trainer.validate(run.task, datamodule=run.data, verbose=False)
    # Rank 0 alone has kept them, and all ranks go the same way from here.
    if not rendezvous.agree("whether there are results", run.folder / "results.json" in records):
        return False
    runfolder.restore(records)
    if is_main_process():
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
        rendezvous.join(restarts.start_timeout_s(values))
        content = read_checkpoint(path)
        run = assemble(config, folder, None, training=False)
        load_weights(run.task.net, content)
        run.trainer.validate(run.task, datamodule=run.data, verbose=False)
        if run.trainer.is_global_zero:
            report.evaluated(run, path)
    except BaseException as error:
        return _ended_by(error, folder, values, run, records=False)
    finally:
        rendezvous.leave()
        if run is not None:
            run.data.close()
    return 0


def _checkpoint_to_resume(values: dict[str, Any], folder: Path) -> str | None:
    """Returns the checkpoint that a resumed run goes on from; None starts from the beginning."""
    if not values["resume"]:
        return None
    asked = Path(values["resume"])
    if asked.suffix == ".ckpt":
        return str(asked)
    path = restarts.last_whole(folder)
    if path is None and is_main_process():
        print(f"{folder} was stopped before its first checkpoint; it starts again from step 0.", file=sys.stderr)
    return None if path is None else str(path)


def _description(run: Run) -> str:
    """Returns one line that says what is about to train on what."""
    from segframe.data.cache import original

    net, values, hosts = run.task.net, run.values, list(dict.fromkeys(rendezvous.hosts()))
    parameters = sum(p.numel() for p in net.parameters()) / 1e6
    return (
        f"{type(net).__name__} ({parameters:.1f} M parameters) on {type(original(run.data.train)).__name__}: "
        f"{run.data.num_train} training and {run.data.num_val} validation images, {run.data.batch_size} a step, "
        f"{values['trainer']['precision']} on {run.trainer.strategy.root_device.type} x {run.trainer.world_size}"
        + (f" ({', '.join(hosts)})" if len(hosts) > 1 else "")
    )


def _layout(run: Run) -> list[str]:
    """Returns lines on which rank holds what, where there is more to say of it than the strategy's name."""
    strategy: Any = run.trainer.strategy
    crop = run.values["augment"]["sample"].get("crop_size")
    lines: list[str] = strategy.layout(run.data.batch_size, None if crop is None else int(crop[0]))
    left_out = len(lines) - _MOST_LINES
    return lines if left_out <= 1 else [*lines[:_MOST_LINES], f"... and so on for {left_out} more"]


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


def _ended_by(error: BaseException, folder: Path, values: dict[str, Any], run: Run | None, records: bool = True) -> int:
    """Tells and records what ended a run; returns the exit code."""
    from segframe import faults, nonfinite

    error = faults.own_error(error)
    parts = run.trainer.num_micro_batches if run else values["trainer"]["accumulate_grad_batches"]
    crop = "x".join(map(str, values["augment"]["sample"].get("crop_size") or ["whole image"]))
    told = faults.explain(error, values["data"]["batch_size"], parts, crop)
    if run is not None and isinstance(error, nonfinite.NonFiniteLossError) and error.batch is not None:
        strategy: Any = run.trainer.strategy
        weights = strategy.whole(run.task.net.state_dict())  # the loss is that of all ranks, so all of them are here
        saved = faults.save_state(folder, error.batch, error.step, weights, run.trainer.global_rank)
        told = f"{told} {saved}"
    stopped = isinstance(error, Interrupted | KeyboardInterrupt)
    by_another = faults.is_another_ranks(error)
    if stopped:
        # All ranks stop alike, and only rank 0's terminal is the user's.
        is_mine, message = is_main_process(), str(told)
    else:
        is_mine = verdict.is_mine(by_another)
        message = f"error: {told}" if told else "".join(traceback.format_exception(error))
        if by_another and not is_mine:
            message = "ended because another rank has; the terminal and that rank's log tell why"
    verdict.tell(message, is_mine, of_all=stopped)
    if is_mine and records and folder.is_dir():
        faults.record(folder, values, _speed(run), "interrupted" if stopped else "failed", error, place().rank)
    supervised = SUPERVISED_VARIABLE in os.environ
    if is_main_process() and records and not supervised and (folder / "checkpoints" / "last.ckpt").exists():
        print(f"go on with: {runfolder.command()} train {pasted('resume', folder)}", file=sys.stderr)
    return ENDED_BY_ANOTHER if by_another and not is_mine else faults.exit_code(error)
