"""Checkpoint files: written whole or not at all, checked before they are read, and never executed."""

from __future__ import annotations

import errno
import os
import pickle
import shutil
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO

from segframe.wording import pasted

MARK = "segframe"
"""The key that tells a checkpoint of segframe from a foreign file."""


class CheckpointError(ValueError):
    """A checkpoint file is missing, torn or foreign; the message names a good one where there is one."""


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes checkpoints through a temporary file and reads only intact ones, without running code."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Writes ``checkpoint`` to ``path``; see ``write_checkpoint``."""
        write_checkpoint(checkpoint, Path(path))

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """Reads ``path``; see ``read_checkpoint``."""
        return read_checkpoint(Path(path))


def write_checkpoint(checkpoint: dict[str, Any], path: Path) -> None:
    """Writes a file that holds all of ``checkpoint`` or, whatever happens, leaves the old file as it was.

    Raises:
        OSError: If the disk is full or the folder can't be written; says how much was free.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            torch.save(checkpoint, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except (OSError, RuntimeError) as error:
        temporary.unlink(missing_ok=True)
        # torch reports a failed write as a RuntimeError around or instead of the OSError.
        cause = error if isinstance(error, OSError) else error.__context__
        if isinstance(error, RuntimeError) and not isinstance(cause, OSError) and "writ" not in str(error):
            raise
        number = cause.errno if isinstance(cause, OSError) and cause.errno else errno.EIO
        free = shutil.disk_usage(path.parent).free / 2**20
        raise OSError(
            number,
            f"the checkpoint {path} could not be written ({os.strerror(number)}; {free:.0f} MiB free). "
            "Checkpoints written before are intact: free some space and go on with resume=RUN",
        ) from error


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Returns the content of an intact segframe checkpoint, tensors on the CPU.

    Raises:
        FileNotFoundError: If there is no such file.
        CheckpointError: If the file is torn, or not a checkpoint of segframe, or holds anything but data.
    """
    checkpoint = read_weights_file(path)
    if not isinstance(checkpoint, dict) or MARK not in checkpoint or "state_dict" not in checkpoint:
        raise CheckpointError(
            f"{path} is not a checkpoint of segframe (no {MARK!r} entry).{_offer(path)} To start from its weights, "
            "pass it as init_from."
        )
    return checkpoint


def read_weights_file(path: Path) -> Any:
    """Returns what any ``torch.save`` or safetensors file holds, tensors on the CPU, without running code.

    Raises:
        FileNotFoundError: If there is no such file.
        CheckpointError: If the file is torn or holds anything but data.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no checkpoint {path}.{_offer(path)}")
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    if damage := _damage(path):
        raise CheckpointError(f"{path} is damaged: {damage}.{_offer(path)}")
    try:
        with warnings.catch_warnings():
            # What the unpickler merely warns of, such as another pickle protocol, either loads or is refused below.
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError) as error:
        reason = str(error).strip().splitlines()[0]
        raise CheckpointError(
            f"{path} was refused: it holds something other than tensors and plain data, which could run code, or it "
            f"is not a PyTorch file ({reason}).{_offer(path)}"
        ) from error


def is_intact(path: Path) -> bool:
    """Returns whether ``path`` is a whole segframe checkpoint."""
    if not path.is_file() or _damage(path):
        return False
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError):
        return False
    return isinstance(content, dict) and MARK in content


def _damage(path: Path) -> str | None:
    """Returns what is wrong with the zip archive that ``torch.save`` writes, or None."""
    if path.stat().st_size == 0:
        return "it is empty"
    try:
        with zipfile.ZipFile(path) as archive:
            torn = archive.testzip()
    except (zipfile.BadZipFile, OSError, EOFError) as error:
        # Files of torch.save before 1.6 are bare pickles and no archives.
        return None if path.read_bytes()[:1] == b"\x80" else f"it is cut off or not a PyTorch file ({error})"
    return f"its part {torn} does not match its checksum" if torn else None


def _offer(path: Path) -> str:
    """Names the newest intact checkpoint beside ``path``, if there is one."""
    others = sorted(path.parent.glob("*.ckpt"), key=lambda p: p.stat().st_mtime, reverse=True)
    for other in others:
        if other != path and is_intact(other):
            return (
                f" An earlier one is intact; go on from it with {pasted('resume', other)} or evaluate it with "
                f"{pasted('checkpoint', other)}."
            )
    return ""
