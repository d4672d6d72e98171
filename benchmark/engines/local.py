"""The local engine: cells side by side in processes on this machine.

The parent imports neither torch nor a data set; it hands out cells, trunks and sources before what
stands on them, listens, and lets the caller deliver records. A worker that dies takes one cell with
it: the cell is recorded as failed, another worker starts, and the suite goes on.
"""

import multiprocessing
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType
from typing import Any

from benchmark.engines.worker import Settings, serve
from benchmark.planning.cell import Cell
from benchmark.records.record import Record

GRACE = 60.0  # seconds that workers have for their step and its checkpoint, when asked to stop


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a cell.

    kind    started · pulse · done · diverged · failed · busy · stopped · recalled
    values  step and steps, seconds, or reason
    """

    cell: Cell
    kind: str
    values: dict[str, Any]


@dataclass(slots=True)
class _Worker:
    process: BaseProcess
    pipe: Connection
    cell: Cell | None = None


@dataclass(slots=True)
class Local:
    """Trains cells in `jobs` processes.

    tell  called with every Event, and with None twice a second so that a display can move
    """

    settings: Settings
    jobs: int
    tell: Callable[[Event | None], None]
    interrupted: int = 0
    _workers: list[_Worker] = field(default_factory=list)
    _ended: dict[str, str] = field(default_factory=dict)

    def run(
        self, cells: Sequence[Cell], more: Callable[[], Sequence[Cell]] = tuple
    ) -> dict[str, str]:
        """Train cells; gives how each ended, by key. On SIGINT or SIGTERM the rest is left.

        more  asked for further cells, trunks first, whenever a worker has nothing to do; once it
              gives none and nothing is trained any more, the run is over

        `interrupted` is then the number of the signal. A second signal ends the workers at once.
        """
        waiting = list(cells)
        asked = {cell.key for cell in cells}
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        for number in before:
            signal.signal(number, self._interrupt)
        try:
            while True:
                if not self.interrupted:
                    self._fetch(waiting, asked, more)
                    self._hand_out(waiting, asked)
                if not self._busy and (self.interrupted or not waiting):
                    break
                self._listen()
        finally:
            self._close()
            for number, handler in before.items():
                signal.signal(number, handler)
        return dict(self._ended)

    def recall(self, key: str) -> None:
        """Have the cell with this key stopped at its next step, and its position dropped.

        It ends as 'recalled', unless it is over before the word arrives.
        """
        for worker in self._workers:
            if worker.cell is not None and worker.cell.key == key:
                try:
                    worker.pipe.send(key)
                except OSError:  # it died: `_listen` finds out
                    pass

    @property
    def _busy(self) -> int:
        return sum(worker.cell is not None for worker in self._workers)

    def _fetch(
        self, waiting: list[Cell], asked: set[str], more: Callable[[], Sequence[Cell]]
    ) -> None:
        while not self.interrupted and self._busy + len(waiting) < self.jobs:
            fresh = more()
            if not fresh:
                return
            waiting.extend(fresh)
            asked.update(cell.key for cell in fresh)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        for worker in self._workers:
            if worker.process.is_alive():
                worker.process.kill() if self.interrupted else worker.process.terminate()
        self.interrupted = number

    def _hand_out(self, waiting: list[Cell], asked: set[str]) -> None:
        for cell in list(waiting):
            under = [each.key for each in cell.foundations if each.key in asked]
            if any(key not in self._ended for key in under):
                continue
            broken = [key for key in under if self._ended[key] != "done"]
            if broken:
                waiting.remove(cell)
                reason = f"what it stands on, {broken[0]}, {self._ended[broken[0]]}"
                Record(self.settings.runs / cell.key).begin(cell)
                Record(self.settings.runs / cell.key).fail(reason, reason)
                self._end(cell, "failed", {"reason": reason})
                continue
            worker = self._free()
            if worker is None:
                return
            try:
                worker.pipe.send(cell.to_json())
            except OSError:  # it died while idle: the next round starts another
                self._workers.remove(worker)
                return
            waiting.remove(cell)
            worker.cell = cell
            self.tell(Event(cell, "started", {}))

    def _free(self) -> _Worker | None:
        for worker in self._workers:
            if worker.cell is None and worker.process.is_alive():
                return worker
        self._workers = [w for w in self._workers if w.cell or w.process.is_alive()]
        if len(self._workers) >= self.jobs:
            return None
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=serve, args=(theirs, self.settings))
        process.start()
        theirs.close()
        self._workers.append(_Worker(process, ours))
        return self._workers[-1]

    def _listen(self) -> None:
        busy = [(worker, worker.cell) for worker in self._workers if worker.cell is not None]
        ready = wait([worker.pipe for worker, _ in busy], timeout=0.5)
        for worker, cell in busy:
            if worker.pipe not in ready:
                continue
            try:
                kind, values = worker.pipe.recv()
            except (EOFError, OSError):
                self._died(worker, cell)
                continue
            if kind == "pulse":
                self.tell(Event(cell, kind, values))
            else:
                worker.cell = None
                self._end(cell, kind, values)
        self.tell(None)

    def _died(self, worker: _Worker, cell: Cell) -> None:
        worker.process.join(5)
        worker.cell = None
        self._workers.remove(worker)
        if self.interrupted:
            self._end(cell, "stopped", {})
            return
        code = worker.process.exitcode
        reason = f"its process ended with code {code}" + (
            " (killed, perhaps for memory: try fewer --jobs)" if code == -signal.SIGKILL else ""
        )
        record = Record(self.settings.runs / cell.key)
        record.begin(cell)
        record.fail(reason, reason)
        self._end(cell, "failed", {"reason": reason})

    def _end(self, cell: Cell, kind: str, values: dict[str, Any]) -> None:
        self._ended[cell.key] = kind
        self.tell(Event(cell, kind, values))

    def _close(self) -> None:
        for worker in self._workers:
            try:
                worker.pipe.send(None)
            except OSError:
                pass
            worker.pipe.close()
        until = time.monotonic() + GRACE
        for worker in self._workers:
            worker.process.join(max(0.0, until - time.monotonic()))
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
        self._workers.clear()


def workers_fit(cores: int, threads: int, cells: int, device: str, memory: int) -> int:
    """Processes that a machine holds: one per `threads` cores and 2 GiB; one on an accelerator."""
    if device != "cpu":
        return 1
    return max(1, min(cores // max(threads, 1), memory // 2**31, cells))


def memory() -> int:
    """Bytes of memory that can be had without swapping."""
    import psutil

    return int(psutil.virtual_memory().available)


def folder(path: Path) -> Path:
    """The folder of records, created; PermissionError becomes a sentence (ValueError)."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(
            f"cannot write to {path} ({error.strerror}). Choose another --runs."
        ) from None
    return path
