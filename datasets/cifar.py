"""CIFAR-10 and CIFAR-100: 60,000 colour images of 32 x 32 pixels.

Krizhevsky. "Learning Multiple Layers of Features from Tiny Images." Technical report, University of
Toronto, 2009. 5,000 (500) training and 1,000 (100) test images of each of 10 (100) classes; the 100
fine classes form 20 superclasses of five.

Two layouts are understood, the first that is there:

    <root>/{cifar-10-batches-py,cifar-100-python}            torchvision's own, checksums verified
    <root>/{cifar10,cifar100}/{train,test}/<class>/<image>   class folders, ascending in label order

Both hold the same images in different order, so a long-tailed subset differs between them, and so
does the digest. Class folders may hold fewer images than the original, as long as they can fill the
profile. The canonical subset of the literature needs the order of torchvision's layout.
"""

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, final

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
from datasets.pickled import Damaged, batch

if TYPE_CHECKING:
    from torchvision.datasets import CIFAR10 as Original

_SOURCE = "Krizhevsky. Learning Multiple Layers of Features from Tiny Images. Toronto 2009"

CIFAR10_NAMES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip

# superclass -> its five fine classes, in the order of the data set's own page
CIFAR100_TREE = {
    "aquatic_mammals": ("beaver", "dolphin", "otter", "seal", "whale"),
    "fish": ("aquarium_fish", "flatfish", "ray", "shark", "trout"),
    "flowers": ("orchid", "poppy", "rose", "sunflower", "tulip"),
    "food_containers": ("bottle", "bowl", "can", "cup", "plate"),
    "fruit_and_vegetables": ("apple", "mushroom", "orange", "pear", "sweet_pepper"),
    "household_electrical_devices": ("clock", "keyboard", "lamp", "telephone", "television"),
    "household_furniture": ("bed", "chair", "couch", "table", "wardrobe"),
    "insects": ("bee", "beetle", "butterfly", "caterpillar", "cockroach"),
    "large_carnivores": ("bear", "leopard", "lion", "tiger", "wolf"),
    "large_man-made_outdoor_things": ("bridge", "castle", "house", "road", "skyscraper"),
    "large_natural_outdoor_scenes": ("cloud", "forest", "mountain", "plain", "sea"),
    "large_omnivores_and_herbivores": ("camel", "cattle", "chimpanzee", "elephant", "kangaroo"),
    "medium_mammals": ("fox", "porcupine", "possum", "raccoon", "skunk"),
    "non-insect_invertebrates": ("crab", "lobster", "snail", "spider", "worm"),
    "people": ("baby", "boy", "girl", "man", "woman"),
    "reptiles": ("crocodile", "dinosaur", "lizard", "snake", "turtle"),
    "small_mammals": ("hamster", "mouse", "rabbit", "shrew", "squirrel"),
    "trees": ("maple_tree", "oak_tree", "palm_tree", "pine_tree", "willow_tree"),
    "vehicles_1": ("bicycle", "bus", "motorcycle", "pickup_truck", "train"),
    "vehicles_2": ("lawn_mower", "rocket", "streetcar", "tank", "tractor"),
}
_SUPERCLASS = {fine: coarse for coarse, group in CIFAR100_TREE.items() for fine in group}

CIFAR100_NAMES = tuple(sorted(_SUPERCLASS))


class _CIFAR(Dataset):
    """What the two share; `original` is the folder of torchvision's layout."""

    source = _SOURCE
    shape = (3, 32, 32)
    original: ClassVar[str]
    classes: ClassVar[tuple[str, ...]]

    def names(
        self, root: Path, folder: str | None = None, classes: int | None = None
    ) -> tuple[str, ...]:
        """In the original label order, which is alphabetical."""
        return self.classes

    def find(self, root: Path, folder: str | None = None, classes: int | None = None) -> Path:
        """The folder of torchvision's layout if it is there, else the class folders."""
        no_folder(self.name, folder)
        no_classes(self.name, classes)
        for place in (Path(root) / self.original, Path(root) / self.name):
            if present(place):
                return place
        raise MissingData(
            f"no images of {self.name}: looked for {Path(root) / self.original} and "
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
        """All images, in the order of the layout found."""
        try:
            place = self.find(root, folder, classes)
        except MissingData:
            if not download:
                raise
            place = Path(root) / self.original
        if place.name == self.original:
            return self._read_original(Path(root), download)
        return read_named(place, self.classes, self.title, shape=self.shape, progress=progress)

    def _read_original(self, root: Path, download: bool) -> Images:
        import torchvision.datasets

        kind: type[Original] = getattr(torchvision.datasets, type(self).__name__)
        try:
            if download:
                fetcher = kind.__new__(kind)  # its constructor would unpickle, whatever is named
                fetcher.root = str(root)
                fetcher.download()
            halves = [
                [batch(root / self.original / name, checksum) for name, checksum in files]
                for files in (kind.train_list, kind.test_list)
            ]
        except PermissionError:
            raise forbidden(root / self.original) from None
        except (Damaged, RuntimeError, FileNotFoundError):
            raise MissingData(
                f"{root / self.original} is incomplete or damaged: its checksums are not those of "
                f"{self.title}. Remove it, and fetch it again with --download."
            ) from None
        except OSError as error:
            raise MissingData(
                f"{self.title} could not be fetched into {root} ({error}). Look for the network "
                f"and for room on the disk, or unpack the images there yourself."
            ) from None
        train, test = [
            Split(
                torch.from_numpy(np.concatenate([images for images, _ in half])),
                torch.from_numpy(np.concatenate([labels for _, labels in half])),
            )
            for half in halves
        ]
        return Images(train, test, fingerprint(train, test))


@final
class CIFAR10(_CIFAR):
    """Ten classes."""

    name = "cifar10"
    title = "CIFAR-10"
    largest = 5000
    # released code of LDAM-DRW, ETF and DL2PA, there for both CIFARs in long-tailed training
    mean = (0.4914, 0.4822, 0.4465)
    std = (0.2023, 0.1994, 0.2010)
    original = "cifar-10-batches-py"
    classes = CIFAR10_NAMES


@final
class CIFAR100(_CIFAR):
    """A hundred classes in twenty superclasses."""

    name = "cifar100"
    title = "CIFAR-100"
    largest = 500
    # released balanced code of DL2PA
    mean = (0.507, 0.487, 0.441)
    std = (0.267, 0.256, 0.276)
    original = "cifar-100-python"
    classes = CIFAR100_NAMES

    def superclasses(self) -> tuple[str, ...]:
        """Name of the superclass of each class, in label order."""
        return tuple(_SUPERCLASS[name] for name in CIFAR100_NAMES)
