"""The engine under torchrun: cells one after another, each by all processes together.

The first process claims, writes, tells and speaks; the others follow its orders, in the same code,
and write nothing. What goes wrong:

    in all processes alike    the cell is recorded as failed, and the suite goes on
    in one of them            the cell is recorded as failed, and the run ends
    one of them dies          torchrun ends the others; the same command goes on
    a signal to any           all finish the same step, the first saves, and all end
"""

import os
import signal
import time
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from benchmark.engines.local import Event
from benchmark.engines.signals import heard
from benchmark.engines.worker import Pulse, Settings, place_of
from benchmark.planning.cell import Cell
from benchmark.records.claims import Busy
from benchmark.records.record import Record

if TYPE_CHECKING:
    from benchmark.training.orders import Orders

GRACE = 30.0  # seconds after a signal, at most, until the first's last word; torchrun's own
BUSY = 1.0  # seconds between two tries for a cell that others train; ours


class Left(RuntimeError):
    """Others wait in training for this process, or are gone: it has to end."""


@dataclass(slots=True)
class Signal:
    """Which signal asked this process to stop, 0 for none; and whether torchrun is gone."""

    number: int = 0
    parent: int = field(default_factory=os.getppid)
    since: float = 0.0

    def hear(self, number: int) -> None:
        """The first one counts."""
        self.number = self.number or number

    def look(self) -> int:
        """What was heard until now."""
        if os.getppid() != self.parent:
            self.hear(signal.SIGTERM)
        if self.number and not self.since:
            self.since = time.monotonic()
        return self.number

    def patient(self) -> bool:
        """Whether to wait still for the word that all is over."""
        return not self.look() or time.monotonic() - self.since < GRACE


@dataclass(slots=True)
class Together:
    """Trains cells one after another; of the first process. See `local.Local`.

    tell  called with every Event, and with None so that a display can move
    say   called with a sentence on what a person may wonder at
    """

    settings: Settings
    orders: "Orders"
    tell: Callable[[Event | None], None]
    say: Callable[[str], None] = lambda sentence: None
    interrupted: int = 0
    _ended: dict[str, str] = field(default_factory=dict)
    _said: bool = False

    def run(self, cells: Sequence[Cell]) -> dict[str, str]:
        """Train cells, trunks first; gives how each ended, by key. On a signal the rest is left."""
        asked = {cell.key for cell in cells}
        waiting = deque(cells)
        stop = Signal()
        tried = 0  # cells in a row that others have
        with heard(stop.hear):
            while waiting and not self._stopped(stop):
                cell = waiting.popleft()
                under = [c for c in cell.foundations if c.key in asked]
                broken = [c for c in under if self._ended.get(c.key, "done") != "done"]
                if broken:
                    how = f"{broken[0].key}, {self._ended[broken[0].key]}"
                    self._fail(cell, f"what it stands on, {how}")
                elif any(c.key not in self._ended for c in under) or not self._train(cell, stop):
                    waiting.append(cell)
                    tried += 1
                    if not self._said:
                        self._said = True
                        self.say(f"{cell.label}: another process has it; it is waited for")
                    if tried >= len(waiting):
                        self.tell(None)
                        time.sleep(BUSY)
                    continue
                tried = 0
        return dict(self._ended)

    def _stopped(self, stop: Signal) -> bool:
        self.interrupted = self.interrupted or stop.look()
        return bool(self.interrupted)

    def _train(self, cell: Cell, stop: Signal) -> bool:
        """Train a cell; False where another process has it."""
        from benchmark.training.runner import Ear, run
        from benchmark.training.train import Stopped

        began = time.monotonic()
        begun = False

        def begin() -> None:
            nonlocal begun
            begun = True
            self.tell(Event(cell, "started", {}))
            self.orders.give({"cell": cell.to_json()})

        pulse = Pulse(_Voice(cell, self.tell, self.say), cell)
        ear = Ear(pulse.step, pulse.epoch, _agreed(self.orders, stop), pulse.warn, begin)
        try:
            state = run(cell, _place(cell, self.settings, self.orders), ear)
        except Stopped:
            self.interrupted = stop.number
            self._end(cell, "stopped", {})
            return True
        except Busy as error:
            if begun:
                raise Left(str(error)) from error
            return False
        except Exception as error:  # one failing cell does not stop the suite: it is recorded
            self._broken(cell, error, stop, begun)
            return True
        if begun:
            self.orders.answer()
            self._end(cell, state, {"seconds": time.monotonic() - began})
        else:
            self._end(cell, state, {"elsewhere": True})
        return True

    def _broken(self, cell: Cell, error: Exception, stop: Signal, begun: bool) -> None:
        """Record a failed cell; raise Left where that was not so in all processes."""
        reason, told = _reason(error), traceback.format_exc()
        alike, alone = True, ""
        if begun:
            self.orders.answer(reason)
            alike, alone = self.orders.faults(lambda: not stop.look())
        if alike or alone:
            self._fail(cell, alone or reason, told)
        if not alike:
            why = alone or reason.partition(". ")[0]
            raise Left(f"not all processes can go on ({why})") from error

    def _fail(self, cell: Cell, reason: str, told: str = "") -> None:
        record = Record(self.settings.runs / cell.key)
        with suppress(OSError):
            record.begin(cell)
        record.fail(reason, told or reason)
        self._end(cell, "failed", {"reason": reason})

    def _end(self, cell: Cell, kind: str, values: dict[str, Any]) -> None:
        self._ended[cell.key] = kind
        self.tell(Event(cell, kind, values))


def follow(settings: Settings, orders: "Orders") -> int:
    """Do what the first process orders until all is over; gives the exit code that it names."""
    from benchmark.training.runner import Ear
    from benchmark.training.runner import follow as train
    from benchmark.training.train import Stopped

    stop = Signal()
    with heard(stop.hear):
        while (order := orders.next(stop.patient)) is not None:
            if "over" in order:
                return int(order["over"])
            cell = Cell.from_json(order["cell"])
            ear = Ear(stop=_agreed(orders, stop), warn=lambda sentence: None)
            try:
                train(cell, _place(cell, settings, orders), ear)
            except Stopped:
                continue
            except Exception as error:
                orders.answer(_reason(error))
                alike, _ = orders.faults(lambda: not stop.look())
                if not alike:
                    return 128 + stop.number if stop.number else 1
            else:
                orders.answer()
    return 128 + (stop.look() or signal.SIGTERM)


def _agreed(orders: "Orders", stop: Signal) -> Callable[[], bool]:
    """Whether any process was asked to stop; all get the same answer after the same step."""

    def ask() -> bool:
        stop.hear(orders.team.most(stop.look()))
        return bool(stop.number)

    return ask


def _place(cell: Cell, settings: Settings, orders: "Orders") -> Any:
    return place_of(cell, settings, team=orders.team)


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"


@dataclass(frozen=True, slots=True)
class _Voice:
    """What a worker's pipe is elsewhere: words for the parent, who is here."""

    cell: Cell
    tell: Callable[[Event | None], None]
    say: Callable[[str], None]

    def send(self, said: tuple[str, dict[str, Any]]) -> None:
        """Pass on a message."""
        kind, values = said
        if kind == "warning":
            self.say(values["sentence"])
        else:
            self.tell(Event(self.cell, kind, values))
            self.tell(None)
