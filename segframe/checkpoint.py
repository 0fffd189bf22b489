"""The weights in checkpoints: into a net of the same shape, or as far as they fit into another."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from torch import nn

from segframe.callbacks.ema import KEY
from segframe.checkpoint_io import CheckpointError, read_weights_file
from segframe.models.transfer import load_matching
from segframe.runfolder import is_main_process


def initialise_from(net: nn.Module, source: str) -> None:
    """Loads what fits of other weights into a net, and says what doesn't.

    Args:
        net: Changed in place.
        source: A checkpoint, a file of weights, or a run folder, whose best checkpoint is taken.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is damaged or nothing in it fits.
    """
    path = Path(source)
    if path.is_dir():
        path = next(
            (p for p in (path / "checkpoints" / f"{n}.ckpt" for n in ("best", "last")) if p.exists()),
            path / "checkpoints/last.ckpt",
        )
    transfer = load_matching(net, net_weights(read_weights_file(path)))
    if is_main_process():
        print(f"init_from={path}: {transfer}", file=sys.stderr)


def net_weights(content: Any) -> dict[str, Any]:
    """Returns a net's weights by name from a segframe checkpoint (its average, if it has one) or a bare state dict."""
    state = content.get(KEY) or content.get("state_dict", content)
    if "state_dict" in content:
        state = {**content["state_dict"], **state}
    return {name.removeprefix("net."): tensor for name, tensor in state.items()}


def load_weights(net: nn.Module, content: dict[str, Any]) -> None:
    """Loads a checkpoint's weights, its average if it has one, into a net of the same shape.

    Raises:
        CheckpointError: If a parameter is missing, unknown or of another shape.
    """
    weights = net_weights(content)
    own = net.state_dict()
    wrong = sorted(set(own) ^ set(weights)) or [n for n in own if own[n].shape != weights[n].shape]
    if wrong:
        raise CheckpointError(
            f"the checkpoint does not fit the model of this configuration: {len(wrong)} parameters differ, the first "
            f"is {wrong[0]}. Evaluate it with the overrides that it was trained with."
        )
    net.load_state_dict(weights)
