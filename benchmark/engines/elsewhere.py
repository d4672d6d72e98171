"""Cells that other processes train: many `run` commands on one folder share the work.

Nobody hands them out. Each run takes what is free, and of the rest it sees here what became of it:
the lock on a cell goes with the process that holds it, however that ends.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmark.planning.cell import Cell
from benchmark.records.record import Record, Torn

EVERY = 1.0  # seconds between two looks; ours: each costs a few opened files a cell


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a cell has no result, and when that was written, in nanoseconds."""

    reason: str
    written: int


@dataclass(slots=True)
class Elsewhere:
    """What others have of this run's cells.

    cells  by key
    """

    runs: Path
    cells: dict[str, Cell] = field(default_factory=dict)
    _failures: dict[str, Failure | None] = field(default_factory=dict)
    _free: set[str] = field(default_factory=set)
    _looked: float = 0.0
    _said: set[str] = field(default_factory=set)

    def has(self, cell: Cell) -> bool:
        """Whether another process trains a cell now; it is followed from here on."""
        record = Record(self.runs / cell.key)
        before = _failure(record)
        if not record.held:
            return False
        self.cells[cell.key], self._failures[cell.key] = cell, before
        return True

    def look(self) -> Iterator[tuple[Cell, str, dict[str, Any]]]:
        """Cells that are over there: done, diverged, failed; or 'free', for their process died.

        A failure is written just after the lock is gone: a cell is free at the second look.
        """
        if time.monotonic() - self._looked < EVERY:
            return
        self._looked = time.monotonic()
        for key in list(self.cells):
            record = Record(self.runs / key)
            if record.held:
                self._free.discard(key)
                continue
            kind, failure = finished(record), _failure(record)
            if kind is not None:
                yield self._over(key), kind, {"elsewhere": True}
            elif failure is not None and failure != self._failures[key]:
                yield self._over(key), "failed", {"reason": failure.reason, "elsewhere": True}
            elif key in self._free:
                yield self._over(key), "free", {}
            else:
                self._free.add(key)

    def waiting(self) -> str:
        """What is waited for, to be said once; empty where that was said, or there is nothing."""
        if self.cells.keys() <= self._said:
            return ""
        self._said |= self.cells.keys()
        labels = ", ".join(cell.label for cell in self.cells.values())
        return f"waiting for what other processes train: {labels}. Ctrl-C leaves it to those."

    def _over(self, key: str) -> Cell:
        self._free.discard(key)
        del self._failures[key]
        return self.cells.pop(key)


def finished(record: Record) -> str | None:
    """How a cell ended, None where there is no result, or only a damaged one."""
    try:
        result = record.result()
    except Torn:
        return None
    return None if result is None else str(result["state"])


def _failure(record: Record) -> Failure | None:
    try:
        found = record.failure()
        written = (record.folder / "failure.json").stat()
    except (Torn, FileNotFoundError):
        return None
    return Failure(str(found["reason"]), written.st_mtime_ns) if found else None
