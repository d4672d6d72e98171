"""A crew on other machines: to the engine it is what the crew of this one is.

Errands are handed to a carrier, Ray or Slurm, and wait with it until a machine is free. There is a
worker for each errand, and for one only; whom it becomes is the carrier's business.
"""

import secrets
import time
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

from benchmark.engines.elsewhere import finished
from benchmark.engines.errand import APPEARS, EVERY, Errand, Message, versions
from benchmark.engines.patience import Patience, Silence
from benchmark.engines.worker import Settings
from benchmark.planning.cell import Cell
from benchmark.records.files import orphan, writer
from benchmark.records.record import Record

AT_ONCE = 10.0  # seconds in which 'kill' is to be obeyed; then the carrier takes the errand back


class Carrier(Protocol):
    """What brings errands to other machines, and words from and to whoever carries them out."""

    device: str  # of each cell: cpu or cuda
    readers: int  # processes of a cell's own that read images

    @property
    def room(self) -> int:
        """Cells that can be trained side by side now, at least 1; it changes as machines come."""

    def send(self, ticket: str, label: str, text: str) -> None:
        """Hand over a packed errand, under a name that no other has."""

    def take(self, seconds: float) -> Mapping[str, list[Message]]:
        """What was said since, by ticket; waits for up to so many seconds."""

    def over(self, ticket: str) -> str | None:
        """Why nothing more will be said of an errand than `take` gives next; None: it goes on."""

    def order(self, ticket: str, word: str) -> None:
        """Have an order obeyed where the errand is carried out: stop, recall or kill."""

    def cancel(self, ticket: str) -> None:
        """Take back an errand, at once, wherever it is."""

    def check(self, settings: Settings, token: str) -> None:
        """Find out whether the machines can have cells, as far as that can be known before.

        token  a file that is among the records now. Raises ValueError: a sentence on one of them.
        """

    def close(self) -> None:
        """Leave the cluster as it was found."""


@dataclass(slots=True)
class Far:
    """Whoever carries out one errand; see `crew.Worker`.

    Orders are noted here and sent by `Away.hear`: they may come from a signal's handler.

    begun  a machine has it; until then it waits for one, and its silence means nothing
    """

    ticket: str
    silence: Silence
    cell: Cell | None = None
    alone: bool = False
    ending: float = 0.0
    leaves: bool = False
    lost: str = ""
    begun: bool = False
    code: int | None = None
    inbox: deque[Message] = field(default_factory=deque)
    orders: list[str] = field(default_factory=list)
    killed: float | None = None
    held: float | None = None

    def end(self) -> None:
        """Have it finish its step, save and go; once."""
        if not self.leaves:
            self.leaves = True
            self.orders.append("stop")

    def kill(self) -> None:
        """End it at once; it is taken back where it does not obey."""
        if self.killed is None:
            self.killed = time.monotonic()
            self.orders.append("kill")

    def recall(self, key: str) -> None:
        """Have it give up its cell, which is the one with this key."""
        self.orders.append("recall")


