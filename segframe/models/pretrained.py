"""Weights of encoders from a download or a local file, with errors that say how to go on."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

_SUFFIXES = (".pth", ".pt", ".safetensors", ".bin")
_WRAPPERS = ("module.", "net.", "encoder.", "backbone.", "model.")


def is_file(weights: str) -> bool:
    """Whether ``encoder_weights`` is meant as the path of a file, not as the name of a download."""
    return "/" in weights or weights.endswith(_SUFFIXES)


@contextmanager
def downloading(encoder: str, weights: str) -> Iterator[None]:
    """Turns whatever a failed download raises into a FileNotFoundError that says how to go on."""
    try:
        yield
    except Exception as error:  # hub, HTTP, TLS and time-out errors share no class
        raise FileNotFoundError(
            f"Could not download encoder_weights={weights!r} for encoder {encoder!r} "
            f"({type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}). Go on with "
            f"model.encoder_weights=null (random weights) or a local file, model.encoder_weights=/path/file.pth."
        ) from error


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """Reads tensors by name from .pth, .pt, .bin or .safetensors without running code from the file.

    A ``state_dict`` or ``model`` entry is looked into, as training scripts write them.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it holds no tensors by name, or could only be read by running code.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise FileNotFoundError(f"encoder_weights={str(path)!r}: no such file. Give an existing file, or null.")
    try:
        content = load_file(file) if file.suffix == ".safetensors" else torch.load(file, "cpu", weights_only=True)
    except Exception as error:  # pickle, zip and safetensors errors share no class
        raise ValueError(
            f"encoder_weights={str(path)!r} can't be read as weights ({type(error).__name__}: "
            f"{str(error).splitlines()[0] if str(error) else 'no message'}). Expected a state dict written by "
            f"torch.save or safetensors, holding nothing but tensors."
        ) from error
    for key in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    tensors = {k: v for k, v in content.items() if isinstance(v, Tensor)} if isinstance(content, Mapping) else {}
    if not tensors:
        raise ValueError(f"encoder_weights={str(path)!r} holds no tensors by name, but {type(content).__name__}.")
    return tensors


def match_state_dict(encoder: nn.Module, given: Mapping[str, Tensor], where: str) -> None:
    """Loads weights of the same encoder, as torchvision, timm or smp name its tensors.

    Names are compared without dots and underscores (``norm.1`` is ``norm1``, ``stages.0`` is ``stages_0``) and
    without wrapping prefixes. What lies in modules the encoder lacks, such as a classifier, is left out.

    Args:
        encoder: Changed in place.
        given: Tensors by name.
        where: What errors call their origin.

    Raises:
        ValueError: If a tensor is missing, has another shape, or belongs to a deeper encoder.
    """
    own = encoder.state_dict()
    wanted = {_canonical(name): name for name in own}
    if any(name.startswith("encoder.") for name in given):  # a whole net: its decoder is not asked for
        given = {name: value for name, value in given.items() if name.startswith("encoder.")}
    found = {_canonical(name): (_bare(name), value) for name, value in given.items()}
    problems = [f"{own_name} is missing" for key, own_name in wanted.items() if key not in found and _matters(key)]
    problems += [
        f"{wanted[key]} is {tuple(value.shape)}, needs {tuple(own[wanted[key]].shape)}"
        for key, (_, value) in found.items()
        if key in wanted and value.shape != own[wanted[key]].shape
    ]
    modules = {_module(_bare(name)) for name in own}
    problems += [
        f"{name} is not in the encoder"
        for key, (name, _) in found.items()
        if key not in wanted and _matters(key) and _module(name) in modules
    ]
    if problems:
        raise ValueError(
            f"{where} does not fit {type(encoder).__name__}, {len(problems)} of {len(own)} tensors: "
            f"{'; '.join(problems[:5])}{' ...' if len(problems) > 5 else ''}. Give weights of this very encoder "
            f"(and number of image channels), or null."
        )
    torch.nn.Module.load_state_dict(
        encoder, {own_name: found[key][1] if key in found else own[own_name] for key, own_name in wanted.items()}
    )


def _bare(name: str) -> str:
    while name.startswith(_WRAPPERS):
        name = name.partition(".")[2]
    return name


def _canonical(name: str) -> str:
    return re.sub(r"[._]", "", _bare(name))


def _module(name: str) -> str:
    """The outermost module of a tensor: ``stages`` for ``stages.0.weight`` and ``stages_0.weight`` alike."""
    return re.sub(r"_\d+$", "", name.partition(".")[0])


def _matters(key: str) -> bool:
    """Old files lack BatchNorm's count of batches."""
    return not key.endswith("numbatchestracked")
