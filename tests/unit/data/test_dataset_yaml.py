"""Every data set by its YAML file: found by glob, so that a new one is tested without an edit here."""

import importlib
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from segframe.contracts import IGNORE_INDEX

CONF = Path(__file__).parents[3] / "conf"


def target(node):
    module, _, name = node["_target_"].rpartition(".")
    return getattr(importlib.import_module(module), name)


def arguments(node):
    return {key: value for key, value in OmegaConf.to_container(node, resolve=True).items() if key != "_target_"}


def compose(name, **dataset):
    merged = OmegaConf.merge(OmegaConf.load(CONF / "dataset" / f"{name}.yaml"), dataset)
    return OmegaConf.create({"dataset": merged, "seed": 3})


@pytest.mark.parametrize("name", sorted(path.stem for path in (CONF / "dataset").glob("*.yaml")))
def test_the_yaml_agrees_with_the_class(name, tmp_path):
    config = compose(name)
    for split in ("train", "val"):
        cls = target(config.dataset[split])
        assert len(cls.classes) == len(cls.palette) == config.dataset.num_classes
        assert len(set(cls.palette)) == len(cls.palette)
    assert config.dataset.ignore_index == IGNORE_INDEX
    if OmegaConf.is_missing(config.dataset, "root"):
        importlib.import_module(cls.__module__).write_fake(tmp_path)
        config = compose(name, root=str(tmp_path))
    for split in ("train", "val"):
        dataset = cls(**arguments(config.dataset[split]))
        image, mask = dataset[0]
        assert image.shape == (3, *mask.shape)
        assert dataset.name(0)


@pytest.mark.parametrize("name", sorted(path.stem for path in (CONF / "augment").glob("*.yaml")))
def test_every_augmentation_can_be_made(name):
    augment = OmegaConf.merge(
        compose("synthetic"), {"augment": OmegaConf.load(CONF / "augment" / f"{name}.yaml")}
    ).augment
    sample = target(augment.sample)(**arguments(augment.sample))
    batch = target(augment.batch)(**arguments(augment.batch))
    assert sample.seed == batch.seed == 3
