"""``segframe data browse``: draws samples with their labels on one sheet.

segframe data browse [WORDS] [num=12] [split=train] [epoch=0] [out=FILE.png]

Of split=train the first samples of an epoch as the net is shown them: cropped, mirrored, mixed, with varied and
erased colours. WORDS are those of `segframe train`: dataset=NAME dataset.root=DIR says which data, augment=none
shows originals, sampling=rare_class what that draws. Of split=val whole images, spread over the set.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from segframe.config.options import ConfigError, did_you_mean
from segframe.verbs.own_words import composed, taken

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from segframe.contracts import SegmentationDataset
    from segframe.figures.contact_sheet import Shown

_KEYS = ("num", "split", "epoch", "out")
_SPLITS = ("train", "val")
_MOST = 200  # samples on a sheet: 200 of them make a picture of 40 megapixels


class _Asked(NamedTuple):
    num: int
    split: str
    epoch: int
    out: str


def main(words: list[str]) -> int:
    """Writes the sheet and says where; returns 0, or 1 if the data can't be read.

    Args:
        words: Those of ``train``, and ``num``, ``split``, ``epoch`` and ``out``.

    Raises:
        ConfigError: If the words are wrong.
    """
    asked = _read(words)
    config = composed(words, _KEYS)
    out = Path(asked.out or f"browse-{_choice('dataset')}-{asked.split}.png").expanduser()
    try:
        dataset = _dataset(config, asked.split)
        samples = [*(_train if asked.split == "train" else _val)(config, dataset, asked)]
        _draw(samples, dataset, out, _title(asked, len(samples), len(dataset)))
    except (ValueError, OSError, RuntimeError) as error:
        print(f"segframe: {error}", file=sys.stderr)
        return 1
    print(f"{len(samples)} of {len(dataset)} samples of {asked.split}: {out}")
    return 0


def _read(words: Sequence[str]) -> _Asked:
    given = taken(words, _KEYS)
    split = given.get("split", "train")
    if split not in _SPLITS:
        raise ConfigError(f"split={split} is not allowed{did_you_mean(split, _SPLITS)}; allowed: train or val")
    num = _number("num", given.get("num", "12"), 1, f"an integer of 1 to {_MOST}")
    if num > _MOST:
        raise ConfigError(f"num={num} is not allowed; allowed: an integer of 1 to {_MOST}")
    out = given.get("out", "")
    if out and not out.lower().endswith(".png"):
        raise ConfigError(f"out={out}: the sheet is a PNG file; name one that ends with .png")
    return _Asked(num, split, _number("epoch", given.get("epoch", "0"), 0, "an integer >= 0"), out)


def _number(key: str, text: str, least: int, allowed: str) -> int:
    if not text.isdecimal() or int(text) < least:
        raise ConfigError(f"{key}={text} is not allowed; allowed: {allowed}")
    return int(text)


def _dataset(config: DictConfig, split: str) -> SegmentationDataset:
    """Returns the pairs; where files lack a partner, it says so and goes on with the others."""
    from segframe.build import make_dataset
    from segframe.data.pairs import UnpairedError

    try:
        dataset = make_dataset(config, split)
    except UnpairedError as error:
        dataset = error.dataset
        print(f"segframe: {error} The sheet shows {len(dataset)} complete pairs.", file=sys.stderr)
    if not len(dataset):
        raise ValueError(f"split={split} has no samples to show.")
    return dataset


def _train(config: DictConfig, dataset: SegmentationDataset, asked: _Asked) -> Iterator[Shown]:
    """Yields the first samples of an epoch as the net is shown them."""
    import torch

    from segframe.build import make_preprocess, make_sampling, make_train_samples
    from segframe.data.sampler import TrainBatchSampler
    from segframe.data.samples import collate_train

    samples, preprocess = make_train_samples(config, dataset), make_preprocess(config)
    sampling = make_sampling(config, dataset, len(dataset), config.data.num_workers)
    order = TrainBatchSampler(len(dataset), min(asked.num, len(dataset)), seed=config.data.seed, sampling=sampling)
    order.set_position(asked.epoch)
    for key in _with_progress(next(iter(order))):
        # One by one: images of several sizes make no batch, and each is varied by itself anyway.
        batch = collate_train([samples[key]])
        image = preprocess(batch, epoch=asked.epoch, dtype=torch.float32)[0]
        yield _shown(_as_pixels(image, config), batch.mask[0], dataset, key.sample)


def _val(config: DictConfig, dataset: SegmentationDataset, asked: _Asked) -> Iterator[Shown]:
    """Yields whole images, spread over the data set."""
    import numpy as np

    from segframe.data.samples import EvalSamples

    samples = EvalSamples(dataset)
    for index in _with_progress(np.linspace(0, len(dataset) - 1, min(asked.num, len(dataset))).round().astype(int)):
        sample = samples[int(index)]
        yield _shown(sample.image, sample.mask, dataset, int(index))


def _with_progress(keys: Any) -> Iterator[Any]:
    from tqdm import tqdm

    return iter(tqdm(keys, "reading", leave=False, delay=1, unit="sample"))


def _as_pixels(image_CHW: Any, config: DictConfig) -> Any:
    """Returns a normalised image as uint8 again."""
    import torch

    mean_C11, std_C11 = (
        torch.tensor(list(values))[:, None, None] for values in (config.augment.batch.mean, config.augment.batch.std)
    )
    return ((image_CHW * std_C11 + mean_C11) * 255).round().clamp(0, 255).to(torch.uint8)


def _shown(image_CHW: Any, mask: Any, dataset: SegmentationDataset, index: int) -> Shown:
    from segframe.figures.contact_sheet import Shown

    height, width = mask.shape
    return Shown(
        image_CHW.permute(1, 2, 0).numpy(), mask.numpy(), dataset.name(index), f"sample {index}, {height} x {width}"
    )


def _choice(group: str) -> str:
    """Returns the option of a group that the last composition took."""
    from omegaconf import OmegaConf

    return str(OmegaConf.create({"option": f"${{hydra_choice:{group}}}"}).option)


def _title(asked: _Asked, count: int, total: int) -> str:
    title = f"{_choice('dataset')}: {count} of {total} samples of {asked.split}"
    if asked.split == "val":
        return title
    return f"{title}, epoch {asked.epoch}, " + ", ".join(f"{g}={_choice(g)}" for g in ("augment", "mix", "sampling"))


def _draw(samples: Sequence[Shown], dataset: SegmentationDataset, out: Path, title: str) -> None:
    from segframe.contracts import IGNORE_INDEX
    from segframe.figures.contact_sheet import contact_sheet

    try:
        contact_sheet(samples, dataset.classes, dataset.palette, out, IGNORE_INDEX, title)
    except OSError as error:
        raise ValueError(f"{out} can't be written: {error.strerror}; name another file with out=FILE.png") from error
