"""A process of a pilot: it trains what it is told to, says how fast, and keeps nothing.

told  ('cell', its JSON)       build it and train it from here on; answers 'ready'
      ('measure', seconds)     of steps from here on; answers 'reading'
      nothing more, a closed pipe: its end
"""

import os
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from benchmark.engines.worker import Settings, place_of
from benchmark.planning.cell import Cell


class _Another(Exception):
    """It is told to train another cell."""


@dataclass(slots=True)
class _Window:
    """Steps that are measured: their seconds and images, until so many seconds have gone by."""

    wanted: float = 0.0
    seconds: float = 0.0
    images: float = 0.0

    def step(self, seconds: float, images: float, settle: Callable[[], None]) -> bool:
        """Count a step; whether it was the last of the window."""
        if not self.wanted:
            return False
        self.seconds += seconds
        self.images += images
        if self.seconds < self.wanted:
            return False
        began = time.monotonic()
        settle()
        self.seconds += time.monotonic() - began
        self.wanted = 0.0
        return True


def serve(pipe: Connection, settings: Settings, folder: Path) -> None:
    """Do as told until the pipe closes; folder: for whatever training writes."""
    for number in (signal.SIGINT, signal.SIGUSR1):  # these mean the parent, which ends us
        signal.signal(number, signal.SIG_IGN)
    os.environ.setdefault("OMP_NUM_THREADS", str(settings.threads))
    try:
        values = pipe.recv()[1]
        while True:
            try:
                values = _rehearse(Cell.from_json(values), pipe, settings, folder)
            except (EOFError, OSError):
                raise
            except Exception as error:  # whatever a cell does: the pilot goes without it
                first = str(error).partition("\n")[0]
                pipe.send(("failed", {"reason": f"{type(error).__name__}: {first}"}))
                values = _next_cell(pipe)
    except (EOFError, OSError):  # the parent is gone: had it heard enough, it would have ended us
        shutil.rmtree(folder, ignore_errors=True)


def _rehearse(cell: Cell, pipe: Connection, settings: Settings, folder: Path) -> dict[str, Any]:
    """Train a cell until told to train another; gives that."""
    import psutil

    from benchmark.training.rehearsal import Rehearsal

    rehearsal = Rehearsal(cell, place_of(cell, settings), folder)
    about = {"forward": rehearsal.forward(), "operations": rehearsal.operations}
    window, told = _Window(), False

    def hear(seconds: float, images: float) -> None:
        nonlocal told, window
        if not told and images:  # warm: the first steps are slower
            told = True
            pipe.send(("ready", about))
        if window.step(seconds, images, rehearsal.settle):
            free, total = rehearsal.room()
            memory = psutil.Process().memory_info().rss
            said = {"seconds": window.seconds, "images": window.images, "memory": memory}
            pipe.send(("reading", {**said, "free": free, "total": total}))
        while pipe.poll():
            kind, value = pipe.recv()
            if kind == "cell":
                raise _Another(value)
            rehearsal.settle()
            window = _Window(value)

    try:
        rehearsal.train(hear)
    except _Another as another:
        return dict(another.args[0])
    raise AssertionError("training goes on until it is told otherwise")


def _next_cell(pipe: Connection) -> dict[str, Any]:
    while True:
        kind, value = pipe.recv()
        if kind == "cell":
            return dict(value)
