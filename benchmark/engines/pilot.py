"""A pilot: some real steps of a cell in one process, in two, … side by side, and how fast they are.

Nothing of it is kept: no record, no claim, and its processes are gone before the first cell is
trained. It is over within a minute or so, whatever its cells do.
"""

import multiprocessing
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import TracebackType
from typing import Any

from benchmark.engines import machine, trial
from benchmark.engines.signals import held_back
from benchmark.engines.worker import Settings
from benchmark.planning.cell import Cell

WINDOW = 3.0  # seconds of steps that one reading is made of; ours, some hundred of a small network
LIMIT = 30.0  # seconds for all readings together, starts of processes not counted; ours
STARTING = 60.0  # seconds for processes to start and to build a cell; ours: 2 to 5 are usual
NOISE = 0.05  # of a rate, by which more processes have to be faster to be worth their memory; ours
FULL = 0.9  # of an accelerator's memory that may be taken; ours


class Vain(RuntimeError):
    """A pilot has nothing to say; the sentence tells why."""


@dataclass(frozen=True, slots=True)
class Reading:
    """How fast a cell is trained with so many processes side by side.

    rate        images per second of all processes together
    forward     seconds of an image that is judged, in one of them
    operations  of one image forward
    memory      bytes of one process
    fit         processes that memory holds, of the machine and of an accelerator
    """

    jobs: int
    rate: float
    forward: float
    operations: int
    memory: int
    fit: int

    @property
    def each(self) -> float:
        """Seconds of an image that is trained, in one process."""
        return self.jobs / self.rate


@dataclass(slots=True)
class _Trial:
    process: BaseProcess
    pipe: Connection
    key: str = ""
    about: dict[str, Any] = field(default_factory=dict)


class Pilot:
    """Processes that rehearse cells; a context, at whose end they are gone."""

    def __init__(self, settings: Settings, limit: float = LIMIT):
        """settings: as the workers will have them. limit: seconds for all readings."""
        self.settings, self.limit = settings, limit
        self.trials: list[_Trial] = []
        self.began = time.monotonic()
        self.until: float | None = None

    def __enter__(self) -> "Pilot":
        """Make a folder for what training writes."""
        self.folder = Path(tempfile.mkdtemp(prefix="benchmark-pilot-"))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End all processes at once: there is nothing to save."""
        self.keep(0)
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def seconds(self) -> float:
        """Since it was made."""
        return time.monotonic() - self.began

    @property
    def left(self) -> float:
        """Seconds until it has to be over."""
        return self.limit if self.until is None else self.until - time.monotonic()

    def keep(self, jobs: int) -> None:
        """End all processes but so many."""
        gone, self.trials = self.trials[jobs:], self.trials[:jobs]
        for each in gone:
            each.process.kill()
        for each in gone:
            each.process.join()
            each.pipe.close()

    def measure(self, cell: Cell, jobs: int) -> Reading:
        """Train this cell in so many processes, and read how fast they are.

        Raises Vain: it cannot be trained, or it takes too long.
        """
        self.keep(jobs)
        began, starts = time.monotonic(), len(self.trials) < jobs
        while len(self.trials) < jobs:
            self.trials.append(self._start())
        fresh = [each for each in self.trials if each.key != cell.key]
        for each in fresh:
            _send(each, ("cell", cell.to_json()))
            each.key = cell.key
        patience = STARTING if starts else min(STARTING, self.left)
        for each, about in self._answers(fresh, "ready", patience):
            each.about = about
        if self.until is None:
            self.until = time.monotonic() + self.limit
        elif starts:  # of a start a machine may make much or little: it is no measuring
            self.until += time.monotonic() - began
        for each in self.trials:
            _send(each, ("measure", WINDOW))
        said = [about for _, about in self._answers(self.trials, "reading", max(self.left, WINDOW))]
        memory = max(int(each["memory"]) for each in said)
        return Reading(
            jobs,
            sum(each["images"] / each["seconds"] for each in said),
            max(float(each.about["forward"]) for each in self.trials),
            int(self.trials[0].about["operations"]),
            memory,
            _fit(jobs, memory, min(each["free"] for each in said), said[0]["total"]),
        )

    def _start(self) -> _Trial:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=trial.serve, args=(theirs, self.settings, self.folder))
        with held_back():  # as a crew does
            resource_tracker.ensure_running()
        with held_back():
            process.start()
        theirs.close()
        return _Trial(process, ours)

    def _answers(
        self, asked: Sequence[_Trial], kind: str, seconds: float
    ) -> Iterator[tuple[_Trial, dict[str, Any]]]:
        """What each of them answers, within so many seconds of now."""
        until = time.monotonic() + seconds
        waiting = {each.pipe: each for each in asked}
        while waiting:
            ready = wait(list(waiting), timeout=max(until - time.monotonic(), 0))
            if not ready:
                raise Vain(f"it said nothing for {seconds:.0f} s")
            for pipe in ready:
                assert isinstance(pipe, Connection)
                try:
                    found, values = pipe.recv()
                except (EOFError, OSError):
                    raise Vain("a process of it died, perhaps for want of memory") from None
                if found == "failed":
                    raise Vain(values["reason"])
                if found == kind:
                    yield waiting.pop(pipe), values


def _send(each: _Trial, order: tuple[str, Any]) -> None:
    try:
        each.pipe.send(order)
    except OSError:
        raise Vain("a process of it died, perhaps for want of memory") from None


def _fit(jobs: int, memory: int, free: int, total: int) -> int:
    """Processes of this size that fit: those that are there, and as many as free memory holds."""
    found = jobs + machine.memory() // max(memory, 1)
    if total:
        each = max((total - free) // jobs, 1)  # what others hold there is counted as ours
        found = min(found, int(FULL * total) // each)
    return max(int(found), 1)


def sizes(room: int) -> list[int]:
    """Numbers of processes to try: 1, 2, 4, …, and all that there is room for."""
    found = [1]
    while 2 * found[-1] < room:
        found.append(2 * found[-1])
    return [*found, room] if room > 1 else found


def compare(pilot: Pilot, cell: Cell, room: int) -> tuple[list[Reading], str]:
    """Readings with more and more processes, until that no longer pays, or nothing more fits.

    Also says, in words, why more were not tried where that is not to be seen from the readings.

    Raises Vain where not even one process could be measured.
    """
    found: list[Reading] = []
    for jobs in sizes(room):
        if found and jobs > found[-1].fit:
            return found, f"no memory for {jobs}"
        if found and pilot.left < WINDOW:
            return found, f"no time for {jobs}"
        try:
            found.append(pilot.measure(cell, jobs))
        except Vain as error:
            if not found:
                raise
            return found, f"{jobs} failed: {error}"
        if len(found) > 1 and found[-1].rate < (1 + NOISE) * found[-2].rate:
            break
    return found, ""


def best(readings: Sequence[Reading]) -> Reading:
    """The fewest processes that are as fast as any, within noise."""
    top = max(each.rate for each in readings)
    return min(
        (each for each in readings if each.rate >= (1 - NOISE) * top), key=lambda each: each.jobs
    )
