"""study: a suite with holes. A grid is run as the suite that it stands for; a search asks Optuna.

Only this process writes the study's notebook; the workers know nothing of it. The records are the
evidence: a trial that was left open is told from its cell's record, or trained on from where that
stopped.
"""

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from statistics import fmean, stdev
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmark.commands.agenda import Agenda
from benchmark.commands.desk import Desk, Options
from benchmark.commands.display import Display, duration
from benchmark.engines.local import Event
from benchmark.planning import plan
from benchmark.planning.cell import Cell
from benchmark.planning.plan import DONE, Item, Registry
from benchmark.records.record import Record
from benchmark.training import checkpoint
from studies import holes
from studies.holes import Hole, Range, Search, Study, Value


def study(options: Options, console: Console) -> int:
    """Run a study, `options.suite` by name; gives the exit code as `run` does.

    Raises ValueError, MissingData: one sentence, before anything is trained.
    """
    asked = holes.read(options.suite, options.changes)
    options = replace(options, suite=asked.name)
    with closing(Desk(options, console)) as desk:
        if options.storage is not None:
            _database(options.storage, asked.name)  # an address that is none is said at once
        if asked.search is None:
            return _grid(asked, desk)
        return _search(asked, asked.search, desk)


def _book(desk: Desk) -> Any:
    """Where the study's trials are kept: a file beside the records, or what a team shares."""
    from studies import search

    name = desk.options.suite
    if desk.options.storage is not None:
        return _database(desk.options.storage, name)
    return search.Journal(desk.runs.resolve().parent / "notebook" / f"{name}.journal")


def _database(url: str, name: str) -> Any:
    try:
        from studies.database import Database
    except ImportError as error:
        raise ValueError(
            f"--storage needs optuna, which cannot be imported ({error}). Install it."
        ) from None
    return Database(url, name)


def _default(registry: Registry) -> Any:
    return lambda head, option: plan.hyperparameters(registry.heads[head]).get(option)


# a grid


def _grid(asked: Study, desk: Desk) -> int:
    skip = desk.options.skip_missing
    work = desk.agenda(asked.filled(), load=True, skip_missing=skip)
    desk.tracker.open()
    with ExitStack() as stack:
        mirror = _mirror(asked, work, desk, stack)
        wanted = {item.cell.key for item in work.items if item.asked}

        def note(cell: Cell) -> None:
            result = Record(desk.runs / cell.key).result()
            if mirror is None or cell.key not in wanted or result is None:
                return
            default = _default(work.registry)
            values = {name: holes.reached(cell, name, default) for name in asked.holes}
            found = {name: value for name, value in values.items() if value is not None}
            mirror.note(cell.key, cell.label, found, result["metrics"].get("accuracy"))

        return desk.train(work, note)


def _mirror(asked: Study, work: Agenda, desk: Desk, stack: ExitStack) -> Any:
    """The grid in Optuna, which is for people to look at: without it, cells are trained as well."""
    try:
        from studies import search

        journal = stack.enter_context(_book(desk))
        cells = [item.cell for item in work.items if item.asked]
        facts = [sorted(cell.key for cell in cells), _sources(cells, work.registry)]
        return search.Mirror(journal, search.identity(asked.name, facts), asked.holes)
    except (ImportError, ValueError) as error:
        desk.console.print(f"not noted in Optuna: {error}", markup=False)
        return None


def _sources(cells: Sequence[Cell], registry: Registry) -> dict[str, str]:
    """Digests of the files of all heads that the numbers of these cells depend on."""
    names = {name for cell in cells for name in plan.heads(cell)}
    return {name: registry.digests[name] for name in sorted(names)}


# a search


