"""What a rank's loader costs where an image's rows are split over ranks: CPU time per sample, and bytes.

Usage: python scripts/benchmark_rows.py [--camvid FOLDER] [--rounds N] [--out FILE]

Takes CamVid's PNG files, or street scenes of 1024 x 2048 that it writes. Training samples as the recipes have them
(scaled, cropped, mirrored, with a limit on a class's share), and whole images of an evaluation; without a cache and
with cache=disk; of 1, 2 and 4 parts, each part in turn, in one run. Times are those of the process, not of the clock,
since ranks share a machine's cores. Writes a JSON file and prints the same as Markdown.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import cv2
import torch
from street_scenes import write
from torch import Tensor
from tqdm import tqdm

from segframe import runfolder
from segframe.allocator import keep_freed_memory
from segframe.contracts import RowBacked, SegmentationDataset, Span
from segframe.data.augment import Augment
from segframe.data.cache import cached
from segframe.data.camvid import CamVid
from segframe.data.cityscapes import Cityscapes
from segframe.data.reading import Stored
from segframe.data.sampler import Key
from segframe.data.samples import EvalSamples, TrainSamples

COUNTS = (1, 2, 4)
SAMPLES = 24
SOURCES = {"none": "files", "disk": "cache=disk"}
KINDS = {"train": "training", "val": "evaluation"}


class Counted:
    """Pairs that add up the bytes of the pixels that are decoded or read of them.

    Args:
        dataset: The pairs.
        decodes: Whether rows before those that are asked for have to be decoded too, as those of a PNG.
    """

    def __init__(self, dataset: RowBacked, decodes: bool) -> None:
        self.dataset, self.decodes, self.num_bytes = dataset, decodes, 0

    def size(self, index: int) -> tuple[int, int]:
        """Returns the rows and columns of a pair."""
        return self.dataset.size(index)

    def image_rows(self, index: int, start: int, stop: int) -> Tensor:
        """Returns rows of an image."""
        self.num_bytes += 3 * self._pixels(index, start, stop)
        return self.dataset.image_rows(index, start, stop)

    def mask_rows(self, index: int, start: int, stop: int) -> Tensor:
        """Returns rows of a mask."""
        self.num_bytes += self._pixels(index, start, stop)
        return self.dataset.mask_rows(index, start, stop)

    def _pixels(self, index: int, start: int, stop: int) -> int:
        return (stop - (0 if self.decodes else start)) * self.size(index)[1]


def main() -> None:
    """Makes the data, measures, reports."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--camvid", type=Path, help="the folder of CamVid")
    parser.add_argument("--rounds", type=int, default=7, help="how often each part is measured")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/data_rows.json"), help="the JSON file")
    options = parser.parse_args()
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    keep_freed_memory()
    with tempfile.TemporaryDirectory(prefix="segframe-rows-") as folder:
        files, crop = _files(options.camvid, Path(folder))
        sources = {"none": files, "disk": cached([(files, {"root": folder})], "disk", Path(folder) / "cache")[0]}
        augment = Augment(crop, (0.5, 2.0), max_class_share=0.75)
        jobs = {
            (kind, name, count, part): _job(kind, source, augment, (part, count))
            for name, source in sources.items()
            for kind in KINDS
            for count in COUNTS
            for part in range(count)
        }
        times = _measured(jobs, options.rounds)
        size = cast(RowBacked, files).size(0)
        result = {
            "device": platform.processor() or platform.machine(),
            "versions": runfolder.versions(),
            "images": "CamVid" if options.camvid else "street scenes",
            "rows_and_columns": list(size),
            "crop": list(crop),
            "parts": [
                {
                    "kind": kind,
                    "source": name,
                    "count": count,
                    "part": part,
                    "cpu_ms": statistics.median(times[kind, name, count, part]),
                    "mb": _megabytes(kind, name, sources[name], augment, (part, count)),
                }
                for kind, name, count, part in jobs
            ],
        }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    show(result)
    print(f"\nwritten to {options.out}")


def _files(camvid: Path | None, folder: Path) -> tuple[Any, tuple[int, int]]:
    if camvid is not None:
        return CamVid(str(camvid), "train"), (360, 480)
    write(folder, 8)
    return Cityscapes(str(folder), "train", labels="labelIds"), (768, 768)


def _job(kind: str, source: SegmentationDataset, augment: Augment, part: tuple[int, int]) -> Callable[[int], Any]:
    if kind == "val":
        whole = EvalSamples(source, part)
        return lambda number: whole[number % len(whole)]
    samples = TrainSamples(source, augment, row_part=part)
    return lambda number: samples[Key(0, number % len(samples))]


def _measured(jobs: dict[Any, Callable[[int], Any]], rounds: int) -> dict[Any, list[float]]:
    """Returns the milliseconds of the process for a sample, of every job in every round."""
    times: dict[Any, list[float]] = {job: [] for job in jobs}
    for _ in tqdm(range(rounds), desc="rounds", unit="round"):
        for name, job in jobs.items():
            job(0)
            started = time.process_time()
            for number in range(SAMPLES):
                job(number)
            times[name].append(1e3 * (time.process_time() - started) / SAMPLES)
    return times


def _megabytes(kind: str, name: str, source: SegmentationDataset, augment: Augment, part: tuple[int, int]) -> float:
    """Returns what a sample decodes or reads, in millions of bytes of pixels, on average."""
    counted = Counted(cast(RowBacked, source), decodes=name == "none")
    for number in range(SAMPLES):
        pair = Stored(counted, index := number % len(source))
        if kind == "train" and (part[1] > 1 or name != "none"):
            augment.rows(pair, 0, index, row_part=part)
            continue
        span = Span.part(pair.size[0], *part)
        for read in (pair.image, pair.mask):
            read(slice(span.start, span.stop), slice(0, pair.size[1]))
    return counted.num_bytes / SAMPLES / 1e6


def show(result: dict[str, Any]) -> None:
    """Prints Markdown for the documentation."""
    rows, columns = result["rows_and_columns"]
    print(f"\n{result['images']}, {rows} x {columns}, crops of {result['crop'][0]} x {result['crop'][1]}:\n")
    print("| samples | read from | ranks | ms of CPU, per rank | mean of one rank's | MB of pixels, per rank |")
    print("|---|---|--:|--:|--:|--:|")
    for name, title in SOURCES.items():
        for kind, word in KINDS.items():
            whole = 0.0
            for count in COUNTS:
                parts = [p for p in result["parts"] if (p["kind"], p["source"], p["count"]) == (kind, name, count)]
                times, sizes = [p["cpu_ms"] for p in parts], [p["mb"] for p in parts]
                whole = whole or times[0]
                spread = f"{times[0]:.2f}" if count == 1 else f"{min(times):.2f} to {max(times):.2f}"
                read = f"{sizes[0]:.2f}" if count == 1 else f"{min(sizes):.2f} to {max(sizes):.2f}"
                share = f"{statistics.mean(times) / whole:.0%}"
                print(f"| {word} | {title} | {count} | {spread} | {share} | {read} |")


if __name__ == "__main__":
    main()
