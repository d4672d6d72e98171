"""Any data set that lies in class folders.

    <data root>/<folder>/{train,test}/<class>/<image>

Folder names in ascending order are the labels, the same in train and test; images are taken as RGB.
They are decoded once and kept, and must have one size, unless that takes more than
`cache.IN_MEMORY` bytes: then they stay on disk and are decoded whenever they are needed. Images of
several sizes need a recipe with `size` and `resize`.
"""

from pathlib import Path
from typing import final

import datasets.cache as cache
from datasets.base import Dataset, Images, MissingData, Progress, no_classes, present
from datasets.folders import class_names, decode, scan, streamed


@final
class ImageFolder(Dataset):
    """Class folders below the root, named by the option `folder`."""

    name = "image_folder"
    title = "Class folders"
    source = "your own images"
    largest = None  # follows from the data at ratio 1, must be given beyond
    # of ImageNet, as released with ResNet (arXiv:1512.03385) and by torchvision
    mean = (0.485, 0.456, 0.406)
    std = (0.229, 0.224, 0.225)
    shape = None

    def names(
        self, root: Path, folder: str | None = None, classes: int | None = None
    ) -> tuple[str, ...]:
        """Names of the folders in train, ascending."""
        return class_names(self.find(root, folder, classes))

    def find(self, root: Path, folder: str | None = None, classes: int | None = None) -> Path:
        """root/folder."""
        no_classes(self.name, classes)
        if folder is None:
            raise ValueError(
                "image_folder needs the option `folder`, got none. Set it to the name of a folder "
                "under the data root that holds train and test."
            )
        if Path(folder).is_absolute() or ".." in Path(folder).parts or not Path(folder).parts:
            raise ValueError(
                f"`folder` is a name under the data root, got {folder!r}. Name the part before it "
                f"with --data-root."
            )
        place = Path(root) / folder
        if not present(place):
            raise MissingData(
                f"no images of image_folder: looked for {place}/{{train,test}}/<class>/<image>. "
                f"Unpack them there, or name another --data-root."
            )
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
        """All images as found, decoded once and kept in the cache, or streamed if too many."""
        place = self.find(root, folder, classes)
        files = scan(place)
        height, width, channels = decode(str(place / files.paths[0])).shape
        if len(files.paths) * height * width * channels > cache.IN_MEMORY:
            return streamed(files, (height, width))
        return cache.read_folders(place, progress=progress)[0]
