"""report: from the ledger to tables, figures and a page."""

import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Table
from rich.text import Text

from benchmark.planning import plan
from benchmark.planning import suite as suites
from benchmark.records.ledger import Ledger, default_uri
from benchmark.records.record import Record, Torn, records

WORDS = ("head", "ratio", "data", "backbone", "method", "value")  # columns that are not numbers


def report(
    suite: str | None,
    out: Path,
    runs: Path,
    tracking_uri: str | None,
    files: list[Path],
    console: Console,
    paper: str | None = None,
) -> None:
    """Deliver what is waiting, read the ledger, write the findings, print the tables.

    paper  the exhibits of this paper, beside its published numbers, instead of the usual ones

    Raises ValueError where there is nothing to report, Unreachable where MLflow does not answer.
    """
    from benchmark.commands.listing import papers
    from reports.build import build

    here = runs.resolve().parent
    uri = tracking_uri or default_uri(here)
    ledger = Ledger(uri, here / "mlartifacts")
    ledger.deliver(records(runs))
    frame = ledger.read(suite)
    stale = _stale(frame, runs, files)
    frame = frame[~frame["key"].isin(stale)]
    for label in stale.values():
        console.print(f"left out, changed: {label}", markup=False)
    if frame.empty:
        what = f" of suite {suite!r}" if suite else ""
        raise ValueError(
            f"there are no finished cells{what} in {uri}. "
            f"Run them first: python -m benchmark run --suite {suite or 'quick'}"
        )
    built = build(
        frame.drop(columns="run_id"),
        out,
        papers(),
        about=_about(frame),
        paper=paper,
        evidence=_Evidence(ledger, dict(zip(frame["key"], frame["run_id"], strict=True))),
    )
    for exhibit in built.exhibits:
        if exhibit.table is not None:
            console.print(_table(exhibit.title, exhibit.table, exhibit.marks))
            console.print(exhibit.caption, style="dim", markup=False)
    for note in built.notes:
        console.print(note, markup=False)
    for title, paths in (
        ("LaTeX", built.tables),
        ("CSV", built.csvs),
        ("figures", built.figures),
        ("page", (built.page,)),
    ):
        if paths:
            console.print(f"{title:<8}" + "\n        ".join(map(str, paths)), markup=False)
    flag = "" if uri == f"sqlite:///{Path.cwd() / 'mlflow.db'}" else f" --backend-store-uri {uri}"
    own = Path(sys.executable).parent / "mlflow"  # of this environment, which may not be active
    program = "mlflow" if shutil.which("mlflow") or not own.exists() else own
    console.print(f"runs    {program} ui{flag}", markup=False)


@dataclass(frozen=True, slots=True)
class _Evidence:
    """What the ledger kept of each cell beside its final numbers; `reports.evidence.Evidence`.

    runs  the run of each cell, by key
    """

    ledger: Ledger
    runs: Mapping[str, str]

    def series(self, key: str, name: str) -> pd.DataFrame:
        """History of a metric: step, epoch, value."""
        return self.ledger.series(self.runs[key], name)

    def arrays(self, key: str) -> Mapping[str, Any]:
        """Arrays of the cell's record, by name."""
        return self.ledger.arrays(self.runs[key])


def _stale(frame: pd.DataFrame, runs: Path, files: list[Path]) -> dict[str, str]:
    """Cells whose heads have changed since they were trained: key -> label."""
    from benchmark.training.registry import registry

    table = registry(files)
    stale = {}
    for key, label in zip(frame["key"], frame["label"], strict=True):
        record = Record(runs / key)
        if not record.begun:
            continue  # trained elsewhere: its evidence is there
        try:
            cell = record.cell()
        except Torn:
            continue
        known = all(stage.head in table.digests for stage in cell.stages)
        if known and plan.state(cell, record, table, None)[0] == "changed":
            stale[key] = label
    return stale


def _about(frame: pd.DataFrame) -> dict[str, str]:
    """What each suite of the frame asks: the comment of those that come with the benchmark."""
    asked = {name for names in frame["suites"] for name in names.split(",") if name}
    return {name: suites.read(name).comment for name in sorted(asked & set(suites.names()))}


def _table(title: str, values: pd.DataFrame, marks: pd.DataFrame | None) -> Table:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for name in values.columns:
        justify = "left" if str(name) in WORDS else "right"
        table.add_column(str(name), justify=justify, no_wrap=True)
    for row in range(len(values)):
        cells = [Text(str(value)) for value in values.iloc[row]]
        if marks is not None:
            for cell, mark in zip(cells, marks.iloc[row], strict=True):
                cell.stylize(mark)
        table.add_row(*cells)
    return table
