"""The two ways from image files to training samples that most users have, each as its documentation shows it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import torch
from street_scenes import SIZE
from torch.utils.data import Dataset

CROP, SCALE, JITTER = 768, (0.5, 2.0), 0.3
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Albumentations(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """Files read with OpenCV, as albumentations' guide to semantic segmentation does it."""

    def __init__(self, images: list[Path], masks: list[Path]) -> None:
        import albumentations as A

        self.files = list(zip(images, masks, strict=True))
        self.transform = A.Compose(
            [
                A.RandomScale(scale_limit=(SCALE[0] - 1, SCALE[1] - 1), p=1.0),
                A.PadIfNeeded(min_height=CROP, min_width=CROP, fill=[255 * m for m in MEAN], fill_mask=255),
                A.RandomCrop(height=CROP, width=CROP),
                A.HorizontalFlip(p=0.5),
                A.ColorJitter(brightness=JITTER, contrast=JITTER, saturation=JITTER, hue=0.0, p=1.0),
                A.Normalize(mean=MEAN, std=STD),
                A.ToTensorV2(),
            ]
        )

    def __len__(self) -> int:
        """Returns the number of pairs."""
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns a sample: float32 (3, H, W), uint8 (H, W)."""
        image_file, mask_file = self.files[index]
        image = cv2.cvtColor(cv2.imread(str(image_file)), cv2.COLOR_BGR2RGB)  # type: ignore[arg-type]
        mask = cv2.imread(str(mask_file), cv2.IMREAD_GRAYSCALE)
        made = self.transform(image=image, mask=mask)
        return made["image"], made["mask"]


class Torchvision(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """tv_tensors through transforms.v2, as torchvision's own training of segmentation nets does it."""

    def __init__(self, images: list[Path], masks: list[Path]) -> None:
        from torchvision import tv_tensors
        from torchvision.transforms import v2

        self.files = list(zip(images, masks, strict=True))
        fill: Any = {tv_tensors.Image: [round(255 * m) for m in MEAN], tv_tensors.Mask: 255}
        self.transform = v2.Compose(
            [
                v2.RandomResize(min_size=int(SCALE[0] * SIZE[0]), max_size=int(SCALE[1] * SIZE[0]) + 1),
                v2.RandomCrop((CROP, CROP), pad_if_needed=True, fill=fill),
                v2.RandomHorizontalFlip(p=0.5),
                v2.ColorJitter(brightness=JITTER, contrast=JITTER, saturation=JITTER),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize(mean=list(MEAN), std=list(STD)),
            ]
        )

    def __len__(self) -> int:
        """Returns the number of pairs."""
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns a sample: float32 (3, H, W), uint8 (1, H, W)."""
        from torchvision import tv_tensors
        from torchvision.io import ImageReadMode, decode_image

        image_file, mask_file = self.files[index]
        image = tv_tensors.Image(decode_image(str(image_file), mode=ImageReadMode.RGB))
        mask = tv_tensors.Mask(decode_image(str(mask_file), mode=ImageReadMode.UNCHANGED))
        made: tuple[torch.Tensor, torch.Tensor] = self.transform(image, mask)
        return made
