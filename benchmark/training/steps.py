"""Steps of training on a frozen trunk: batches, and their features when called with one.

Computed  as the trunk makes them
LookedUp  from a table, where every epoch shows an image the same way
Steps     of either, read from the shelf where they were kept, else kept
"""

from collections.abc import Iterator, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from benchmark.training.shelf import Keeping, Volume
from datasets.loader import Batches, Stream


class Steps:
    """Batches for training on a frozen trunk, and, called with such a batch, its features.

    Where the features are there already, images have a shape and no pixels (torch's device "meta"),
    so that mixing them draws what it draws, and costs nothing.
    """

    def __init__(
        self,
        source: "Source",
        epochs: int,
        kept: Keeping,
        found: Volume | None,
        device: torch.device,
    ):
        """found: all of them, where they were kept; else they go to `kept`."""
        self.source, self.kept, self.found, self.device = source, kept, found, device
        self.total = source.steps * epochs
        self.ready: Tensor | None = None  # features of the batch that was given last
        self.about: tuple[Tensor, list[int], int] | None = None  # its labels, shape and position

    @property
    def steps(self) -> int:
        """Steps in an epoch."""
        return self.source.steps

    def epoch(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Images and labels of each step, from step `start` of the epoch on."""
        first, end = epoch * self.steps + start, (epoch + 1) * self.steps
        if self.found is not None:
            for step in range(first, end):
                features, labels = self.found.read(step)
                self.ready = features.to(self.device)
                yield bare(self.found.note(step)), labels.to(self.device)
            return
        for step, (images, labels) in enumerate(self.source.epoch(epoch, start), first):
            self.about = (labels, list(images.shape), step)
            yield images, labels

    def __call__(self, images: Tensor) -> Tensor:
        """Features of the batch that was given last; images: its own, mixed."""
        if self.ready is not None:
            return self.ready
        features = self.source(images)
        if self.about is not None and self.about[2] == len(self.kept):  # from the first step on
            labels, shape, step = self.about
            self.kept.add(features, labels, self.total * len(labels), shape)
            if step + 1 == self.total:
                self.kept.finish()
        return features


class Source(Protocol):
    """Batches, and their features when called with one."""

    @property
    def steps(self) -> int:
        """Steps in an epoch."""

    def epoch(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Images and labels of each step."""

    def __call__(self, images: Tensor) -> Tensor:
        """Features of the batch that was given last."""


class Computed:
    """Features as the trunk makes them, batch by batch."""

    def __init__(self, look: nn.Module, batches: Batches | Stream):
        self.look, self.batches = look, batches

    @property
    def steps(self) -> int:
        """Steps in an epoch."""
        return self.batches.steps

    def epoch(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Images and labels of each step."""
        return self.batches.epoch(epoch, start)

    def __call__(self, images: Tensor) -> Tensor:
        """Features of a batch."""
        features: Tensor = self.look(images)
        return features


class LookedUp:
    """Features of whole batches from a table, once an epoch of them was seen to be in it.

    A smaller last batch is computed every time: on a few images some networks end in other bits.
    """

    def __init__(
        self, look: nn.Module, batches: Batches | Stream, features: Tensor, labels: Tensor
    ):
        """Take features, (examples, width), and labels of all training images, in order."""
        self.look, self.batches = look, batches
        self.features: Tensor | None = features
        self.labels = labels
        self.unsure = batches.steps  # batches that are still to be compared
        self.shape: Sequence[int] = ()
        self.chosen = labels  # positions of the batch that was given last
        self.ready: Tensor | None = None

    @property
    def steps(self) -> int:
        """Steps in an epoch."""
        return self.batches.steps

    def epoch(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Images and labels of each step."""
        shown = self.batches.chosen(epoch)[: self.steps]
        while start < self.steps and self.features is not None and not self.unsure:
            chosen = shown[start]
            if len(chosen) < self.batches.batch:
                break
            self.ready = self.features[chosen]
            yield bare([len(chosen), *self.shape]), self.labels[chosen]
            start += 1
        self.ready = None
        if start < self.steps:
            computed = self.batches.epoch(epoch, start)
            for self.chosen, (images, labels) in zip(shown[start:], computed, strict=True):
                self.shape = images.shape[1:]
                yield images, labels

    def __call__(self, images: Tensor) -> Tensor:
        """Features of the batch that was given last."""
        if self.ready is not None:
            return self.ready
        features: Tensor = self.look(images)
        if self.features is not None and self.unsure:
            whole = len(self.chosen) == self.batches.batch
            if whole and not torch.equal(features, self.features[self.chosen]):
                self.features = None  # computed from now on, as ever
            self.unsure -= 1
        return features


def bare(shape: Sequence[int]) -> Tensor:
    """Images without pixels."""
    return torch.empty(*shape, device="meta")
