"""The nets of segmentation-models-pytorch.

Shape suffixes: B batch, C channels, K classes, H rows, W columns.
"""

from __future__ import annotations

from typing import Any, Literal

import segmentation_models_pytorch as smp
from torch import Tensor, nn
from torch.nn import functional as F

from segframe.contracts import SegmentationOutput
from segframe.models.backbone import check_encoder_name, load_encoder_weights
from segframe.models.probe import drop_unused_parameters
from segframe.models.stages import Stage
from segframe.models.zoo_stages import zoo_stages
from segframe.ranges import PositiveInt

_NETS: dict[str, Any] = {
    "unet": smp.Unet,
    "unetplusplus": smp.UnetPlusPlus,
    "fpn": smp.FPN,
    "linknet": smp.Linknet,
    "manet": smp.MAnet,
    "pan": smp.PAN,
    "deeplabv3": smp.DeepLabV3,
    "deeplabv3plus": smp.DeepLabV3Plus,
    "upernet": smp.UPerNet,
    "segformer": smp.Segformer,
    "dpt": smp.DPT,
}
_POOLS_TO_ONE = ("pan", "deeplabv3", "deeplabv3plus", "upernet")  # BatchNorm behind a global pool


class Zoo(nn.Module):
    """A net of segmentation-models-pytorch with its own defaults, for any input size.

    The image is padded at its right and bottom edge, by repeating the last pixels, to a multiple of
    32 (PAN: at least 128, which its three poolings at stride 16 need), and the logits are cropped
    back; at sizes that need no padding they are smp's own, its final upsampling included. A
    Vision Transformer (dpt) interpolates its position embedding to the size of the image.

    Args:
        architecture: Which net.
        num_classes: Channels K of the logits.
        encoder: An smp encoder ("resnet50") or a timm model with the prefix "tu-"; dpt needs a "tu-vit_...".
        encoder_weights: None for random weights, "imagenet" to download, or the path of a local file.
        in_channels: Channels of the image.

    Attributes:
        minimum_train_batch: Images per device that training needs, because of BatchNorm.

    Shape:
        (B, in_channels, H, W) -> (B, K, H, W), any H and W >= 1.

    Raises:
        ValueError: If there is no such encoder, or the net can't use it; in training, if BatchNorm would
            see one value per channel.
        FileNotFoundError: If weights can't be found or downloaded.
    """

    output_stride = 1

    def __init__(
        self,
        architecture: Literal[
            "unet",
            "unetplusplus",
            "fpn",
            "linknet",
            "manet",
            "pan",
            "deeplabv3",
            "deeplabv3plus",
            "upernet",
            "segformer",
            "dpt",
        ],
        num_classes: PositiveInt,
        encoder: str = "resnet50",
        encoder_weights: str | None = None,
        in_channels: PositiveInt = 3,
    ) -> None:
        super().__init__()
        self.architecture = architecture
        self.minimum_train_batch = 2 if architecture in _POOLS_TO_ONE else 1
        self.net = _build(architecture, num_classes, encoder, in_channels)
        load_encoder_weights(self.net.encoder, encoder, encoder_weights, in_channels)
        _drop_unused(self.net, in_channels, encoder)

    @property
    def encoder(self) -> nn.Module:
        """The part that pretrained weights go into."""
        encoder: nn.Module = self.net.encoder
        return encoder

    @property
    def stages(self) -> tuple[Stage, ...]:
        """Consecutive parts: most encoders in five, some decoders in blocks, the head."""
        return zoo_stages(self.architecture, self.net, self._padded)

    def forward(self, image_BCHW: Tensor) -> SegmentationOutput:
        """Maps normalised images to logits of the same size."""
        height, width = image_BCHW.shape[-2:]
        padded = self._padded(image_BCHW)
        if padded.shape == image_BCHW.shape:
            return SegmentationOutput(self.net(image_BCHW))
        return SegmentationOutput(self.net(padded)[..., :height, :width])

    def _padded(self, image_BCHW: Tensor) -> Tensor:
        """Returns images of a size that the net takes."""
        self._check_batch(len(image_BCHW))
        least = 128 if self.architecture == "pan" else 32
        below, right = (max(least, -(-size // 32) * 32) - size for size in image_BCHW.shape[-2:])
        return F.pad(image_BCHW, (0, right, 0, below), mode="replicate") if below or right else image_BCHW

    def _check_batch(self, batch: int) -> None:
        if not self.training or batch >= self.minimum_train_batch:
            return
        if any(type(module) is nn.BatchNorm2d and module.training for module in self.net.decoder.modules()):
            raise ValueError(
                f"{self.architecture} got a batch of {batch} image in training: behind its global pooling BatchNorm "
                f"sees one value per channel, which it would normalise to 0. Use at least 2 images per device, or "
                f"SyncBatchNorm over several devices."
            )


def _build(architecture: str, num_classes: int, encoder: str, in_channels: int) -> Any:
    check_encoder_name(encoder)
    extra = {"dynamic_img_size": True, "num_classes": 0} if architecture == "dpt" else {}
    try:
        return _NETS[architecture](
            encoder_name=encoder, encoder_weights=None, in_channels=in_channels, classes=num_classes, **extra
        )
    except Exception as error:  # smp and timm refuse encoders by KeyError, ValueError, TypeError, RuntimeError
        raise ValueError(
            f"model {architecture!r} can't use encoder={encoder!r}: {error}. Choose another, such as "
            f"{'tu-vit_tiny_patch16_224' if architecture == 'dpt' else 'resnet18'}."
        ) from error


def _drop_unused(net: nn.Module, in_channels: int, encoder: str) -> None:
    try:
        drop_unused_parameters(net, in_channels, lambda twin, image_BCHW: (twin(image_BCHW),))
    except Exception as error:  # meta tensors fail in each model's own words
        raise ValueError(
            f"encoder={encoder!r} does not take images of any size ({error}); choose one such as resnet18."
        ) from error
