"""A worker: a process that trains one cell after another, as its parent sends them.

It sends back (kind, values): 'pulse' and 'warning' while training, then 'done', 'diverged',
'failed', 'memory', 'busy', 'stopped' or 'recalled'. It stops at the next step on SIGTERM, and when
its parent is gone; it gives up the cell that it trains, and only that, when its parent sends the
cell's key.
"""

import errno
import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

from benchmark.engines.patience import Patience
from benchmark.planning.cell import Cell
from benchmark.records.claims import Busy
from benchmark.records.record import Record

PULSE = 0.5  # seconds between two messages on where training stands
STARVED = (
    "DefaultCPUAllocator",  # of the CPU
    "CUDA error: out of memory",  # outside of torch's own allocator, as in the first call
    "STATUS_ALLOC_FAILED",  # cuBLAS and cuDNN
    "is killed by signal: Killed",  # a reader of images, by the kernel
    "out of shared memory",  # the same, where it hands its images over
)
"""How torch says that there was not enough memory, in a RuntimeError."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What a worker needs to know once: plain values, since it starts afresh.

    noted  what is noted with each cell, by key; with any other nothing is
    """

    runs: Path
    data_root: Path
    files: tuple[Path, ...]
    device: str
    threads: int
    words: Mapping[str, Path] = field(default_factory=dict)
    readers: int = 0
    execution: str = ""
    noted: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


class _Stop:
    """Whether to stop: asked to by SIGTERM, or orphaned."""

    def __init__(self) -> None:
        self.asked = False
        parent = multiprocessing.parent_process()  # getppid would not tell, were it gone already
        self.parent = os.getppid() if parent is None else parent.pid
        signal.signal(signal.SIGTERM, self._ask)
        # These go to all processes of a terminal or a job: they tell the parent, it tells us.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.asked = True

    def __call__(self) -> bool:
        return self.asked or os.getppid() != self.parent


class _Recall:
    """Whether to stop the cell that is being trained: all is to stop, or its parent recalls it."""

    def __init__(self, pipe: Connection, key: str, stop: _Stop):
        self.pipe, self.key, self.stop = pipe, key, stop
        self.heard = False

    def __call__(self) -> bool:
        while not self.heard and not self.stop():
            try:
                if not self.pipe.poll():
                    break
                said = self.pipe.recv()
            except (EOFError, OSError):
                said = None
            if said is None:  # the parent closes, or is gone
                self.stop.asked = True
            self.heard = said == self.key
        return self.heard or self.stop()


class Voice(Protocol):
    """What messages go into: a pipe to the parent, or what stands for it."""

    def send(self, said: tuple[str, dict[str, Any]], /) -> None:
        """Pass on a message."""


