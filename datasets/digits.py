"""Handwritten digits: 1,797 images of 8 x 8 pixels that come with scikit-learn.

Alpaydin, Kaynak. "Optical Recognition of Handwritten Digits." UCI Machine Learning Repository,
1998, doi:10.24432/C50P49; the test half, as scikit-learn embeds it. Needs no download: the material
of the quick suite and of tests.

What scikit-learn embeds has no split. Ours: of each digit, 50 images drawn with a fixed seed are
the test set, the rest is for training.
"""

import importlib.util
from pathlib import Path
from typing import final

import numpy as np
import torch

from datasets.base import (
    Dataset,
    Images,
    MissingData,
    Progress,
    Split,
    fingerprint,
    no_classes,
    no_folder,
)

TEST_IMAGES = 50  # of each digit; ours: the rarest class keeps 124 for training
SPLIT_SEED = 0  # ours, never to be changed: it decides what is test


@final
class Digits(Dataset):
    """Ten classes, grayscale; scikit-learn's levels 0..16 times 15, so that pixels fill a byte."""

    name = "digits"
    title = "Handwritten digits"
    source = "Alpaydin, Kaynak. Optical Recognition of Handwritten Digits. UCI 1998; scikit-learn"
    largest = 124  # the largest size that every class can fill: the rarest digit has 174 images
    mean = (0.2881,)  # measured on the training images, levels times 15 over 255
    std = (0.3545,)
    shape = (1, 8, 8)

    def names(
        self, root: Path, folder: str | None = None, classes: int | None = None
    ) -> tuple[str, ...]:
        """From zero to nine."""
        return (
            "zero",
            "one",
            "two",
            "three",
            "four",
            "five",
            "six",
            "seven",
            "eight",
            "nine",
        )

    def find(self, root: Path, folder: str | None = None, classes: int | None = None) -> Path:
        """scikit-learn's own folder, whatever the root."""
        no_folder(self.name, folder)
        no_classes(self.name, classes)
        package = importlib.util.find_spec("sklearn")
        if package is None or package.origin is None:
            raise MissingData(
                "the handwritten digits come with scikit-learn, which is not installed. "
                "Run: pip install scikit-learn."
            )
        return Path(package.origin).parent / "datasets" / "data"

    def read(
        self,
        root: Path,
        folder: str | None = None,
        classes: int | None = None,
        *,
        download: bool = False,
        progress: Progress | None = None,
    ) -> Images:
        """1,297 images for training and 500 for the test, each in the order found."""
        self.find(root, folder, classes)
        from sklearn.datasets import load_digits

        found = load_digits()
        pixels = torch.from_numpy((found.images * 15).astype(np.uint8)[:, None])
        labels = found.target.astype(np.int64)
        generator = np.random.RandomState(SPLIT_SEED)
        held = np.zeros(len(labels), dtype=bool)
        for k in range(10):
            held[generator.permutation(np.flatnonzero(labels == k))[:TEST_IMAGES]] = True
        train, test = [
            Split(pixels[torch.from_numpy(part)], torch.from_numpy(labels[part]))
            for part in (~held, held)
        ]
        return Images(train, test, fingerprint(train, test))
