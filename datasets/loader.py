"""Batches without worker processes: a split lies on the device as bytes, and is indexed.

CIFAR fits into any accelerator's memory, so there is nothing to load: a step draws which images it
takes and how each is moved and mirrored, and one gather does it for the whole batch. All draws come
from fresh generators named by epoch and step, so that any step can be redone alone, and a resumed
epoch goes on with the very images that it would have seen.
"""

from collections.abc import Callable, Iterator, Sequence
from math import ceil

import torch
from torch import Tensor
from torch.nn import functional

from datasets.base import Split

AUGMENTATIONS = ("none", "crop", "crop_flip")


class Batches:
    """Training batches of one split.

    batch         images a step; the last step of an epoch may have fewer, unless drop_last
    mean, std     of pixels in [0, 1], one per channel
    augment       'none', 'crop' (random position within a black margin of `padding` pixels), or
                  'crop_flip' (also mirrored with probability 1/2), as He et al., arXiv:1512.03385,
                  sec. 4.2
    padding       4 pixels, ibid.
    views         differently augmented copies of each image
    order         order(epoch) -> fresh CPU generator of the epoch's permutation
    augmentation  augmentation(epoch, step in epoch) -> fresh CPU generator of the step's draws
    """

    def __init__(
        self,
        split: Split,
        *,
        batch: int,
        mean: Sequence[float],
        std: Sequence[float],
        augment: str = "none",
        padding: int = 4,
        views: int = 1,
        drop_last: bool = False,
        device: torch.device | str = "cpu",
        channels_last: bool = True,
        order: Callable[[int], torch.Generator],
        augmentation: Callable[[int, int], torch.Generator],
    ) -> None:
        if augment not in AUGMENTATIONS:
            raise ValueError(
                f"unknown augmentation {augment!r}. Choose one of: {', '.join(AUGMENTATIONS)}."
            )
        if len(split) == 0 or batch < 1 or views < 1 or (drop_last and batch > len(split)):
            raise ValueError(
                f"no batch can be made of {len(split)} images with batch {batch}, views {views}, "
                f"drop_last {drop_last}. Lower `batch`, or supply more images."
            )
        self.batch = batch
        self.augment = augment
        self.padding = padding
        self.views = views
        self.drop_last = drop_last
        self.device = torch.device(device)
        self._images = split.images.to(self.device)
        self._labels = split.labels.to(self.device)
        self._normalise = _Normalise(mean, std, self.device, channels_last)
        self._order = order
        self._augmentation = augmentation

    @property
    def steps(self) -> int:
        """Steps per epoch."""
        count = len(self._labels)
        return count // self.batch if self.drop_last else ceil(count / self.batch)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Normalised images (batch, channels, height, width) and labels (batch,), from `start` on.

        With more than one view the images are (views, batch, channels, height, width).
        """
        permutation = torch.randperm(len(self._labels), generator=self._order(epoch))
        permutation = _send(permutation, self.device)
        for step in range(start, self.steps):
            chosen = permutation[step * self.batch : (step + 1) * self.batch]
            images = self._images[chosen.repeat(self.views)]
            if self.augment != "none":
                offsets, mirrored = self.draw(epoch, step)
                images = shifted(images, _send(offsets, self.device), self.padding)
                if self.augment == "crop_flip":
                    images = flipped(images, _send(mirrored, self.device))
            images = self._normalise(images)
            if self.views > 1:
                images = images.unflatten(0, (self.views, -1))
            yield images, self._labels[chosen]

    def draw(self, epoch: int, step: int) -> tuple[Tensor, Tensor]:
        """What happens to each image of a step: (offsets, mirrored), on the CPU.

        offsets   (views · batch, 2), row and column of the crop in the padded image, 0..2·padding
        mirrored  (views · batch,) bool
        """
        size = min(self.batch, len(self._labels) - step * self.batch)
        generator = self._augmentation(epoch, step)
        count = self.views * size
        offsets = torch.randint(0, 2 * self.padding + 1, (count, 2), generator=generator)
        mirrored = torch.randint(0, 2, (count,), generator=generator).bool()
        return offsets, mirrored


def passes(
    split: Split,
    *,
    batch: int,
    mean: Sequence[float],
    std: Sequence[float],
    device: torch.device | str = "cpu",
    channels_last: bool = True,
) -> Iterator[tuple[Tensor, Tensor]]:
    """One pass over a split, in order and as it is: normalised images and labels."""
    device = torch.device(device)
    normalise = _Normalise(mean, std, device, channels_last)
    for images, labels in zip(split.images.split(batch), split.labels.split(batch), strict=True):
        yield normalise(images.to(device)), labels.to(device)


def shifted(images: Tensor, offsets: Tensor, padding: int) -> Tensor:
    """Crop each image at its own place in its black-padded self; shapes stay.

    images (batch, channels, height, width), offsets (batch, 2).
    """
    height, width = images.shape[-2:]
    padded = functional.pad(images, (padding, padding, padding, padding))
    # all crops of all images, a view: (batch, channels, rows, columns, height, width)
    windows = padded.unfold(2, height, 1).unfold(3, width, 1)
    each = torch.arange(len(images), device=images.device)
    return windows[each, :, offsets[:, 0], offsets[:, 1]]


def flipped(images: Tensor, mirrored: Tensor) -> Tensor:
    """Mirror images (batch, channels, height, width) left to right where mirrored (batch,)."""
    return torch.where(mirrored[:, None, None, None], images.flip(-1), images)


class _Normalise:
    """Bytes to float32, (x / 255 − mean) / std, in one multiplication and one addition."""

    def __init__(
        self, mean: Sequence[float], std: Sequence[float], device: torch.device, channels_last: bool
    ) -> None:
        centre = torch.tensor(mean, dtype=torch.float64)
        spread = torch.tensor(std, dtype=torch.float64)
        shape = (-1, 1, 1)
        self.scale = (1 / (255 * spread)).float().reshape(shape).to(device)
        self.shift = (-centre / spread).float().reshape(shape).to(device)
        self.format = torch.channels_last if channels_last else torch.contiguous_format

    def __call__(self, images: Tensor) -> Tensor:
        images = images.to(torch.float32, memory_format=self.format)
        return torch.addcmul(self.shift, images, self.scale)


def _send(tensor: Tensor, device: torch.device) -> Tensor:
    """To the device without waiting for it."""
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)
