"""Samples per second from files on disk to a training batch: segframe against albumentations and torchvision.

Usage: make bench-data, or python scripts/benchmark_data.py [--rounds N] [--images N] [--out FILE]

Every pipeline reads the same 1024 x 2048 PNG files (their bytes are in the system's page cache) and makes
768 x 768 samples: scaled by 0.5 to 2, cropped, mirrored, colours jittered, normalised, float32, in batches
of 8. All is measured in one run, in turns; medians count. A process is set up as the pipeline's loader sets up its
workers: segframe's keep freed memory, the others are as they come. segframe's colour jitter and normalisation run on
the batch, on the CPU here. Writes a JSON file and prints the same as Markdown.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import multiprocessing
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from other_pipelines import CROP, JITTER, MEAN, SCALE, STD, Albumentations, Torchvision
from street_scenes import SIZE, write
from torch.utils.data import DataLoader
from tqdm import tqdm

from segframe import runfolder
from segframe.allocator import keep_freed_memory
from segframe.contracts import Batch, SegmentationDataset
from segframe.data.augment import Augment
from segframe.data.cache import cached
from segframe.data.cityscapes import Cityscapes
from segframe.data.device import Preprocess
from segframe.data.pool import usable_cores
from segframe.data.sampler import Key
from segframe.data.samples import Sample, TrainSamples, check_labels, collate_train, set_up_worker

BATCH = 8
GOALS = {"samples_per_s": 100.0, "disk/albumentations": 15.0, "disk/torchvision": 30.0, "none/fastest other": 1.5}
OURS = {"disk": "segframe, cache=disk", "ram": "segframe, cache=ram", "none": "segframe, no cache"}
NAMES = {**OURS, "albumentations": "albumentations 2.0.8 with OpenCV", "torchvision": "torchvision v2"}


def main() -> None:
    """Writes the files, measures, reports."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="how often each pipeline is measured")
    parser.add_argument("--images", type=int, default=16, help="pairs that are written and read; a multiple of 8")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/data_cpu.json"), help="the JSON file")
    options = parser.parse_args()
    if importlib.util.find_spec("albumentations") is None:
        sys.exit("albumentations is missing; install what is compared: pip install -e '.[benchmark]'")
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # it would look for a newer version on the network
    set_up_process()
    with tempfile.TemporaryDirectory(prefix="segframe-bench-") as folder:
        files = write(Path(folder), options.images)
        sources = make_sources(Path(folder))
        single = measure(sources, rate_alone, options.rounds, "one process")
        result = {
            "device": platform.processor() or platform.machine(),
            "cores": usable_cores(),
            "versions": {**runfolder.versions(), **_versions("albumentations", "pillow")},
            "files": {"images": options.images, "rows": SIZE[0], "columns": SIZE[1], **files},
            "single_process": single,
            "ratios": ratios(single),
            "two_workers": measure(sources, rate_with_workers, max(3, options.rounds // 2), "two workers"),
            "sample_ms": _forked(breakdown, sources),
        }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    show(result)
    print(f"\nwritten to {options.out}")


def set_up_process() -> None:
    """Keeps this process to one core, as a loader keeps each of its workers."""
    cv2.setNumThreads(0)
    torch.set_num_threads(1)


def _set_up_other(worker: int) -> None:
    set_up_process()


def make_sources(root: Path) -> dict[str, Any]:
    """Returns segframe's three data sets, and the other two pipelines, by name."""
    dataset: Any = Cityscapes(str(root), "train", labels="labelIds")
    identity = {"root": str(root)}
    disk, ram = (cached([(dataset, identity)], mode, root / "cache")[0] for mode in ("disk", "ram"))
    files = sorted(root.rglob("*_leftImg8bit.png")), sorted(root.rglob("*_labelTrainIds.png"))
    others = {"albumentations": Albumentations(*files), "torchvision": Torchvision(*files)}
    return {"disk": disk, "ram": ram, "none": dataset, **others}


def augment() -> Augment:
    """Returns segframe's augmentation as the recipes have it, the limit on a class's share included."""
    return Augment((CROP, CROP), SCALE, flip=0.5, max_class_share=0.75, fill=MEAN)


def preprocess() -> Preprocess:
    """Returns what segframe does on the device."""
    return Preprocess(MEAN, STD, brightness=JITTER, contrast=JITTER, saturation=JITTER)


def batches(name: str, source: Any, num: int) -> Iterator[Any]:
    """Yields training batches, made in this process."""
    keys = [[(start + i) % len(source) for i in range(BATCH)] for start in range(0, num * BATCH, BATCH)]
    if name not in OURS:
        for indices in keys:
            yield torch.utils.data.default_collate([source[index] for index in indices])
        return
    samples, on_device = TrainSamples(source, augment()), preprocess()
    for number, indices in enumerate(keys):
        batch = collate_train([samples[Key(number, index)] for index in indices])
        yield on_device(batch, epoch=number, dtype=torch.float32), batch.mask


def measure(sources: dict[str, Any], rate: Callable[[str, Any], float], rounds: int, title: str) -> dict[str, Any]:
    """Times every pipeline, round by round in turns, each time in a process of its own."""
    rates: dict[str, list[float]] = {name: [] for name in sources}
    for _ in tqdm(range(rounds), desc=title, unit="round"):
        for name, source in sources.items():
            rates[name].append(_forked(rate, name, source))
    return {name: _summary(found) for name, found in rates.items()}


def _forked(job: Callable[..., Any], *words: Any) -> Any:
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    process = context.Process(target=_send, args=(theirs, job, *words))
    process.start()
    theirs.close()  # an end of the process is then an end of the pipe
    result = ours.recv()
    process.join()
    return result


def _send(connection: Connection, job: Callable[..., Any], *words: Any) -> None:
    connection.send(job(*words))


def rate_alone(name: str, source: Any) -> float:
    """Returns the samples per second of one process, set up as a pipeline's loader sets its workers up."""
    if name in OURS:
        keep_freed_memory()
    num, started = (10 if name in ("disk", "ram") else 2), 0.0
    for number, (image, _) in enumerate(batches(name, source, num + 1)):
        assert (image.shape, image.dtype) == ((BATCH, 3, CROP, CROP), torch.float32)
        if number == 0:  # is warm-up
            started = time.perf_counter()
    return num * BATCH / (time.perf_counter() - started)


def rate_with_workers(name: str, source: Any, skipped: int = 24) -> float:
    """Returns the samples per second through a DataLoader with two workers, once memory has stopped to grow."""
    num, is_ours = (48 if name in ("disk", "ram") else 8), name in OURS
    starts = range(0, (num + skipped) * BATCH, BATCH)
    order = [[i % len(source) for i in range(start, start + BATCH)] for start in starts]
    keys: list[Any] = [[Key(0, index) for index in indices] for indices in order] if is_ours else order
    if is_ours:
        keep_freed_memory()  # as a run on a CPU does
    loader: DataLoader[Any] = DataLoader(
        TrainSamples(source, augment()) if is_ours else source,
        batch_sampler=keys,
        collate_fn=collate_train if is_ours else None,
        num_workers=2,
        worker_init_fn=set_up_worker if is_ours else _set_up_other,
    )
    on_device, started = preprocess(), 0.0
    for number, batch in enumerate(loader):
        if isinstance(batch, Batch):
            on_device(batch, epoch=0, dtype=torch.float32)
        if number == skipped - 1:
            started = time.perf_counter()
    return num * BATCH / (time.perf_counter() - started)


def breakdown(sources: dict[str, Any], num: int = 6) -> dict[str, dict[str, float]]:
    """Returns the milliseconds of each part of a segframe sample, with and without the disk cache."""
    keep_freed_memory()
    return {
        "disk": _parts(sources["disk"], "open the cache", num),
        "none": _parts(sources["none"], "decode image and mask", num),
    }


def _parts(source: SegmentationDataset, first: str, num: int) -> dict[str, float]:
    cut, on_device, clock = augment(), preprocess(), _Clock()
    for number in range(num + 1):
        if number == 1:  # the batch before is warm-up
            clock.seconds.clear()
        samples = []
        for index in range(number * BATCH, (number + 1) * BATCH):
            clock.start()
            image, mask = source[index % len(source)]
            clock.stop(first)
            pixels, labels = cut(image.permute(1, 2, 0).numpy(), mask.numpy(), number, index)
            clock.stop("choose, read, resize and mirror the window")
            tensors = torch.from_numpy(pixels).permute(2, 0, 1), torch.from_numpy(labels)
            check_labels(tensors[1], len(source.classes), source.name(index % len(source)))
            clock.stop("check labels")
            samples.append(Sample(*tensors, str(index), index))
        clock.start()
        batch = collate_train(samples)
        clock.stop("stack the batch")
        on_device(batch, epoch=number, dtype=torch.float32)
        clock.stop("jitter and normalise")
    return {part: 1e3 * seconds / (num * BATCH) for part, seconds in clock.seconds.items()}


class _Clock:
    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.start()

    def start(self) -> None:
        self._since = time.perf_counter()

    def stop(self, part: str) -> None:
        self.seconds[part] = self.seconds.get(part, 0.0) + time.perf_counter() - self._since
        self.start()


def _summary(rates: list[float]) -> dict[str, Any]:
    return {"samples_per_s": statistics.median(rates), "rounds": [round(rate, 2) for rate in rates]}


def ratios(single: dict[str, Any]) -> dict[str, float]:
    """Returns how many times faster, as the median over rounds of the ratio within a round."""
    rounds = {name: np.array(row["rounds"]) for name, row in single.items()}
    fastest = np.maximum(rounds["albumentations"], rounds["torchvision"])
    return {
        "disk/albumentations": float(np.median(rounds["disk"] / rounds["albumentations"])),
        "disk/torchvision": float(np.median(rounds["disk"] / rounds["torchvision"])),
        "none/fastest other": float(np.median(rounds["none"] / fastest)),
    }


def _versions(*packages: str) -> dict[str, str]:
    from importlib import metadata

    return {package: metadata.version(package) for package in packages}


def show(result: dict[str, Any]) -> None:
    """Prints Markdown for the README, and what was missed."""
    single, workers, files = result["single_process"], result["two_workers"], result["files"]
    print(f"\nPNG files of {SIZE[0]} x {SIZE[1]}, {files['image_mb']:.1f} MB; samples of {CROP} x {CROP}:\n")
    print("| pipeline | samples/s, one process | spread | samples/s, 2 workers |\n|---|--:|--:|--:|")
    for name, title in NAMES.items():
        rates = single[name]["rounds"]
        rate, with_two = single[name]["samples_per_s"], workers[name]["samples_per_s"]
        print(f"| {title} | {rate:.1f} | {min(rates):.1f} to {max(rates):.1f} | {with_two:.1f} |")
    print()
    reached = {"samples_per_s": single["disk"]["samples_per_s"], **result["ratios"]}
    for key, goal in GOALS.items():
        print(f"{key}: {reached[key]:.1f} (goal {goal:g}{'' if reached[key] >= goal else ', MISSED'})")
    for name, parts in result["sample_ms"].items():
        print(f"{OURS[name]}: " + ", ".join(f"{part} {ms:.2f} ms" for part, ms in parts.items()))


if __name__ == "__main__":
    main()
