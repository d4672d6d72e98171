"""Data sets that are public lists of files: a relative path, a space and a label on each line.

    <list of train>, <list of test> ──read_lists──▶ Listing ──streamed──▶ Files, decoded later

A list decides which images are trained on, so it is held against what was published: those of
validation and test to the byte, by MD5, that of training by its counts.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from datasets.base import MissingData, forbidden
from datasets.folders import Found, Listing, listing, readable_lines


@dataclass(frozen=True, slots=True)
class Published:
    """What the lists of a data set must be.

    train, test  names of the files that are read
    images, classes, largest, smallest   of the training list
    checksums    MD5 of files, lines ended as on Unix, by name; one that is not read may be absent
    example      of a path in a list
    """

    train: str
    test: str
    images: int
    classes: int
    largest: int
    smallest: int
    checksums: Mapping[str, str]
    example: str


def locate(name: str, folders: Sequence[Path], published: Published) -> tuple[Path, Path]:
    """The lists of training and test, from the first folder that has both."""
    for place in folders:
        train, test = place / published.train, place / published.test
        try:
            if train.is_file() and test.is_file():
                return train, test
        except PermissionError:
            raise forbidden(place) from None
    where = " and ".join(str(place) for place in folders)
    raise MissingData(
        f"no lists of {name}: looked for {published.train} and {published.test} in {where}. They "
        f"are public, and come with released code of long-tailed recognition: put them there."
    )


def lines(path: Path, example: str) -> Iterator[tuple[str, int]]:
    """(relative path, label) of each line."""
    for number, line in enumerate(readable_lines(path), 1):
        file, _, label = line.rpartition(" ")
        usable = "/" in file and ".." not in file and "\0" not in file and file[0] != "/"
        if not usable or not label.isdecimal() or len(label) > 9:
            raise ValueError(
                f"line {number} of {path} is {line!r}, expected a path such as {example}, a space "
                f"and a label. Fetch the list again."
            )
        yield file, int(label)


def read_lists(
    place: Path, lists: tuple[Path, Path], published: Published, names: Sequence[str]
) -> Listing:
    """The files of both lists, which lie under `place`, in the lists' order.

    names of the classes, in label order. ValueError where a list is not the published one.
    """
    train, test = ([*lines(path, published.example)] for path in lists)
    _counted(lists[0], [label for _, label in train], published)
    odd = sorted({label for _, label in test} - {label for _, label in train})
    if odd:
        raise ValueError(
            f"{lists[1]} has the label {odd[0]}, and {lists[0]} has not. Fetch both lists again."
        )
    for file, checksum in published.checksums.items():
        path = lists[0].parent / file
        if path.is_file():
            _unaltered(path, checksum)
    found = (_found(place, path, own) for path, own in zip(lists, (train, test), strict=True))
    return listing(place, names, *found)


def _counted(path: Path, labels: Sequence[int], published: Published) -> None:
    counts = Counter(labels)
    sizes = counts.values()
    have = (len(labels), len(counts), max(sizes, default=0), min(sizes, default=0))
    want = (published.images, published.classes, published.largest, published.smallest)
    if have != want or max(counts) >= len(counts):
        forms = "{} images of {} classes, {} of the largest and {} of the smallest"
        raise ValueError(
            f"{path} names {forms.format(*have)}, with labels up to {max(counts, default=0)}; "
            f"published were {forms.format(*want)}, with labels from 0 on. Fetch the list again."
        )


def _unaltered(path: Path, checksum: str) -> None:
    try:
        text = path.read_bytes()
    except PermissionError:
        raise forbidden(path) from None
    found = hashlib.md5(text.replace(b"\r\n", b"\n"), usedforsecurity=False).hexdigest()
    if found != checksum:
        raise ValueError(
            f"{path} is not the published list: its MD5 is {found}, and that of the list is "
            f"{checksum}. Fetch it again."
        )


def _found(place: Path, path: Path, entries: Sequence[tuple[str, int]]) -> Iterator[Found]:
    for file, label in entries:
        try:
            yield file, label, (place / file).stat()
        except PermissionError:
            raise forbidden(place / file) from None
        except OSError:
            raise MissingData(
                f"{place / file} is not there, and {path} names it. Unpack the images as a whole, "
                f"or name another --data-root."
            ) from None
