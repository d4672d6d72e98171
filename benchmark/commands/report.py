"""report: from the ledger to tables, figures and a page."""

import gc
import shutil
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
from rich.console import Console
from rich.table import Table
from rich.text import Text

from benchmark.commands.standing import standing
from benchmark.planning import suite as suites
from benchmark.records.ledger import Ledger, default_uri
from benchmark.records.record import records

if TYPE_CHECKING:
    from reports.build import Built

# columns that are not numbers
WORDS = ("head", "ratio", "data", "backbone", "method", "value", "key", "label", "run", "record")

WIDEST = 48  # characters of a cell that is never broken; ours


def report(
    suite: str | None,
    out: Path,
    runs: Path,
    tracking_uri: str | None,
    files: list[Path],
    console: Console,
    paper: str | None = None,
    seeds: bool = False,
) -> None:
    """Deliver what is waiting, read the ledger, write the findings, print the tables.

    paper  the exhibits of this paper, beside its published numbers, instead of the usual ones
    seeds  how many seeds it takes to tell heads apart, instead of the usual ones

    Raises ValueError where there is nothing to report, Unreachable where MLflow does not answer.
    """
    from reports import press

    if paper and seeds:
        raise ValueError("--paper and --seeds are two reports. Ask for one, then for the other.")
    here = runs.resolve().parent
    uri = tracking_uri or default_uri(here)
    ledger = Ledger(uri, here / "mlartifacts")
    with press.beside() as pool, _lean():  # the pool starts while the ledger is read
        built = _built(ledger, suite, out, runs, files, console, paper, seeds, pool)
    for exhibit in built.leading:
        if exhibit.table is not None:
            console.print(_table(exhibit.title, exhibit.table, exhibit.marks))
            console.print(exhibit.caption, style="dim", markup=False)
    for note in built.notes:
        console.print(note, markup=False)
    for title, paths in (
        ("LaTeX", built.fragments),
        ("CSV", built.csvs),
        ("figures", built.figures),
    ):
        console.print(f"{title:<8}{_folders(paths, out)}", markup=False, highlight=False)
    console.print(f"page    {built.page}", markup=False, highlight=False)
    flag = "" if uri == f"sqlite:///{Path.cwd() / 'mlflow.db'}" else f" --backend-store-uri {uri}"
    own = Path(sys.executable).parent / "mlflow"  # of this environment, which may not be active
    program = "mlflow" if shutil.which("mlflow") or not own.exists() else own
    console.print(f"runs    {program} ui{flag}", markup=False)


@contextmanager
def _lean() -> Iterator[None]:
    """Settings for a program that holds millions of objects and frees few.

    No cycles of garbage are looked for: of 1,000 cells, a sixth of the processor's time, and the
    same memory.
    Columns of text hold Python's own strings, since most of them are read one by one: a twentieth.
    """
    gc.disable()
    try:
        with pd.option_context("mode.string_storage", "python"):
            yield
    finally:
        gc.enable()


def _built(
    ledger: Ledger,
    suite: str | None,
    out: Path,
    runs: Path,
    files: list[Path],
    console: Console,
    paper: str | None,
    seeds: bool,
    pool: Executor | None,
) -> "Built":
    """From the records to the findings on disk; names what is left out."""
    from reports.press import asked

    heads = asked(pool, standing, runs, files)
    from benchmark.commands.evidence import LedgerEvidence
    from reports.build import build

    frame = ledger.renew(records(runs), suite)
    known = heads()
    stale = frame["key"].isin(known.changed)
    for label in frame["label"][stale]:
        console.print(f"left out, changed: {label}", markup=False)
    frame = frame[~stale]
    if frame.empty:
        what = f" of suite {suite!r}" if suite else ""
        raise ValueError(
            f"there are no finished cells{what} in {ledger.uri}. "
            f"Run them first: python -m benchmark run --suite {suite or 'quick'}"
        )
    return build(
        frame,
        out,
        known.papers,
        about=_about(frame),
        paper=paper,
        seeds=seeds,
        evidence=LedgerEvidence(ledger, dict(zip(frame["key"], frame["run_id"], strict=True))),
        pool=pool,
    )


def _folders(paths: Sequence[Path], out: Path) -> str:
    """How many files, and in which folders: '18 files in findings/tables, findings/figures'."""
    folders = [*dict.fromkeys(str(path.parent) for path in paths)]
    return f"{len(paths)} files in {', '.join(folders) or out}"


def trace(number: str, out: Path, runs: Path, console: Console) -> None:
    """Print where a number of the findings comes from; of less than a whole id, what it holds.

    number  EXHIBIT/ROW.COLUMN, EXHIBIT/ROW or EXHIBIT

    Raises ValueError where there are no findings, or none with that id.
    """
    from reports.trace import find

    found = find(out, number)
    console.print(f"exhibit  {found.title}, {found.file}", markup=False)
    if "/" not in number:
        for name in found.rows["id"]:
            console.print(f"         {found.exhibit}/{name}", markup=False)
        return
    row = found.rows.iloc[0]
    known = {name: text for name, text in row.items() if name not in ("id", "keys") and text}
    if found.column:
        console.print(f"number   {number} = {row[found.column] or 'unknown'}", markup=False)
        told = " · ".join(f"{name} {text}" for name, text in known.items() if name != found.column)
        console.print(f"row      {told}", markup=False)
    else:
        for name, text in known.items():
            console.print(f"         {number}.{name} = {text}", markup=False)
    if found.cells.empty:
        console.print("cells    none: it does not come from cells of ours", markup=False)
        return
    folders = [runs / key for key in found.cells["key"]]
    here = [str(folder) if folder.is_dir() else "not here" for folder in folders]
    console.print(_table("cells", found.cells.assign(record=here), None))
    console.print(f"again    python -m benchmark replay {found.cells['key'].iloc[0]}", markup=False)


def _about(frame: pd.DataFrame) -> dict[str, str]:
    """What each suite of the frame asks: the comment of those that come with the benchmark."""
    asked = {name for names in frame["suites"] for name in names.split(",") if name}
    return {name: suites.read(name).comment for name in sorted(asked & set(suites.names()))}


def _table(title: str, values: pd.DataFrame, marks: pd.DataFrame | None) -> Table:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for name in values.columns:
        justify = "left" if str(name) in WORDS else "right"
        short = values[name].map(lambda value: len(str(value))).max() <= WIDEST
        table.add_column(str(name), justify=justify, no_wrap=short)
    inks = None if marks is None else marks.to_numpy()
    for row, texts in enumerate(values.to_numpy(object)):
        cells = [Text(str(value)) for value in texts]
        if inks is not None:
            for cell, mark in zip(cells, inks[row], strict=True):
                cell.stylize(mark)
        table.add_row(*cells)
    return table
