"""Word vectors of class names, from a file that the user names: nothing is invented.

    .npy   one row per class, in label order
    .bin   word2vec, binary: "count dim", then each word, a space, dim float32 (Mikolov et al.,
           arXiv:1301.3781)
    else   text, a word and its numbers on each line: word2vec (first line "count dim") or GloVe

In the last three a class name is split at `_`, `-` and space, and its vector is the mean of its
words' vectors. A word is looked up as written, then in lower case. A file of several GB is read
once, front to back, and only the vectors that are needed are kept.
"""

import re
from collections.abc import Collection, Iterator
from itertools import chain
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor

from datasets.base import MissingData

WIDEST = 1 << 14  # numbers of one vector, at most; ours: the widest published have 4,096
LONGEST_LINE = 1 << 20  # bytes of a line; more is no text of word vectors
LONGEST_WORD = 1 << 14  # bytes of a word in the binary form
CHUNK = 1 << 20  # bytes that are read at once


def read(path: str | Path, names: tuple[str, ...]) -> Tensor:
    """One vector per class name, in label order: (classes, word_dim), float32.

    Raises MissingData: the file is not there or may not be read; ValueError: what is wrong with it.
    """
    path = Path(path)
    try:
        there = path.is_file()
    except (OSError, ValueError):  # a name that no file can have
        there = False
    if not there:
        raise MissingData(
            f"no word vectors: there is no file {str(path)!r}. Name one that exists: .npy with one "
            "row per class, or vectors of word2vec or GloVe."
        )
    try:
        vectors = _rows(path, len(names)) if path.suffix == ".npy" else _means(path, names)
    except OSError as error:
        raise MissingData(
            f"word vectors in {str(path)!r} cannot be read: {error.strerror or error}. "
            "Name a file that can."
        ) from None
    for name, vector in zip(names, vectors, strict=True):
        if not np.isfinite(vector).all() or not vector.any():
            what = "zero" if np.isfinite(vector).all() else "not finite"
            raise ValueError(
                f"the word vector of class {name!r} in {str(path)!r} is {what}. "
                "Give every class a vector with a direction."
            )
    return torch.from_numpy(vectors)


def _rows(path: Path, classes: int) -> np.ndarray:
    """An array as it lies, (classes, word_dim)."""
    try:
        # Mapped, not read: a truncated file is known by its size.
        array = np.lib.format.open_memmap(path, mode="r")
    except OSError:
        raise
    except Exception as error:  # its header is a Python literal: what is wrong with it has any type
        what = " ".join(str(error).split())[:200]
        raise ValueError(
            f"{str(path)!r} is not a whole .npy file of numbers: {what}. Write it with numpy.save."
        ) from None
    if array.dtype.kind not in "fiu":
        raise ValueError(
            f"word vectors in {str(path)!r} have type {array.dtype}, which is not numeric. "
            "Save floating-point numbers."
        )
    if array.ndim != 2 or len(array) != classes or not array.shape[1]:
        raise ValueError(
            f"word vectors in {str(path)!r} have shape {array.shape}. "
            f"Give one row for each of the {classes} classes, in label order."
        )
    if array.shape[1] > WIDEST:
        raise _wide(path, array.shape[1])
    with np.errstate(over="ignore"):  # what is too large becomes infinite, and is said so
        return array.astype(np.float32)


def _means(path: Path, names: tuple[str, ...]) -> np.ndarray:
    """The mean vector of each name's words, (classes, word_dim)."""
    parts = [[part for part in re.split(r"[_\-\s]+", name) if part] or [name] for name in names]
    asked = set(chain.from_iterable(parts))
    # names of folders may hold bytes that are no text
    wanted = {w.encode(errors="surrogateescape") for w in asked | {w.lower() for w in asked}}
    found: dict[str, np.ndarray] = {}
    for word, vector in _entries(path, wanted):
        found.setdefault(word.decode(errors="surrogateescape"), vector)  # the first counts
        if asked <= found.keys():
            break
    known = {word: found.get(word, found.get(word.lower())) for word in asked}
    missing = [word for word in dict.fromkeys(chain.from_iterable(parts)) if known[word] is None]
    if missing:
        raise ValueError(
            f"{str(path)!r} has no vector for {len(missing)} of {len(asked)} words of the class "
            f"names: {', '.join(missing)}. Name a file that has them, or a .npy with one row per "
            "class."
        )
    means = [np.mean([known[word] for word in words], axis=0, dtype=np.float64) for words in parts]
    return np.array(means, dtype=np.float32)


