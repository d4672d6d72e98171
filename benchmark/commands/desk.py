"""The desk at which `run` and `study` work: what is due, who trains it, and who hears of it."""

import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from benchmark.commands import agenda, outlook
from benchmark.commands.agenda import Agenda
from benchmark.commands.display import Display, duration
from benchmark.engines import machine
from benchmark.engines.away import Away, Carrier
from benchmark.engines.local import Event, Local
from benchmark.engines.patience import Patience
from benchmark.engines.signals import leaving
from benchmark.engines.together import Together
from benchmark.engines.worker import Settings
from benchmark.planning.cell import Cell
from benchmark.planning.forecast import Machine, Past
from benchmark.planning.plan import DONE, Item
from benchmark.planning.suite import Suite
from benchmark.records.claims import Busy
from benchmark.records.files import writable
from benchmark.records.record import Record

if TYPE_CHECKING:
    from benchmark.training.orders import Orders

INTERRUPTED = "interrupted; the same command goes on where this one stopped"
FOLLOW = 10.0  # seconds between two deliveries of the epochs of running cells
AUTO = -1  # jobs: as many as a pilot finds fastest


@dataclass(frozen=True, slots=True)
class Options:
    """The flags of `run` and `study`, as typed.

    jobs  cells side by side; 0, as many as fit; AUTO
    """

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
    storage: str | None = None  # of a study's trials
    engine: str = "local"
    address: str | None = None
    execution: str = "auto"


