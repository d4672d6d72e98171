"""What a command expects of its cells: how long they take, from finished cells and from a pilot."""

import math
import os
import platform
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from benchmark.commands.display import duration
from benchmark.engines import pilot
from benchmark.engines.pilot import Pilot, Reading, Vain
from benchmark.engines.worker import Settings
from benchmark.planning import forecast
from benchmark.planning.cell import Cell
from benchmark.planning.forecast import Forecast, Job, Machine, Past
from benchmark.planning.plan import Item, Registry
from benchmark.records.record import Record
from benchmark.training import compiling
from benchmark.training.operations import operations
from datasets import DATASETS

Finished = tuple[Cell, Mapping[str, Any]]  # with its result

DUE = ("missing", "failed", "torn", "running")  # what is running elsewhere is waited for
WORTH = 300.0
"""Seconds of one worker, below which no pilot decides about jobs: it takes half a minute. Ours."""
KINDS = 4  # kinds of cells, at most, that a pilot of a plan rehearses; ours, 30 s hold no more
FASTEST = 6e11  # operations a second, of a core with matrix units: docs/speed.md, compiled
READ = 0.03  # of a cell that computes its features, while no reader is known; ours, 1 to 2 %
LEAST = 5e-5  # seconds of an image at least, however small the network; ours, quick's are 2e-4


