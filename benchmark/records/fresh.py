"""A database that is new: there whole or not at all, however many processes make it at once.

MLflow makes its tables where the database is to lie, which takes seconds. A process that dies
meanwhile, or a disk that is full, leaves one that nobody can open any more; so do two that begin
at the same moment.
"""

import fcntl
import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from benchmark.records.files import orphan, remove, writer


def appear(path: Path, make: Callable[[Path], None]) -> None:
    """See to it that there is a database; where one is being made, wait for that.

    make  makes one, and leaves nothing of it open; what it raises is passed on
    """
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    fresh = path.with_name(f".{path.name}.{writer()}.{secrets.token_hex(4)}.tmp")
    try:
        with suppress(OSError):  # without locks each makes one, and the first counts
            fcntl.flock(folder, fcntl.LOCK_EX)
        if not path.exists():
            for left in leftovers(path):
                remove(left)
            make(fresh)
            _name(fresh, path)
    finally:
        os.close(folder)
        for rest in path.parent.glob(f"{fresh.name}*"):  # and its journal
            remove(rest)


def leftovers(path: Path) -> list[Path]:
    """What processes that are gone had begun to make of a database."""
    return [left for left in path.parent.glob(f".{path.name}.*.tmp*") if orphan(left)]


def _name(fresh: Path, path: Path) -> None:
    try:
        os.link(fresh, path)
    except FileExistsError:
        pass
    except OSError:  # a file system without links
        os.replace(fresh, path)
