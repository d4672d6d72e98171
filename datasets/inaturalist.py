"""iNaturalist 2018: 437,513 photographs of 8,142 species, as rare in the data as people meet them.

Van Horn, Mac Aodha, Song, Cui, Sun, Shepard, Adam, Perona, Belongie. "The iNaturalist Species
Classification and Detection Dataset." CVPR 2018, arXiv:1707.06642; the edition of the competition
of 2018, with 1,000 to 2 training images of a species. Its test labels are not public: the three
validation images of each species, 24,426, are the test set, as in all papers.

    <root>/inaturalist18/train_val2018/<kingdom>/<species>/*.jpg
                        /iNaturalist18_{train,val}.txt    "train_val2018/…/<file> <label>"
                        /categories.json                  names of the species; may be absent

The lists are those of Kang et al. (arXiv:1910.09217), made from train2018.json and val2018.json;
their labels are the numbers of the species. Nothing is decoded until it is needed.
"""

import json
from pathlib import Path
from typing import final

from datasets.base import Dataset, Images, MissingData, Progress, no_classes, no_folder, present
from datasets.folders import readable_lines, streamed
from datasets.lists import Published, locate, read_lists

SIZE = 224  # of what a model sees; Kang et al., and all that follow
RESIZE = 256  # shorter side before the middle is taken; the same
LISTS = Published(
    train="iNaturalist18_train.txt",
    test="iNaturalist18_val.txt",
    images=437_513,  # Van Horn et al., edition of 2018, as the next three
    classes=8142,
    largest=1000,
    smallest=2,
    checksums={"iNaturalist18_val.txt": "b7ed52f3854c157c487cc3be9deb8abf"},  # Kang et al.
    example="train_val2018/Plantae/7477/3b60c9486db1d2ee875f11a669fbde4a.jpg",
)


@final
class INaturalist18(Dataset):
    """8,142 species, streamed from disk."""

    name = "inaturalist18"
    title = "iNaturalist 2018"
    source = "Van Horn et al. The iNaturalist Species Classification and Detection Dataset. 2018"
    largest = None  # as the list has it at ratio 1, must be given beyond
    # released code of Kang et al., and of all that follow
    mean = (0.466, 0.471, 0.380)
    std = (0.195, 0.194, 0.192)
    shape = (3, SIZE, SIZE)
    published = LISTS

    def names(
        self, root: Path, folder: str | None = None, classes: int | None = None
    ) -> tuple[str, ...]:
        """Of the species, with `_` between words, where categories.json is; else their numbers."""
        self.find(root, folder, classes)
        path = self._place(root) / "categories.json"
        known: dict[int, str] = {}
        if path.is_file():
            try:
                entries = json.loads("\n".join(readable_lines(path)))
                known = {int(each["id"]): str(each["name"]) for each in entries}
            except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
                raise ValueError(
                    f"{path} is not a list of records with `id` and `name`. Fetch it again, or "
                    f"remove it."
                ) from None
        numbers = range(self.published.classes)
        return tuple(known.get(k, str(k)).replace(" ", "_") for k in numbers)

    def find(self, root: Path, folder: str | None = None, classes: int | None = None) -> Path:
        """root/inaturalist18, if the lists are there too."""
        no_folder(self.name, folder)
        no_classes(self.name, classes)
        place = self._place(root)
        if not present(place / "train_val2018"):
            raise MissingData(
                f"no images of {self.name}: looked for {place}/train_val2018/<kingdom>/<species>/"
                f"*.jpg. Unpack them there, or name another --data-root."
            )
        locate(self.name, (place,), self.published)
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
        lists = locate(self.name, (place,), self.published)
        files = read_lists(place, lists, self.published, self.names(root))
        return streamed(files, (SIZE, SIZE), RESIZE)

    def _place(self, root: Path) -> Path:
        return Path(root) / "inaturalist18"
