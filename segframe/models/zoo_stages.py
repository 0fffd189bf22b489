"""The nets of segmentation-models-pytorch as consecutive parts, whose fold is the net.

What goes from part to part is (frame, *maps): the encoder's maps so far, finest first, and in between a decoder's own
map before them. A map that nothing reads any more goes on as a shape without channels; so does the frame, which is
the size of the image before it was padded.

Shape suffixes: B batch, C channels, H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from segframe.contracts import SegmentationOutput
from segframe.models.encoder_parts import blocks, encoder_parts, leading_maps
from segframe.models.stages import Stage

Pad = Callable[[Tensor], Tensor]

_READ_BY_DECODER: dict[str, tuple[int, ...]] = {
    "unetplusplus": (-5, -4, -3, -2, -1),
    "fpn": (-4, -3, -2, -1),
    "pan": (-4, -3, -2, -1),
    "deeplabv3": (-1,),
    "deeplabv3plus": (-4, -1),
    "upernet": (-4, -3, -2, -1),
    "segformer": (-5, -4, -3, -2, -1),
}
_IN_BLOCKS = ("unet", "linknet", "manet")


def zoo_stages(architecture: str, net: Any, pad: Pad) -> tuple[Stage, ...]:
    """Returns the parts of a net: an encoder's, a decoder's blocks where it is a list of them, and the head.

    Args:
        architecture: Its name in the zoo.
        net: The net of segmentation-models-pytorch.
        pad: Brings an image to the size that the net needs.
    """
    head = HeadStage(net.segmentation_head)
    if architecture == "dpt":
        return PairedEncoderStage(net.encoder, pad), PairedDecoderStage(net.decoder), head
    num_maps = len(net.encoder.out_channels)
    read = _READ_BY_DECODER.get(architecture, range(1 - num_maps, 0))
    kept = [index - num_maps in read for index in range(num_maps)]
    parts = encoder_parts(net.encoder)
    stages: list[Stage] = [WholeEncoderStage(net.encoder, pad, kept)]
    if parts is not None:
        stages = []
        for index, part in enumerate(parts.parts):
            first, *others = blocks(part)
            stages += (
                [EncoderStage(first, kept[parts.before + index - 1])]
                if index
                else [FirstStage(first, pad, parts.before)]
            )
            stages += [InnerStage(block) for block in others]
    if architecture not in _IN_BLOCKS:
        return (*stages, DecoderStage(net.decoder), head)
    center: nn.Module = getattr(net.decoder, "center", nn.Identity())
    first, *others = net.decoder.blocks
    stages.append(CenterStage(center, first, architecture == "unet"))
    stages += [BlockStage(block, index, architecture == "unet") for index, block in enumerate(others, 1)]
    return (*stages, head)


class FirstStage(nn.Module):
    """Pads the image and runs the first part of an encoder."""

    def __init__(self, part: nn.Module, pad: Pad, before: int) -> None:
        super().__init__()
        self.part, self.before = part, before
        self._pad = pad

    def forward(self, image_BCHW: Tensor) -> tuple[Tensor, ...]:
        """Returns the frame and the first maps."""
        padded = self._pad(image_BCHW)
        return (_shape_of(image_BCHW), *leading_maps(padded, self.before), self.part(padded))


class EncoderStage(nn.Module):
    """A further part of an encoder; the map that it takes goes on if the decoder reads it."""

    def __init__(self, part: nn.Module, keep: bool) -> None:
        super().__init__()
        self.part, self.keep = part, keep

    def forward(self, frame: Tensor, *maps: Tensor) -> tuple[Tensor, ...]:
        """Returns one map more."""
        *before, x_BCHW = maps
        return (frame, *before, x_BCHW if self.keep else _shape_of(x_BCHW), self.part(x_BCHW))


class InnerStage(nn.Module):
    """A further block of a part of an encoder; nothing else reads the map that it takes."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, *values: Tensor) -> tuple[Tensor, ...]:
        """Returns as many maps as it takes."""
        *before, x_BCHW = values
        return (*before, self.block(x_BCHW))


