"""The local engine: cells side by side in processes on this machine.

The parent imports neither torch nor a data set; it hands out cells, trunks and sources before what
stands on them, listens, and lets the caller deliver records. What goes wrong takes one cell with
it, and the suite goes on:

    a worker crashes          its cell is recorded as failed
    ... is killed, or finds
    no memory                 the cell is trained alone, once, after all others
    ... is hung, or is ended
    from outside              the cell goes on from its checkpoint, once
    another process has it    the cell is waited for, and taken over if that process dies
    the machine that trained
    it is gone                the cell goes on elsewhere, from its checkpoint, a few times

Where the cells are trained is the crew's business: in processes of this machine, or away.
"""

import os
import platform
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from benchmark.engines.away import Away, Far
from benchmark.engines.crew import Crew, Worker
from benchmark.engines.elsewhere import Elsewhere, finished
from benchmark.engines.patience import Patience
from benchmark.engines.signals import heard
from benchmark.engines.worker import Settings
from benchmark.planning.cell import Cell
from benchmark.records.claims import Busy
from benchmark.records.record import Record

MACHINES = 5  # machines that a cell may lose before it has failed itself; ours, for they are lent


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a cell.

    kind    started · pulse · done · diverged · failed · stopped · recalled
    values  step and steps, seconds, or reason; elsewhere where another process did it
    """

    cell: Cell
    kind: str
    values: dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Due:
    """A cell that is to be trained, its key, and those of the cells that come before it."""

    cell: Cell
    key: str
    under: tuple[str, ...]


@dataclass(slots=True)
class Local:
    """Trains cells side by side.

    jobs      how many; of a crew that is away, its machines say that
    tell      called with every Event, and with None twice a second so that a display can move
    say       called with a sentence on what a person may wonder at
    patience  when a silent worker counts as hung
    crew      who trains them; without one, processes of this machine

    A cell may be 'started' more than once; it ends once.
    """

    settings: Settings
    jobs: int
    tell: Callable[[Event | None], None]
    say: Callable[[str], None] = lambda sentence: None
    patience: Patience = Patience()
    crew: Away | None = None
    interrupted: int = 0
    hurried: bool = False
    _crew: Crew | Away = field(init=False)
    _waiting: list[_Due] = field(default_factory=list)
    _alone: list[_Due] = field(default_factory=list)
    _elsewhere: Elsewhere = field(init=False)
    _asked: dict[str, _Due] = field(default_factory=dict)
    _again: Counter[tuple[str, str]] = field(default_factory=Counter)
    _ended: dict[str, str] = field(default_factory=dict)
    _explained: bool = False
    _looked: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        """Nothing is started yet."""
        self._crew = self.crew or Crew(self.settings, self.jobs, self.patience)
        self._elsewhere = Elsewhere(self.settings.runs)

    def run(
        self, cells: Sequence[Cell], more: Callable[[], Sequence[Cell]] = tuple
    ) -> dict[str, str]:
        """Train cells; gives how each ended, by key. On a signal to stop the rest is left.

        more  asked for further cells, trunks first, whenever a worker has nothing to do; once it
              gives none and nothing is trained any more, the run is over

        `interrupted` is then the number of the signal. Ctrl-C after that ends the workers at once,
        and `hurried` is true; no other signal does, for Slurm sends two, and the step may not be
        over at the second.
        """
        self._take_on(cells)
        with heard(self._interrupt):
            try:
                while True:
                    if not self.interrupted:
                        self._look_around()
                        self._fetch(more)
                        self._hand_out()
                    self._explain()
                    if not self._crew.busy and (self.interrupted or not self._left):
                        break
                    self._listen()
            finally:
                self._crew.close()
        return dict(self._ended)

    def recall(self, key: str) -> None:
        """Have the cell with this key stopped at its next step, and its position dropped.

        It ends as 'recalled', unless it is over before the word arrives.
        """
        for worker in self._crew.busy:
            if worker.cell is not None and worker.cell.key == key:
                worker.recall(key)

    @property
    def _left(self) -> bool:
        return bool(self._waiting or self._alone or self._elsewhere.cells)

    def _take_on(self, cells: Sequence[Cell]) -> None:
        fresh = [_Due(cell, cell.key, tuple(f.key for f in cell.foundations)) for cell in cells]
        self._asked.update({due.key: due for due in fresh})
        self._waiting.extend(fresh)

    def _interrupt(self, number: int) -> None:
        if self.interrupted and number == signal.SIGINT:
            self.hurried = True
        self.interrupted = self.interrupted or number
        self._tell_workers()

    def _explain(self) -> None:
        """Say once what is done still; not in `_interrupt`, for a line may be half written then."""
        if self.interrupted and self._crew.busy and not self._explained:
            self._explained = True
            self.say(
                "interrupted: each cell finishes its step and is saved. Ctrl-C now ends at once"
            )

    def _tell_workers(self) -> None:
        """Pass the signal on; again in each round, for one may just have been started."""
        if self.hurried:
            self._crew.kill()
        for worker in self._crew.workers:
            worker.end()

    def _ready(self) -> Iterator[_Due]:
        """Cells of which everything before them is done; what cannot be any more is failed."""
        for due in list(self._waiting):
            ends = [(key, self._ended.get(key)) for key in due.under if key in self._asked]
            broken = [f"{key}, {how}" for key, how in ends if how not in (None, "done")]
            if broken:
                self._waiting.remove(due)
                self._fail(due.cell, f"what it stands on, {broken[0]}")
            elif all(how for _, how in ends):
                yield due

    def _fetch(self, more: Callable[[], Sequence[Cell]]) -> None:
        while not self.interrupted:
            ready = len(self._crew.busy)
            for _ in self._ready():
                ready += 1
                if ready >= self._crew.size:
                    break
            fresh = more() if ready < self._crew.size else ()
            if not fresh:
                return
            self._take_on(fresh)

    def _look_around(self) -> None:
        """See what became of the cells that other processes have."""
        for cell, kind, values in self._elsewhere.look():
            if kind == "free":
                self.say(f"{cell.label}: the process that trained it is gone; it goes on here")
                self._waiting.insert(0, self._asked[cell.key])
            else:
                self._end(cell, kind, values)

    def _hand_out(self) -> None:
        if any(worker.alone for worker in self._crew.busy):
            return
        for due in self._ready():
            if self.interrupted or not self._crew.room:
                return
            if self._taken(due):
                continue
            if not self._give(due):
                return
            self._waiting.remove(due)
        if self._crew.busy or self.interrupted or next(self._ready(), None):
            return
        self._crew.dismiss()  # nothing to do but to wait, or a cell that needs all the memory
        if self._alone:
            due = self._alone.pop(0)
            if not self._taken(due) and not self._give(due, alone=True):
                self._alone.insert(0, due)
        elif said := self._elsewhere.waiting():
            self.say(said)

    def _taken(self, due: _Due) -> bool:
        """Whether a cell need not, or cannot, be trained here now: it is taken note of."""
        kind = finished(Record(self.settings.runs / due.key))
        if kind is None and not self._elsewhere.has(due.cell):
            return False
        if due in self._waiting:
            self._waiting.remove(due)
        if kind is not None:
            self._end(due.cell, kind, {"elsewhere": True})
        return True

    def _give(self, due: _Due, alone: bool = False) -> bool:
        worker = self._crew.free()
        if worker is None or not self._crew.give(worker, due.cell, alone):
            return False  # it died while idle: the next round starts another
        self.tell(Event(due.cell, "started", {}))
        return True

    def _listen(self) -> None:
        for worker, cell, said in self._crew.hear(0.5):
            if said is None:
                self._died(worker, cell)
            else:
                self._answered(worker, cell, *said)
        self._watch()
        if self.interrupted:
            self._tell_workers()
        self.tell(None)

    def _answered(
        self, worker: Worker | Far, cell: Cell, kind: str, values: dict[str, Any]
    ) -> None:
        if kind == "pulse":
            if not worker.ending:
                worker.silence.broken(self.patience.after(values))
            self.tell(Event(cell, kind, values))
            return
        if kind == "warning":
            self.say(values["sentence"])
            return
        worker.cell, worker.alone = None, False
        worker.leaves = worker.leaves or kind in ("memory", "stopped")
        if kind == "busy":
            self._waiting.insert(0, self._asked[cell.key])
        elif kind == "memory":
            self._starved(cell, values["reason"], values["traceback"])
        elif kind == "unfit":  # where it was to be trained: nobody there has recorded that
            self._fail(cell, values["reason"], values.get("traceback"))
        elif kind == "stopped" and not self.interrupted:
            self._lost(worker, cell)
        else:
            self._end(cell, kind, values)

    def _died(self, worker: Worker | Far, cell: Cell) -> None:
        code = self._crew.bury(worker)
        self._sweep(cell)
        kind = finished(Record(self.settings.runs / cell.key))
        if kind is not None:  # it died between the record and its answer
            self._end(cell, kind, {})
        elif self.interrupted:
            self._end(cell, "stopped", {})
        elif worker.lost:
            self._stray(cell, worker.lost)
        elif worker.ending or code in (0, -signal.SIGTERM):
            self._lost(worker, cell)
        elif code == -signal.SIGKILL:
            self._starved(cell, f"its process ended with code {code}: killed, perhaps for memory")
        else:
            self._fail(cell, f"its process ended with code {code}")

    def _lost(self, worker: Worker | Far, cell: Cell) -> None:
        """A worker went without an answer, at our word or a stranger's: its cell goes on, once."""
        what = "its process was ended before it was done"
        if worker.ending:
            what = f"no sign of life for {worker.ending:.0f} s"
        if self._first("lost", cell):
            self.say(f"{cell.label}: {what}; it goes on from its checkpoint, once")
            self._waiting.insert(0, self._asked[cell.key])
        else:
            self._fail(cell, f"{what}, twice")

    def _stray(self, cell: Cell, reason: str) -> None:
        """A machine went, and took its cell along: another takes it on."""
        self._again[cell.key, "stray"] += 1
        if self._again[cell.key, "stray"] < MACHINES:
            self.say(f"{cell.label}: {reason}; it goes on elsewhere")
            self._waiting.insert(0, self._asked[cell.key])
        else:
            self._fail(cell, f"{reason}, {MACHINES} times")

    def _starved(self, cell: Cell, reason: str, traceback: str | None = None) -> None:
        """A cell found no memory: it is trained alone, once, when all others are over."""
        if self._first("starved", cell):
            self.say(f"{cell.label}: {reason}; it is trained alone, when all others are over")
            self._alone.append(self._asked[cell.key])
        else:
            self._fail(cell, f"{reason}, also alone: try a smaller backbone or batch", traceback)

    def _first(self, what: str, cell: Cell) -> bool:
        self._again[cell.key, what] += 1
        return self._again[cell.key, what] == 1

    def _watch(self) -> None:
        """End the workers that have been silent for too long."""
        now = time.monotonic()
        elapsed, self._looked = now - self._looked, now
        for worker in self._crew.busy:
            if not worker.silence.goes_on(elapsed):
                continue
            if worker.ending:
                worker.kill()
            else:
                worker.ending = worker.silence.allowed
                worker.end()
                worker.silence.broken(self.patience.grace)

    def _sweep(self, cell: Cell) -> None:
        """Whoever claims a cell removes what a dead process left half written."""
        record = Record(self.settings.runs / cell.key)
        note = {"pid": os.getpid(), "host": platform.node(), "since": time.time()}
        if record.folder.is_dir():
            with suppress(Busy, OSError), record.claim(note):
                pass

    def _fail(self, cell: Cell, reason: str, traceback: str | None = None) -> None:
        """Record that a cell failed, unless another process has finished it."""
        record = Record(self.settings.runs / cell.key)
        if finished(record) is None:
            with suppress(OSError):
                record.begin(cell)
            record.fail(reason, traceback or reason)
        self._end(cell, "failed", {"reason": reason})

    def _end(self, cell: Cell, kind: str, values: dict[str, Any]) -> None:
        self._ended[cell.key] = kind
        self.tell(Event(cell, kind, values))
