"""speed: our loop beside the one that released code uses, alternating in one run."""

import csv
import io
import json
import math
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

from benchmark.backbones import BACKBONES
from benchmark.commands import agenda, outlook
from benchmark.commands.display import duration
from benchmark.planning import document, plan, suite
from benchmark.planning.cell import Cell
from benchmark.planning.plan import Registry
from benchmark.records.files import write_whole
from benchmark.training.duel import Duel, images_of, prepare, stand_in
from benchmark.training.registry import registry
from benchmark.training.stopwatch import PARTS, Stopwatch

DATA = {"name": "cifar100", "ratio": 100}
RECIPE = "long_tail_200"
UNMIXED = "cross_entropy_200"  # the same but for the mixing, for heads that cannot have it
NETWORKS: tuple[object, ...] = (
    {"resnet32": {"channels": 16}},
    {"resnet32": {"channels": 32}},
    "resnet34_cifar",
    "small_cnn",
)
HEADS = ("psc", "etf", "dl2pa", "prototypes")
SIMPLEX = {"etf": {"dim": 128}}  # a simplex of 100 classes does not fit into 64 features
ENOUGH = 0.8  # of its time the reference is to spend in the network, or it is a slow one
QUIET = 0.9  # of a core for each thread: below that the clock says little; ours
WORK = 2e11  # operations, at least, that a round is made of: two seconds of the reference; ours
MOST = 50  # steps of a round; ours, 50 of the smallest network take as long


@dataclass(frozen=True, slots=True)
class Options:
    """The flags, as typed.

    overhead  only ours, and every head that trains on one view
    steps     of a round; 0: as many as make WORK
    device, execution   as `run` has them
    root      of the data
    named     the root was named: without images it is an error, not a case for random ones
    """

    backbones: Sequence[str]
    heads: Sequence[str]
    changes: Sequence[str]
    threads: int
    rounds: int
    steps: int
    device: str
    execution: str
    root: Path
    named: bool
    csv: Path | None
    overhead: bool


@dataclass(slots=True)
class Row:
    """One backbone with one head: a stopwatch for each round of either loop."""

    cell: Cell
    steps: int
    execution: str
    reference: list[Stopwatch] = field(default_factory=list)
    ours: list[Stopwatch] = field(default_factory=list)

    @property
    def head(self) -> str:
        """For people, without recipes: 'psc > prototypes'."""
        return " > ".join(stage.label for stage in self.cell.stages)

    @property
    def name(self) -> str:
        """Backbone and head."""
        return f"{self.cell.network} · {self.head}"

    @property
    def ratios(self) -> list[float]:
        """Ours over the reference, of each round."""
        return [b.rate / a.rate for a, b in zip(self.reference, self.ours, strict=False)]

    @property
    def efforts(self) -> list[float]:
        """The same by the time that this process had, whatever else the machine did."""
        return [b.effort / a.effort for a, b in zip(self.reference, self.ours, strict=False)]

    @property
    def network(self) -> float:
        """Share of the reference's time that goes into backbone and head."""
        return share(self.reference, "backbone") + share(self.reference, "head")


def speed(options: Options, console: Console) -> int:
    """Compare, print, and write a table if asked to; gives the exit code, always 0.

    Raises ValueError, MissingData: one sentence, before anything is measured.
    """
    if options.csv is not None:
        _writable(options.csv)
    device, execution = outlook.device(options.device), outlook.execution(options.execution)
    table = registry()
    cells = _cells(options, table)
    material = images_of(cells[0], options.root)
    if material is None and options.named:
        raise FileNotFoundError(
            f"no images of {cells[0].material} under {options.root}. Name another folder, or leave "
            "--data-root out: random images will do."
        )
    if material is None:
        console.print("random images, as many and as large, stand for those of the data set")
        material = stand_in(cells[0])
    prepare(options.threads)
    rows = []
    alone = options.overhead
    began = time.monotonic()
    for number, cell in enumerate(cells, 1):
        duel = Duel(cell, table, material, device=device, execution=execution, alone=alone)
        steps = options.steps or min(MOST, max(1, round(WORK / duel.operations)))
        for warning in duel.warnings:
            console.print(warning, markup=False)
        row = Row(cell, steps, duel.execution)
        rows.append(row)
        _measure(duel, row, options.rounds)
        gone = time.monotonic() - began
        left = gone / number * (len(cells) - number)
        tail = f" · about {duration(left)} left" if number < len(cells) else ""
        console.print(
            f"{number}/{len(cells)} {row.name} · {_line(row)}{tail}", markup=False, highlight=False
        )
    for made in tables(rows, options):
        console.print(made)
    if options.csv is not None:
        write_whole(options.csv, _csv(rows).encode())
        console.print(f"saved to {options.csv}", markup=False)
    return 0


