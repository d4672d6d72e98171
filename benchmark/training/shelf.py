"""What was computed for one cell and serves the next: tensors, written once, read part by part.

    <name>.kept   the parts' bytes, one after the other · where each lies, as JSON · the length of
                  that, 8 bytes · SHA-256 of all before, 32 bytes

A file is written from front to back and gets its name when it is whole, so that it may be larger
than memory and nobody meets half of it. Nothing waits for the disk: what a power cut leaves does
not match the sum. All files together take LIMIT bytes; those used longest ago go first.
"""

import hashlib
import json
import os
import secrets
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmark.records.files import orphan, writer
from benchmark.training import points

LIMIT = 2 * 2**30  # bytes of all files together; ours: 80 stages of one epoch on CIFAR-100
SUM, LENGTH = 32, 8  # bytes at the end of a file
TOGETHER = 2**26  # bytes on an accelerator that are fetched at a time; ours
PIECE = 2**20  # bytes read at a time when the sum is taken


def folder() -> Path:
    """Beside the points, see there."""
    return points.folder().with_name("features")


class Volume:
    """A whole file, open; it stays readable when the file is dropped."""

    def __init__(self, path: Path):
        """Raises OSError, or ValueError where the file is not what was written."""
        self._file = os.open(path, os.O_RDONLY)
        self._close = weakref.finalize(self, os.close, self._file)
        try:
            self._places = self._index()
        except BaseException:
            self._close()
            raise

    def __len__(self) -> int:
        return len(self._places)

    def note(self, part: int) -> Any:
        """The plain value that a part was written with."""
        return self._places[part]["note"]

    def read(self, part: int) -> list[Tensor]:
        """The tensors of a part, in memory of their own."""
        found, place = [], self._places[part]["at"]
        for kind, shape in self._places[part]["tensors"]:
            array = np.empty(shape, kind)
            self._fill(memoryview(array.reshape(-1)).cast("B"), place)
            place += array.nbytes
            found.append(torch.from_numpy(array))
        return found

    def _fill(self, room: memoryview, place: int) -> None:
        while len(room):
            got = os.preadv(self._file, [room], place)
            if not got:
                raise OSError(f"features that were kept end at byte {place}: a cache was damaged")
            room, place = room[got:], place + got

    def _index(self) -> list[dict[str, Any]]:
        size = os.fstat(self._file).st_size - SUM
        if size < LENGTH:
            raise ValueError("too short")
        total = hashlib.sha256()
        for place in range(0, size, PIECE):
            total.update(os.pread(self._file, min(PIECE, size - place), place))
        if os.pread(self._file, SUM, size) != total.digest():
            raise ValueError("not what was written")
        length = int.from_bytes(os.pread(self._file, LENGTH, size - LENGTH), "little")
        places: list[dict[str, Any]] = json.loads(
            os.pread(self._file, length, size - LENGTH - length)
        )
        return places


class Draft:
    """A file in the making; it has no name before `finish`, and is gone if that never comes.

    Raises OSError where it cannot be written.
    """

    def __init__(self, path: Path):
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._temporary = path.with_name(f".{path.name}.{writer()}.{secrets.token_hex(4)}.tmp")
        self._file = open(self._temporary, "xb")  # noqa: SIM115
        self._gone = weakref.finalize(self, _remove, self._file, self._temporary)
        self._total = hashlib.sha256()
        self._places: list[dict[str, Any]] = []
        self._at = 0

    def __len__(self) -> int:
        return len(self._places)

    def add(self, tensors: Sequence[Tensor], note: Any = None) -> None:
        """Write the next part."""
        arrays = [np.ascontiguousarray(tensor.detach().cpu().numpy()) for tensor in tensors]
        about = [(array.dtype.str, array.shape) for array in arrays]
        self._places.append({"at": self._at, "tensors": about, "note": note})
        for array in arrays:
            self._write(array.tobytes())

    def finish(self) -> None:
        """Give it its name; a file that has it already has the same bytes."""
        index = json.dumps(self._places).encode()
        self._write(index + len(index).to_bytes(LENGTH, "little"))
        self._file.write(self._total.digest())
        self._file.close()
        os.replace(self._temporary, self.path)

    def drop(self) -> None:
        """Give it up."""
        self._gone()

    def _write(self, content: bytes) -> None:
        self._file.write(content)
        self._total.update(content)
        self._at += len(content)


