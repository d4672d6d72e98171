"""What finished cells kept, for reports: read from the files of their runs in MLflow."""

import shutil
import tempfile
import weakref
from collections.abc import Mapping, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import pandas as pd

from benchmark.records import evidence
from benchmark.records.ledger import Ledger

REMEMBERED = 64  # cells whose histories are held parsed: a page asks for one cell at a time


class LedgerEvidence:
    """What the ledger kept of each cell beside its numbers: `reports.evidence.Evidence`.

    Files on this machine are read where they lie; of a server they are downloaded, once a cell.
    Every method raises Unreachable where MLflow is asked and does not answer.
    """

    def __init__(self, ledger: Ledger, runs: Mapping[str, str]):
        """runs: the run of each cell, by key; see the columns key and run_id of `Ledger.read`."""
        self.ledger, self.runs = ledger, dict(runs)
        self._histories = lru_cache(REMEMBERED)(self._read)

    def series(self, key: str, name: str) -> pd.DataFrame:
        """History of a metric: step, epoch, value; empty if there is none."""
        points = self._histories(key).get(name, [])
        frame = pd.DataFrame(points, columns=["step", "epoch", "value"], dtype="float64")
        return frame.astype({"step": "int64"})

    def histories(self, key: str) -> Mapping[str, Sequence[tuple[float, float]]]:
        """Every curve and reading by name: pairs of epoch and value, in the order of steps."""
        return {
            name: [(point.epoch, point.value) for point in points]
            for name, points in self._histories(key).items()
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

    def _read(self, key: str) -> evidence.Histories:
        run = self.runs[key]
        found = evidence.histories(self._folder(run))
        return self.ledger.histories(run) if found is None else found

    def _folder(self, run: str) -> Path:
        """Where the files of a run are on this machine, downloaded if need be."""
        for place in self._places:
            if (here := place / run / "artifacts").is_dir():
                return here
        into = self._downloads / run
        if not into.is_dir():
            into.mkdir()
            self.ledger.fetch(run, into)
        return into

    @cached_property
    def _places(self) -> tuple[Path, ...]:
        return self.ledger.places()

    @cached_property
    def _downloads(self) -> Path:
        folder = tempfile.mkdtemp(prefix="benchmark-evidence-")
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        return Path(folder)