@dataclass(slots=True)
class Away:
    """Workers on other machines, as many as these have room for, or at most `jobs`."""

    settings: Settings
    jobs: int
    patience: Patience
    carrier: Carrier
    workers: list[Far] = field(default_factory=list)
    token: str = ""

    @property
    def size(self) -> int:
        """Cells side by side, at most."""
        return self.jobs or self.carrier.room

    @property
    def busy(self) -> list[Far]:
        """Those that have a cell."""
        return [worker for worker in self.workers if worker.cell is not None]

    @property
    def room(self) -> bool:
        """Whether one more cell can be handed over."""
        return len(self.busy) < self.size

    def check(self) -> None:
        """Raises ValueError: a machine cannot have cells, and why."""
        try:
            self.carrier.check(self.settings, self._token())
        finally:
            self._forget()

    def free(self) -> Far | None:
        """One without a cell, where there is room."""
        self.dismiss()
        if not self.room:
            return None
        self.workers.append(Far(secrets.token_hex(8), Silence(float("inf"))))
        return self.workers[-1]

    def give(self, worker: Far, cell: Cell, alone: bool = False) -> bool:
        """Hand its errand to the carrier."""
        under = tuple(below.key for below in cell.foundations)
        noted = {key: own for key, own in self.settings.noted.items() if key == cell.key}
        settings = replace(self.settings, noted=noted)  # and nobody else's: what travels is text
        errand = Errand(cell.to_json(), under, settings, self.patience, self._token(), versions())
        self.carrier.send(worker.ticket, cell.label, errand.packed())
        worker.cell, worker.alone = cell, alone
        return True

    def hear(self, seconds: float) -> Iterator[tuple[Far, Cell, Message | None]]:
        """What is said of cells within this time; None where it was the last of a worker."""
        for worker in self.busy:
            self._send(worker)
        gone = {worker.ticket: self.carrier.over(worker.ticket) for worker in self.busy}
        news = self.carrier.take(seconds)
        for worker in self.busy:
            worker.inbox.extend(news.get(worker.ticket, ()))
            while worker.inbox and worker.cell is not None and self._visible(worker):
                said = worker.inbox.popleft()
                if said[0] == "begun":
                    worker.begun = True
                    worker.silence.broken(self.patience.other)
                elif said[0] == "waits":
                    worker.begun = False
                    worker.silence.broken(float("inf"))
                elif said[0] == "died":
                    worker.code = said[1]["code"]
                    yield worker, worker.cell, None
                else:
                    yield worker, worker.cell, said
            why = gone[worker.ticket]
            if worker in self.workers and worker.cell and not worker.inbox and why is not None:
                worker.lost = why or "it ended without a word"
                yield worker, worker.cell, None

    def bury(self, worker: Far) -> int | None:
        """Take away one of which nothing more will be heard; gives its process's exit code."""
        self.workers.remove(worker)
        return worker.code

    def kill(self) -> None:
        """End all at once."""
        for worker in self.workers:
            worker.kill()

    def dismiss(self) -> None:
        """Let go of those that have no cell."""
        self.workers = self.busy

    def close(self) -> None:
        """Take back what is still out, after whoever has it had time to save."""
        self.dismiss()
        until = time.monotonic() + self.patience.grace
        for worker in self.workers:
            worker.end()
        while self.workers and time.monotonic() < until:
            for worker, _, said in self.hear(EVERY):
                if said is None or said[0] not in ("pulse", "warning"):
                    worker.cell = None
            self.dismiss()
        for worker in self.workers:
            self.carrier.cancel(worker.ticket)
        self.workers = []
        self._forget()

    def _send(self, worker: Far) -> None:
        """Send what was ordered; an errand that waits for a machine is taken back instead."""
        late = worker.killed is not None and time.monotonic() - worker.killed > AT_ONCE
        if late or (worker.orders and not worker.begun):
            self.carrier.cancel(worker.ticket)
        while worker.orders:
            self.carrier.order(worker.ticket, worker.orders.pop(0))

    def _visible(self, worker: Far) -> bool:
        """Whether the next word can be believed: a result must be seen here too, before long."""
        kind, values = worker.inbox[0]
        if kind not in ("done", "diverged") or worker.cell is None:
            return True
        record = Record(self.settings.runs / worker.cell.key)
        if finished(record) is not None:
            return True
        now = time.monotonic()
        worker.held = worker.held or now
        if now - worker.held > APPEARS:
            reason = (
                f"its record was written, and is not to be seen in {record.folder}. Look whether "
                "all machines share that folder."
            )
            worker.inbox[0] = ("unfit", {"reason": reason})
            return True
        return False

    def _forget(self) -> None:
        if self.token:
            (self.settings.runs / self.token).unlink(missing_ok=True)
            self.token = ""

    def _token(self) -> str:
        """A file by which other machines know the folder of records; made when it is needed."""
        if not self.token:
            runs = self.settings.runs
            for path in runs.glob(".run.*.tmp"):
                if orphan(path):
                    path.unlink(missing_ok=True)
            self.token = f".run.{writer()}.{secrets.token_hex(8)}.tmp"
            (runs / self.token).touch()
        return self.token
