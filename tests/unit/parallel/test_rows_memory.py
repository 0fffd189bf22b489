"""What a rank keeps of large images, counted on tensors without data: an equal share and little more."""

import pytest
import torch
from torch.nn import functional as F

from segframe.cost.activations import SavedTensors
from segframe.models.pspnet import PSPNet
from segframe.models.segnet import SegNet
from segframe.parallel.rows import Rows, RowTensor


def kept(net, rank, size):
    images = torch.empty(2, 3, 512, 1024, device="meta").to(memory_format=torch.channels_last)
    with SavedTensors(net) as saved:
        output = net(images if size == 1 else RowTensor.of(images, Rows(rank, size))).at_size(512, 1024)
        maps = [getattr(x, "local", x) for x in (output.logits, *output.auxiliary)]
        torch.stack([F.log_softmax(x, 1).sum() for x in maps]).sum()
    return saved.peak_bytes


@pytest.mark.parametrize("make", [lambda: PSPNet(19, encoder="resnet50"), lambda: SegNet(19)], ids=["pspnet", "segnet"])
def test_a_rank_keeps_its_share_of_activations(make):
    net = make().to("meta").train().to(memory_format=torch.channels_last)
    alone = kept(net, 0, 1)
    assert alone > 4 * 2**30
    for size in (2, 4):
        # Ranks inside have neighbours on both sides.
        assert kept(net, size // 2, size) <= 1.15 / size * alone