def _measure(duel: Duel, row: Row, rounds: int) -> None:
    """One step of either to warm up, then both in turn; who begins changes each round."""
    sides: list[tuple[Callable[[int], Stopwatch], list[Stopwatch]]] = [(duel.ours, row.ours)]
    if not duel.alone:
        sides.insert(0, (duel.reference, row.reference))
    for run, _ in sides:
        run(1)
    for number in range(rounds):
        for run, kept in sides if number % 2 == 0 else reversed(sides):
            kept.append(run(row.steps))


def share(rounds: Sequence[Stopwatch], part: str) -> float:
    """Of the time of all rounds; nan where there is none."""
    total = sum(each.total for each in rounds)
    return sum(each.seconds[part] for each in rounds) / total if total else math.nan


def _line(row: Row) -> str:
    """What one row shows as soon as it is measured."""
    ours = f"{median(each.rate for each in row.ours):,.0f} images/s ({row.execution})"
    if not row.reference:
        return f"{ours}, head {share(row.ours, 'head'):.1%}"
    rate = median(each.rate for each in row.reference)
    return f"reference {rate:,.0f}, ours {ours}, ratio {_ratio(row)}"


def _ratio(row: Row) -> str:
    return _spread(row.ratios) + ("" if row.network >= ENOUGH else " *")


def _spread(ratios: Sequence[float]) -> str:
    """Median and range: '4.20 (4.10 to 4.50)'."""
    around = f" ({min(ratios):.2f} to {max(ratios):.2f})" if len(ratios) > 1 else ""
    return f"{median(ratios):.2f}{around}"


def tables(rows: Sequence[Row], options: Options) -> Iterator[Table | str]:
    """What is printed at the end: rates and ratios, and where the time goes."""
    threads = f"{options.threads} thread{'s' if options.threads > 1 else ''}"
    how = f"{threads}, median and range of n = {options.rounds} rounds"
    if not options.overhead:
        rates = Table("network", "head", "batch × steps", title=f"images per second, {how}")
        for name in ("reference", "ours", "execution", "ratio", "by work", "in the network"):
            rates.add_column(name, justify="right")
        for row in rows:
            rates.add_row(
                *(row.cell.network, row.head, f"{_batch(row.cell)} × {row.steps}"),
                f"{median(each.rate for each in row.reference):,.0f}",
                f"{median(each.rate for each in row.ours):,.0f}",
                *(row.execution, _ratio(row), _spread(row.efforts), f"{row.network:.0%}"),
            )
        yield rates
    parts = Table("network", "head", "loop", title=f"where the time goes, {threads}")
    for part in PARTS:
        parts.add_column(part, justify="right")
    for row in rows:
        for loop, rounds in (("reference", row.reference), ("ours", row.ours)):
            if rounds:
                shares = [f"{share(rounds, part):.1%}" for part in PARTS]
                parts.add_row(row.cell.network, row.head, loop, *shares)
    yield parts
    rounds = [each for row in rows for each in (*row.reference, *row.ours)]
    held = sum(each.busy for each in rounds) / sum(each.total for each in rounds)
    if held < QUIET * options.threads:
        yield (
            f"the machine does other work: this process had {held:.2f} of {threads}. "
            "Read the ratio by work, which is of the time that it had."
        )
    if any(row.reference and row.network < ENOUGH for row in rows):
        yield (
            f"* the reference spends less than {ENOUGH:.0%} of its time in the network: this ratio "
            "is bought with the rest of it"
        )


