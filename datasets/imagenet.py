"""ImageNet: 1.28 million colour photographs of a thousand classes; and its long-tailed part.

Russakovsky, Deng, Su, Krause, Satheesh, Ma, Huang, Karpathy, Khosla, Bernstein, Berg, Fei-Fei.
"ImageNet Large Scale Visual Recognition Challenge." IJCV 2015, arXiv:1409.0575. 732 to 1,300
training images of each class; the 50,000 of validation are the test set, as everywhere.

Liu, Miao, Zhan, Wang, Gong, Yu. "Large-Scale Long-Tailed Recognition in an Open World." CVPR 2019,
arXiv:1904.05160, ImageNet-LT: 115,846 of the training images, 1,280 to 5 of each class, named in a
public list; the same test set.

    <root>/imagenet/{train,val}/<wnid>/*.JPEG
                   /words.txt or LOC_synset_mapping.txt      names of the classes; may be absent
    <root>/{imagenet_lt,imagenet}/ImageNet_LT_{train,test}.txt     "train/<wnid>/<file> <label>"

Nothing is decoded until it is needed, and nothing decoded is kept: the 150 GB stay where they are.
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
from datasets.folders import (
    Found,
    class_names,
    listing,
    readable_lines,
    scan,
    streamed,
    synset_names,
)

SIZE = 224  # of what a model sees; all papers since Krizhevsky et al. 2012, and torchvision
RESIZE = 256  # shorter side before the middle is taken; the same
LISTS = ("ImageNet_LT_train.txt", "ImageNet_LT_test.txt")


class _ImageNet(Dataset):
    """What the two share."""

    largest = None  # follows from the data at ratio 1, must be given beyond
    # as released with ResNet (arXiv:1512.03385) and by torchvision
    mean = (0.485, 0.456, 0.406)
    std = (0.229, 0.224, 0.225)
    shape = (3, SIZE, SIZE)

    def find(self, root: Path, folder: str | None = None, classes: int | None = None) -> Path:
        """root/imagenet."""
        no_folder(self.name, folder)
        no_classes(self.name, classes)
        place = Path(root) / "imagenet"
        for part in ("train", "val"):
            if not present(place / part):
                raise MissingData(
                    f"no images of {self.name}: looked for {place / part}/<wnid>/*.JPEG. Unpack "
                    f"them there, with the validation images in folders of their classes, or name "
                    f"another --data-root."
                )
        return place


@final
class ImageNet(_ImageNet):
    """A thousand classes, streamed from disk."""

    name = "imagenet"
    title = "ImageNet"
    source = "Russakovsky et al. ImageNet Large Scale Visual Recognition Challenge. IJCV 2015"

    def names(
        self, root: Path, folder: str | None = None, classes: int | None = None
    ) -> tuple[str, ...]:
        """First synonym of each class, where a file of names is there; else WordNet's numbers."""
        place = self.find(root, folder, classes)
        return synset_names(class_names(place), _words(place))

    def read(
        self,
        root: Path,
        folder: str | None = None,
        classes: int | None = None,
        *,
        download: bool = False,
        progress: Progress | None = None,
    ) -> Images:
        """All images, as files; labels are the folders in ascending order."""
        files = scan(self.find(root, folder, classes), test="val")
        return streamed(files, (SIZE, SIZE), RESIZE)


@final
class ImageNetLT(_ImageNet):
    """The same thousand classes, long-tailed by a public list."""

    name = "imagenet_lt"
    title = "ImageNet-LT"
    source = "Liu et al. Large-Scale Long-Tailed Recognition in an Open World. CVPR 2019"

    def names(
        self, root: Path, folder: str | None = None, classes: int | None = None
    ) -> tuple[str, ...]:
        """As those of ImageNet, in the order of the list's labels."""
        place = self.find(root, folder, classes)
        lines = _lines(_lists(Path(root))[0])
        # copies of the list differ in their order of labels: the folder says which class it is
        wnids = {label: path.split("/")[-2] for path, label in lines}
        return synset_names([wnids[label] for label in sorted(wnids)], _words(place))

    def find(self, root: Path, folder: str | None = None, classes: int | None = None) -> Path:
        """root/imagenet, if the lists are there too."""
        place = super().find(root, folder, classes)
        _lists(Path(root))
        return place

    def read(
        self,
        root: Path,
        folder: str | None = None,
        classes: int | None = None,
        *,
        download: bool = False,
        progress: Progress | None = None,
    ) -> Images:
        """The images of the lists, as files, in the lists' order."""
        place = self.find(root, folder, classes)
        lists = _lists(Path(root))
        train, test = ([*_listed(place, path)] for path in lists)
        known = sorted({label for _, label, _ in train})
        odd = sorted({label for _, label, _ in test} - set(known))
        if known != [*range(len(known))] or odd:
            wrong = odd or [k for k in range(len(known)) if k not in known]
            raise ValueError(
                f"{lists[0]} gives no image the label {wrong[0]}. Labels go from 0 on without a "
                f"gap, the same in both lists: fetch the original ones."
            )
        return streamed(listing(place, self.names(root), train, test), (SIZE, SIZE), RESIZE)


def _words(place: Path) -> tuple[Path, ...]:
    return place / "words.txt", place / "LOC_synset_mapping.txt"


def _lists(root: Path) -> list[Path]:
    """The two list files, from the first folder that has them."""
    for place in (root / "imagenet_lt", root / "imagenet"):
        found = [place / file for file in LISTS]
        try:
            if all(path.is_file() for path in found):
                return found
        except PermissionError:
            raise forbidden(place) from None
    raise MissingData(
        f"no lists of imagenet_lt: looked for {root}/{{imagenet_lt,imagenet}}/{LISTS[0]} and "
        f"{LISTS[1]}. They come with the paper's code: put them there."
    )


def _lines(path: Path) -> Iterator[tuple[str, int]]:
    """(relative path, label) of each line."""
    for number, line in enumerate(readable_lines(path), 1):
        file, _, label = line.rpartition(" ")
        if not label.isdecimal() or "/" not in file or ".." in file:
            raise ValueError(
                f"line {number} of {path} is {line!r}, expected a path such as "
                f"train/n01440764/n01440764_190.JPEG, a space and a label. Fetch the list again."
            )
        yield file, int(label)


def _listed(place: Path, path: Path) -> Iterator[Found]:
    for file, label in _lines(path):
        try:
            yield file, label, (place / file).stat()
        except PermissionError:
            raise forbidden(place / file) from None
        except OSError:
            raise MissingData(
                f"{place / file} is not there, and {path} names it. Unpack ImageNet as a whole, "
                f"or name another --data-root."
            ) from None
