"""What every data set is: images as found, and the material that one experiment is made from.

    Dataset.read ──▶ Images ──carve, profile, subset──▶ Material ──▶ loader.batches

A data set says where its images lie and how they are read. What becomes of them (validation carve,
long-tailed profile, which images survive, which classes count as many, medium and few) is the same
for all and is written once, in `Dataset.load`; only SVHN cuts in a way of its own.

Images are either in memory, as one tensor of bytes, or they stay on disk, as `Files`.
"""

import hashlib
import math
import os
import stat
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import final

import numpy as np
import torch
from torch import Tensor

from datasets.imbalance import (
    PROFILES,
    RULES,
    SUBSETS,
    carve,
    class_counts,
    group,
    remaining_largest,
    subset,
    unknown,
)

Progress = Callable[[int, int], None]


class MissingData(FileNotFoundError):
    """The images are not there, or may not be read: says what, where it looked and what to do."""


@dataclass(frozen=True, slots=True, eq=False)
class Files:
    """Images that stay on disk and are decoded, as RGB, whenever they are asked for.

    folder  of all paths
    paths   (n,) bytes, relative: an array, since a million strings would be copied by every worker
    size    (height, width) that a model sees, unless the recipe says otherwise
    resize  what the shorter side becomes before the middle is taken; 0, the images stay as they are
    """

    folder: Path
    paths: np.ndarray
    size: tuple[int, int]
    resize: int = 0

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, chosen: Tensor) -> "Files":
        return replace(self, paths=self.paths[chosen.numpy()])

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """As that of a tensor of all these images."""
        return (len(self), 3, *self.size)

    def path(self, index: int) -> str:
        """Where one image lies."""
        return os.path.join(self.folder, os.fsdecode(self.paths[index]))


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """Images and their labels.

    images  (n, channels, height, width) uint8, or n files
    labels  (n,) int64
    """

    images: Tensor | Files
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, slots=True, eq=False)
class Images:
    """A whole data set as found, before any profile.

    digest  SHA-256 of all images and labels; of files: of their paths, sizes and labels
    parts   sizes of the parts, one after the other, of which train is made; empty, only one
    """

    train: Split
    test: Split
    digest: str
    parts: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Material:
    """What one experiment is made from.

    train         the images that survive the profile, class after class
    validation    the carve, or None
    test          all test images
    counts        training images of each class, (classes,)
    names         of the classes, in label order
    superclasses  name of the superclass of each class, or None
    groups        'many', 'medium' or 'few' for each class, by the named rule
    mean, std     of pixels in [0, 1], one per channel
    digest        of the images and labels of the whole data set as found
    """

    train: Split
    validation: Split | None
    test: Split
    counts: tuple[int, ...]
    names: tuple[str, ...]
    superclasses: tuple[str, ...] | None
    groups: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    digest: str


@dataclass(frozen=True, slots=True)
class Options:
    """The entries of a `data` record, with their defaults, checked for sense.

    ratio        largest class over smallest; 1, balanced
    profile      exponential, step or pareto; exponential, Cao et al. 2019
    largest      images of the largest class; None, the data set's own
    validation   share of each class set aside before the profile; 0, as all long-tailed papers
    subset_seed  of the canonical subset; 0, released code of LDAM-DRW
    subset       which images survive: canonical, first or released_pair; see `imbalance.subset`
    groups       rule for many, medium and few; kang, as all released code
    folder       of an image_folder, under the root
    classes      of a sphere
    """

    name: str
    ratio: float = 1.0
    profile: str = "exponential"
    largest: int | None = None
    validation: float = 0.0
    subset_seed: int = 0
    groups: str = "kang"
    folder: str | None = None
    classes: int | None = None
    subset: str = "canonical"

    def __post_init__(self) -> None:
        if not _is_number(self.ratio) or not 1 <= self.ratio < math.inf:
            raise ValueError(
                f"ratio is the largest class over the smallest, at least 1, got {self.ratio!r}. "
                f"Write 100, not 0.01."
            )
        if self.profile not in PROFILES:
            raise ValueError(unknown("profile", self.profile, PROFILES))
        if self.largest is not None and (not _is_whole(self.largest) or self.largest < 1):
            raise ValueError(
                f"largest is a number of images, at least 1, got {self.largest!r}. "
                f"Leave it out for the data set's own."
            )
        if not _is_number(self.validation) or not 0 <= self.validation < 1:
            raise ValueError(
                f"validation is the share of each class that is set aside, in [0, 1), got "
                f"{self.validation!r}. Write 0.1 for a tenth, 0 for none."
            )
        if not _is_whole(self.subset_seed) or not 0 <= self.subset_seed < 2**32:
            raise ValueError(
                f"subset_seed is a whole number in [0, 2³²), got {self.subset_seed!r}. "
                f"Use 0 for the subset of the literature."
            )
        if self.groups not in RULES:
            raise ValueError(unknown("groups rule", self.groups, RULES))
        if self.subset not in SUBSETS:
            raise ValueError(unknown("subset", self.subset, SUBSETS))