def _entries(path: Path, wanted: Collection[bytes]) -> Iterator[tuple[bytes, np.ndarray]]:
    """Each wanted word that is met, with its vector; ValueError where the file breaks its form."""
    with path.open("rb") as file:
        first = file.readline(LONGEST_LINE)
        header = re.fullmatch(rb"\s*(\d{1,18})[ \t]+(\d{1,18})\s*", first)
        count, dim = (int(header[1]), int(header[2])) if header else (None, len(first.split()) - 1)
        if dim < 1 or (len(first) == LONGEST_LINE and not first.endswith(b"\n")):
            raise _broken(path, "it does not begin with a word and its numbers")
        if dim > WIDEST:
            raise _wide(path, dim)
        if path.suffix == ".bin":
            if count is None:
                raise _broken(path, "the binary form of word2vec begins with 'count dim'")
            yield from _binary(path, file, count, dim, wanted)
        else:
            rest = iter(lambda: file.readline(LONGEST_LINE), b"")
            lines = rest if header else chain([first], rest)
            yield from _text(path, lines, count, dim, wanted)


def _text(
    path: Path, lines: Iterator[bytes], count: int | None, dim: int, wanted: Collection[bytes]
) -> Iterator[tuple[bytes, np.ndarray]]:
    seen = 0
    for line in lines:
        fields = line.split(None, 1)
        if not fields:
            continue
        seen += 1
        if len(line) == LONGEST_LINE and not line.endswith(b"\n"):
            raise _broken(path, f"line {seen} has more than {LONGEST_LINE:,} bytes")
        if seen > 1 and fields[0] not in wanted:
            continue
        numbers = [_number(field) for field in fields[1].split()] if len(fields) > 1 else []
        if seen > 1 and len(numbers) > dim and numbers[0] is None:
            continue  # a word with a space in it, as in GloVe of 840 billion words
        shown = repr(fields[0][:50].decode(errors="replace"))
        if len(numbers) != dim:
            raise _broken(path, f"the line of {shown} has {len(numbers)} numbers instead of {dim}")
        if None in numbers:
            raise _broken(path, f"the line of {shown} holds something that is not a number")
        if fields[0] in wanted:
            with np.errstate(over="ignore"):
                yield fields[0], np.array(numbers, dtype=np.float64).astype(np.float32)
    if count is not None and seen < count:
        raise _truncated(path, seen, count)


def _binary(
    path: Path, file: BinaryIO, count: int, dim: int, wanted: Collection[bytes]
) -> Iterator[tuple[bytes, np.ndarray]]:
    size = 4 * dim
    buffer, at = b"", 0
    for seen in range(count):
        while (end := buffer.find(b" ", at, at + LONGEST_WORD)) < 0 or end + size >= len(buffer):
            if end < 0 and len(buffer) - at >= LONGEST_WORD:
                raise _broken(path, f"where word {seen + 1} of {count} should be, there is none")
            more = file.read(CHUNK)
            if not more:
                raise _truncated(path, seen, count)
            buffer, at = buffer[at:] + more, 0
        word = buffer[at:end].lstrip(b"\n")  # some writers end each vector with a new line
        at = end + 1 + size
        if word in wanted:
            yield word, np.frombuffer(buffer[end + 1 : at], dtype="<f4").astype(np.float32)


def _number(field: bytes) -> float | None:
    try:
        return float(field)
    except ValueError:
        return None


def _wide(path: Path, dim: int) -> ValueError:
    return ValueError(
        f"word vectors in {str(path)!r} have {dim:,} numbers each, and at most {WIDEST:,} are "
        "read. Name a file of word vectors."
    )


def _truncated(path: Path, seen: int, count: int) -> ValueError:
    return ValueError(
        f"word vectors in {str(path)!r} are truncated: {seen} of {count} are there. "
        "Fetch the file again."
    )


def _broken(path: Path, what: str) -> ValueError:
    return ValueError(
        f"{str(path)!r} is no file of word vectors: {what}. Unpack it if it is packed, and name it "
        ".npy, .bin for the binary form of word2vec, or .txt for text."
    )