class WholeEncoderStage(nn.Module):
    """Pads the image and runs an encoder that is not known to have parts."""

    def __init__(self, encoder: nn.Module, pad: Pad, kept: list[bool]) -> None:
        super().__init__()
        self.encoder, self.kept = encoder, kept
        self._pad = pad

    def forward(self, image_BCHW: Tensor) -> tuple[Tensor, ...]:
        """Returns the frame and all maps."""
        maps = self.encoder(self._pad(image_BCHW))
        return (_shape_of(image_BCHW), *(x if kept else _shape_of(x) for x, kept in zip(maps, self.kept, strict=True)))


class DecoderStage(nn.Module):
    """A decoder as a whole."""

    def __init__(self, decoder: nn.Module) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, frame: Tensor, *maps: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the decoder's map."""
        return frame, self.decoder(list(maps))


class CenterStage(nn.Module):
    """What a decoder begins with, and its first block."""

    def __init__(self, center: nn.Module, block: nn.Module, sized: bool) -> None:
        super().__init__()
        self.center, self.block, self.sized = center, block, sized

    def forward(self, frame: Tensor, *maps: Tensor) -> tuple[Tensor, ...]:
        """Returns the block's map before those of the encoder."""
        *others, x_BCHW = maps
        return _run_block(self.block, 0, self.sized, frame, self.center(x_BCHW), (*others, _shape_of(x_BCHW)))


class BlockStage(nn.Module):
    """A block of a decoder, which goes up to the next finer map.

    Args:
        block: The block.
        index: Its number, from the coarsest.
        sized: Whether it is told the size to go to.
    """

    def __init__(self, block: nn.Module, index: int, sized: bool) -> None:
        super().__init__()
        self.block, self.index, self.sized = block, index, sized

    def forward(self, frame: Tensor, x_BCHW: Tensor, *maps: Tensor) -> tuple[Tensor, ...]:
        """Returns the block's map before those of the encoder."""
        return _run_block(self.block, self.index, self.sized, frame, x_BCHW, maps)


class HeadStage(nn.Module):
    """The classifier, and the way back to the image's size."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head

    def forward(self, frame: Tensor, x_BCHW: Tensor, *maps: Tensor) -> SegmentationOutput:
        """Returns logits of the image's size."""
        height, width = frame.shape[-2:]
        return SegmentationOutput(self.head(x_BCHW)[..., :height, :width])


class PairedEncoderStage(nn.Module):
    """A Vision Transformer, whose maps come with a token each, or without."""

    def __init__(self, encoder: nn.Module, pad: Pad) -> None:
        super().__init__()
        self.encoder = encoder
        self._pad = pad

    def forward(self, image_BCHW: Tensor) -> tuple[Tensor, ...]:
        """Returns the frame, all maps and all tokens."""
        maps, tokens = self.encoder(self._pad(image_BCHW))
        return (_shape_of(image_BCHW), *maps, *(token for token in tokens if token is not None))


class PairedDecoderStage(nn.Module):
    """DPT's decoder."""

    def __init__(self, decoder: Any) -> None:
        super().__init__()
        self.decoder = decoder
        self.num_maps = len(decoder.projection_blocks)

    def forward(self, frame: Tensor, *values: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the decoder's map."""
        maps, tokens = list(values[: self.num_maps]), list(values[self.num_maps :])
        given: list[Tensor | None] = [*tokens] or [None] * self.num_maps
        return frame, self.decoder(maps, given)


def _run_block(
    block: nn.Module, index: int, sized: bool, frame: Tensor, x_BCHW: Tensor, maps: tuple[Tensor, ...]
) -> tuple[Tensor, ...]:
    """Runs a block with the map that it goes up to, which nothing reads any more then; the first only tells a size."""
    left = list(maps)
    place = len(maps) - 2 - index
    skip = maps[place] if place > 0 else None
    size = tuple(maps[place].shape[-2:]) if sized else ()
    left[place] = _shape_of(maps[place])
    return (frame, block(x_BCHW, *size, skip), *left)


def _shape_of(x_BCHW: Tensor) -> Tensor:
    """Returns a map's size and no values."""
    batch, _, height, width = x_BCHW.shape
    return x_BCHW.new_empty((batch, 0, height, width))