class Dataset(ABC):
    """One data set. Instances live in `datasets.DATASETS`; subclasses are final.

    name       as in a suite file
    title      for people
    source     citation
    largest    canonical size of the largest class; None where it is given or follows from the data
    mean, std  of pixels in [0, 1], one per channel
    shape      (channels, height, width) of an image; None where it follows from the data
    """

    name: str
    title: str
    source: str
    largest: int | None
    mean: tuple[float, ...]
    std: tuple[float, ...]
    shape: tuple[int, int, int] | None

    @abstractmethod
    def names(
        self, root: Path, folder: str | None = None, classes: int | None = None
    ) -> tuple[str, ...]:
        """Class names in label order."""

    @abstractmethod
    def find(self, root: Path, folder: str | None = None, classes: int | None = None) -> Path:
        """Where the images lie; raises MissingData."""

    @abstractmethod
    def read(
        self,
        root: Path,
        folder: str | None = None,
        classes: int | None = None,
        *,
        download: bool = False,
        progress: Progress | None = None,
    ) -> Images:
        """All images as found; fetched only if asked to; progress(done, total) while decoding."""

    def superclasses(self) -> tuple[str, ...] | None:
        """Name of the superclass of each class, in label order, or None."""
        return None

    def cut(
        self, labels: np.ndarray, parts: Sequence[int], asked: Options, names: Sequence[str]
    ) -> tuple[np.ndarray, np.ndarray]:
        """What is left of the training images: (indices, class after class; their labels).

        labels (n,) of what the carve has left, parts the sizes of the parts that n is made of.
        """
        largest = self.largest if asked.largest is None else asked.largest
        if largest is None:
            if asked.subset != "canonical":
                raise ValueError(
                    f"all images are kept, so there is no subset {asked.subset!r} to choose. "
                    f"Leave `subset` out, or set `largest`."
                )
            return np.arange(len(labels)), labels
        size = remaining_largest(largest, asked.validation)
        counts = class_counts(len(names), size, asked.ratio, asked.profile)
        kept = subset(asked.subset, labels, counts, asked.subset_seed, names)
        return kept, labels[kept]

    @final
    def load(
        self,
        options: Mapping[str, object],
        root: Path,
        *,
        download: bool = False,
        progress: Progress | None = None,
    ) -> Material:
        """Images as found, less the validation carve, cut to the profile."""
        asked = self._options(options)
        if asked.largest is None and self.largest is None and asked.ratio > 1:
            raise ValueError(
                f"{self.name} has no canonical class size, and ratio {asked.ratio:g} needs one. "
                f"Set `largest`, the images of the largest class."
            )
        images = self.read(root, asked.folder, asked.classes, download=download, progress=progress)
        names = self.names(root, asked.folder, asked.classes)
        labels = images.train.labels.numpy()

        remaining, carved = carve(labels, asked.validation, asked.subset_seed)
        ends = np.cumsum([0, *(images.parts or (len(labels),))])
        parts = np.diff(np.searchsorted(remaining, ends)).tolist()
        try:
            kept, given = self.cut(labels[remaining], parts, asked, names)
        except ValueError as error:
            raise ValueError(f"{self.name} at ratio {asked.ratio:g}: {error}") from None
        counts = tuple(np.bincount(given, minlength=len(names)).tolist())
        return Material(
            train=_select(images.train, remaining[kept], given),
            validation=_select(images.train, carved, labels[carved]) if asked.validation else None,
            test=images.test,
            counts=counts,
            names=names,
            superclasses=self.superclasses(),
            groups=group(counts, asked.groups),
            mean=self.mean,
            std=self.std,
            digest=images.digest,
        )

    @final
    def _options(self, options: Mapping[str, object]) -> Options:
        known = tuple(Options.__dataclass_fields__)
        for key in options:
            if key not in known:
                raise ValueError(unknown("data option", key, known))
        if options.get("name", self.name) != self.name:
            raise ValueError(
                f"these options are for {options['name']!r}, this data set is '{self.name}'. "
                f"Load them with DATASETS[{options['name']!r}]."
            )
        return Options(**{**options, "name": self.name})  # type: ignore[arg-type]


def fingerprint(train: Split, test: Split) -> str:
    """SHA-256 of shapes, images (in memory) and labels, in the order found."""
    shapes = f"{tuple(train.images.shape)} {tuple(test.images.shape)}"
    digest = hashlib.sha256(shapes.encode())
    for tensor in (train.images, test.images, train.labels, test.labels):
        digest.update(tensor.contiguous().numpy())
    return digest.hexdigest()


def present(folder: Path) -> bool:
    """Whether a folder is there; raises MissingData where that may not even be looked up."""
    try:
        return stat.S_ISDIR(os.stat(folder).st_mode)
    except PermissionError:
        raise forbidden(folder) from None
    except (OSError, ValueError):  # none of that name, or a name that nothing can have
        return False


def forbidden(path: Path | str) -> MissingData:
    """The sentence for images that exist and may not be read."""
    return MissingData(
        f"{path} may not be read by this user. Correct its permissions, or name another folder "
        f"with --data-root."
    )


def no_folder(name: str, folder: str | None) -> None:
    """Refuse `folder` for a data set that knows its own place."""
    if folder is not None:
        raise ValueError(
            f"`folder` belongs to image_folder, got {folder!r} for {name}. Leave it out, or set "
            f"name: image_folder."
        )


def no_classes(name: str, classes: int | None) -> None:
    """Refuse `classes` for a data set whose classes are what they are."""
    if classes is not None:
        raise ValueError(
            f"`classes` belongs to sphere, got {classes!r} for {name}. Leave it out, or set "
            f"name: sphere."
        )


def _select(split: Split, indices: np.ndarray, labels: np.ndarray) -> Split:
    return Split(split.images[torch.from_numpy(indices)], torch.from_numpy(labels))


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
