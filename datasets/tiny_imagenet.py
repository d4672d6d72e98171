"""Tiny ImageNet: 110,000 colour images of 64 x 64 pixels in 200 classes.

Le, Yang. "Tiny ImageNet Visual Recognition Challenge." Stanford CS 231N, 2015; a part of ImageNet
(Russakovsky et al., arXiv:1409.0575). 500 training images of each class. The labels of the official
test images are not public, so the official validation images, 50 of each class, are the test set.
Papers on prototypes call it ImageNet-200.

Two layouts are understood, the first that is there:

    <root>/tiny-imagenet-200/train/<wnid>/images/*.JPEG      the official archive
                            /val/images/*.JPEG, val/val_annotations.txt
    <root>/tiny_imagenet/{train,test}/<class>/<image>        class folders

Labels are the class folders in ascending order. Names come from words.txt, where it is there.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import final

from datasets.base import (
    Dataset,
    Images,
    MissingData,
    Progress,
    forbidden,
    no_classes,
    no_folder,
    present,
)
from datasets.cache import read, read_folders
from datasets.folders import (
    Found,
    Listing,
    class_names,
    images_in,
    listing,
    readable_lines,
    synset_names,
)

ARCHIVE = "tiny-imagenet-200"


@final
class TinyImageNet(Dataset):
    """200 classes of ImageNet, small."""

    name = "tiny_imagenet"
    title = "Tiny ImageNet"
    source = "Le, Yang. Tiny ImageNet Visual Recognition Challenge. Stanford CS 231N 2015"
    largest = 500
    # of ImageNet, as in the released code of DL2PA and HPN
    mean = (0.485, 0.456, 0.406)
    std = (0.229, 0.224, 0.225)
    shape = (3, 64, 64)

    def names(
        self, root: Path, folder: str | None = None, classes: int | None = None
    ) -> tuple[str, ...]:
        """First synonym of each class; without words.txt, the names of the folders."""
        place = self.find(root, folder, classes)
        return synset_names(class_names(place), [place / "words.txt"])

    def find(self, root: Path, folder: str | None = None, classes: int | None = None) -> Path:
        """The unpacked archive if it is there, else the class folders."""
        no_folder(self.name, folder)
        no_classes(self.name, classes)
        for place in (Path(root) / ARCHIVE, Path(root) / self.name):
            if present(place):
                return place
        raise MissingData(
            f"no images of {self.name}: looked for {Path(root) / ARCHIVE} and "
            f"{Path(root) / self.name}/{{train,test}}/<class>. Unpack tiny-imagenet-200.zip from "
            f"http://cs231n.stanford.edu there, or name the folder above with --data-root."
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
        """All images, decoded once and kept in the cache."""
        place = self.find(root, folder, classes)
        if place.name == ARCHIVE:
            return read(lambda: _archive(place), shape=self.shape, progress=progress)[0]
        return read_folders(place, shape=self.shape, progress=progress)[0]


def _archive(place: Path) -> Listing:
    """The official archive's files, class after class, as class folders would have them."""
    wnids = class_names(place)

    def train() -> Iterator[Found]:
        for label, wnid in enumerate(wnids):
            yield from images_in(place, f"train/{wnid}/images", label)

    return listing(place, wnids, train(), _annotated(place, wnids))


def _annotated(place: Path, wnids: tuple[str, ...]) -> list[Found]:
    """Validation images with their labels."""
    annotations = place / "val" / "val_annotations.txt"
    labels = {wnid: label for label, wnid in enumerate(wnids)}
    found = []
    for number, line in enumerate(readable_lines(annotations), 1):
        file, _, rest = line.partition("\t")
        wnid = rest.split("\t")[0].strip()
        if wnid not in labels:
            raise ValueError(
                f"line {number} of {annotations} names the class {wnid!r}, which is not in "
                f"{place / 'train'}. Unpack the archive again."
            )
        if "/" in file or "\0" in file:
            raise ValueError(
                f"line {number} of {annotations} names {file!r}, which is no name of a file. "
                f"Unpack the archive again."
            )
        path = f"val/images/{file}"
        try:
            found.append((path, labels[wnid], (place / path).stat()))
        except PermissionError:
            raise forbidden(place / path) from None
        except OSError:
            raise MissingData(
                f"{place / path} is not there, and line {number} of {annotations} names it. "
                f"Unpack the archive again."
            ) from None
    if not found:
        raise ValueError(f"{annotations} names no image. Unpack the archive again.")
    return sorted(found, key=lambda each: (each[1], each[0]))
