"""Images in class folders: which files there are, and what is in one of them.

    <folder>/{train,test}/<class>/<image>  ──scan──▶  Listing  ──cache.read──▶  in memory
                                                               ──streamed───▶  Files, decoded later

The digest of images that stay on disk is over their paths, sizes and labels, since to read 150 GB
before anything can start would take an hour: pixels that change without a change of the size of the
file go unnoticed.
"""

import hashlib
import os
import stat
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from datasets.base import Files, Images, MissingData, Split, forbidden

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"})
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""What is decoded, whatever a file is called: Pillow knows more, and hands EPS to Ghostscript."""
MODES = frozenset({"1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBX", "RGBa", "CMYK", "YCbCr"})
"""8 bits a channel. Beyond these Pillow's conversion to RGB cuts off what is above 255."""
PIXELS = 2**28 // 3  # of one image, at most; Pillow's own measure of what is suspicious: 256 MB
BYTES = 2**29  # of one file, at most; ours: those pixels, uncompressed, with room
FORMAT = 1  # of what is made from a listing; raise it when that changes

Found = tuple[str, int, os.stat_result]  # relative path, label, and what the file system knows


@dataclass(frozen=True, slots=True)
class Listing:
    """All image files below a folder, training images first.

    classes    folder names, ascending: label order
    paths      relative, of all files, train then test
    labels     of each split, (n,) int64
    sizes      in bytes, of all files
    signature  changes when any file does
    """

    folder: Path
    classes: tuple[str, ...]
    paths: tuple[str, ...]
    labels: tuple[np.ndarray, np.ndarray]
    sizes: np.ndarray
    signature: str


def class_names(folder: Path) -> tuple[str, ...]:
    """Names of the class folders, ascending: label order."""
    names = tuple(name for name, entry in _entries(folder / "train") if entry.is_dir())
    if not names:
        raise MissingData(
            f"{folder / 'train'} holds no class folders. Expected {folder}/train/<class>/<image>; "
            f"unpack the images there, or name another --data-root."
        )
    return names


def scan(folder: Path, test: str = "test") -> Listing:
    """List all image files, class by class, with their sizes and times; nothing is opened.

    test: name of the folder with the test images.
    """
    classes = class_names(folder)
    if (other := tuple(n for n, e in _entries(folder / test) if e.is_dir())) != classes:
        odd = sorted(set(classes) ^ set(other))[0]
        there, missing = ("train", test) if odd in classes else (test, "train")
        raise ValueError(
            f"class {odd!r} is in {folder / there} and not in {folder / missing}. "
            f"Give both the same class folders."
        )

    def split(name: str) -> Iterator[Found]:
        for label, own in enumerate(classes):
            yield from images_in(folder, f"{name}/{own}", label)

    return listing(folder, classes, split("train"), split(test))


def listing(
    folder: Path, classes: Sequence[str], train: Iterable[Found], test: Iterable[Found]
) -> Listing:
    """A listing of the files found."""
    signature = hashlib.sha256(f"{FORMAT}".encode())
    paths: list[str] = []
    sizes: list[int] = []
    labels = []
    for split in (train, test):
        own = []
        for path, label, found in split:
            if not stat.S_ISREG(found.st_mode) or found.st_size > BYTES:
                what = "a file" if stat.S_ISREG(found.st_mode) else "no file"
                raise ValueError(
                    f"{folder / path} is {what} of {found.st_size:,} bytes, and an image is a file "
                    f"of at most {BYTES:,}. Remove it."
                )
            paths.append(path)
            sizes.append(found.st_size)
            own.append(label)
            line = f"{path}\0{found.st_size}\0{found.st_mtime_ns}\0{found.st_ctime_ns}\n"
            signature.update(line.encode(errors="surrogateescape"))
        labels.append(np.array(own, np.int64))
    return Listing(
        folder,
        tuple(classes),
        tuple(paths),
        (labels[0], labels[1]),
        np.array(sizes, np.int64),
        signature.hexdigest(),
    )


