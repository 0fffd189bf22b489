"""Every data set by its YAML file: found by glob, so that a new one is tested without an edit here."""

import importlib
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from segframe.config import references  # noqa: F401 - for the resolvers that the files use
from segframe.contracts import IGNORE_INDEX

CONF = Path(__file__).parents[3] / "conf"
NEEDED = {"classes": ["one", "two", "three"]}
"""What a file that leaves it to its user is given here."""


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
    needed = {key: value for key, value in NEEDED.items() if OmegaConf.is_missing(config.dataset, key)}
    if OmegaConf.is_missing(config.dataset, "root"):
        importlib.import_module(target(config.dataset.train).__module__).write_fake(tmp_path)
        needed["root"] = str(tmp_path)
    config = compose(name, **needed)
    assert config.dataset.ignore_index == IGNORE_INDEX
    for split in ("train", "val"):
        cls = target(config.dataset[split])
        dataset = cls(**arguments(config.dataset[split]))
        # Those of the class, where it has them: a constructor must not change what it stands for.
        for owner in (dataset, cls) if "classes" not in needed else (dataset,):
            assert len(owner.classes) == len(owner.palette) == config.dataset.num_classes
            assert len(set(owner.palette)) == len(owner.palette)
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
