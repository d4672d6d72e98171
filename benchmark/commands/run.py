"""run: train what is missing of a suite, and nothing else."""

import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch
from rich.console import Console

from benchmark.commands import agenda
from benchmark.commands.display import Display, duration
from benchmark.engines import local
from benchmark.engines.local import Event, Local
from benchmark.engines.worker import Settings
from benchmark.planning.cell import Cell
from benchmark.planning.plan import DONE, Item
from benchmark.records.record import Record

FOLLOW = 10.0  # seconds between two deliveries of the epochs of running cells


@dataclass(frozen=True, slots=True)
class Options:
    """The flags of `run`, as typed."""

    suite: str
    changes: Sequence[str]
    files: Sequence[Path]
    runs: Path
    data_root: Path
    tracking_uri: str | None
    device: str
    jobs: int
    threads: int
    offline: bool
    download: bool
    skip_missing: bool
    refresh: bool
    words: Sequence[str] = ()


def run(options: Options, console: Console) -> int:
    """Train what is missing; gives the exit code: 0, 1 (a cell failed), 130 or 143 (interrupted).

    Raises ValueError, MissingData: one sentence, before anything is trained.
    """
    device = _device(options.device)
    runs = local.folder(options.runs)
    words = agenda.vector_files(options.words)
    work = agenda.read(
        options.suite,
        options.changes,
        options.files,
        runs,
        options.data_root,
        skip_missing=options.skip_missing,
        load=True,
        refresh=options.refresh,
        download=options.download,
        progress=_decoding(console),
        words=words,
    )
    todo = [item for item in work.items if _is_due(item, options.refresh)]
    _announce(console, work.items, todo, options)
    for item in todo:
        if item.state in ("changed", "torn"):
            Record(runs / item.cell.key).clear()
    tracker = _Tracker(options, work.suite.name, console)
    tracker.open()
    jobs = options.jobs or local.workers_fit(
        _cores(),
        options.threads,
        max(len(todo), 1),
        device,
        psutil.virtual_memory().available,
    )
    files = tuple(path.resolve() for path in options.files)
    readers = max(_cores() // jobs - options.threads, 0)
    settings = Settings(runs, options.data_root, files, device, options.threads, words, readers)
    began = time.monotonic()
    ended: dict[str, str] = {}
    interrupted = 0
    if todo:
        with Display(console, todo, jobs) as display:

            def tell(event: Event | None) -> None:
                tracker.hear(event)
                display.hear(event)

            engine = Local(settings, jobs, tell)
            ended = engine.run([item.cell for item in todo])
            interrupted = engine.interrupted
    for item in work.items:
        if item.state != "declined":
            Record(runs / item.cell.key).tag(work.suite.name)
    tracker.deliver()
    return _close(console, work.items, ended, interrupted, time.monotonic() - began)


def _cores() -> int:
    """Cores that this process may use; all of the machine's where the system does not tell."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _is_due(item: Item, refresh: bool) -> bool:
    return item.state in ("missing", "failed", "torn") or (item.state == "changed" and refresh)


def _device(asked: str) -> str:
    if asked == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    kind = asked.partition(":")[0]
    if kind not in ("cpu", "cuda"):
        raise ValueError(f"unknown device {asked!r}. Give auto, cpu, cuda or cuda:0.")
    if kind == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device {asked!r} is not here: torch sees no GPU. Use --device cpu.")
    return asked


def _decoding(console: Console) -> agenda.Progress:
    """Say how far the decoding of images is; nothing where they are decoded already."""

    def begin(label: str):
        began = time.monotonic()
        said = [began]

        def hear(done: int, total: int) -> None:
            now = time.monotonic()
            if now - said[0] > 2 or (done == total and now - began > 2):
                said[0] = now
                left = duration((now - began) / max(done, 1) * (total - done))
                console.print(
                    f"decoding {label}: {done:,} of {total:,} images · {left} left",
                    highlight=False,
                )

        return hear

    return begin


def _announce(
    console: Console, items: Sequence[Item], todo: Sequence[Item], options: Options
) -> None:
    states = [item.state for item in items]
    parts = [f"{states.count(state)} {state}" for state in sorted(set(states))]
    console.print(f"suite {options.suite}: {len(items)} cells: {', '.join(parts)}", markup=False)
    for item in items:
        if item.state in ("declined", "changed", "torn", "running"):
            console.print(f"{item.state:<8} {item.cell.label}: {item.reason}", markup=False)
    if "changed" in states and not options.refresh:
        console.print("changed cells are kept out of reports; --refresh trains them again")
    if todo and all(item.seconds is not None for item in todo):
        console.print(f"about {duration(sum(item.seconds or 0 for item in todo))} of one worker")


class _Tracker:
    """MLflow beside a run: it shows cells while they are trained, and never stops them."""

    def __init__(self, options: Options, suite: str, console: Console):
        self.options, self.suite, self.console = options, suite, console
        self.runs: dict[str, str] = {}
        self.rows: dict[str, list[dict[str, float]]] = {}
        self.last = time.monotonic()
        self.ledger = None
        if not options.offline:
            from benchmark.records.ledger import Ledger, default_uri

            here = options.runs.resolve().parent
            self.ledger = Ledger(options.tracking_uri or default_uri(here), here / "mlartifacts")

    def open(self) -> None:
        """Create the database before any worker starts."""
        self._try(lambda: self.ledger.open())

    def hear(self, event: Event | None) -> None:
        """Show a cell that begins, its epochs now and then, and its result when it ends."""
        if event is None:
            if time.monotonic() - self.last > FOLLOW:
                self._follow()
        elif event.kind == "started":
            cell: Cell = event.cell
            self._try(lambda: self.runs.update({cell.key: self.ledger.begin(cell, (self.suite,))}))
        elif event.kind == "pulse":
            self.rows.setdefault(event.cell.key, []).extend(event.values["rows"])
        else:
            self.rows.pop(event.cell.key, None)
            record = Record(self.options.runs / event.cell.key)
            record.tag(self.suite)
            if event.kind in DONE:
                result = record.result() or {"metrics": {}}
                accuracy = result["metrics"].get("accuracy")
                event.values["note"] = "" if accuracy is None else f"{accuracy:.2%}"
            self._try(lambda: self.ledger.deliver([record]))

    def deliver(self) -> None:
        """Bring whatever has not arrived yet."""
        from benchmark.records.record import records

        self._try(lambda: self.ledger.deliver(records(self.options.runs)))

    def _follow(self) -> None:
        self.last = time.monotonic()
        for key, rows in self.rows.items():
            if rows and key in self.runs:
                self._try(lambda run=self.runs[key], rows=rows: self.ledger.follow(run, rows))
        self.rows.clear()

    def _try(self, deliver) -> None:
        """The tracker never blocks or fails training: one sentence, and the records stay."""
        if self.ledger is None:
            return
        from benchmark.records.ledger import Unreachable

        try:
            deliver()
        except Unreachable as error:
            self.console.print(f"not delivered: {error}", markup=False)
            self.ledger = None


def _close(
    console: Console,
    items: Sequence[Item],
    ended: dict[str, str],
    interrupted: int,
    seconds: float,
) -> int:
    kinds = list(ended.values())
    parts = [f"{kinds.count(kind)} {kind}" for kind in sorted(set(kinds))]
    console.print(f"{', '.join(parts) or 'nothing to do'} · {duration(seconds)}", markup=False)
    if interrupted:
        console.print("interrupted; the same command goes on where this one stopped")
        return 128 + int(signal.Signals(interrupted))
    failed = [item for item in items if ended.get(item.cell.key) in ("failed", "busy")]
    for item in failed:
        console.print(f"{ended[item.cell.key]}: {item.cell.label} ({item.cell.key})", markup=False)
    return 1 if failed else 0