def _search(asked: Study, settings: Search, desk: Desk) -> int:
    try:
        from studies import search
    except ImportError as error:
        raise ValueError(
            f"a search needs optuna, which cannot be imported ({error}). Install it."
        ) from None
    began = time.monotonic()
    space, probes, registry = _space(asked, settings, desk)
    ends = {name: _end(hole, 0) for name, hole in asked.holes.items() if name not in space}
    asked = replace(asked, closed=ends)
    recipe = dict(probes[0].cell.stages[-1].recipe)
    cells = [probe.cell for probe in probes]
    facts = [
        *(settings.sampler, settings.pruner, settings.seed, settings.validation),
        {name: repr(hole) for name, hole in space.items()},
        [cell.key for cell in cells],
        _sources(cells, registry),
    ]
    with _book(desk) as journal:
        searching = search.Searching(
            journal, search.identity(asked.name, facts), settings, space, recipe["epochs"]
        )
        desk.tracker.open()
        trials = _Trials(asked, settings, desk, searching, probes[0])
        interrupted = trials.run()
        desk.tracker.deliver()
        _say(desk.console, searching, time.monotonic() - began)
        if interrupted:
            desk.console.print("interrupted; the same command goes on where this one stopped")
            return 128 + interrupted
        best = searching.best()
        if best is None or searching.count()["open"]:
            for reason in trials.why or ["no trial was finished: there is nothing to choose"]:
                desk.console.print(reason, markup=False)
            return 1
    if not settings.final:
        return 0
    work = desk.agenda(asked.filled(best[0], seeds=settings.final))
    code = desk.train(work)
    _verdict(desk, work, best[1])
    return code


def _space(
    asked: Study, settings: Search, desk: Desk
) -> tuple[dict[str, Hole], list[Item], Registry]:
    """What is drawn, and the cells at its two ends, after everything was checked once.

    A hole that `--set` closes is none any more.
    """
    ends = [{name: _end(hole, last) for name, hole in asked.holes.items()} for last in (0, 1)]
    final = settings.final or None
    printed = [item for end in ends for item in desk.agenda(asked.filled(end, seeds=final)).items]
    if any(dict(item.cell.data)["validation"] for item in printed):
        raise ValueError(
            f"{asked.name}: the choice is to be trained on all training images, and its data "
            "carves some off. Leave `validation` out of the data; it stands under `search`."
        )
    probes = []
    for end in ends:
        work = desk.agenda(asked.filled(end, validation=settings.validation), load=not probes)
        probes.append(_only(work, asked.name))
    space = {}
    for name, hole in asked.holes.items():
        low, high = (holes.reached(p.cell, name, _default(work.registry)) for p in probes)
        if low != high or ends[0][name] == ends[1][name]:
            space[name] = hole
        elif asked.changes:
            desk.console.print(f"{name} is fixed at {low} by --set", markup=False)
        else:
            raise ValueError(
                f"{asked.name}: the hole {name} reaches no cell. Put it where a head, a recipe or "
                "the data of a cell is read from."
            )
    if not space:
        raise ValueError(f"{asked.name}: --set leaves no hole to search. Use `run --suite`.")
    return space, probes, work.registry


def _end(hole: Hole, last: int) -> Value:
    if isinstance(hole, Range):
        return (hole.low, hole.high)[last]
    return hole.values[-last]


def _only(work: Agenda, name: str) -> Item:
    """The one cell that a filled search is, carved."""
    found = [item for item in work.items if item.asked]
    if len(found) != 1:
        raise ValueError(
            f"{name}: a search judges one cell a trial, and filled this one makes {len(found)}. "
            "Leave one block, one head and one seed; further seeds stand under `search: final`."
        )
    if not dict(found[0].cell.data)["validation"]:
        raise ValueError(f"{name}: a trial without validation images would look at test.")
    return found[0]


