"""STL-10: 13,000 labelled colour images of 96 x 96 pixels in ten classes.

Coates, Ng, Lee. "An Analysis of Single-Layer Networks in Unsupervised Feature Learning." AISTATS
2011. 500 training and 800 test images of each class; the 100,000 without labels are not used, nor
need they be there.

Two layouts are understood, the first that is there:

    <root>/stl10_binary/{train,test}_{X,y}.bin       torchvision's own, checksums verified
    <root>/stl10/{train,test}/<class>/<image>        class folders, ascending in label order
"""

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
    forbidden,
    no_classes,
    no_folder,
    present,
)
from datasets.cache import read_named

ORIGINAL = "stl10_binary"
NAMES = ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck")


@final
class STL10(Dataset):
    """Ten classes, 96 x 96."""

    name = "stl10"
    title = "STL-10"
    source = "Coates, Ng, Lee. An Analysis of Single-Layer Networks. AISTATS 2011"
    largest = 500
    # released code of ETF and DL2PA
    mean = (0.5, 0.5, 0.5)
    std = (0.5, 0.5, 0.5)
    shape = (3, 96, 96)

    def names(
        self, root: Path, folder: str | None = None, classes: int | None = None
    ) -> tuple[str, ...]:
        """In the original label order, which is alphabetical."""
        return NAMES

    def find(self, root: Path, folder: str | None = None, classes: int | None = None) -> Path:
        """The folder of torchvision's layout if it is there, else the class folders."""
        no_folder(self.name, folder)
        no_classes(self.name, classes)
        for place in (Path(root) / ORIGINAL, Path(root) / self.name):
            if present(place):
                return place
        raise MissingData(
            f"no images of {self.name}: looked for {Path(root) / ORIGINAL} and "
            f"{Path(root) / self.name}/{{train,test}}/<class>. Name the folder above with "
            f"--data-root, or fetch them with --download."
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
        """All labelled images, in the order of the layout found."""
        try:
            place = self.find(root, folder, classes)
        except MissingData:
            if not download:
                raise
            place = _fetch(Path(root))
        if place.name != ORIGINAL:
            return read_named(place, NAMES, self.title, shape=self.shape, progress=progress)
        train, test = _original(place, "train"), _original(place, "test")
        return Images(train, test, fingerprint(train, test))


def _original(place: Path, part: str) -> Split:
    """One half; torchvision's own reader wants the 2.6 GB of unlabelled images too."""
    from torchvision.datasets import STL10 as Original
    from torchvision.datasets.utils import check_integrity

    sums = dict((*Original.train_list, *Original.test_list))
    found = []
    for file in (f"{part}_X.bin", f"{part}_y.bin"):
        try:
            if not check_integrity(str(place / file), sums[file]):
                raise MissingData(
                    f"{place / file} is missing or damaged: its checksum is not that of STL-10. "
                    f"Remove {place}, and fetch it again with --download."
                )
            found.append(np.fromfile(place / file, np.uint8))
        except PermissionError:
            raise forbidden(place / file) from None
    # written column after column; labels from 1 on
    pixels = found[0].reshape(-1, 3, 96, 96).transpose(0, 1, 3, 2)
    labels = found[1].astype(np.int64) - 1
    return Split(torch.from_numpy(np.ascontiguousarray(pixels)), torch.from_numpy(labels))


def _fetch(root: Path) -> Path:
    from torchvision.datasets import STL10 as Original

    try:
        Original(str(root), download=True)
    except PermissionError:
        raise forbidden(root / ORIGINAL) from None
    except (OSError, RuntimeError) as error:
        raise MissingData(
            f"STL-10 could not be fetched into {root} ({error}). Look for the network and for "
            f"room on the disk, or unpack the images there yourself."
        ) from None
    return root / ORIGINAL
