"""What a head is: the one interface between the specimens and the apparatus.

A head turns the features of a backbone into class scores and says what a mistake costs. It knows
the problem (class counts, feature width, points on the sphere) and nothing of data, optimiser or
recipe.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, final

import torch
from torch import Tensor, nn


class Points(Protocol):
    """Well-spread unit vectors, computed once by the apparatus and kept."""

    def __call__(self, dim: int, objective: str = "energy") -> Tensor:
        """Give unit vectors, (classes, dim), float32; objective as in `heads.geometry`."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Problem:
    """All that a head may know of the data and of the backbone.

    width    length of one feature vector
    counts   training examples of each class, (classes,), int64
    names    class names, in label order; empty if unknown
    words    one vector per class name, (classes, word_dim), or None: privileged information,
             only for heads that declare it
    source   class vectors of a finished cell at the same seed, (classes, dim), or None: only for
             heads that declare it
    seed     of the head's own randomness; generator() starts a fresh torch.Generator from it
    points   points(dim, objective="energy") -> (classes, dim): well-spread unit vectors
    """

    width: int
    counts: Tensor
    seed: int
    points: Points
    names: tuple[str, ...] = ()
    words: Tensor | None = None
    source: Tensor | None = None

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.counts)

    def generator(self) -> torch.Generator:
        """Start a fresh CPU generator from `seed`; two calls give the same numbers."""
        return torch.Generator().manual_seed(self.seed)


@dataclass(frozen=True, slots=True)
class Needs:
    """What a head asks of the apparatus; the defaults describe an ordinary head.

    views    augmented views of each training image
    experts  copies of the backbone's last part, each with its own feature vector
    teacher  the last view comes from the moving average of the backbone, without gradient
    frozen   stands on a finished backbone: only valid after '>'
    mixup    the loss keeps its meaning when two labels are mixed
    words    one word vector per class name: privileged information
    trains   False: prepare() is all; no loop, and no recipe in the key
    sweep    begin_epoch receives all training features and labels, in evaluation mode
    source   (head, hyper-parameters) whose trained class vectors it starts from
    """

    views: int = 1
    experts: int = 1
    teacher: bool = False
    frozen: bool = False
    mixup: bool = True
    words: bool = False
    trains: bool = True
    sweep: bool = False
    source: tuple[str, Mapping[str, object]] | None = None


@dataclass(frozen=True, slots=True)
class Rate:
    """Learning rate and weight decay of one parameter, absolute, times the recipe's schedule."""

    lr: float
    weight_decay: float


@dataclass(frozen=True, slots=True)
class Clock:
    """Where training stands.

    step             0-based: in after_step the one just taken, in begin_epoch the one about to come
    epoch            0-based
    steps_per_epoch  optimiser steps in one epoch
    epochs           length of the run
    """

    step: int
    epoch: int
    steps_per_epoch: int
    epochs: int

    @property
    def progress(self) -> float:
        """Share of the run that lies before `step`, in [0, 1)."""
        return self.step / (self.steps_per_epoch * self.epochs)


@dataclass(frozen=True, slots=True, eq=False)
class Sweep:
    """All training features, (examples, width), with labels, (examples,), in evaluation mode."""

    features: Tensor
    labels: Tensor


class Head(nn.Module, ABC):
    """Turns the features of a backbone into class scores, and says what a mistake costs.

        features ──embed──▶ embedding ──score──▶ scores
                                └──────loss(labels)──▶ cost

    A head is built as Name(problem, *, hyperparameters) and is final: heads are wrapped, never
    subclassed. All that it needs in order to predict lies in parameters and buffers, allocated in
    __init__, which also sets `dim`, the length of one embedding.

    Shapes: features (batch, width), float32 whatever the backbone's precision; embedding
    (batch, dim); scores (batch, classes); labels (batch,). In training, Needs(views=v):
    (v, batch, width); Needs(experts=e): (batch, e, width). In evaluation always one view.
    """

    dim: int

    @abstractmethod
    def score(self, embedding: Tensor) -> Tensor:
        """Score each class, (batch, classes). The largest wins; their softmax is the confidence."""

    @abstractmethod
    def loss(self, embedding: Tensor, labels: Tensor) -> Tensor:
        """Cost of a batch, a scalar: the mean, or the sum where the method's source uses it.

        Pure: calling it twice is calling it once.
        """

    def embed(self, features: Tensor) -> Tensor:
        """Where the head likes to see its features: projected, centred, on the sphere."""
        return features

    def prepare(self, features: Tensor, labels: Tensor, previous: "Head") -> None:  # noqa: B027
        """Once, before a stage that stands on another: all training features and labels."""

    def begin_epoch(self, clock: Clock, sweep: Sweep | None = None) -> None:  # noqa: B027
        """Before each epoch."""

    def after_step(self, embedding: Tensor, labels: Tensor, clock: Clock) -> None:  # noqa: B027
        """After each step, without gradient; under mixup the labels are the first image's."""

    @classmethod
    def needs(cls, **hyper: object) -> Needs:
        """What this head asks of the apparatus, given its hyper-parameters."""
        return Needs()

    def rates(self) -> Mapping[str, Rate]:
        """Parameter name -> Rate, where the recipe's is not followed; read after prepare."""
        return {}

    def class_vectors(self) -> Tensor | None:
        """Give one vector per class, (classes, dim): for collapse measures and later stages."""
        return None

    def linear(self) -> tuple[Tensor, Tensor] | None:
        """Weight (classes, dim) and bias (classes,), for heads that start from them."""
        return None

    def readings(self) -> Mapping[str, float]:
        """Worth recording at the start, at the end and at 50 evenly spaced steps."""
        return {}

    @final  # type: ignore[misc]  # nn.Module declares it as a variable
    def forward(self, features: Tensor) -> Tensor:
        """Scores of features: score(embed(features))."""
        return self.score(self.embed(features))