class _Follow(Display):
    """A display of trials: how many there will be is known, which cells they are is not."""

    def __init__(self, console: Console, typical: Item, trials: int, jobs: int):
        """typical: a cell that costs about what each trial does."""
        super().__init__(console, [typical], jobs)
        self.each = self.total
        self.count, self.total = trials, self.each * trials

    def expect(self, cells: Sequence[Cell]) -> None:
        """A trial's cell, last, and what it stands on."""
        self.weight.update({cell.key: self.each for cell in cells})
        self.count += len(cells) - 1
        self.total += self.each * (len(cells) - 1)

    def settled(self, label: str, how: str) -> None:
        """A trial that is over without being trained."""
        self.done += self.each
        self.ended += 1
        line = f"{self.ended:>{len(str(self.count))}}/{self.count} {how:<8} {label}"
        self.console.print(line, highlight=False, markup=False)


class _Trials:
    """Hands out the trials of a search as cells, and tells Optuna how they end."""

    def __init__(self, asked: Study, settings: Search, desk: Desk, searching: Any, typical: Item):
        self.asked, self.settings, self.desk, self.searching = asked, settings, desk, searching
        self.left = searching.open()
        counted = searching.count()
        self.remaining = max(settings.trials - counted["finished"] - counted["pruned"], 0)
        self.training: dict[str, list[Any]] = {}  # key of a cell -> the trials that it is
        self.elsewhere: list[tuple[Any, Cell]] = []  # trials that another process trains
        self.handed: set[str] = set()
        self.why: list[str] = []
        jobs = desk.jobs(self.remaining)
        self.display = _Follow(desk.console, typical, self.remaining, jobs)
        self.engine = desk.engine(jobs, self.hear)
        desk.console.print(
            f"study {asked.name}: {settings.trials} trials: {counted['finished']} finished, "
            f"{counted['pruned']} pruned, {self.remaining} to go",
            markup=False,
        )
        if typical.seconds is not None and self.remaining:
            desk.console.print(
                f"at most {duration(typical.seconds * self.remaining)} of one worker"
            )

    def run(self) -> int:
        """Train until all trials are over; gives the number of the signal that ended it, or 0."""
        if not self.remaining:
            return 0
        with self.display:
            self.engine.run((), self.more)
        for _, cell in self.elsewhere:
            self.why.append(f"running {cell.label}: another process trains it")
        return int(self.engine.interrupted)

    def more(self) -> Sequence[Cell]:
        """The cells of the next trial that has to be trained; none once all are begun."""
        while (draw := self._next()) is not None:
            cells = self._begin(draw)
            if cells:
                self.display.expect(cells)
                return cells
        return ()

    def _next(self) -> Any:
        """Open trials first, then new ones; None once all are begun."""
        if self.left:
            return self.left.pop(0)
        for pair in self.elsewhere:
            draw, cell = pair
            if not Record(self.desk.runs / cell.key).held:
                self.elsewhere.remove(pair)
                return draw
        return self.searching.ask()

    def _begin(self, draw: Any) -> list[Cell]:
        """What must be trained for a trial; nothing where its end is known or out of reach."""
        suite = self.asked.filled(draw.values, validation=self.settings.validation)
        try:
            work = self.desk.agenda(suite)
            item = _only(work, self.asked.name)
        except ValueError as error:  # these values do not go together: as bad as can be
            self.searching.prune(draw, str(error))
            self.display.settled(str(error), "pruned")
            return []
        cell = item.cell
        self.searching.name(draw, cell.key, cell.label)
        twin = self.searching.twin(cell.key)
        if draw.stopped:
            checkpoint.clear(self.desk.runs / cell.key)
            self._settle(draw, cell, "recalled", "pruned")
        elif cell.key in self.training:
            self.training[cell.key].append(draw)
        elif item.state in DONE:
            self._settle(draw, cell, item.state)
        elif twin is not None:
            self.searching.copy(draw, twin)
            self.display.settled(f"{cell.label} · as an earlier trial", "pruned")
        elif any(each.state == "diverged" for each in work.items):
            self._settle(draw, cell, "diverged")
        elif item.state == "running":
            self.elsewhere.append((draw, cell))
        elif item.state in ("declined", "changed") and not self.desk.is_due(item):
            self.why.append(f"{item.state} {cell.label}: {item.reason}")
        else:
            self.training[cell.key] = [draw]
            due = [each.cell for each in work.items if self.desk.is_due(each)]
            fresh = [each for each in due if each == cell or each.key not in self.handed]
            self.handed.update(each.key for each in fresh)
            return fresh
        return []

    def _settle(self, draw: Any, cell: Cell, kind: str, how: str = "known") -> None:
        note = self._tell([draw], cell, kind)
        self.display.settled(" · ".join(filter(None, [cell.label, note])), how)

    def hear(self, event: Event | None) -> None:
        """Follow what happens to cells."""
        self.desk.tracker.hear(event)
        if event is not None and event.cell.key in self.training:
            if event.kind == "pulse":
                draws = self.training[event.cell.key]
                before = any(draw.stopped for draw in draws)
                stops = [self.searching.report(draw, event.values["rows"]) for draw in draws]
                if all(stops) and not before:
                    self.engine.recall(event.cell.key)
            elif event.kind != "started":
                draws = self.training.pop(event.cell.key)
                event.values["note"] = self._tell(draws, event.cell, event.kind)
                if event.kind == "failed":
                    self.why.append(f"failed {event.cell.label}: {event.values['reason']}")
                if event.kind == "recalled":
                    event = replace(event, kind="pruned")
        self.display.hear(event)

    def _tell(self, draws: Sequence[Any], cell: Cell, kind: str) -> str:
        """Tell Optuna how trials ended; gives a note for people."""
        note = ""
        for draw in draws:
            if kind == "done":
                record = Record(self.desk.runs / cell.key)
                validation = _validation(record)
                record.tag(self.asked.name)
                self.searching.report(draw, record.curves())
                self.searching.complete(draw, validation)
                note = f"validation {validation:.2%}" + (", too late" if draw.stopped else "")
            elif kind == "diverged":
                self.searching.prune(draw, "diverged")
            elif kind == "recalled":
                self.searching.prune(draw)
                note = f"after epoch {max(draw.reported)}"
        return note


