"""Named points at which a process can be made to fail: for tests, and for the command `chaos`.

    BENCHMARK_FAULT="kill 3 checkpoint: half written"   action, passing (from 1), point
    BENCHMARK_FAULT_ONCE=/some/file                     only the first process, which makes the file

A point costs one look at a global where nothing is armed. Workers inherit the variable, and each
process counts its own passings.

    kill      the process ends as by `kill -9`
    full      OSError, as of a disk without space
    truncate  half of the file that is being written is lost, and the process ends as by `kill -9`:
              what a power cut leaves of a file that never reached the disk
    hang      nothing happens any more; signals are heard
"""

import errno
import os
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

VARIABLE, ONCE = "BENCHMARK_FAULT", "BENCHMARK_FAULT_ONCE"

FILES: Mapping[str, str] = {
    "claim": "who works on the cell",
    "cell": "what is to be done",
    "checkpoint": "where the cell stands in mid-training",
    "curves": "one row an epoch",
    "arrays": "what reports draw",
    "weights": "backbone and heads",
    "result": "the evidence that the cell is finished",
    "failure": "why there is no result",
    "suites": "who asked for it; the parent writes it between a finished record and its delivery",
}
"""Files of a record by the first word of their names."""

MOMENTS: Mapping[str, str] = {
    "before": "nothing of it is written",
    "half written": "half of its bytes are in a temporary file",
    "before rename": "the temporary file is whole and on the disk",
    "after rename": "it has its name, which may not be on the disk yet",
    "after": "it is there for good",
}
"""Moments of every file's writing, in their order."""

POINTS: Mapping[str, str] = {
    "cell: claimed": "the cell is held, and nothing of it is written yet",
    "step: before backward": "the loss is known, and no weight has moved",
    "step: after the optimiser": "weights have moved, and the head has not heard of the step",
    "checkpoint: before the oldest goes": "three generations lie there",
    "checkpoint: before all go": "the cell has its result, and its checkpoints still",
    **{f"{file}: {moment}": MOMENTS[moment] for file in FILES for moment in MOMENTS},
}
"""Every point -> what lies there. A test finds the calls in the source: exactly these."""


@dataclass(slots=True)
class Fault:
    """What is armed: an action at the n-th passing of a point."""

    action: str
    passing: int
    name: str
    passed: int = 0


def read(text: str) -> Fault:
    """A fault as the variable states it; ValueError where it names what is not there."""
    action, _, rest = text.partition(" ")
    passing, _, name = rest.partition(" ")
    if action not in ACTIONS or name not in POINTS or not passing.isdecimal() or int(passing) < 1:
        raise ValueError(
            f"{VARIABLE} needs an action ({', '.join(ACTIONS)}), a number from 1 on and a point of "
            f"benchmark/records/faults.py, got {text!r}. Give 'kill 1 result: before'."
        )
    return Fault(action, int(passing), name)


def arm() -> None:
    """Take what the environment says; called where this module is imported."""
    global _armed
    text = os.environ.get(VARIABLE)
    _armed = read(text) if text else None


def point(name: str, file: Path | None = None) -> None:
    """A named point is passed; `file` is what is being written there."""
    if _armed is None:
        return
    if name == _armed.name:
        _armed.passed += 1
        if _armed.passed == _armed.passing and _first():
            ACTIONS[_armed.action](file)


def _first() -> bool:
    """Whether no other process had the fault before."""
    token = os.environ.get(ONCE)
    if not token:
        return True
    try:
        os.close(os.open(token, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))
    except FileExistsError:
        return False
    return True


def _kill(file: Path | None) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _full(file: Path | None) -> NoReturn:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(file or ""))


def _truncate(file: Path | None) -> None:
    if file is not None:
        os.truncate(file, file.stat().st_size // 2)
    _kill(file)


def _hang(file: Path | None) -> NoReturn:
    while True:
        time.sleep(3600)


ACTIONS: Mapping[str, Callable[[Path | None], None]] = {
    "kill": _kill,
    "full": _full,
    "truncate": _truncate,
    "hang": _hang,
}

_armed: Fault | None = None
arm()
