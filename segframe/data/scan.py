"""What one pass over a data set's pairs sees: problems, values, sizes and contents."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from segframe.contracts import IGNORE_INDEX, FileBacked, SegmentationDataset
from segframe.data.decode import UnreadableError, read_image, read_labels
from segframe.data.facts import PairFacts, Problem, Size, Split, Value
from segframe.data.labels import UnlistedLabelsError
from segframe.data.pairs import FilePairs
from segframe.data.pool import each
from segframe.data.reading import read

_MAX_VALUES = 4096  # per label map that are kept
_TAIL = 1024  # bytes at a file's end in which its end marker must stand


def scan(
    split: Split,
    indices: Sequence[int],
    images: bool,
    num_workers: int = 0,
    progress: bool = True,
    delay_s: float = 0.0,
    limit_s: float = math.inf,
) -> None:
    """Looks at pairs of a split; what is wrong with them does not end it.

    Args:
        split: Gets the ``pairs``.
        indices: Which.
        images: Whether to decode images too; otherwise their headers and ends are read.
        num_workers: Processes; 0 works in this one.
        progress: Whether to show a progress bar.
        delay_s: Seconds before it shows.
        limit_s: Seconds after which no further pair is looked at.
    """
    dataset = split.dataset
    assert dataset is not None
    started, found = time.monotonic(), dict[int, PairFacts]()
    results = each(
        lambda i: facts(dataset, indices[i], images),
        len(indices),
        num_workers,
        f"checking {split.name}",
        progress,
        delay_s=delay_s,
    )
    with closing(results):
        for number, pair in results:
            found[number] = pair
            if time.monotonic() - started > limit_s:
                break
    split.pairs = [found[number] for number in sorted(found)]


def facts(dataset: SegmentationDataset, index: int, images: bool) -> PairFacts:
    """Returns what is to be seen of one pair.

    Args:
        dataset: The data set.
        index: The pair.
        images: Whether to decode the image of files too.
    """
    if not isinstance(dataset, FileBacked):
        name = dataset.name(index)
        pair = PairFacts(name, name)
        _tried(pair, name, lambda: _look_at_tensors(pair, dataset, index))
        return pair
    files = dataset.files(index)
    pair = PairFacts(str(files[-1]), str(files[0]))
    mask_size = _tried(pair, pair.file, lambda: _look_at_labels(pair, dataset, index, images))
    _tried(pair, pair.image, lambda: _look_at_image(pair, dataset, index, images))
    if mask_size and pair.image_size and mask_size != pair.image_size:
        _tried(pair, pair.file, lambda: _compare_sizes(dataset, index, pair.image_size, mask_size))
    if len(pair.values) > _MAX_VALUES:  # a photograph in the place of a label map
        pair.values = dict(sorted(pair.values.items(), key=lambda item: -item[1])[:_MAX_VALUES])
    return pair


def _tried(pair: PairFacts, file: str, look: Any) -> Any:
    """Calls; an error becomes a problem of the pair."""
    try:
        return look()
    except FileNotFoundError as error:
        pair.problems.append(Problem("missing", file, f"{file} has gone, or is a broken link: {error}"))
    except UnreadableError as error:
        pair.problems.append(Problem("unreadable", file, str(error)))
    except UnlistedLabelsError as error:
        pair.values = dict(error.counts)
        pair.problems.append(Problem("labels", file, str(error)))
    except _SizeError as error:
        pair.problems.append(Problem("size", file, str(error)))
    except ValueError as error:
        pair.problems.append(Problem("form", file, str(error)))
    except Exception as error:
        # A user's own data set may fail in any way, and the others are to be seen all the same.
        pair.problems.append(Problem("failed", file, f"{file}: {type(error).__name__}: {error}"))
    return None


class _SizeError(ValueError):
    pass


def _compare_sizes(dataset: SegmentationDataset, index: int, image: Size | None, mask: Size) -> None:
    assert image is not None
    try:
        if isinstance(dataset, FilePairs):
            dataset.check_size(index, image, mask)
    except ValueError as error:
        raise _SizeError(str(error)) from None
    name = dataset.name(index)
    raise _SizeError(f"{name}: the label map is {mask[0]}x{mask[1]} but its image {image[0]}x{image[1]}")


def _look_at_tensors(pair: PairFacts, dataset: SegmentationDataset, index: int) -> None:
    image, mask = (tensor.numpy() for tensor in read(dataset, index))
    for kind, pixels, is_right in (
        ("image", image, image.ndim == 3 and image.shape[0] == 3),
        ("mask", mask, mask.ndim == 2),
    ):
        if pixels.dtype != np.uint8 or not is_right:
            shape = "(3, H, W)" if kind == "image" else "(H, W)"
            raise ValueError(
                f"{pair.file}: the {kind} is {pixels.dtype} of shape {pixels.shape}; expected uint8 {shape}."
            )
    _look_at_pixels(pair, np.ascontiguousarray(image.transpose(1, 2, 0)))
    pair.label_digest = _digest(mask)
    _count_classes(pair, mask, len(dataset.classes))
    if mask.shape != pair.image_size:
        _compare_sizes(dataset, index, pair.image_size, mask.shape)


def _look_at_labels(pair: PairFacts, dataset: SegmentationDataset, index: int, images: bool) -> Size:
    assert isinstance(dataset, FileBacked)
    if not isinstance(dataset, FilePairs):
        mask = dataset.mask(index)
        pair.label_digest = _digest(mask) if images else None
        _count_classes(pair, mask, len(dataset.classes))
        return _size_of(mask)
    path, label_map = Path(pair.file), dataset.label_map
    labels = read_labels(path)
    pair.label_digest = _digest(labels) if images else None
    try:
        labels = label_map.in_right_form(labels, path)
    finally:
        pair.values = value_counts(labels)
    _count(pair, {**label_map.ids, **(label_map.colours or {})}, label_map.num_classes)
    return _size_of(labels)


def _size_of(labels: NDArray[Any]) -> Size:
    return int(labels.shape[0]), int(labels.shape[1])


def _count_classes(pair: PairFacts, mask: NDArray[np.uint8], num_classes: int) -> None:
    pair.values = value_counts(mask)
    _count(pair, {**{label: label for label in range(num_classes)}, IGNORE_INDEX: IGNORE_INDEX}, num_classes)


def _count(pair: PairFacts, targets: dict[Any, int], num_classes: int) -> None:
    """Counts classes by way of the values; labels that no class has become a problem when all are known."""
    pair.counts = np.zeros(num_classes, np.int64)
    for value, count in pair.values.items():
        target = targets.get(value)
        if target == IGNORE_INDEX:
            pair.ignored += count
        elif target is not None:
            pair.counts[target] += count
        elif not pair.has("labels"):
            pair.problems.append(Problem("labels", pair.file, ""))


def _look_at_image(pair: PairFacts, dataset: SegmentationDataset, index: int, images: bool) -> None:
    assert isinstance(dataset, FileBacked)
    path = Path(pair.image)
    if not images:
        pair.image_size = dataset.size(index)
        _check_end(path)
    elif isinstance(dataset, FilePairs):
        _look_at_pixels(pair, read_image(path, dataset.exif))
        pair.brightest = _brightest(path)
    else:
        _look_at_pixels(pair, read(dataset, index)[0].permute(1, 2, 0).contiguous().numpy())


def _look_at_pixels(pair: PairFacts, image: NDArray[np.uint8]) -> None:
    pair.image_size = _size_of(image)
    pair.digest = _digest(image)
    red = image[..., 0]
    pair.is_grey = bool((image[..., 1] == red).all() and (image[..., 2] == red).all())


def _digest(pixels: NDArray[Any]) -> bytes:
    digest = hashlib.blake2b(str(pixels.shape).encode(), digest_size=16)
    digest.update(pixels.tobytes())
    return digest.digest()


def _brightest(path: Path) -> int | None:
    """Returns the largest value of an image that has 16 bits."""
    with path.open("rb") as file:
        head = file.read(26)
    if (head.startswith(b"\x89PNG") and head[24] != 16) or head.startswith((b"\xff\xd8", b"BM", b"GIF8", b"RIFF")):
        return None
    pixels: Any = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    return int(pixels.max()) if pixels is not None and pixels.dtype == np.uint16 else None


def _check_end(path: Path) -> None:
    """Checks that a PNG or JPEG has an end, by its last bytes; where they leave a doubt it is decoded."""
    with path.open("rb") as file:
        head = file.read(4)
        file.seek(max(0, path.stat().st_size - _TAIL))
        tail = file.read()
    if (head.startswith(b"\x89PNG") and b"IEND" not in tail) or (
        head.startswith(b"\xff\xd8") and b"\xff\xd9" not in tail
    ):
        read_image(path)


def value_counts(labels: NDArray[Any]) -> dict[Value, int]:
    """Returns pixels by value: of ids (H, W) or of colours (H, W, 3)."""
    if labels.ndim == 2 and labels.dtype == np.uint8:
        counts = np.bincount(labels.ravel(), minlength=256)
        return {int(value): int(counts[value]) for value in np.flatnonzero(counts)}
    flat = labels.ravel()
    if labels.ndim == 3:
        wide = labels.astype(np.uint32)
        flat = (wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2]).ravel()
    # Label maps are made of long runs, and sorting runs takes a tenth of sorting pixels.
    starts = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1])
    lengths = np.diff(np.append(starts, flat.size))
    values, inverse = np.unique(flat[starts], return_inverse=True)
    counts = np.bincount(inverse, weights=lengths).astype(np.int64)
    if labels.ndim == 2:
        return {int(value): int(count) for value, count in zip(values, counts, strict=True)}
    return {
        (int(v) >> 16, int(v) >> 8 & 255, int(v) & 255): int(count) for v, count in zip(values, counts, strict=True)
    }
