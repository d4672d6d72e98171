"""A worker: a process that trains one cell after another, as its parent sends them.

It sends back (kind, values): 'pulse' while training, then 'done', 'failed', 'busy', 'stopped' or
'recalled'. It stops at the next step on SIGTERM, and when its parent is gone; it gives up the cell
that it trains, and only that, when its parent sends the cell's key.
"""

import os
import signal
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from types import FrameType
from typing import Any

PULSE = 0.5  # seconds between two messages on where training stands


@dataclass(frozen=True, slots=True)
class Settings:
    """What a worker needs to know once: plain values, since it starts afresh."""

    runs: Path
    data_root: Path
    files: tuple[Path, ...]
    device: str
    threads: int
    words: Mapping[str, Path] = field(default_factory=dict)
    readers: int = 0


class _Stop:
    """Whether to stop: asked to by SIGTERM, or orphaned."""

    def __init__(self) -> None:
        self.asked = False
        self.parent = os.getppid()
        signal.signal(signal.SIGTERM, self._ask)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal tells the parent, it tells us

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
        while not self.heard and not self.stop() and self.pipe.poll():
            try:
                said = self.pipe.recv()
            except (EOFError, OSError):
                said = None
            if said is None:  # the parent closes, or is gone
                self.stop.asked = True
            self.heard = said == self.key
        return self.heard or self.stop()


class _Pulse:
    """Tells the parent where training stands, not too often."""

    def __init__(self, pipe: Connection):
        self.pipe = pipe
        self.last = 0.0
        self.rows: list[Mapping[str, Any]] = []

    def epoch(self, row: Mapping[str, Any]) -> None:
        """Keep an epoch's row for the next message."""
        self.rows.append(row)

    def step(self, step: int, steps: int) -> None:
        """Send what there is, if the last message is long enough ago."""
        now = time.monotonic()
        if now - self.last >= PULSE:
            self.last = now
            self.pipe.send(("pulse", {"step": step, "steps": steps, "rows": self.rows}))
            self.rows = []


def serve(pipe: Connection, settings: Settings) -> None:
    """Train what comes through the pipe until it closes."""
    stop = _Stop()
    os.environ.setdefault("OMP_NUM_THREADS", str(settings.threads))
    from benchmark.training.registry import registry
    from benchmark.training.runner import Place

    place = Place(
        settings.runs,
        settings.data_root,
        registry(settings.files),
        settings.device,
        settings.threads,
        settings.words,
        settings.readers,
    )
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
        answer = _train(values, place, pipe, stop)
        try:
            pipe.send(answer)
        except OSError:
            return


def _train(values: dict[str, Any], place: Any, pipe: Connection, stop: _Stop) -> tuple[str, Any]:
    from benchmark.planning.cell import Cell
    from benchmark.records.record import Busy, Record
    from benchmark.training import checkpoint
    from benchmark.training.runner import Ear, run
    from benchmark.training.train import Stopped

    cell = Cell.from_json(values)
    began = time.monotonic()
    recall = _Recall(pipe, cell.key, stop)
    try:
        pulse = _Pulse(pipe)
        state = run(cell, place, Ear(pulse=pulse.step, epoch=pulse.epoch, stop=recall))
        return state, {"seconds": time.monotonic() - began}
    except Stopped:
        if not recall.heard:
            return "stopped", {}
        checkpoint.clear(place.runs / cell.key)
        return "recalled", {"seconds": time.monotonic() - began}
    except Busy as error:
        return "busy", {"reason": str(error)}
    except Exception as error:  # one failing cell does not stop the suite: it is recorded
        reason = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        Record(place.runs / cell.key).fail(reason, traceback.format_exc())
        return "failed", {"reason": reason}