def cores() -> int:
    """Cores that this process may use; all of the machine's where the system does not tell."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def device(asked: str) -> str:
    """Where cells are trained: cpu, cuda or cuda:N. Raises ValueError."""
    if asked == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    kind = asked.partition(":")[0]
    if kind not in ("cpu", "cuda"):
        raise ValueError(f"unknown device {asked!r}. Give auto, cpu, cuda or cuda:0.")
    if kind == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device {asked!r} is not here: torch sees no GPU. Use --device cpu.")
    return asked


def execution(asked: str) -> str:
    """As `Settings` have it: empty for what pays. Raises ValueError."""
    if asked not in ("auto", "eager", "compiled"):
        raise ValueError(f"unknown execution {asked!r}. Give auto, eager or compiled.")
    return "" if asked == "auto" else asked


def here(device: str, threads: int, jobs: int) -> Machine:
    """What records name a machine like this one."""
    if device.startswith("cuda"):
        return Machine(torch.cuda.get_device_name(device), threads, jobs)
    return Machine(platform.machine(), threads, jobs)


def past(finished: Sequence[Finished], table: Registry) -> Iterator[Past]:
    """What finished cells took; a record that says it in another way tells nothing.

    Nor does a cell of a head that is not here any more, one that diverged, or one that several
    processes trained together.
    """
    for cell, result in finished:
        try:
            if result["state"] == "done" and result["cost"].get("processes", 1) == 1:
                yield _took(cell, result, table)
        except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError):
            continue


def _took(cell: Cell, result: Mapping[str, Any], table: Registry) -> Past:
    own = DATASETS[dict(cell.data)["name"]].largest
    size, cost = result["size"], result["cost"]
    train, classes = int(size["train_images"]), int(size["classes"])
    job = forecast.job(
        *(cell, table.needs(cell.stages[-1])),
        images=int(result["seen"]),
        train=train,
        largest=own or -(-train // classes),
        classes=classes,
    )
    beside = cost.get("beside_seconds")
    return Past(
        job,
        Machine(str(cost["device"]), int(cost["threads"]), int(cost.get("jobs", 0))),
        _seconds(cost["seconds"]),
        None if beside is None else _seconds(beside),
        str(cost.get("execution", compiling.EAGER)),
        int(size["flops"]),
        str(cost["finished"]),
        shown=forecast.shown(cell),
        read="features" in cost,
    )


def _seconds(given: Any) -> float:
    found = float(given)
    if not 0 <= found < math.inf:
        raise ValueError(f"{found} is no time that anything took")
    return found


def predicted(
    items: Sequence[Item], known: Sequence[Past], machine: Machine | None = None
) -> tuple[Item, ...]:
    """The items with what each will take; without a machine, what it took on any."""
    here = machine or Machine()
    computed, read = ([each for each in known if each.read == kind] for kind in (False, True))
    kept = {name for each in known for name in (each.shown, each.shown.partition(" ")[0])}
    told: dict[tuple[Job | None, bool], Forecast | None] = {(None, False): None}
    pairs = []
    for item in items:
        name = forecast.shown(item.cell)
        reads = bool(name) and item.job is not None and name in kept
        kept |= {name, name.partition(" ")[0]}
        if (item.job, reads) not in told and item.job is not None:  # the same at every seed
            told[item.job, reads] = forecast.predict(
                *(item.job, computed, here),
                execution=_execution(item.job, here),
                operations=lambda cell=item.cell: counted(cell),
            )
            if reads:
                told[item.job, reads] = _reading(item.job, told[item.job, reads], read, here)
        pairs.append((item, told[item.job, reads]))
    return tuple(
        replace(item, seconds=found and found.seconds, basis=found.basis if found else "")
        for item, found in pairs
    )


def _reading(
    job: Job, computed: Forecast | None, read: Sequence[Past], machine: Machine
) -> Forecast | None:
    """What a cell takes that reads its features: as others that did, else a small part."""
    known = forecast.predict(job, read, machine)
    if known is None and computed is None:
        return None
    seconds = known.seconds if known else READ * computed.seconds if computed else 0.0
    return Forecast(seconds, forecast.READS, known.cells if known else 0)


def _execution(job: Job, machine: Machine) -> Callable[[int], str]:
    def execution(count: int) -> str:
        here = machine.device in ("", platform.machine())  # a CPU
        if here and job.learns == "learns" and compiling.pays(count, job.images, "cpu"):
            return compiling.COMPILED
        return compiling.EAGER

    return execution


def counted(cell: Cell) -> int:
    """Operations of one image forward; 0 where the size of the images is not known yet."""
    shape = DATASETS[dict(cell.data)["name"]].shape
    if shape is None:
        return 0
    recipes = [dict(stage.recipe) for stage in cell.stages if stage.recipe]
    side = int(recipes[-1].get("size", 0)) if recipes else 0
    return operations(cell.backbone, (shape[0], side or shape[1], side or shape[2]))


def due(items: Sequence[Item]) -> list[Item]:
    """What is to be trained."""
    return [item for item in items if item.state in DUE]


def span(items: Sequence[Item], jobs: int) -> float | None:
    """Seconds of a run of these items; None where one of them is not known."""
    if any(item.seconds is None for item in items):
        return None
    whole = forecast.span([(item.cell, item.seconds or 0.0) for item in items], jobs)
    return whole + forecast.START if items else 0.0


def rests(items: Sequence[Item]) -> str:
    """What the predictions rest on: '12 from cells with the same head, 3 from the pilot'."""
    return forecast.resting(Counter(item.basis for item in items if item.basis))


def least(items: Sequence[Item]) -> float:
    """Seconds of one worker that these cells take at least, from what is known of them."""
    total = 0.0
    for item in items:
        if item.seconds is not None:
            total += item.seconds
        elif item.job is not None:
            passes = item.job.loop + item.job.beside
            total += item.job.images * LEAST + passes * counted(item.cell) / FASTEST
    return total


def kinds(items: Sequence[Item], settings: Settings) -> list[Item]:
    """One cell of each kind, that with most work first, of those that can be begun at once.

    A kind shares network, images and handling: its heads differ by little.
    """
    work: dict[tuple[object, ...], float] = {}
    first: dict[tuple[object, ...], Item] = {}
    for item in items:
        job = item.job
        if job is None or not job.images or not _founded(item.cell, settings):
            continue
        kind = (job.place, job.learns, job.handling)
        known = job.loop * max(counted(item.cell), 1) if item.seconds is None else item.seconds
        work[kind] = work.get(kind, 0.0) + known
        first.setdefault(kind, item)
    return [first[kind] for kind in sorted(work, key=lambda kind: -work[kind])]


def _founded(cell: Cell, settings: Settings) -> bool:
    """Whether what a cell stands on is there to be read."""
    return all(
        (Record(settings.runs / under.key).folder / "result.json").is_file()
        for under in cell.foundations
    )


def rehearsed(item: Item, reading: Reading, machine: Machine) -> Past:
    """A reading as if it were a finished cell: all its steps, and all that is judged beside."""
    assert item.job is not None
    return Past(
        item.job,
        replace(machine, jobs=reading.jobs),
        reading.each * item.job.images + reading.forward * item.job.judged,
        item.job.beside * reading.forward,
        compiling.EAGER,
        reading.operations,
        pilot=True,
    )


def choose(
    items: Sequence[Item], settings: Settings, room: int, machine: Machine
) -> tuple[int, list[Past], str]:
    """How many jobs: what a pilot says, its readings, and a sentence that tells.

    items  to be trained
    room   processes that the machine holds
    """
    begun = kinds(items, settings)
    why = ""
    if len(items) < 2:
        why = "there is one cell to train" if items else "there is nothing to train"
    elif room < 2:
        why = "there is room for one process"
    elif not begun:
        why = "no pilot: how many images there are is not known yet"
    elif (work := least(items)) < WORTH:
        why = f"no pilot: {duration(work)} of work is too little for one to be worth it"
    if why:
        return min(room, max(len(items), 1)), [], f"{why}: jobs {min(room, max(len(items), 1))}"
    with Pilot(settings) as trial:
        try:
            readings, more = pilot.compare(trial, begun[0].cell, room)
        except Vain as error:
            return room, [], f"the pilot on {begun[0].cell.label} failed: {error}. jobs {room}"
        top = pilot.best(readings)
        known = [rehearsed(begun[0], top, machine), *_others(trial, begun[1:], top.jobs, machine)]
        seconds = trial.seconds
    rates = [_rate(each, nth == 0) for nth, each in enumerate(readings)]
    told = ", ".join(filter(None, [*rates, more]))
    about = f"pilot of {duration(seconds)} on {begun[0].cell.label}"
    return top.jobs, known, f"jobs {top.jobs}: {told} ({about})"


def survey(
    items: Sequence[Item], settings: Settings, jobs: int, machine: Machine
) -> tuple[list[Past], str]:
    """What a pilot says of the cells that are to be trained, so many side by side."""
    begun = kinds(items, settings)
    if not begun:
        return [], "no pilot: none of these cells can be begun, or has anything to train"
    with Pilot(settings) as trial:
        known = [*_others(trial, begun, jobs, machine)]
        seconds = trial.seconds
    if not known:
        return [], f"no pilot: {begun[0].cell.label} could not be rehearsed in time"
    return known, f"pilot of {duration(seconds)} on {len(known)} of {len(begun)} kinds of cells"


def _others(trial: Pilot, items: Sequence[Item], jobs: int, machine: Machine) -> Iterator[Past]:
    for item in items[:KINDS]:
        if trial.left < pilot.WINDOW:
            return
        try:
            reading = trial.measure(item.cell, jobs)
        except Vain:
            trial.keep(0)  # whatever it was about: the next begins afresh
            continue
        yield rehearsed(item, reading, machine)


def _rate(reading: Reading, first: bool) -> str:
    verb = "gives" if reading.jobs == 1 else "give"
    return f"{reading.jobs} {verb} {reading.rate:,.0f}" + (" images/s" if first else "")
