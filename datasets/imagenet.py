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

from pathlib import Path
from typing import final

from datasets.base import (
    Dataset,
    Images,
    MissingData,
    Progress,
    no_classes,
    no_folder,
    present,
)
from datasets.folders import class_names, scan, streamed, synset_names
from datasets.lists import Published, lines, locate, read_lists

SIZE = 224  # of what a model sees; all papers since Krizhevsky et al. 2012, and torchvision
RESIZE = 256  # shorter side before the middle is taken; the same
LISTS = Published(
    train="ImageNet_LT_train.txt",
    test="ImageNet_LT_test.txt",
    images=115_846,  # Liu et al., sec. 4.1, as the next three
    classes=1000,
    largest=1280,
    smallest=5,
    checksums={  # of the lists released by Liu et al. and by Kang et al., arXiv:1910.09217
        "ImageNet_LT_val.txt": "ef44f8e43fbc904809a77216042e7498",  # not trained or tested on
        "ImageNet_LT_test.txt": "5f5f97c738923e877c5c78accce6744f",
    },
    example="train/n01440764/n01440764_190.JPEG",
)


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
    published = LISTS

    def names(
        self, root: Path, folder: str | None = None, classes: int | None = None
    ) -> tuple[str, ...]:
        """As those of ImageNet, in the order of the list's labels."""
        place = self.find(root, folder, classes)
        train, _ = self._lists(Path(root))
        # labels are not in the order of the folders: the path says which class one is
        wnids = {label: path.split("/")[-2] for path, label in lines(train, LISTS.example)}
        return synset_names([wnids[label] for label in sorted(wnids)], _words(place))

    def find(self, root: Path, folder: str | None = None, classes: int | None = None) -> Path:
        """root/imagenet, if the lists are there too."""
        place = super().find(root, folder, classes)
        self._lists(Path(root))
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
        lists = self._lists(Path(root))
        files = read_lists(place, lists, self.published, self.names(root))
        return streamed(files, (SIZE, SIZE), RESIZE)

    def _lists(self, root: Path) -> tuple[Path, Path]:
        return locate(self.name, (root / "imagenet_lt", root / "imagenet"), self.published)


def _words(place: Path) -> tuple[Path, ...]:
    return place / "words.txt", place / "LOC_synset_mapping.txt"
