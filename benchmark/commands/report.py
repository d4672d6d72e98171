"""report: from the ledger to tables, figures and a page."""

from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.table import Table

from benchmark.planning import plan
from benchmark.records.ledger import Ledger, default_uri
from benchmark.records.record import Record, Torn, records


def report(
    suite: str | None,
    out: Path,
    runs: Path,
    tracking_uri: str | None,
    files: list[Path],
    console: Console,
) -> None:
    """Deliver what is waiting, read the ledger, write the findings, print the tables.

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
    built = build(frame.drop(columns="run_id"), out, papers())
    for exhibit in built.exhibits:
        if exhibit.table is not None:
            console.print(_table(exhibit.title, exhibit.table))
    for title, paths in (
        ("LaTeX", built.tables),
        ("CSV", built.csvs),
        ("figures", built.figures),
        ("page", (built.page,)),
    ):
        console.print(f"{title:<8}" + "\n        ".join(map(str, paths)), markup=False)
    flag = "" if uri == f"sqlite:///{Path.cwd() / 'mlflow.db'}" else f" --backend-store-uri {uri}"
    console.print(f"runs    mlflow ui{flag}", markup=False)


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


def _table(title: str, values: pd.DataFrame) -> Table:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for position, name in enumerate(values.columns):
        table.add_column(str(name), justify="left" if position == 0 else "right", no_wrap=True)
    for row in values.itertuples(index=False):
        table.add_row(*(str(value) for value in row))
    return table
