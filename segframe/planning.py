"""How many processes a run takes, and what it is refused for; decided before torch is imported."""

from __future__ import annotations

import math
import os
import shlex
import sys
from pathlib import Path
from typing import Any

import yaml

from segframe.config.options import ConfigError
from segframe.ranks import place
from segframe.wording import pasted


def plan(values: dict[str, Any], gpus: int | None = None) -> int:
    """Returns how many processes to start here; 1 means that this process runs alone.

    Where torchrun or srun has started this process already, it is 1, and the numbers have to fit.

    Args:
        values: The resolved configuration.
        gpus: How many GPUs the run will find, where it runs elsewhere; None asks torch for those that are here.

    Raises:
        ConfigError: If the devices asked for are not there, or the strategy or the launcher takes another number.
    """
    _check_cpu(values, gpus)
    if "RANK" in os.environ:
        _check_launcher(values)
        check_grid(values, place().world_size)
        return 1
    if values["trainer"]["num_nodes"] > 1:
        raise ConfigError(_on_several_nodes(values))
    there = _num_gpus(values, gpus)
    asked = _asked_for(values, there)
    if there is not None and asked > there:
        nearest = f"trainer.devices={there}" if there else "trainer=cpu"
        count = f"{there} {'is' if there == 1 else 'are'} there"
        on_cpu = f", or trainer=cpu strategy=ddp trainer.devices={asked}, processes on the CPU" if asked > 1 else ""
        raise ConfigError(
            f"trainer.devices={_shown(values)} asks for {asked} GPU{'s' if asked > 1 else ''} and {count}; use "
            f"{nearest}{on_cpu}."
        )
    check_grid(values, asked)
    return asked


AXES = ("data", "fsdp", "stages", "spatial")
"""The keys of a strategy that say over how many ranks it splits what; null, or no such key, is what others leave."""


def batch_parts(values: dict[str, Any], ranks: int) -> int:
    """Returns into how many parts ranks split a batch.

    Args:
        values: The resolved configuration.
        ranks: Processes of the run.
    """
    strategy = values["strategy"]
    if "data" not in strategy:
        return ranks
    return int(strategy["data"] or 1) * int(strategy.get("fsdp") or 1)


def check_grid(values: dict[str, Any], ranks: int) -> None:
    """Checks that the axes of a strategy make up the ranks.

    Args:
        values: The resolved configuration.
        ranks: Processes of the run.

    Raises:
        ConfigError: If they do not; says what fits.
    """
    sizes = _axes(values)
    if sizes is None:
        return
    product = math.prod(sizes.values())
    if product == 1 and len(sizes) == len(AXES):
        raise ConfigError(
            f"{', '.join(f'strategy.{axis}' for axis in AXES)} are all 1, so that nothing is split; give two of them, "
            "such as strategy.data=2 strategy.spatial=2 trainer.devices=4, or take strategy=ddp."
        )
    if ranks == product or (len(sizes) < len(AXES) and ranks % product == 0):
        return
    named = " x ".join(f"strategy.{axis}={size}" for axis, size in sizes.items() if size > 1) or "strategy.data=1"
    takes = f"a multiple of {product}" if len(sizes) < len(AXES) else str(product)
    there = "there is 1" if ranks == 1 else f"there are {ranks}"
    raise ConfigError(
        f"{named} takes {takes} rank{'s' if product > 1 else ''} and {there}; set trainer.devices={product}, or other "
        "sizes."
    )


def _axes(values: dict[str, Any]) -> dict[str, int] | None:
    """Returns the sizes that a strategy gives for its axes; None for a strategy without axes."""
    strategy = values["strategy"]
    if "data" not in strategy:
        return None
    return {axis: int(strategy[axis]) for axis in AXES if strategy.get(axis) is not None}


def num_ranks(values: dict[str, Any]) -> int:
    """Returns the number of processes of the run on all nodes.

    Args:
        values: The resolved configuration.
    """
    return place().world_size if "RANK" in os.environ else plan(values)


def check_batch(values: dict[str, Any], ranks: int | None = None) -> None:
    """Checks that the global batch divides into ranks and micro-batches.

    Args:
        values: The resolved configuration.
        ranks: Processes of the run; None takes those that there are.

    Raises:
        ConfigError: If it does not; names the nearest that does.
    """
    batch, parts = values["data"]["batch_size"], values["trainer"]["accumulate_grad_batches"]
    ranks = batch_parts(values, place().world_size if ranks is None else ranks)
    if batch % (parts * ranks):
        fitting = max(parts * ranks, batch // (parts * ranks) * parts * ranks)
        raise ConfigError(
            f"data.batch_size={batch} is the batch of one optimizer step and must divide into {ranks} rank(s) x "
            f"trainer.accumulate_grad_batches={parts} equal parts; the nearest that does is data.batch_size={fitting}."
        )


def check_folder(values: dict[str, Any]) -> None:
    """Checks that a new run overwrites no other, and that a resumed one keeps what its state restores.

    Args:
        values: The resolved configuration.

    Raises:
        ConfigError: If the run folder holds another run, or a changed optimizer would be taken from the checkpoint.
    """
    folder = Path(values["run"]["dir"])
    if not values["resume"]:
        if any((folder / "checkpoints").glob("*.ckpt")):
            raise ConfigError(
                f"run.dir={folder} holds a run with checkpoints; go on with it by {pasted('resume', folder)}, or "
                "give another run.dir."
            )
        return
    before = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))["optimizer"]
    changed = [f"optimizer.{k}={v} (was {before.get(k)})" for k, v in values["optimizer"].items() if before.get(k) != v]
    if changed and any((folder / "checkpoints").glob("*.ckpt")):
        raise ConfigError(
            f"a resumed run takes its optimizer from the checkpoint, so these would do nothing: {', '.join(changed)}. "
            f"Leave them out, or start a new run from these weights with {pasted('init_from', folder)}."
        )


