"""The worker processes of one engine: started, told, ended, buried."""

import multiprocessing
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from benchmark.engines.patience import Patience, Silence
from benchmark.engines.signals import held_back
from benchmark.engines.worker import Settings, serve
from benchmark.planning.cell import Cell


@dataclass(slots=True)
class Worker:
    """A process and what it does.

    cell     what it trains, None while it waits
    alone    no other cell may be trained beside this one
    ending   seconds of silence for which it was asked to end, 0 if it was not
    leaves   it was asked to end, or said that it does: it gets no other cell
    lost     why nothing more will be heard of it, where it was another machine that had it
    """

    process: BaseProcess
    pipe: Connection
    silence: Silence
    cell: Cell | None = None
    alone: bool = False
    ending: float = 0.0
    leaves: bool = False
    lost: str = ""

    def end(self) -> None:
        """Have it finish its step, save and go; once, for it would not hear more of a second."""
        if not self.leaves:
            self.leaves = True
            self.process.terminate()

    def kill(self) -> None:
        """End it at once."""
        self.process.kill()

    def recall(self, key: str) -> None:
        """Have it give up the cell with this key."""
        with suppress(OSError):  # it died: `hear` finds out
            self.pipe.send(key)

    @property
    def gone(self) -> bool:
        """Whether it died and has nothing more to say.

        Its end of the pipe may be open still: readers of images that it forked have it too.
        """
        return not self.process.is_alive() and not self.pipe.poll()


@dataclass(slots=True)
class Crew:
    """Up to `size` workers."""

    settings: Settings
    size: int
    patience: Patience
    workers: list[Worker] = field(default_factory=list)

    @property
    def busy(self) -> list[Worker]:
        """Those that train a cell."""
        return [worker for worker in self.workers if worker.cell is not None]

    @property
    def room(self) -> bool:
        """Whether one more cell can be trained."""
        return len(self.busy) < self.size

    def free(self) -> Worker | None:
        """One that waits, or a new one where there is room."""
        for worker in [each for each in self.workers if each.cell is None]:
            if worker.process.is_alive() and not worker.leaves:
                return worker
            self.bury(worker)
        return self.start() if len(self.workers) < self.size else None

    def start(self) -> Worker:
        """One more process."""
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=serve, args=(theirs, self.settings, self.patience))
        with held_back():
            # Python's own helper lets SIGINT through again where it is started: once, and before.
            resource_tracker.ensure_running()
        with held_back():
            process.start()
        theirs.close()
        self.workers.append(Worker(process, ours, Silence(self.patience.other)))
        return self.workers[-1]

    def give(self, worker: Worker, cell: Cell, alone: bool = False) -> bool:
        """Send it a cell; False where it died meanwhile."""
        try:
            worker.pipe.send(cell.to_json())
        except OSError:
            self.bury(worker)
            return False
        worker.cell, worker.alone = cell, alone
        worker.silence.broken(self.patience.other)
        return True

    def hear(self, seconds: float) -> Iterator[tuple[Worker, Cell, tuple[str, Any] | None]]:
        """What those that train a cell say within this time; None of one that died."""
        busy = [(worker, worker.cell) for worker in self.busy if worker.cell is not None]
        ready = wait([worker.pipe for worker, _ in busy], timeout=seconds)
        for worker, cell in busy:
            if worker.gone:
                yield worker, cell, None
            elif worker.pipe in ready:
                try:
                    said = worker.pipe.recv()
                except (EOFError, OSError):
                    said = None
                yield worker, cell, said

    def bury(self, worker: Worker) -> int | None:
        """Take away one that is dead, or about to be; gives its exit code."""
        worker.process.join(5)
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join()
        worker.pipe.close()
        self.workers.remove(worker)
        return worker.process.exitcode

    def kill(self) -> None:
        """End all at once."""
        for worker in self.workers:
            worker.kill()

    def dismiss(self) -> None:
        """Send those that wait away, with all the memory that they hold."""
        self._close([worker for worker in self.workers if worker.cell is None])

    def close(self) -> None:
        """Send all away; whoever still trains finishes its step and saves first."""
        self._close(list(self.workers))

    def _close(self, workers: list[Worker]) -> None:
        for worker in workers:
            try:
                worker.pipe.send(None)
            except OSError:
                pass
            worker.pipe.close()
        until = time.monotonic() + self.patience.grace
        for worker in workers:
            worker.process.join(max(0.0, until - time.monotonic()))
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
            self.workers.remove(worker)
