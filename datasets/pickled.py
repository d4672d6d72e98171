"""A batch of CIFAR as it was released: a Python pickle, of which only arrays of bytes are read.

Krizhevsky. "Learning Multiple Layers of Features from Tiny Images." University of Toronto, 2009.

    {"data": array (n, 3072) of bytes, "labels" or "fine_labels": list of n numbers, …}

A pickle is a program. This one runs only if its MD5 is that of the released file, read once, so
that nothing can be exchanged between look and use; and the four names that it may use stand for
something of ours, not of numpy: it keeps what it is given, and the array is made from that here.
"""

import hashlib
import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np

PIXELS = 3 * 32 * 32  # bytes of an image, channel after channel


class Damaged(ValueError):
    """The file is not the one that was released."""


class _Dtype:
    """Stands for numpy.dtype: its name, and no state."""

    def __init__(self, name: Any = "", *_: Any):
        self.name = name

    def __setstate__(self, state: Any) -> None:
        """Byte order and alignment: bytes have none."""


class _Array:
    """Stands for numpy.ndarray: what its pickle says of it."""

    state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def bytes(self) -> np.ndarray:
        """As (n, 3, 32, 32) uint8."""
        _, shape, kind, by_columns, raw = self.state
        content = raw.encode("latin1") if isinstance(raw, str) else bytes(raw)
        if kind.name not in ("u1", "|u1") or by_columns or shape != (shape[0], PIXELS):
            raise Damaged(f"an array of shape {shape}")
        return np.frombuffer(content, np.uint8).reshape(shape[0], 3, 32, 32)


def _array(*_: Any) -> _Array:
    return _Array()


_KNOWN = {
    "_reconstruct": (("numpy.core.multiarray", "numpy._core.multiarray"), _array),
    "ndarray": (("numpy",), _Array),
    "dtype": (("numpy",), _Dtype),
    "encode": (("_codecs",), lambda text, *_: text.encode("latin1")),
}


class Restricted(pickle.Unpickler):
    """An unpickler that knows the parts of an array, and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        """What a name in the pickle stands for; Damaged for all but four."""
        modules, stand_in = _KNOWN.get(name, ((), None))
        if module not in modules:
            raise Damaged(f"it names {module}.{name}")
        return stand_in


def batch(path: Path, checksum: str) -> tuple[np.ndarray, np.ndarray]:
    """Images (n, 3, 32, 32) uint8 and labels (n,) int64 of a released file.

    Raises Damaged where the file is another one than that with this MD5, OSError.
    """
    raw = path.read_bytes()
    if hashlib.md5(raw, usedforsecurity=False).hexdigest() != checksum:
        raise Damaged("its checksum is another")
    try:
        values = Restricted(io.BytesIO(raw), encoding="latin1").load()
        images = values["data"].bytes()
        found = values["labels"] if "labels" in values else values["fine_labels"]
        labels = np.array([int(label) for label in found], np.int64)
    except Damaged:
        raise
    except Exception as error:  # a pickle that is none ends anywhere
        raise Damaged(f"{type(error).__name__}: {error}") from None
    if len(images) != len(labels):
        raise Damaged(f"{len(images)} images and {len(labels)} labels")
    return images, labels
