"""Street View House Numbers: 630,420 colour images of 32 x 32 pixels, ten digits.

Netzer, Wang, Coates, Bissacco, Wu, Ng. "Reading Digits in Natural Images with Unsupervised Feature
Learning." NIPS workshop 2011. 73,257 training images, 531,131 easier ones called extra, 26,032 for
the test; the digits are not equally frequent. Training is on both, train and then extra.

Two layouts are understood, the first that is there:

    <root>[/svhn]/{train,extra,test}_32x32.mat     torchvision's own, checksums verified
    <root>/svhn/{train,test}/<digit>/<image>       class folders

Class folders do not say which images are extra: put them beside those of train, and the two are one
part below. The subset of the literature needs the original files.

Long-tailed, as ETF (arXiv:2203.09081) and DL2PA (arXiv:2403.16937) cut it, each part by itself. Of
a part of n images, digit k is to keep

    nₖ = ⌊n / 10 · f^(k/9)⌋            f = 1 / ratio

which is the mean of the classes, not the largest: there are 4,948 zeros in train and 45,550 in
extra, fewer than the 7,325 and 53,113 asked for. Two data sets differ in what follows:

    svhn            nₖ = min(nₖ, available): labels are right
    svhn_released   as the released loader has it: the list of labels is written for the nₖ asked
                    for, so that the images after the zeros bear the labels of earlier digits, and
                    the last labels are dropped. A third of all labels is wrong, and the last digits
                    have none at all. Only for holding a result against the published table.

`largest` scales both parts: 60,438 is the sum that belongs to the formula above, at ratio 1 too.
With `largest: 604388` and ratio 1 every image is kept.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import final

import numpy as np
import torch

from datasets.base import (
    Dataset,
    Images,
    MissingData,
    Options,
    Progress,
    Split,
    fingerprint,
    forbidden,
    no_classes,
    no_folder,
    present,
)
from datasets.cache import read_named
from datasets.imbalance import class_counts, subset

DIGITS = tuple("0123456789")
PARTS = ("train", "extra", "test")


class _SVHN(Dataset):
    """What the two share: everything but the labels of a long-tailed subset."""

    source = "Netzer et al. Reading Digits in Natural Images. NIPS workshop 2011"
    largest = 60438  # ⌊73257 / 10⌋ + ⌊531131 / 10⌋, released code of ETF and DL2PA
    # released code of ETF and DL2PA
    mean = (0.5, 0.5, 0.5)
    std = (0.5, 0.5, 0.5)
    shape = (3, 32, 32)

    def names(
        self, root: Path, folder: str | None = None, classes: int | None = None
    ) -> tuple[str, ...]:
        """From 0 to 9."""
        return DIGITS

    def find(self, root: Path, folder: str | None = None, classes: int | None = None) -> Path:
        """Where the three .mat files are, else the class folders."""
        no_folder(self.name, folder)
        no_classes(self.name, classes)
        place = Path(root) / "svhn"
        try:
            for folder_of_files in (place, Path(root)):
                if (folder_of_files / "train_32x32.mat").exists():
                    return folder_of_files
        except PermissionError:
            raise forbidden(place) from None
        if present(place / "train"):
            return place
        raise MissingData(
            f"no images of {self.name}: looked for {place}/{{train,extra,test}}_32x32.mat and "
            f"{place}/{{train,test}}/<digit>. Name the folder above with --data-root, or fetch "
            f"them with --download."
        )

    def read(
        self,
        root: Path,
        folder: str | None = None,
        classes: int | None = None,
        *,
        download: bool = False,
        progress: Progress | None = None,
    ) -> Images:
        """All images, in the order of the layout found."""
        try:
            place = self.find(root, folder, classes)
        except MissingData:
            if not download:
                raise
            place = Path(root) / "svhn"
        if not present(place / "train"):
            return self._read_original(place, download)
        return read_named(place, DIGITS, self.title, shape=self.shape, progress=progress)

    def _read_original(self, place: Path, download: bool) -> Images:
        from torchvision.datasets import SVHN as Original

        splits = []
        for part in PARTS:
            try:
                found = Original(str(place), part, download=download)
            except PermissionError:
                raise forbidden(place) from None
            except RuntimeError:
                raise MissingData(
                    f"{place / part}_32x32.mat is missing or damaged: its checksum is not that of "
                    f"{self.title}. Put it there, or fetch it again with --download."
                ) from None
            except OSError as error:
                raise MissingData(
                    f"{self.title} could not be fetched into {place} ({error}). Look for the "
                    f"network and for room on the disk, or put the files there yourself."
                ) from None
            pixels = torch.from_numpy(np.ascontiguousarray(found.data))
            splits.append(Split(pixels, torch.from_numpy(np.atleast_1d(found.labels))))
        first, extra, test = splits
        train = Split(
            torch.cat([first.images, extra.images]), torch.cat([first.labels, extra.labels])
        )
        return Images(train, test, fingerprint(train, test), (len(first), len(extra)))

    def cut(
        self, labels: np.ndarray, parts: Sequence[int], asked: Options, names: Sequence[str]
    ) -> tuple[np.ndarray, np.ndarray]:
        """What is left of the training images: (indices, labels), part after part."""
        scale = (asked.largest or self.largest) / self.largest
        indices, given = [], []
        start = 0
        for size in parts:
            own = labels[start : start + size]
            counts = class_counts(10, size / 10 * scale, asked.ratio, asked.profile)
            available = np.minimum(counts, np.bincount(own, minlength=10)).tolist()
            kept = subset(asked.subset, own, available, asked.subset_seed, names)
            indices.append(start + kept)
            given.append(self._labels(counts, available))
            start += size
        return np.concatenate(indices), np.concatenate(given)

    def _labels(self, asked: Sequence[int], available: Sequence[int]) -> np.ndarray:
        """Of a part's images, digit after digit."""
        return np.repeat(np.arange(10), available)


@final
class SVHN(_SVHN):
    """Ten digits, with the labels that they have."""

    name = "svhn"
    title = "SVHN"


@final
class SVHNReleased(_SVHN):
    """Ten digits, with the labels that the released long-tailed loader gives them."""

    name = "svhn_released"
    title = "SVHN with labels shifted as released"

    def _labels(self, asked: Sequence[int], available: Sequence[int]) -> np.ndarray:
        return np.repeat(np.arange(10), asked)[: sum(available)]