def images_in(folder: Path, place: str, label: int) -> Iterator[Found]:
    """Image files in folder/place, by name; ValueError where there is none."""
    empty = True
    for file, entry in _entries(folder / place):
        if os.path.splitext(file)[1].lower() in SUFFIXES:
            empty = False
            try:
                found = entry.stat()
            except OSError as error:
                raise MissingData(
                    f"{folder / place / file} is a link to nothing ({error.strerror}). Restore "
                    f"what it names, or remove it."
                ) from None
            yield f"{place}/{file}", label, found
    if empty:
        raise ValueError(
            f"{folder / place} holds no image. Add images "
            f"({', '.join(sorted(SUFFIXES))}), or remove the class from train and test."
        )


def streamed(files: Listing, size: tuple[int, int], resize: int = 0) -> Images:
    """Images that stay on disk; see `Files` for size and resize."""
    paths = np.array([os.fsencode(path) for path in files.paths])
    count = len(files.labels[0])
    digest = hashlib.sha256(f"files {count} {len(paths) - count}\n".encode())
    for path, label, length in zip(paths, np.concatenate(files.labels), files.sizes, strict=True):
        digest.update(b"%b\0%d\0%d\n" % (path, label, length))
    train, test = (
        Split(Files(files.folder, own, size, resize), torch.from_numpy(labels))
        for own, labels in zip((paths[:count], paths[count:]), files.labels, strict=True)
    )
    return Images(train, test, digest.hexdigest())


def decode(path: str) -> np.ndarray:
    """One image as (height, width, 3) uint8: of an animation the first, without transparency.

    Raises ValueError for what is no image of 8 bits a channel or too large, MissingData where it
    may not be read.
    """
    from PIL import Image

    try:
        with warnings.catch_warnings():
            # of what is odd in a file and does not change its pixels; size is looked at here
            warnings.simplefilter("ignore")
            with Image.open(path, formats=FORMATS) as image:
                if image.width * image.height > PIXELS:
                    size = f"{image.height} x {image.width}"
                    raise ValueError(f"it has {size} pixels, more than {PIXELS:,}")
                if image.mode not in MODES:
                    raise ValueError(f"it has mode {image.mode}, not 8 bits a channel")
                return np.asarray(image.convert("RGB"))
    except PermissionError:
        raise forbidden(path) from None
    except Exception as error:  # on damaged files Pillow's readers raise what they stumble over
        what = " ".join(str(error).split())[:200] or type(error).__name__
        raise ValueError(
            f"{path} cannot be decoded ({what}). It is truncated or no image that can be used: "
            f"restore it, bring it to 8 bits a channel, or remove it."
        ) from None


def readable_lines(path: Path) -> list[str]:
    """Lines of a text file that belongs to a data set."""
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not UTF-8 text. Fetch it again.") from None
    except PermissionError:
        raise forbidden(path) from None
    except OSError:
        raise MissingData(
            f"{path} is not there. Put the file there, or name another --data-root."
        ) from None


def synset_names(classes: Sequence[str], places: Iterable[Path]) -> tuple[str, ...]:
    """What WordNet calls the classes, in the first of these files that is there; else themselves.

    A line is an identifier, a tab or a space, and synonyms. Of these the first is taken, with `_`
    between its words, as in the names of CIFAR-100. Two classes may bear one name (crane).
    """
    for place in places:
        if place.is_file():
            known = {
                line[:9]: line[9:].split(",")[0].strip().replace(" ", "_")
                for line in readable_lines(place)
            }
            return tuple(known.get(name) or name for name in classes)
    return tuple(classes)


def _entries(folder: Path) -> list[tuple[str, os.DirEntry[str]]]:
    """Visible entries of a folder, by name."""
    try:
        with os.scandir(folder) as found:
            return sorted((e.name, e) for e in found if not e.name.startswith("."))
    except PermissionError:
        raise forbidden(folder) from None
    except OSError:
        raise MissingData(
            f"{folder} is not there, and images are expected in {{train,test}}/<class> beside it. "
            f"Unpack them there, or name another --data-root."
        ) from None
