"""Images one by one through Pillow: how released code loads them, to compare our loop with.

A torch DataLoader takes image after image, makes a picture of it, crops and mirrors that, turns it
into numbers and normalises those; then it stacks a batch. No training here goes this way: `speed`
measures what it costs.
"""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from datasets.augment import BATCHED, Change
from datasets.base import Split


def pictures(
    split: Split,
    change: Change,
    *,
    batch: int,
    mean: Sequence[float],
    std: Sequence[float],
    drop_last: bool = False,
) -> DataLoader:
    """Shuffled batches: images (batch, channels, height, width), float32, and labels (batch,).

    They come without worker processes, so that loader and network share the threads that they are
    given. ValueError: an augmentation that Pillow's transforms are not known to do alike.
    """
    if not change.batched or change.cutout or not isinstance(split.images, Tensor):
        raise ValueError(
            "the reference loop crops and mirrors images that are in memory, and the recipe asks "
            f"for more. Set `augment` to one of: {', '.join(BATCHED)}, and leave the rest out."
        )
    return DataLoader(
        _Pictures(split, change, mean, std),
        batch_size=batch,
        shuffle=True,
        drop_last=drop_last,
        generator=torch.Generator().manual_seed(0),
    )


class _Pictures(Dataset):
    """Arrays as torchvision's CIFAR holds them, (height, width, channels), and its transforms."""

    def __init__(
        self, split: Split, change: Change, mean: Sequence[float], std: Sequence[float]
    ) -> None:
        from torchvision import transforms  # seconds to import

        arrays = split.images.permute(0, 2, 3, 1).contiguous().numpy()
        self.arrays = arrays[..., 0] if arrays.shape[-1] == 1 else arrays  # grey has no third axis
        self.labels = split.labels.tolist()
        steps: list[object] = []
        if change.augment != "none":
            steps.append(transforms.RandomCrop(arrays.shape[1:3], padding=change.padding))
        if change.augment == "crop_flip":
            steps.append(transforms.RandomHorizontalFlip())
        steps += [transforms.ToTensor(), transforms.Normalize(mean, std)]
        self.change = transforms.Compose(steps)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.change(Image.fromarray(np.asarray(self.arrays[index]))), self.labels[index]
