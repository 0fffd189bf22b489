import pytest
import torch
from torch import nn

from segframe.contracts import SegmentationOutput
from segframe.inference import Inference, slide, whole


class Pixelwise(nn.Module):
    """A net without context: windows cannot change what it says of a pixel."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 4, 1)

    def forward(self, x):
        return SegmentationOutput(self.conv(x))


class Strided(nn.Module):
    def forward(self, x):
        return SegmentationOutput(nn.functional.avg_pool2d(x, 4, ceil_mode=True))


@pytest.mark.parametrize("size", [(20, 30), (7, 9), (16, 16), (5, 40)])
def test_windows_cover_every_pixel_and_change_nothing_without_context(size):
    net, image = Pixelwise(), torch.randn(2, 3, *size)
    expected = whole(net, image).softmax(1)
    found = slide(net, image, (8, 12), (5, 7)).exp()
    assert expected.std() > 0.01  # the input matters
    torch.testing.assert_close(found, expected)


def test_logits_come_back_at_the_size_of_the_image():
    assert whole(Strided(), torch.randn(1, 3, 13, 18)).shape == (1, 3, 13, 18)


def test_half_precision_logits_are_resized_in_full():
    assert whole(lambda x: SegmentationOutput(x.bfloat16()), torch.randn(1, 3, 8, 8)).dtype == torch.float32


def test_flip_makes_the_score_of_a_mirrored_image_the_mirrored_score():
    class Lopsided(nn.Module):
        def forward(self, x):
            return SegmentationOutput(x * torch.linspace(0, 1, x.shape[-1]))

    image = torch.randn(1, 3, 8, 10)
    both, plain = Inference(flip=True), Inference()
    net = Lopsided()
    assert not torch.allclose(plain(net, image.flip(-1)).flip(-1), plain(net, image))
    torch.testing.assert_close(both(net, image.flip(-1)).flip(-1), both(net, image))


def test_scales_average_probabilities():
    image = torch.randn(1, 3, 16, 16)
    scores = Inference(scales=[0.5, 1.0])(Pixelwise(), image)
    assert scores.shape == (1, 4, 16, 16)
    torch.testing.assert_close(scores.exp().sum(1), torch.ones(1, 16, 16))


def test_a_stride_above_the_window_is_refused():
    with pytest.raises(ValueError, match=r"inference\.stride=\[9, 4\].*lower the stride"):
        Inference("slide", window=[8, 8], stride=[9, 4])


def test_no_scale_is_refused():
    with pytest.raises(ValueError, match=r"scales=\[\] leaves nothing"):
        Inference(scales=[])
