"""plan: the cells of a suite, their state and the predicted time; runs nothing."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmark.commands import agenda
from benchmark.commands.display import duration
from benchmark.planning.plan import Item


@dataclass(frozen=True, slots=True)
class Row:
    """One cell of a plan, as `--json` prints it."""

    key: str
    label: str
    state: str
    reason: str
    seconds: float | None
    asked: bool


def plan(
    suite: str,
    changes: list[str],
    files: list[Path],
    runs: Path,
    data_root: Path,
    console: Console,
    *,
    as_json: bool,
    words: list[str],
) -> None:
    """Print the cells of a suite, trunks first, with their states.

    Raises ValueError: one sentence.
    """
    work = agenda.read(
        suite,
        changes,
        files,
        runs,
        data_root,
        skip_missing=True,
        load=False,
        words=agenda.vector_files(words),
    )
    if as_json:
        print(json.dumps([asdict(_row(item)) for item in work.items], indent=1))
        return
    table = Table(box=None, pad_edge=False)
    for title, style in (("key", "dim"), ("cell", ""), ("state", "bold"), ("time", "dim")):
        table.add_column(title, style=style)
    for item in work.items:
        shown = item.state if not item.reason else f"{item.state}: {item.reason}"
        label = item.cell.label + ("" if item.asked else "  (for others)")
        time = duration(item.seconds) if item.seconds else "–"
        table.add_row(item.cell.key, escape(label), escape(shown), time)
    console.print(table)
    console.print(_total(work.items), markup=False)


def _total(items: tuple[Item, ...]) -> str:
    left: list[Any] = [item for item in items if item.state in ("missing", "failed", "torn")]
    known = [item.seconds for item in left if item.seconds is not None]
    trains = [item for item in left if item.cell.stages[-1].recipe]
    text = f"{len(items)} cells, {len(left)} to train"
    if left and len(known) >= len(trains):
        return f"{text}, about {duration(sum(known))} of one worker"
    return text + (", time unknown until a cell like these is finished" if left else "")


def _row(item: Item) -> Row:
    cell = item.cell
    return Row(cell.key, cell.label, item.state, item.reason, item.seconds, item.asked)
