"""What finished cells kept, for reports: read from the files of their runs in MLflow."""

import shutil
import tempfile
import weakref
from array import array
from collections.abc import Mapping, Sequence
from functools import cached_property, lru_cache
from itertools import chain
from pathlib import Path
from typing import Any

import pandas as pd

from benchmark.records import evidence
from benchmark.records.ledger import Ledger

REMEMBERED = 2000
"""Cells whose histories are held parsed: an exhibit asks for all of them, and then the page does.
Some 50 KB for 200 epochs; ours."""


class LedgerEvidence:
    """What the ledger kept of each cell beside its numbers: `reports.evidence.Evidence`.

    Files on this machine are read where they lie; of a server they are downloaded, once a cell.
    Every method raises Unreachable where MLflow is asked and does not answer.
    """

    def __init__(self, ledger: Ledger, runs: Mapping[str, str]):
        """runs: the run of each cell, by key; see the columns key and run_id of `Ledger.read`."""
        self.ledger, self.runs = ledger, dict(runs)
        self._histories = lru_cache(REMEMBERED)(self._read)

    def __reduce__(self) -> tuple[Any, ...]:
        """For another process, where all files lie on this machine; others are fetched once."""
        if not self._here:
            raise TypeError("the files of these cells lie on a server: they are fetched once, here")
        return _copied, (self.ledger, self.runs, self._places)

    def series(self, key: str, name: str) -> pd.DataFrame:
        """History of a metric: step, epoch, value; empty if there is none."""
        flat = self._histories(key).get(name, array("d"))
        columns = {each: flat[i::3] for i, each in enumerate(("step", "epoch", "value"))}
        return pd.DataFrame(columns, dtype="float64").astype({"step": "int64"})

    def histories(self, key: str) -> Mapping[str, Sequence[tuple[float, float]]]:
        """Every curve and reading by name: pairs of epoch and value, in the order of steps."""
        return {
            name: list(zip(flat[1::3], flat[2::3], strict=True))
            for name, flat in self._histories(key).items()
        }

    def arrays(self, key: str) -> Mapping[str, Any]:
        """Arrays of the cell's record, by name."""
        return evidence.arrays(self._folder(self.runs[key]))

    def facts(self, key: str) -> Mapping[str, Any]:
        """What was done (cell), what came of it (result), and in which run."""
        found = evidence.facts(self._folder(self.runs[key]))
        if found["result"]:
            found["result"].setdefault("superclasses", [])  # older records have none
        return {**found, "run": self.runs[key]}

    def _read(self, key: str) -> "dict[str, array[float]]":
        """Step, epoch, value, step, epoch, value, …: a tenth of what as many tuples take."""
        run = self.runs[key]
        found = evidence.histories(self._folder(run))
        if found is None:
            found = self.ledger.histories(run)
        return {name: array("d", chain.from_iterable(points)) for name, points in found.items()}

    def _folder(self, run: str) -> Path:
        """Where the files of a run are on this machine, downloaded if need be."""
        if (here := self._found(run)) is not None:
            return here
        into = self._downloads / run
        if not into.is_dir():
            into.mkdir()
            self.ledger.fetch(run, into)
        return into

    def _found(self, run: str) -> Path | None:
        folders = (place / run / "artifacts" for place in self._places)
        return next((folder for folder in folders if folder.is_dir()), None)

    @cached_property
    def _here(self) -> bool:
        return all(self._found(run) is not None for run in self.runs.values())

    @cached_property
    def _places(self) -> tuple[Path, ...]:
        return self.ledger.places()

    @cached_property
    def _downloads(self) -> Path:
        folder = tempfile.mkdtemp(prefix="benchmark-evidence-")
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        return Path(folder)


def _copied(ledger: Ledger, runs: Mapping[str, str], places: tuple[Path, ...]) -> LedgerEvidence:
    copy = LedgerEvidence(ledger, runs)
    copy._places = places  # asked once
    return copy