@dataclass(frozen=True, slots=True)
class Shelf:
    """A folder of such files that stays below a limit of bytes."""

    folder: Path
    limit: int = LIMIT

    def find(self, name: str) -> Volume | None:
        """A file, None where there is none or it is damaged."""
        path = self._path(name)
        try:
            found = Volume(path)
        except (OSError, ValueError):
            return None
        with suppress(OSError):  # a folder that may not be written to is never too large
            os.utime(path)  # of the last use
        return found

    def draft(self, name: str) -> Draft:
        """Begin a file; OSError where that cannot be."""
        return Draft(self._path(name))

    def tidy(self, newest: str) -> None:
        """Drop what was used longest ago until the rest fits, and what dead processes left."""
        with suppress(OSError):
            for path in self.folder.glob(".*.tmp"):
                if orphan(path):
                    path.unlink(missing_ok=True)
            found = [(path.stat(), path) for path in self.folder.glob("*.kept")]
            kept = self._path(newest)
            found.sort(key=lambda item: (item[1] == kept, item[0].st_mtime_ns), reverse=True)
            total = 0
            for about, path in found:
                total += about.st_size
                if total > self.limit:
                    path.unlink(missing_ok=True)

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.kept"


class Keeping:
    """A file that grows while its features are computed; what cannot be written is not kept.

    warn  called with a sentence where that is so
    """

    def __init__(self, shelf: Shelf, name: str, warn: Callable[[str], None]):
        self.shelf, self.name, self.warn = shelf, name, warn
        self.draft: Draft | None = None
        self.waiting: list[tuple[Tensor, Tensor, Any]] = []
        self.parts = 0
        self.over = False

    def __len__(self) -> int:
        return self.parts

    def add(self, features: Tensor, labels: Tensor, examples: int, note: Any = None) -> None:
        """Keep a part; examples: of all parts together, so that too much is known at the first."""
        if self.over:
            return
        each = features.nbytes / max(len(labels), 1)
        if not features.is_contiguous() or each * examples > self.shelf.limit:
            self.over = True  # another layout could have other last bits
            return
        self.parts += 1
        own = features.clone() if features.is_cuda else features
        self.waiting.append((own, labels, note))
        # an accelerator is not waited for at every step
        if not features.is_cuda or len(self.waiting) * features.nbytes > TOGETHER:
            self.write()

    def write(self) -> None:
        """Write what waits."""
        try:
            if self.draft is None:
                self.draft = self.shelf.draft(self.name)
            for features, labels, note in self.waiting:
                self.draft.add([features, labels], note)
        except OSError as error:
            self.give_up(error)
        self.waiting.clear()

    def finish(self) -> None:
        """All parts were added."""
        if not self.over:
            self.write()
        if self.draft is None or self.over:
            return
        try:
            self.draft.finish()
            self.shelf.tidy(self.name)
        except OSError as error:
            self.give_up(error)
        self.over = True

    def give_up(self, error: OSError) -> None:
        """Go on without."""
        self.over = True
        if self.draft is not None:
            self.draft.drop()
        self.warn(
            f"features of a frozen trunk cannot be kept in {self.shelf.folder} "
            f"({error.strerror or error}): every cell on it computes them again"
        )


def _remove(file: Any, temporary: Path) -> None:
    with suppress(OSError):
        file.close()
    with suppress(OSError):
        temporary.unlink(missing_ok=True)
