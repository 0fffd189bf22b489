"""Run folders as runs leave them, written without training anything."""

from __future__ import annotations

import copy
import json
import time
from dataclasses import dataclass

import numpy as np
import pytest
import yaml

from segframe import runfolder
from segframe.config.compose import compose, resolved
from segframe.metrics import per_image
from segframe.metrics.per_image import image_counts

CLASSES = ["ground", "disc", "square"]


@dataclass
class Evaluated:
    per_image: list
    classes: list
    evaluated_step: int = 8
    absent: str = "drop"


@pytest.fixture(scope="session")
def evaluated():
    """Draws the counts of images of which a share of pixels is right."""

    def draw(skill=0.7, seed=0, num_images=40, classes=CLASSES, absent="drop", prefix="val", scale=1):
        truth = np.random.default_rng(5).integers(50, 900, (num_images, len(classes))) * scale
        noise = np.random.default_rng([seed, 1]).normal(0, 0.05, truth.shape)
        right = np.rint(truth * np.clip(skill + noise, 0, 1)).astype(np.int64)
        images = []
        for i in range(num_images):
            matrix = np.diag(right[i])
            for k in range(len(classes)):
                matrix[k, (k + 1) % len(classes)] += truth[i, k] - right[i, k]
            images.append(image_counts(i, f"{prefix}/{i:03d}", 0.5, matrix))
        return Evaluated(images, list(classes), absent=absent)

    return draw


@pytest.fixture(scope="session")
def base_values():
    return resolved(compose(["model=tiny", "run.dir=x"]))


@pytest.fixture(scope="session")
def write_run(base_values, evaluated):
    """Writes a finished run: ``write_run(folder, "seed=1", skill=0.8)``."""

    def write(folder, *words, skill=0.7, status="finished", source=None):
        words, values = ["model=tiny", *words], copy.deepcopy(base_values)
        for word in words:
            key, _, text = word.partition("=")
            *path, leaf = key.split(".")
            section = values
            for name in path:
                section = section[name]
            if key == "model":
                section["model"]["_target_"] = f"segframe.models.{text}"
            elif not isinstance(section[leaf], dict):  # the keys of another option are words of their own
                section[leaf] = yaml.safe_load(text)
        values["data"]["seed"] = values["augment"]["sample"]["seed"] = values["seed"]
        values["run"]["dir"] = str(folder)
        folder.mkdir(parents=True)
        (folder / "config.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
        (folder / "overrides.json").write_text(json.dumps(words))
        environment = {"started": time.time(), "process": runfolder.own_process()}
        (folder / "environment.json").write_text(json.dumps(environment))
        rows = [f"{step},{skill * step / 8!r},{2 - skill * step / 8!r}" for step in (4, 8)]
        (folder / "metrics.csv").write_text("\n".join(["step,val/miou,val/loss", *rows]) + "\n")
        runfolder.write_results(folder, values, status, wall_s=12.5, images_per_s=100.0)
        source = evaluated(skill, values["seed"]) if source is None else source
        for which in ("final", "best"):
            per_image.write(per_image.path_of(folder, which), source)
        return folder

    return write


@pytest.fixture
def run_folder(tmp_path, write_run):
    """Writes a finished run below the test's folder: ``run_folder("a", "seed=1")``."""
    return lambda name, *words, **more: write_run(tmp_path / name, *words, **more)
