"""What no single key of a configuration decides: whether values of different groups fit each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from segframe.contracts import IGNORE_INDEX, SegmentationDataset
from segframe.data.check import Use
from segframe.planning import batch_parts
from segframe.planning import check_batch as check_batch
from segframe.ranks import place


def check_ranks(values: dict[str, Any]) -> None:
    """Checks that as many processes run as the configuration asks for.

    Args:
        values: The resolved configuration.

    Raises:
        ValueError: If several are asked for and this one is alone; says who starts them.
    """
    asked = _num_ranks(values)
    if asked > 1 and place().world_size == 1:
        raise ValueError(
            f"trainer.devices={values['trainer']['devices']} x trainer.num_nodes={values['trainer']['num_nodes']} asks "
            f"for {asked} processes and this one is alone: start them by `segframe train ...`, torchrun or srun, or "
            "set trainer.devices=1."
        )


def check_normalisation(net: Any, values: dict[str, Any]) -> None:
    """Checks that BatchNorm gets more than one value per channel wherever the net pools to 1 x 1.

    Args:
        net: The model; ``minimum_train_batch`` says how many images it needs at once.
        values: The resolved configuration.

    Raises:
        ValueError: If a rank's part of a batch is smaller.
    """
    needed = getattr(net, "minimum_train_batch", 1)
    batch, parts = values["data"]["batch_size"], values["trainer"]["accumulate_grad_batches"]
    # Where ranks share BatchNorm's statistics, it sees the images of all of them.
    apart = 1 if values["strategy"].get("sync_batchnorm", True) else batch_parts(values, place().world_size)
    if batch // (apart * parts) < needed:
        raise ValueError(
            f"{type(net).__name__} pools to 1 x 1 before a BatchNorm, which needs {needed} images at once, and a batch "
            f"of data.batch_size={batch} over {apart} rank(s) x trainer.accumulate_grad_batches={parts} leaves "
            f"{batch // (apart * parts)}; set data.batch_size={needed * apart * parts} or more, or cut it less."
        )


def check_classes(dataset: dict[str, Any], splits: Sequence[SegmentationDataset]) -> None:
    """Checks the facts that the configuration states of its data set.

    Args:
        dataset: The section of the configuration.
        splits: The pairs.

    Raises:
        ValueError: If the number of classes or the ignored label is another.
    """
    for samples in splits:
        if len(samples.classes) != dataset["num_classes"]:
            raise ValueError(
                f"dataset.num_classes={dataset['num_classes']} and {type(samples).__name__} has {len(samples.classes)} "
                f"classes: {', '.join(samples.classes)}; set dataset.num_classes={len(samples.classes)}."
            )
    if dataset["ignore_index"] != IGNORE_INDEX:
        raise ValueError(
            f"dataset.ignore_index={dataset['ignore_index']}: data sets map what doesn't count to {IGNORE_INDEX}, "
            f"whatever their files hold; set dataset.ignore_index={IGNORE_INDEX}."
        )


def data_use(values: dict[str, Any]) -> Use:
    """Returns what a configuration does with images, as far as their sizes matter."""
    crop = values["augment"]["sample"].get("crop_size")
    batch, val_batch = values["data"]["batch_size"], values["data"]["val_batch_size"]
    return Use(None if crop is None else (crop[0], crop[1]), batch, val_batch)


def _num_ranks(values: dict[str, Any]) -> int:
    devices = values["trainer"]["devices"]
    if "processes" in values["strategy"]:
        devices = values["strategy"]["processes"]
    if values["strategy"].get("schedule") == "none":
        devices = 1  # one process drives all devices
    per_node = devices if isinstance(devices, int) else len(devices) if isinstance(devices, list) else 1
    return int(values["trainer"]["num_nodes"]) * per_node
