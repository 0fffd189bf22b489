"""What can go wrong while a run is under way, told in a way that helps."""

from __future__ import annotations

import errno
import re
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException

from segframe import logs, runfolder
from segframe.callbacks.auto_batch import is_out_of_memory
from segframe.callbacks.checkpoints import Interrupted
from segframe.checkpoint_io import write_checkpoint
from segframe.contracts import Batch
from segframe.data.reading import SampleError
from segframe.nonfinite import NonFiniteLossError
from segframe.rendezvous import AnotherRankError

_PACKAGE = Path(__file__).parent


def explain(error: BaseException, batch_size: int, parts: int, crop: str) -> str | None:
    """Returns one message for an error that a user can mend, or None where only a traceback helps.

    Args:
        error: What ended the run.
        batch_size: The global batch.
        parts: Micro-batches that it was cut into.
        crop: Rows x columns of a training sample.
    """
    if is_out_of_memory(error):
        return (
            f"out of memory with a batch of {batch_size} in {parts} micro-batch(es) of {crop} crops. The same numbers "
            f"with less memory: trainer.accumulate_grad_batches={parts * 2} or trainer.auto_batch=true, "
            "task.activation_checkpointing=true, trainer.precision=bf16-mixed. Other numbers: a smaller "
            f"data.batch_size or augment.sample.crop_size. ({_first_line(error)})"
        )
    if isinstance(error, NonFiniteLossError | Interrupted):
        return str(error)
    if isinstance(error, KeyboardInterrupt):
        return "stopped at once by Ctrl-C, without a further checkpoint"
    if told := _from_worker(error):
        return told
    if isinstance(error, RuntimeError) and str(error).startswith("DataLoader worker"):
        return (
            f"a loader process died ({_first_line(error)}). Usually it ran out of memory or shared memory (/dev/shm): "
            "lower data.num_workers; data.num_workers=0 loads in the training process and shows the error itself."
        )
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return str(error.strerror or error)
    if about_others := _waited_for_others(error) or _lost_another(error):
        return about_others
    if isinstance(error.__context__ if isinstance(error, SystemExit) else error, BrokenPipeError):
        return "whatever read this run's output has closed it; the run's folder holds what was written until then"
    if isinstance(error, MisconfigurationException):
        return _first_line(error)
    return str(error) if _is_ours(error) else None


def _waited_for_others(error: BaseException) -> str | None:
    """Returns what to say of a collective operation that another rank did not come to."""
    found = re.search(r"Timed out waiting (\d+)\s*ms|ran for (\d+) milliseconds before timing out", str(error))
    closed = "Application timeout caused pair closure" in str(error)  # gloo's words for the operations behind the first
    if not isinstance(error, RuntimeError) or not (found or closed):
        return None
    waited = f"{int(found[1] or found[2]) / 1000:g} s" if found else "strategy.timeout_s"
    log = logs.current()
    where = Path(log.name).parent if log else "the run folder's logs"
    return (
        f"waited {waited} for the other ranks: one of them hangs, can't be reached any more, or is slower than "
        f"strategy.timeout_s allows. {where} holds every rank's stack of that time; the rank "
        "whose stack is in no collective operation is the one that the others waited for."
    )


def _lost_another(error: BaseException) -> str | None:
    """Returns what to say of a rank that is gone without having told why."""
    if isinstance(error, AnotherRankError):
        return str(error)
    if not is_another_ranks(error):
        return None
    peer = re.search(r"\[([0-9a-f.:]+)\]:\d+", str(error))
    log = logs.current()
    return (
        f"another rank{f' on {peer[1]}' if peer else ''} is gone without a word: its process was killed, perhaps for "
        f"want of memory, or its machine is down. {Path(log.name).parent if log else 'The logs folder of the run'} "
        "holds what every rank wrote last."
    )


def own_error(error: BaseException) -> BaseException:
    """Returns the Ctrl-C that Lightning has turned into an exit, and any other error as it is."""
    if not isinstance(error, SystemExit) or not isinstance(error.__context__, KeyboardInterrupt):
        return error
    signal.signal(signal.SIGINT, signal.default_int_handler)  # Lightning leaves Ctrl-C switched off
    return error.__context__


def exit_code(error: BaseException) -> int:
    """Returns what the process ends with: 128 + the signal for a run that was told to stop, otherwise 1."""
    if isinstance(error, Interrupted):
        return 128 + error.number
    return 128 + signal.SIGINT if isinstance(error, KeyboardInterrupt) else 1


def is_another_ranks(error: BaseException) -> bool:
    """Returns whether an error only tells that another rank has ended."""
    signs = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "remote process exited")
    if isinstance(error, AnotherRankError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in signs)


def save_state(folder: Path, batch: Batch, step: int, weights: dict[str, torch.Tensor], rank: int) -> str:
    """Writes the batch of a step whose loss was not finite, and on rank 0 the weights; returns a sentence on where."""
    path = folder / "checkpoints" / f"nonfinite-step{step}-rank{rank}.pt"
    names = {"step": step, "image": batch.image, "mask": batch.mask, "names": list(batch.names)}
    try:
        write_checkpoint({**names, "state_dict": weights}, path)
    except OSError as error:
        return f"The batch and the weights could not be written ({error.strerror})."
    if not weights:
        return f"This rank's batch is in {path}, the weights are in rank 0's file."
    return f"The batch and the weights are in {path}."


def _is_ours(error: BaseException) -> bool:
    """Whether segframe itself raised the error, so that its message is the whole story."""
    if not isinstance(error, ValueError | TypeError | OSError | ImportError | SampleError):
        return False
    frames = traceback.extract_tb(error.__traceback__)
    return bool(frames) and Path(frames[-1].filename).is_relative_to(_PACKAGE)


def _from_worker(error: BaseException) -> str | None:
    """Returns the message of an error that segframe raised in a loader process, freed from its traceback."""
    text = str(error)
    if "Original Traceback" not in text:
        return None
    files = re.findall(r'File "([^"]+)"', text)
    message = re.split(rf"^(?:\w+\.)*{type(error).__name__}: ", text, flags=re.MULTILINE)[-1].strip()
    return message if files and Path(files[-1]).is_relative_to(_PACKAGE) else None


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def record(
    folder: Path,
    values: dict[str, Any],
    speed: dict[str, float | None],
    status: str,
    error: BaseException,
    rank: int = 0,
) -> None:
    """Writes how a run ended into results.json and, for an error, its traceback into error.txt."""
    try:
        told = {"error": f"{type(error).__name__}: {error}"} | ({"failed_rank": rank} if status == "failed" else {})
        runfolder.write_results(folder, values, status, **told, **speed)
        if status == "failed":
            (folder / "error.txt").write_text("".join(traceback.format_exception(error)), encoding="utf-8")
    except OSError as failed:
        # A full disk ends a run and is then still full.
        print(f"results.json in {folder} does not say so: {failed.strerror or failed}", file=sys.stderr)