def _validation(record: Record) -> float:
    result: Mapping[str, Any] = record.result() or {}
    return float(result["metrics"]["validation"])


def _say(console: Console, searching: Any, seconds: float) -> None:
    """How the trials ended, what mattered, and the choice."""
    parts = [f"{count} {how}" for how, count in searching.count().items() if count]
    console.print(f"{', '.join(parts) or 'no trial'} · {duration(seconds)}", markup=False)
    best = searching.best()
    if best is None:
        return
    values, validation = best
    shares = searching.importances()
    table = Table(box=None, pad_edge=False)
    for title in ("parameter", "importance", "choice"):
        table.add_column(title)
    for name in sorted(values, key=lambda name: -shares.get(name, 0.0)):
        share = f"{shares[name]:.0%}" if name in shares else "–"
        value = values[name]
        table.add_row(name, share, f"{value:.4g}" if isinstance(value, float) else str(value))
    console.print(table)
    console.print(f"validation {validation:.2%}: a maximum over trials, so no estimate of test")


def _verdict(desk: Desk, work: Agenda, validation: float) -> None:
    """What the choice is worth on test, over its seeds."""
    results = [Record(desk.runs / item.cell.key).result() for item in work.items if item.asked]
    found = [result["metrics"]["accuracy"] for result in results if result and result["metrics"]]
    if found:
        spread = f" ± {stdev(found):.2%}" if len(found) > 1 else ""
        seeds = f"over {len(found)} seeds" if len(found) > 1 else "at one seed"
        desk.console.print(
            f"the choice on test: {fmean(found):.2%}{spread} {seeds}, all training "
            f"images; {validation:.2%} on the validation images of one trial"
        )