class Pulse:
    """Tells the parent where training stands: now and then, and where an epoch's steps are over."""

    def __init__(self, pipe: Voice, cell: Cell):
        self.pipe = pipe
        self.epochs = int(dict(cell.stages[-1].recipe).get("epochs", 1))
        self.sent = 0.0
        self.before: float | None = None
        self.slowest = 0.0
        self.rows: list[Mapping[str, Any]] = []

    def epoch(self, row: Mapping[str, Any]) -> None:
        """Keep an epoch's row for the next message."""
        self.rows.append(row)

    def warn(self, sentence: str) -> None:
        """Pass on a sentence for people."""
        with suppress(OSError):
            self.pipe.send(("warning", {"sentence": sentence}))

    def step(self, step: int, steps: int) -> None:
        """Send what there is, if the last message is long enough ago or a long pause may follow."""
        now = time.monotonic()
        if self.before is not None:
            self.slowest = max(self.slowest, now - self.before)
        between = step % max(steps // max(self.epochs, 1), 1) != 0
        self.before = now if between else None  # what an epoch's end takes is no step
        if between and now - self.sent < PULSE:
            return
        self.sent = now
        where = {"step": step, "steps": steps, "rows": self.rows}
        try:
            self.pipe.send(("pulse", {**where, "slowest": self.slowest, "between": between}))
        except OSError:  # the parent is gone: that is no failure of this cell
            return
        self.rows = []


def serve(pipe: Connection, settings: Settings, patience: Patience) -> None:
    """Train what comes through the pipe until it closes."""
    stop = _Stop()
    _outlive_parent_by(patience.step)
    os.environ.setdefault("OMP_NUM_THREADS", str(settings.threads))
    while not stop():
        try:
            if not pipe.poll(0.2):
                continue
            values = pipe.recv()
        except (EOFError, OSError):
            return
        if values is None:
            return
        if isinstance(values, str):  # recalls a cell that was over when the word arrived
            continue
        if stop():  # sent by a parent that is gone by now
            return
        answer = _train(values, settings, pipe, stop)
        try:
            pipe.send(answer)
        except OSError:
            return
        if answer[0] == "memory":  # what is left of this process's memory goes with it
            return


def _outlive_parent_by(seconds: float) -> None:
    """Without a parent nobody ends a worker that hangs, and its cell would be held for ever."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def follow() -> None:
        wait([parent.sentinel])
        time.sleep(seconds)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=follow, name="orphan", daemon=True).start()


def _train(
    values: dict[str, Any], settings: Settings, pipe: Connection, stop: _Stop
) -> tuple[str, Any]:
    from benchmark.training import checkpoint
    from benchmark.training.runner import Ear, run
    from benchmark.training.train import Stopped

    cell = Cell.from_json(values)
    began = time.monotonic()
    recall = _Recall(pipe, cell.key, stop)
    try:
        pulse = Pulse(pipe, cell)
        place = place_of(cell, settings)
        if recall():  # the parent may have died since it sent the cell: nothing is begun
            raise Stopped("before its first step")
        ear = Ear(pulse=pulse.step, epoch=pulse.epoch, stop=recall, warn=pulse.warn)
        state = run(cell, place, ear)
        return state, {"seconds": time.monotonic() - began}
    except Stopped:
        if not recall.heard:
            return "stopped", {}
        checkpoint.clear(settings.runs / cell.key)
        return "recalled", {"seconds": time.monotonic() - began}
    except Busy as error:
        return "busy", {"reason": str(error)}
    except Exception as error:  # one failing cell does not stop the suite: it is recorded
        reason = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        told = {"reason": reason, "traceback": traceback.format_exc()}
        if _starved(error):
            return "memory", told
        if stop():  # a signal to the whole job ends the readers of images too, which is an error
            return "stopped", {}
        Record(settings.runs / cell.key).fail(**told)
        return "failed", told


def place_of(cell: Cell, settings: Settings, **team: Any) -> Any:
    """Where a cell is trained, with those files of heads that it needs: others may be broken.

    team  as in `runner.Place`; none for a process alone

    Raises ValueError: a file was changed, so that it is another head than the one in the key.
    """
    from benchmark.planning.plan import heads
    from benchmark.training.runner import Place

    table = _table(tuple(file for file in settings.files if file.stem in heads(cell)))
    named = [(stage.head, stage.content) for stage in cell.stages]
    named += [(stage.source[0], stage.source[2]) for stage in cell.stages if stage.source]
    for head, content in named:
        if content != table.outside.get(head, ""):
            raise ValueError(
                f"the file of head {head!r} was changed after this run began: its cells have other "
                "keys now. Run the command again."
            )
    return Place(
        settings.runs,
        settings.data_root,
        table,
        settings.device,
        settings.threads,
        settings.words,
        settings.readers,
        execution=settings.execution,
        noted=settings.noted.get(cell.key, {}),
        **team,
    )


@lru_cache
def _table(files: tuple[Path, ...]) -> Any:
    """All heads with those in these files, as they were when this process first read them."""
    from benchmark.training.registry import registry

    return registry(files)


def _starved(error: BaseException) -> bool:
    """Whether there was not enough memory.

    Torch has an error of that name, which is a RuntimeError; for much else it has words alone.
    """
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    if isinstance(error, RuntimeError):
        said = str(error)
        return type(error).__name__ == "OutOfMemoryError" or any(word in said for word in STARVED)
    return isinstance(error, MemoryError)
