"""plan: the cells of a suite, their state and the predicted time; keeps nothing."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmark.commands import agenda, outlook
from benchmark.commands.agenda import Agenda
from benchmark.commands.display import duration
from benchmark.engines import machine
from benchmark.engines.signals import leaving
from benchmark.engines.worker import Settings
from benchmark.planning.forecast import Past
from benchmark.planning.plan import Item

LEFT = "the pilot was interrupted; nothing was kept"


@dataclass(frozen=True, slots=True)
class Options:
    """The flags, as typed.

    device, jobs, threads  of the run that is planned; jobs 0, or auto: as many as fit
    pilot                  train some steps first
    """

    suite: str
    changes: Sequence[str]
    files: Sequence[Path]
    runs: Path
    data_root: Path
    words: Sequence[str]
    device: str = "auto"
    jobs: int = 0
    threads: int = 1
    pilot: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """One cell of a plan, as `--json` prints it; basis: what the seconds rest on."""

    key: str
    label: str
    state: str
    reason: str
    seconds: float | None
    basis: str
    asked: bool


def plan(options: Options, console: Console, *, as_json: bool) -> None:
    """Print the cells of a suite, trunks first, with their states.

    Raises ValueError: one sentence.
    """
    device = outlook.device(options.device)
    words = agenda.vector_files(options.words)
    work = agenda.read(
        options.suite,
        options.changes,
        options.files,
        options.runs,
        options.data_root,
        skip_missing=True,
        load=False,
        words=words,
    )
    cores, threads = outlook.cores(), options.threads
    left = outlook.due(work.items)
    jobs = options.jobs if options.jobs > 0 else 0
    jobs = jobs or machine.workers_fit(cores, threads, max(len(left), 1), device, machine.memory())
    settings = Settings(
        options.runs,
        options.data_root,
        tuple(path.resolve() for path in options.files),
        device,
        threads,
        words,
        readers=max(cores // jobs - threads, 0),
    )
    items, said = _predicted(work, settings, jobs, options.pilot, console)
    if as_json:
        print(json.dumps([asdict(_row(item)) for item in items], indent=1))
        return
    table = Table(box=None, pad_edge=False)
    for title, style in (("key", "dim"), ("cell", ""), ("state", "bold"), ("time", "dim")):
        table.add_column(title, style=style)
    for item in items:
        shown = item.state if not item.reason else f"{item.state}: {item.reason}"
        label = item.cell.label + ("" if item.asked else "  (for others)")
        time = duration(item.seconds) if item.seconds else "–"
        table.add_row(item.cell.key, escape(label), escape(shown), time)
    console.print(table)
    if said:
        console.print(said, markup=False, highlight=False)
    console.print(_total(items, jobs), markup=False, highlight=False)


def _predicted(
    work: Agenda, settings: Settings, jobs: int, asked: bool, console: Console
) -> tuple[tuple[Item, ...], str]:
    """The items as this machine would have them, from a pilot too if asked; what to say of it."""
    here = outlook.here(settings.device, settings.threads, jobs)
    items = outlook.predicted(work.items, work.past, here)
    pilots: list[Past] = []
    said = ""
    if asked:
        with leaving(lambda number: console.print(LEFT)):
            pilots, said = outlook.survey(outlook.due(items), settings, jobs, here)
        items = outlook.predicted(work.items, [*work.past, *pilots], here)
    return items, said


def _total(items: tuple[Item, ...], jobs: int) -> str:
    left = [item for item in items if item.state in ("missing", "failed", "torn")]
    text = f"{len(items)} cells, {len(left)} to train"
    if not left:
        return text
    whole = outlook.span(left, jobs)
    if whole is None:
        known = sum(item.seconds is not None for item in left)
        unlike = f" of {len(left) - known} of them" if known else ""
        return f"{text}, time{unlike} unknown until a cell like these is finished; try --pilot"
    alone = sum(item.seconds or 0.0 for item in left)
    side = f", {duration(alone)} of one worker" if jobs > 1 else ""
    return f"{text}, about {duration(whole)} with jobs {jobs}{side}: {outlook.rests(left)}"


def _row(item: Item) -> Row:
    cell = item.cell
    return Row(cell.key, cell.label, item.state, item.reason, item.seconds, item.basis, item.asked)