def _asked_for(values: dict[str, Any], gpus: int | None) -> int:
    """Returns the number of processes that the configuration asks for, one per device but for what says otherwise."""
    devices, most = values["trainer"]["devices"], values["strategy"].get("ranks")
    if "processes" in values["strategy"]:
        return int(values["strategy"]["processes"])  # a strategy whose processes drive several devices each
    if values["strategy"].get("schedule") == "none":
        return 1  # one process drives all devices
    if devices == "auto":
        sizes = _axes(values)
        if sizes is not None and len(sizes) == len(AXES):
            return math.prod(sizes.values())  # a strategy that says how many it takes
        there = max(1, gpus or 1)
        return there if most is None else min(there, most)
    asked = len(devices) if isinstance(devices, list) else int(devices)
    if most is not None and asked > most:
        name = values["strategy"].get("_target_", "").split(".")[-2:-1]
        word, others = (f"strategy={name[0]}" if name else "this strategy"), f"{most} device{'s' if most > 1 else ''}"
        raise ConfigError(
            f"{word} runs on {'one device' if most == 1 else others} and trainer.devices={_shown(values)} asks for "
            f"{asked}; use strategy=ddp or trainer.devices={most}."
        )
    return asked


def _check_cpu(values: dict[str, Any], known: int | None) -> None:
    """Checks that the CPU is asked for nothing that only GPUs have."""
    devices, offloads = values["trainer"]["devices"], values["strategy"].get("cpu_offload")
    if not (isinstance(devices, list) or offloads) or _num_gpus(values, known) is not None:
        return
    if offloads:
        raise ConfigError(
            "strategy.cpu_offload=true keeps shards in the memory of the CPU while a GPU computes, and this run is on "
            "the CPU; leave it out."
        )
    raise ConfigError(
        f"trainer.devices={_shown(values)} lists GPUs by their numbers and the run is on the CPU; use "
        f"trainer.devices={len(devices)}."
    )


def _num_gpus(values: dict[str, Any], known: int | None) -> int | None:
    """Returns how many GPUs there are, None where the run takes none; initialises none."""
    accelerator = values["trainer"]["accelerator"]
    if accelerator not in ("auto", "gpu", "cuda"):
        return None
    if known is None:
        import torch

        known = torch.cuda.device_count()
        # Without CUDA a Mac's GPU is one, and elsewhere auto means the CPU.
        if not known and accelerator != "cuda" and torch.backends.mps.is_available():
            return 1
    if known or accelerator == "cuda":
        return known
    return 0 if accelerator == "gpu" and values["trainer"]["devices"] != "auto" else None


def _check_launcher(values: dict[str, Any]) -> None:
    """Checks that the configuration asks for no other number of processes than the launcher has started."""
    here, devices, nodes = place(), values["trainer"]["devices"], values["trainer"]["num_nodes"]
    asked = len(devices) if isinstance(devices, list) else devices
    if asked not in ("auto", 1, here.local_world_size):
        raise ConfigError(
            f"trainer.devices={_shown(values)} asks for {asked} processes a node and the launcher has started "
            f"{here.local_world_size}; leave trainer.devices out, or start it by --nproc-per-node={asked}."
        )
    started = here.world_size // max(1, here.local_world_size)
    if nodes not in (1, started):
        raise ConfigError(
            f"trainer.num_nodes={nodes} and the launcher has started processes on {started}; leave trainer.num_nodes "
            f"out, or start it by --nnodes={nodes}."
        )
    most = values["strategy"].get("ranks")
    if most is not None and here.world_size != most:
        raise ConfigError(
            f"the strategy runs on {most} device{'s' if most > 1 else ''} and the launcher has started "
            f"{here.world_size} processes; use strategy=ddp, or start {most}."
        )


def _on_several_nodes(values: dict[str, Any]) -> str:
    devices = values["trainer"]["devices"]
    per_node = len(devices) if isinstance(devices, list) else "gpu" if devices == "auto" else devices
    nodes = values["trainer"]["num_nodes"]
    kept = [word for word in sys.argv[1:] if not word.startswith(("trainer.num_nodes=", "trainer.devices="))]
    is_script = sys.argv[0].endswith(".py") and not sys.argv[0].endswith("__main__.py")
    script = [sys.argv[0]] if is_script else ["-m", "segframe"]
    return (
        f"trainer.num_nodes={nodes} needs the command on each of {nodes} machines, by torchrun; on every node: "
        f"torchrun --nnodes={nodes} --nproc-per-node={per_node} --rdzv-backend=c10d --rdzv-endpoint=HOST:29500 "
        f"--rdzv-id=RUN {shlex.join([*script, *kept])} (HOST: the name of one of them; RUN: any word, the same on all)"
    )


def _shown(values: dict[str, Any]) -> str:
    """Returns trainer.devices as it is written on a command line."""
    devices = values["trainer"]["devices"]
    return f"[{','.join(map(str, devices))}]" if isinstance(devices, list) else str(devices)