class Desk:
    """What `run` and `study` work with: options, agenda, workers, tracker."""

    def __init__(self, options: Options, console: Console, orders: "Orders | None" = None):
        """options.suite is the name that cells are tagged with. Raises ValueError.

        orders: to the processes beside this one that train each cell with it.
        """
        self.options, self.console, self.orders = options, console, orders
        outlook.execution(options.execution)
        self.runs = options.runs
        writable(self.runs)
        self.words = agenda.vector_files(options.words)
        self.carrier = _carrier(options)
        self.device = self.carrier.device if self.carrier else outlook.device(options.device)
        self.tracker = Tracker(options, console)
        self.looked = time.time_ns()
        self.noted: dict[str, dict[str, Any]] = {}

    def close(self) -> None:
        """Leave the cluster, if there is one."""
        if self.carrier:
            self.carrier.close()

    def agenda(self, suite: Suite, *, load: bool = False, skip_missing: bool = False) -> Agenda:
        """The cells of a suite, checked and held against the records."""
        self.looked = time.time_ns()
        with _leaving(self.console):
            return agenda.of(
                suite,
                self.options.files,
                self.runs,
                self.options.data_root,
                skip_missing=skip_missing,
                load=load,
                refresh=self.options.refresh,
                download=self.options.download,
                progress=_decoding(self.console),
                words=self.words,
            )

    def is_due(self, item: Item) -> bool:
        """Whether a cell is to be trained, here or elsewhere; what is left of an older result goes.

        Not so where another process trains the cell, or has finished it since the records were
        looked at.
        """
        due = _is_due(item, self.options.refresh)
        if due and item.state in ("changed", "torn"):
            record = Record(self.runs / item.cell.key)
            with suppress(Busy), record.claim({"pid": os.getpid(), "host": platform.node()}):
                if _written(record) < self.looked:
                    record.clear()
        return due

    def say(self, sentence: str) -> None:
        """A line for people."""
        self.console.print(sentence, markup=False, highlight=False)

    def jobs(self, cells: int) -> int:
        """Cells side by side, where no pilot has a say: AUTO is as many as fit."""
        asked = max(self.options.jobs, 0)
        if self.carrier and not asked:
            return self.carrier.room
        return asked or self._room(cells, self.device)

    def _room(self, cells: int, device: str) -> int:
        threads = self.options.threads
        return machine.workers_fit(
            outlook.cores(), threads, max(cells, 1), device, machine.memory()
        )

    def expect(self, todo: Sequence[Item], past: Sequence[Past]) -> tuple[int, list[Item]]:
        """Cells side by side, and what is due with what it will take; says how that is known.

        What is expected of each cell is noted with it from here on.
        """
        jobs, pilots = self.jobs(len(todo)), []
        if self.orders is not None:  # of several processes for one cell nothing is foretold
            return jobs, [*outlook.predicted(todo, [], Machine(threads=self.options.threads))]
        auto, threads = self.options.jobs == AUTO, self.options.threads
        if self.carrier:
            where = Machine(threads=threads)  # of whatever device: this machine need not have it
            if auto:
                self.say(f"jobs {jobs}: all that the cluster holds; a pilot looks at one machine")
        else:
            where = outlook.here(self.device, threads, 0)
            if auto:
                room = self._room(len(todo), "cpu")  # of an accelerator the pilot finds out
                known = outlook.predicted(todo, past, where)
                settings = self._settings(room)
                jobs, pilots, told = outlook.choose(known, settings, room, where)
                self.say(told)
            where = replace(where, jobs=jobs)
        expected = [*outlook.predicted(todo, [*past, *pilots], where)]
        for item in expected:
            own: dict[str, Any] = {"jobs": where.jobs} if where.jobs else {}
            if item.seconds is not None:
                own |= {"predicted_seconds": item.seconds, "predicted_from": item.basis}
            self.noted[item.cell.key] = own
        return jobs, expected

    def engine(self, jobs: int, tell: Callable[[Event | None], None]) -> Local | Together:
        """Workers that do as the options say. Raises ValueError: a machine cannot have cells."""
        own = self._settings(jobs)
        if self.orders is not None:
            return Together(own, self.orders, tell, self.say)
        if self.carrier is None:
            return Local(own, jobs, tell, self.say)
        own = replace(
            own,
            runs=self.runs.resolve(),
            data_root=self.options.data_root.resolve(),
            words={name: path.resolve() for name, path in self.words.items()},
            readers=self.carrier.readers,
        )
        crew = Away(own, max(self.options.jobs, 0), Patience(), self.carrier)
        crew.check()
        return Local(own, jobs, tell, self.say, crew=crew)

    def _settings(self, jobs: int) -> Settings:
        """Of workers on this machine."""
        readers = max(outlook.cores() // jobs - self.options.threads, 0)
        own = settings(self.options, self.device, self.words, readers)
        return replace(own, runs=self.runs, noted=self.noted)

    def train(self, work: Agenda, note: Callable[[Cell], None] = lambda cell: None) -> int:
        """Train what is missing of a suite; `note` hears of finished cells; gives the exit code."""
        with _leaving(self.console):
            return self._train(work, note)

    def _train(self, work: Agenda, note: Callable[[Cell], None]) -> int:
        taken = 0.0
        todo = [item for item in work.items if self.is_due(item)]
        _announce(self.console, work.items, todo, self.options)
        ended: dict[str, str] = {}
        interrupted = 0
        expected: float | None = None
        for item in work.items:
            if item.state in DONE:
                note(item.cell)
        if todo:
            jobs, todo = self.expect(todo, work.past)
            expected = outlook.span(todo, jobs)
            if expected is not None:
                self.say(_promise(todo, jobs, expected))
            began = time.monotonic()
            with Display(self.console, todo, jobs) as display:

                def tell(event: Event | None) -> None:
                    self.tracker.hear(event)
                    if event is not None and event.kind in DONE:
                        note(event.cell)
                    display.hear(event)

                engine = self.engine(jobs, tell)
                ended = engine.run([item.cell for item in todo])
                interrupted = engine.interrupted
            taken = time.monotonic() - began
        if not interrupted:  # there may be seconds left: the next run delivers
            self.deliver(work)
        return _close(self.console, todo, ended, interrupted, taken, expected)

    def deliver(self, work: Agenda) -> None:
        """Tag the cells with the suite, clear up after the dead, bring MLflow what it lacks."""
        for item in work.items:
            if item.state != "declined":
                record = Record(self.runs / item.cell.key)
                record.tag(self.options.suite)
                record.sweep()
        self.tracker.deliver()


class Tracker:
    """MLflow beside a run: it shows cells while they are trained, and never stops them."""

    def __init__(self, options: Options, console: Console):
        """Nothing is asked of MLflow yet; with `offline` nothing ever is."""
        self.options, self.suite, self.console = options, options.suite, console
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
        with _leaving(self.console):
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
            if event.kind == "recalled" and event.cell.key in self.runs:
                self._try(lambda: self.ledger.leave(self.runs[event.cell.key], "recalled"))
            if "elsewhere" not in event.values:  # who trained it delivers it, at this moment
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


def _leaving(console: Console) -> AbstractContextManager[None]:
    """Meanwhile a signal ends the command with a sentence: nothing is trained, so nothing lost."""
    return leaving(lambda number: console.print(INTERRUPTED))


def _carrier(options: Options) -> Carrier | None:
    """The cluster that cells are trained on; None for this machine. Raises ValueError."""
    if options.address is not None and options.engine != "ray":
        raise ValueError(
            f"--address {options.address} names a Ray cluster, and the engine is "
            f"{options.engine}. Give --engine ray too, or leave the address out."
        )
    given = (options.device, options.threads, max(options.jobs, 0))
    if options.engine == "ray":
        from benchmark.engines.ray_cluster import Ray

        return Ray(options.address, *given)
    if options.engine == "slurm":
        from benchmark.engines.slurm import Slurm

        return Slurm(options.runs, *given)
    if options.engine != "local":
        raise ValueError(f"unknown engine {options.engine!r}. Give local, ray or slurm.")
    return None


def settings(options: Options, device: str, words: Mapping[str, Path], readers: int) -> Settings:
    """What the options say to whoever trains."""
    files = tuple(path.resolve() for path in options.files)
    return Settings(
        *(options.runs, options.data_root, files, device, options.threads, words, readers),
        execution=outlook.execution(options.execution),
    )


def _is_due(item: Item, refresh: bool) -> bool:
    return item.state in outlook.DUE or (item.state == "changed" and refresh)


def _written(record: Record) -> int:
    """When a result was written, nanoseconds since the epoch; 0 where there is none."""
    try:
        return (record.folder / "result.json").stat().st_mtime_ns
    except FileNotFoundError:
        return 0


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


def _promise(todo: Sequence[Item], jobs: int, expected: float) -> str:
    whole = sum(item.seconds or 0.0 for item in todo)
    side = f", {duration(whole)} of one worker" if jobs > 1 else ""
    return f"about {duration(expected)} with jobs {jobs}{side}: {outlook.rests(todo)}"


def _close(
    console: Console,
    todo: Sequence[Item],
    ended: dict[str, str],
    interrupted: int,
    seconds: float,
    expected: float | None,
) -> int:
    kinds = list(ended.values())
    parts = [f"{kinds.count(kind)} {kind}" for kind in sorted(set(kinds))]
    taken = duration(seconds)
    if expected is not None and set(kinds) <= {"done"}:  # else there was less to do than expected
        taken = f"predicted {duration(expected)}, took {taken}"
    console.print(f"{', '.join(parts) or 'nothing to do'} · {taken}", markup=False)
    if interrupted:
        console.print(INTERRUPTED)
        return 128 + interrupted
    failed = [item for item in todo if ended.get(item.cell.key) not in DONE]
    for item in failed:
        console.print(f"failed: {item.cell.label} ({item.cell.key})", markup=False)
    return 1 if failed else 0
