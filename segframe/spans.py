"""What no single key of a configuration decides: whether values of different groups fit each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from segframe.contracts import IGNORE_INDEX, SegmentationDataset
from segframe.data.check import Use


def check_batch(values: dict[str, Any]) -> None:
    """Checks that the global batch divides into ranks and micro-batches.

    Args:
        values: The resolved configuration.

    Raises:
        ValueError: If it does not; names the nearest that does.
    """
    batch, parts = values["data"]["batch_size"], values["trainer"]["accumulate_grad_batches"]
    ranks = _num_ranks(values)
    if batch % (parts * ranks):
        fitting = max(parts * ranks, batch // (parts * ranks) * parts * ranks)
        raise ValueError(
            f"data.batch_size={batch} is the batch of one optimizer step and must divide into {ranks} rank(s) x "
            f"trainer.accumulate_grad_batches={parts} equal parts; the nearest that does is data.batch_size={fitting}."
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
    ranks = _num_ranks(values)
    if batch // (ranks * parts) < needed:
        raise ValueError(
            f"{type(net).__name__} pools to 1 x 1 before a BatchNorm, which needs {needed} images at once, and a batch "
            f"of data.batch_size={batch} over {ranks} rank(s) x trainer.accumulate_grad_batches={parts} leaves "
            f"{batch // (ranks * parts)}; set data.batch_size={needed * ranks * parts} or more, or cut it less."
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
    per_node = devices if isinstance(devices, int) else len(devices) if isinstance(devices, list) else 1
    return int(values["trainer"]["num_nodes"]) * per_node
