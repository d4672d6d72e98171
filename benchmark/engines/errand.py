"""A cell that another machine trains: what travels there, and what is done there.

The scheduler of a cluster only brings the errand to a machine. There a process of the same kind as
on this one trains the cell, so that the numbers are the same; beside it stands whoever carries the
errand out, passes on what the process says, and tells it what is wanted.
"""

import dataclasses
import json
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from benchmark.engines.crew import Crew, Worker
from benchmark.engines.elsewhere import finished
from benchmark.engines.patience import Patience
from benchmark.engines.worker import Settings
from benchmark.planning.cell import Cell
from benchmark.records.record import Record

Message = tuple[str, dict[str, Any]]

EVERY = 0.5  # seconds between two reports; ours, as the display moves
APPEARS = 120.0  # seconds, at most, until a file that one machine wrote is seen by all; NFS keeps
# names for up to 60 (acdirmax of nfs(5)), and for as long that there is no such name


@dataclass(frozen=True, slots=True)
class Errand:
    """A cell to train, and all that is needed for it; every path is the same on all machines.

    under     keys of the cells that it stands on: their records must be seen before it begins
    token     a file among the records that is there while the run lasts
    versions  where the run was started, of what the last bits depend on
    """

    cell: Mapping[str, Any]
    under: tuple[str, ...]
    settings: Settings
    patience: Patience
    token: str
    versions: Mapping[str, str]

    def packed(self) -> str:
        """As text: what travels is data, not code."""
        return json.dumps(dataclasses.asdict(self), default=str)

    @staticmethod
    def unpacked(text: str) -> "Errand":
        """What was packed."""
        found = json.loads(text)
        settings = found["settings"]
        for name in ("runs", "data_root"):
            settings[name] = Path(settings[name])
        settings["files"] = tuple(Path(file) for file in settings["files"])
        settings["words"] = {name: Path(file) for name, file in settings["words"].items()}
        found["settings"] = Settings(**settings)
        found["patience"] = Patience(**found["patience"])
        found["under"] = tuple(found["under"])
        return Errand(**found)

    @property
    def unfit(self) -> str:
        """Why this machine cannot take the errand, as a sentence; empty where it can."""
        runs = self.settings.runs
        if not (runs / self.token).exists():
            return (
                f"machine {platform.node()} does not see the folder {runs} of this run. Put the "
                "records into a folder that all machines share, under the same path."
            )
        here = versions()
        for name, wanted in self.versions.items():
            if here[name] != wanted:
                return (
                    f"machine {platform.node()} has {name} {here[name]}, and the run was started "
                    f"with {wanted}: cells of one table must have the same. Install the same lock."
                )
        return ""


def versions() -> dict[str, str]:
    """Of Python and the packages that decide the last bits; builds for CPU and GPU count alike."""
    found = {"Python": ".".join(platform.python_version_tuple()[:2])}
    for name in ("torch", "torchvision", "numpy", "scipy"):
        try:
            found[name] = version(name).partition("+")[0]
        except PackageNotFoundError:
            found[name] = "none"
    return found


Exchange = Callable[[list[Message]], list[str]]


def carry_out(
    text: str, exchange: Exchange, begun: Callable[[Crew], None] = lambda crew: None
) -> None:
    """Train a cell on this machine, in a process of its own.

    exchange  reports what was said since the last time, and gives the orders that came meanwhile:
              'stop' (finish the step, save, go), 'recall' (that, and drop the position), 'kill'.
              Whatever it raises means that nobody waits for the cell any more: it is stopped.
    begun     is given the crew of one before it starts, so that it can be closed from outside

    The last report is what the cell's process answered, 'died' with its exit code, or 'unfit' with
    the reason why there is none on this machine.
    """
    errand = Errand.unpacked(text)
    early = exchange([("begun", {"host": platform.node()})])
    if early:  # given while it still waited for a machine
        recalled = early == ["recall"]
        exchange([("recalled", {"seconds": 0.0}) if recalled else ("stopped", {})])
        return
    reason = errand.unfit or _missing(errand)
    if reason:
        exchange([("unfit", {"reason": reason})])
        return
    cell = Cell.from_json(dict(errand.cell))
    crew = Crew(errand.settings, 1, errand.patience)
    begun(crew)
    try:
        worker = crew.start()
        crew.give(worker, cell)
        over = False
        while not over:
            news = _news(crew, worker)
            over = bool(news) and news[-1][0] not in ("pulse", "warning")
            for order in exchange(news):
                _obey(order, worker, cell)
    finally:
        crew.close()


def _news(crew: Crew, worker: Worker) -> list[Message]:
    """What the process said meanwhile, up to its answer."""
    found: list[Message] = []
    wait([worker.pipe, worker.process.sentinel], timeout=EVERY)
    while worker.pipe.poll():
        try:
            found.append(worker.pipe.recv())
        except (EOFError, OSError):
            break
        if found[-1][0] not in ("pulse", "warning"):
            return found
    if worker in crew.workers and not worker.process.is_alive() and not found:
        found.append(("died", {"code": crew.bury(worker)}))
    return found


def _obey(order: str, worker: Worker, cell: Cell) -> None:
    if order == "stop":
        worker.end()
    elif order == "recall":
        worker.recall(cell.key)
    elif order == "kill":
        worker.process.kill()


def _missing(errand: Errand) -> str:
    """Wait until this machine sees the records that the cell stands on; why not, if it does not."""
    until = time.monotonic() + APPEARS
    for key in errand.under:
        record = Record(errand.settings.runs / key)
        while finished(record) is None:
            if time.monotonic() > until:
                return (
                    f"machine {platform.node()} does not see the record {record.folder} that the "
                    "cell stands on. Look whether all machines share that folder."
                )
            time.sleep(EVERY)
    return ""
