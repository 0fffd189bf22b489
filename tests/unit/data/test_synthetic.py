import hashlib
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from segframe.contracts import IGNORE_INDEX
from segframe.data.statistics import ClassStatistics, count
from segframe.data.synthetic import Synthetic

DIGEST = """
import hashlib
from segframe.data.synthetic import Synthetic
image, mask = Synthetic("val", num_images=9)[7]
print(hashlib.sha256(image.numpy().tobytes() + mask.numpy().tobytes()).hexdigest())
"""


def test_an_image_is_the_same_in_every_process_and_order():
    dataset = Synthetic("val", num_images=9)
    for index in (3, 7, 7):
        image, mask = dataset[index]
    digest = hashlib.sha256(image.numpy().tobytes() + mask.numpy().tobytes()).hexdigest()
    result = subprocess.run([sys.executable, "-c", DIGEST], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == digest


def test_splits_seeds_and_indices_differ():
    reference = Synthetic("train", num_images=4)[0][0]
    others = (Synthetic("val", num_images=4)[0], Synthetic("train", seed=1)[0], Synthetic("train")[1])
    for other, _ in others:
        assert not torch.equal(reference, other)
    assert torch.equal(reference, Synthetic("train", num_images=99)[0][0])


def test_shapes_types_and_labels():
    dataset = Synthetic("train", num_images=40, height=80, width=112)
    image, mask = dataset[0]
    assert image.shape == (3, 80, 112)
    assert image.permute(1, 2, 0).is_contiguous()
    assert mask.shape == (80, 112)
    assert image.dtype == mask.dtype == torch.uint8
    labels = torch.cat([dataset[index][1].flatten() for index in range(40)])
    assert labels.unique().tolist() == [*range(len(dataset.classes)), IGNORE_INDEX]
    assert len(dataset) == 40
    assert dataset.name(7) == "synthetic/train/00007"
    with pytest.raises(IndexError):
        dataset[40]
    with pytest.raises(ValueError, match=r"height=40, width=96.*at least 48"):
        Synthetic("train", height=40)


def test_every_class_holds_a_share_of_the_pixels():
    statistics = ClassStatistics.of(count(Synthetic("train", num_images=64), progress=False))
    shares = np.array(statistics.pixels) / sum(statistics.pixels)
    assert shares.min() > 0.03
    assert shares.max() < 0.7


def pixels(split, num_images, with_position):
    """Features (N, 3 or 5 and their squares) and labels (N,) of a share of the labelled pixels."""
    dataset = Synthetic(split, num_images=num_images)
    pairs = [dataset[index] for index in range(num_images)]
    colour = torch.cat([image.permute(1, 2, 0).reshape(-1, 3) for image, _ in pairs]).float() / 255 - 0.5
    labels = torch.cat([mask.flatten() for _, mask in pairs]).long()
    features = colour
    if with_position:
        rows, columns = torch.meshgrid(torch.linspace(-1, 1, 96), torch.linspace(-1, 1, 96), indexing="ij")
        position = torch.stack([rows, columns], -1).reshape(-1, 2).repeat(num_images, 1)
        features = torch.cat([colour, position], 1)
    valid = (labels != IGNORE_INDEX).nonzero().flatten()[::31]
    return features[valid], labels[valid]


def mean_iou(prediction, labels):
    counts = torch.bincount(labels * 6 + prediction, minlength=36).view(6, 6)
    return float((counts.diag() / (counts.sum(0) + counts.sum(1) - counts.diag())).mean())


@pytest.mark.parametrize("with_position", [False, True])
@pytest.mark.parametrize("balanced", [False, True])
def test_a_linear_pixel_classifier_stays_under_half_the_miou(with_position, balanced):
    x, y = pixels("train", 64, with_position)
    weight = len(y) / (6 * torch.bincount(y, minlength=6)) if balanced else None
    torch.manual_seed(0)
    linear = torch.nn.Linear(x.shape[1], 6)
    optimizer = torch.optim.LBFGS(linear.parameters(), max_iter=40, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        loss = F.cross_entropy(linear(x), y, weight)
        loss.backward()
        return loss.detach()

    before = float(closure())
    optimizer.step(closure)
    assert float(closure()) < before - 0.1
    x_val, y_val = pixels("val", 64, with_position)
    with torch.no_grad():
        score = mean_iou(linear(x_val).argmax(1), y_val)
    print(f"linear classifier: mIoU {score:.3f}")
    assert score < 0.5
