"""Batches for training and passes for evaluation, from memory or from disk.

    Split ──batches──▶ Batches   in memory, shifted, mirrored, with a hole: one gather on the device
                       Stream    read from disk, or changed image by image, by worker processes
          ──passes───▶ normalised images and labels, in order

CIFAR fits into any accelerator's memory, so there is nothing to load: a step draws which images it
takes and how each is moved and mirrored, and one gather does it for the whole batch. ImageNet fits
nowhere, and is streamed. Which images an epoch shows is said in samplers.py. All draws come from
fresh generators named by epoch and step, so that any step can be redone alone, and a resumed epoch
goes on with the very images that it would have seen.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from math import ceil
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from datasets.augment import BATCHED, VIEWS, Augment, Change, erase, fit, holes
from datasets.base import Files, Split
from datasets.samplers import Sampler
from datasets.stream import Task, fetched

UNCHANGED = Change()


def batches(
    split: Split,
    change: Change = UNCHANGED,
    *,
    batch: int,
    mean: Sequence[float],
    std: Sequence[float],
    second_view: str = "same",
    sampler: str = "instance",
    epoch_images: str = "natural",
    size: int = 0,
    resize: int = 0,
    views: int = 1,
    drop_last: bool = False,
    device: torch.device | str = "cpu",
    channels_last: bool = True,
    workers: int = 0,
    part: Callable[[int], slice] | None = None,
    order: Callable[[int], torch.Generator],
    augmentation: Callable[[int, int], torch.Generator],
) -> "Batches | Stream":
    """Training batches: in memory on the device where that will do, else streamed.

    change        of each image; of every view but the first as second_view says, one of VIEWS
    sampler, epoch_images   as in `samplers.Sampler`
    size, resize  side of an image, and its shorter side before that; 0: the data's own
    workers       processes that read and change images; 0: none but this one
    the others    as in `Batches`
    """
    if second_view not in VIEWS:
        raise ValueError(f"unknown second view {second_view!r}. Choose one of: {', '.join(VIEWS)}.")
    other = (VIEWS[second_view] if views > 1 else None) or change
    own, shorter = sizes(split.images, size, resize)
    common: dict[str, Any] = {
        "batch": batch,
        "mean": mean,
        "std": std,
        "views": views,
        "drop_last": drop_last,
        "device": device,
        "channels_last": channels_last,
        "sampler": Sampler(split.labels, sampler, epoch_images),
        "part": part,
        "order": order,
        "augmentation": augmentation,
    }
    as_found = isinstance(split.images, Tensor) and own == split.images.shape[-2:] and not shorter
    if as_found and change.batched and other == change:
        return Batches(
            split, augment=change.augment, padding=change.padding, cutout=change.cutout, **common
        )
    first, rest = (Augment(each, size=own, resize=shorter) for each in (change, other))
    changes = [first, *[rest] * (views - 1)]
    return Stream(split, changes=changes, size=own, resize=shorter, workers=workers, **common)


class Batches:
    """Training batches of one split in memory.

    batch         images a step; the last step of an epoch may have fewer, unless drop_last
    mean, std     of pixels in [0, 1], one per channel
    augment       'none', 'crop' or 'crop_flip'; it, padding and cutout as in `augment.Change`
    views         differently augmented copies of each image
    sampler       which images an epoch shows; every one once if not given
    part          part(size of a batch) -> positions in it of the images to give, where others have
                  the rest; labels are of all, and draws too, so that images do not depend on it
    order         order(epoch) -> fresh CPU generator of what the sampler draws for the epoch
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
        cutout: int = 0,
        views: int = 1,
        drop_last: bool = False,
        device: torch.device | str = "cpu",
        channels_last: bool = True,
        sampler: Sampler | None = None,
        part: Callable[[int], slice] | None = None,
        order: Callable[[int], torch.Generator],
        augmentation: Callable[[int, int], torch.Generator],
    ) -> None:
        if augment not in BATCHED:
            raise ValueError(
                f"unknown augmentation {augment!r}. Choose one of: {', '.join(BATCHED)}."
            )
        self.sampler = sampler or Sampler(split.labels)
        _enough(len(self.sampler), batch, views, drop_last)
        self.batch = batch
        self.augment = augment
        self.padding = padding
        self.cutout = cutout
        self.views = views
        self.drop_last = drop_last
        self.device = torch.device(device)
        self._images = split.images.to(self.device)
        self._labels = split.labels.to(self.device)
        self._normalise = _Normalise(mean, std, self.device, channels_last)
        self._part = part or slice
        self._order = order
        self._augmentation = augmentation

    @property
    def steps(self) -> int:
        """Steps per epoch."""
        return _steps(len(self.sampler), self.batch, self.drop_last)

    def chosen(self, epoch: int) -> tuple[Tensor, ...]:
        """Positions in the split of the images of each step of an epoch."""
        return self.sampler.epoch(self._order(epoch)).split(self.batch)[: self.steps]

    def epoch(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Normalised images (batch, channels, height, width) and labels (batch,), from `start` on.

        With more than one view the images are (views, batch, channels, height, width).
        """
        shown = _send(self.sampler.epoch(self._order(epoch)), self.device)
        for step in range(start, self.steps):
            chosen = shown[step * self.batch : (step + 1) * self.batch]
            part = self._part(len(chosen))
            images = self._images[chosen[part].repeat(self.views)]
            if self.augment != "none" or self.cutout:
                drawn = self.draw(epoch, step)
                offsets, mirrored, boxes = (self._own(each, part) for each in drawn)
                if self.augment != "none":
                    images = shifted(images, _send(offsets, self.device), self.padding)
                if self.augment == "crop_flip":
                    images = flipped(images, _send(mirrored, self.device))
                if self.cutout:
                    erase(images, _send(boxes, self.device))
            images = self._normalise(images)
            if self.views > 1:
                images = images.unflatten(0, (self.views, -1))
            yield images, self._labels[chosen]

    def _own(self, drawn: Tensor, part: slice) -> Tensor:
        """Draws for a part of a batch, (views · batch, …), view after view."""
        return drawn.unflatten(0, (self.views, -1))[:, part].flatten(0, 1)

    def draw(self, epoch: int, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """What happens to each image of a step: (offsets, mirrored, boxes), on the CPU.

        offsets   (views · batch, 2), row and column of the crop in the padded image, 0..2·padding
        mirrored  (views · batch,) bool
        boxes     (views · batch, 4), the holes: top, left, height, width
        """
        size = min(self.batch, len(self.sampler) - step * self.batch)
        generator = self._augmentation(epoch, step)
        count = self.views * size
        offsets = torch.randint(0, 2 * self.padding + 1, (count, 2), generator=generator)
        mirrored = torch.randint(0, 2, (count,), generator=generator).bool()
        boxes = holes(count, self.cutout, self._images.shape[-2:], generator)
        return offsets, mirrored, boxes


class Stream:
    """Training batches of images that are read, or changed, one by one.

    changes       of one image, one for each view
    size, resize  what `sizes` gives
    workers       processes; the images do not depend on their number
    the others    as in `Batches`; here a step's generator gives each image and view a seed
    """

    def __init__(
        self,
        split: Split,
        *,
        batch: int,
        mean: Sequence[float],
        std: Sequence[float],
        changes: Sequence[Augment],
        size: tuple[int, int],
        resize: int,
        views: int = 1,
        drop_last: bool = False,
        device: torch.device | str = "cpu",
        channels_last: bool = True,
        workers: int = 0,
        sampler: Sampler | None = None,
        part: Callable[[int], slice] | None = None,
        order: Callable[[int], torch.Generator],
        augmentation: Callable[[int, int], torch.Generator],
    ) -> None:
        self.sampler = sampler or Sampler(split.labels)
        _enough(len(self.sampler), batch, views, drop_last)
        self.batch = batch
        self.views = views
        self.drop_last = drop_last
        self.device = torch.device(device)
        self._split = split
        self._normalise = _Normalise(mean, std, self.device, channels_last)
        self._part = part or slice
        self._order = order
        self._augmentation = augmentation
        self._fetch = partial(
            fetched,
            split.images,
            size=size,
            resize=resize,
            changes=changes,
            workers=workers,
            pin=self.device.type == "cuda",
        )

    @property
    def steps(self) -> int:
        """Steps per epoch."""
        return _steps(len(self.sampler), self.batch, self.drop_last)

    def chosen(self, epoch: int) -> tuple[Tensor, ...]:
        """Positions in the split of the images of each step of an epoch."""
        return self.sampler.epoch(self._order(epoch)).split(self.batch)[: self.steps]

    def epoch(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Normalised images (batch, channels, height, width) and labels (batch,), from `start` on.

        With more than one view the images are (views, batch, channels, height, width).
        """
        chosen = self.chosen(epoch)[start:]
        tasks = (self._task(epoch, step, own) for step, own in enumerate(chosen, start))
        for own, (images, boxes) in zip(chosen, self._fetch(tasks), strict=True):
            images = self._normalise(_send(images, self.device))
            if boxes.any():
                erase(images, _send(boxes, self.device))
            if self.views > 1:
                images = images.unflatten(0, (self.views, -1))
            yield images, _send(self._split.labels[own], self.device)

    def _task(self, epoch: int, step: int, chosen: Tensor) -> Task:
        generator = self._augmentation(epoch, step)
        seeds = torch.randint(2**63 - 1, (self.views, len(chosen)), generator=generator)
        part = self._part(len(chosen))
        return chosen[part].numpy(), seeds[:, part].numpy()


def passes(
    split: Split,
    *,
    batch: int,
    mean: Sequence[float],
    std: Sequence[float],
    size: int = 0,
    resize: int = 0,
    device: torch.device | str = "cpu",
    channels_last: bool = True,
    workers: int = 0,
) -> Iterator[tuple[Tensor, Tensor]]:
    """One pass over a split, in order and without augmentation: normalised images and labels."""
    device = torch.device(device)
    normalise = _Normalise(mean, std, device, channels_last)
    own, shorter = sizes(split.images, size, resize)
    if isinstance(split.images, Tensor):
        found = (fit(images, own, shorter) for images in split.images.split(batch))
    else:
        tasks = ((chosen.numpy(), None) for chosen in torch.arange(len(split)).split(batch))
        pin = device.type == "cuda"
        fetch = fetched(split.images, tasks, size=own, resize=shorter, workers=workers, pin=pin)
        found = (images for images, _ in fetch)
    for images, labels in zip(found, split.labels.split(batch), strict=True):
        yield normalise(images.to(device)), labels.to(device)


def sizes(images: Tensor | Files, size: int = 0, resize: int = 0) -> tuple[tuple[int, int], int]:
    """What a recipe's `size` and `resize` mean for these images: ((height, width), resize).

    0: the data's own, which for images in memory is as they are. ValueError where one contradicts
    the other: in time, not at the end of a training.
    """
    own = (size, size) if size else tuple(images.shape[-2:])
    shorter = resize or (images.resize if isinstance(images, Files) else 0)
    if shorter < max(own) and (shorter or own != tuple(images.shape[-2:])):
        raise ValueError(
            f"images of {own[0]} x {own[1]} pixels cannot be cut from images with a shorter side "
            f"of {shorter or min(images.shape[-2:])}. Set `resize` in the recipe to at least "
            f"{max(own)}."
        )
    return own, shorter


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


def _enough(count: int, batch: int, views: int, drop_last: bool) -> None:
    if count == 0 or batch < 1 or views < 1 or (drop_last and batch > count):
        raise ValueError(
            f"no batch can be made of {count} images with batch {batch}, views {views}, "
            f"drop_last {drop_last}. Lower `batch`, or supply more images."
        )


def _steps(count: int, batch: int, drop_last: bool) -> int:
    return count // batch if drop_last else ceil(count / batch)


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
