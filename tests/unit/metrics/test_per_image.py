import zipfile
from dataclasses import dataclass

import numpy as np
import pytest

from segframe.metrics import per_image
from segframe.metrics.per_image import image_counts


@dataclass
class Task:
    per_image: list
    classes: list
    evaluated_step: int = 7
    absent: str = "drop"


def counted(num_images, num_classes, seed=0):
    draw = np.random.default_rng(seed)
    return draw.integers(0, 3, (num_images, num_classes, num_classes)) * draw.integers(0, 2**20, (num_images, 1, 1))


@pytest.mark.parametrize("num_classes", [1, 19, 300])
def test_a_file_gives_the_counts_back(tmp_path, num_classes):
    matrices = counted(5, num_classes)
    matrices[2] = 0  # an image whose pixels are all ignored
    names = ["a", "unter/straße", "c", "d", "e"]
    images = [image_counts(10 + i, names[i], 0.5, matrix) for i, matrix in enumerate(matrices)]
    path = per_image.path_of(tmp_path, "final")
    per_image.write(path, Task(images, [f"class {i}" for i in range(num_classes)]))
    found = per_image.read(path)
    assert (found.names, found.positions.tolist(), found.step, found.absent) == (names, [10, 11, 12, 13, 14], 7, "drop")
    assert found.classes[-1] == f"class {num_classes - 1}"
    np.testing.assert_array_equal(found.matrix(), matrices.sum(0))
    right, true, predicted = found.sums()
    np.testing.assert_array_equal(right, matrices.diagonal(axis1=1, axis2=2))
    np.testing.assert_array_equal(true, matrices.sum(2))
    np.testing.assert_array_equal(predicted, matrices.sum(1))
    assert [file.name for file in path.parent.iterdir()] == ["final.npz"]


def test_nothing_is_written_where_nothing_was_evaluated(tmp_path):
    per_image.write(per_image.path_of(tmp_path, "final"), Task([], ["a"]))
    assert not (tmp_path / "per_image").exists()


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04torn", None])
def test_a_damaged_file_is_named(tmp_path, damage):
    path = tmp_path / "final.npz"
    if damage is None:
        np.savez(path, names=np.array(["a", None], dtype=object))
    else:
        path.write_bytes(damage)
    with pytest.raises(ValueError, match=r"final\.npz can't be read"):
        per_image.read(path)


def test_damage_within_a_file_is_named(tmp_path):
    path = tmp_path / "final.npz"
    per_image.write(path, Task([image_counts(0, "a", 0.5, counted(1, 19)[0])], [str(i) for i in range(19)]))
    with zipfile.ZipFile(path) as archive:
        start = next(entry for entry in archive.infolist() if entry.filename == "pixels.npy").header_offset
    content = bytearray(path.read_bytes())
    content[start + 60 : start + 90] = bytes(byte ^ 0x5A for byte in content[start + 60 : start + 90])
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"final\.npz can't be read .*remove it, and segframe evaluate"):
        per_image.read(path)