def _csv(rows: Sequence[Row]) -> str:
    """One line for each loop and round."""
    text = io.StringIO()
    out = csv.writer(text, lineterminator="\n")
    out.writerow(
        ["backbone", "head", "loop", "execution", "round", "batch", "steps", "images_per_second"]
        + ["work_seconds"]
        + [f"{part}_seconds" for part in PARTS]
    )
    for row in rows:
        loops = (("reference", "eager", row.reference), ("ours", row.execution, row.ours))
        for loop, execution, rounds in loops:
            for number, each in enumerate(rounds, 1):
                out.writerow(
                    [row.cell.network, row.head, loop, execution, number]
                    + [_batch(row.cell), row.steps, f"{each.rate:.2f}", f"{each.busy:.6f}"]
                    + [f"{each.seconds[part]:.6f}" for part in PARTS]
                )
    return text.getvalue()


def _batch(cell: Cell) -> int:
    return int(dict(cell.stages[-1].recipe)["batch"])


def _cells(options: Options, table: Registry) -> list[Cell]:
    """What is compared, as cells of a suite of one block: so `--set` means what it always does."""
    heads = [*options.heads] or list(HEADS)
    if options.overhead and not options.heads:
        heads = [name for name in table.heads if _single(name, table)]
    block = {
        "data": DATA,
        "backbone": [each for name in options.backbones for each in _chosen(name)]
        or ([{"resnet32": {"channels": 32}}] if options.overhead else list(NETWORKS)),
        "recipe": RECIPE,
        "head": [_pipe(name, table) for name in heads],
        "seeds": [0],
    }
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "speed.yaml"
        file.write_text(json.dumps([block]), encoding="utf-8")
        asked = suite.read(str(file), options.changes)
    found = []
    for written in asked.cells:
        cell = plan.complete(
            written,
            table,
            lambda name: agenda.data_set(name).largest,
            lambda name: BACKBONES[name].options if name in BACKBONES else {},
            lambda name: True,  # random ones will do
            lambda name: name not in BACKBONES or BACKBONES[name].experts,
        )
        first, *_, end = [*cell.stages, cell.stages[-1]]
        if end.frozen:  # the same batches for it
            end = replace(end, recipe=first.recipe, protocol=first.protocol)
            cell = replace(cell, stages=(*cell.stages[:-1], end))
        last = table.needs(end)
        if last.views > 1 or last.experts > 1 or not last.trains:
            raise ValueError(
                f"{cell.method} has {last.views} views, {last.experts} experts, and "
                f"{'trains' if last.trains else 'nothing to train'}: speed compares heads that "
                "train on one view. Leave it out."
            )
        found.append(cell)
    if len({cell.data for cell in found}) > 1:
        raise ValueError("speed compares on one data set at a time. Give `data` one record.")
    return found


def _single(name: str, table: Registry) -> bool:
    """Whether a head trains on one view of each image, by one network."""
    needs = table.heads[name].needs()
    return needs.trains and needs.views == 1 and needs.experts == 1


def _pipe(name: str, table: Registry) -> object:
    """The head, on a frozen psc where it needs one; all with the same batches, if they can."""
    if name not in table.heads:
        return name
    needs = table.heads[name].needs()
    if needs.frozen:
        return f"psc > {name}@{RECIPE}"
    return SIMPLEX if name in SIMPLEX else name if needs.mixup else f"{name}@{UNMIXED}"


def _chosen(text: str) -> list[object]:
    """A backbone as typed: those of ours that have its name, else what it says in a suite."""
    try:
        given = document.load(text)
    except Exception as error:  # as for a suite
        raise ValueError(
            f"--backbone {text[:60]!r} is not YAML that can be used ({document.problem(error)}). "
            "Give a name, or '{resnet32: {channels: 32}}'."
        ) from None
    known = [
        each for each in NETWORKS if given in (each, *(each if isinstance(each, dict) else ()))
    ]
    return known or [given]


def _writable(path: Path) -> None:
    """Refuse, before anything is measured, a file that cannot be written."""
    reason = ""
    if path.is_dir():
        reason = "it is a folder"
    elif not path.parent.is_dir():
        reason = f"there is no folder {path.parent}"
    elif not os.access(path.parent, os.W_OK):
        reason = f"no permission in {path.parent}"
    if reason:
        raise ValueError(
            f"cannot write to {path}: {reason}. Give a file in a folder that can be written to."
        )
