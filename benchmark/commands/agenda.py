"""What a command is to work on: a suite read, completed, checked, and held against the records."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch

from benchmark import backbones
from benchmark.planning import plan, suite
from benchmark.planning.cell import Cell
from benchmark.planning.plan import Item, Registry
from benchmark.planning.suite import Suite, suggest
from benchmark.records.record import Record, Torn, records
from benchmark.training.points import stand_in
from benchmark.training.registry import registry
from datasets import DATASETS
from datasets.base import Dataset, MissingData
from datasets.imbalance import class_counts
from heads.base import Problem

Progress = Callable[[str], Callable[[int, int], None]]


@dataclass(frozen=True, slots=True)
class Agenda:
    """A suite's cells in order, trunks first, each with its state; and the table of heads."""

    suite: Suite
    items: tuple[Item, ...]
    registry: Registry
    images: int


def read(
    name: str,
    changes: Sequence[str],
    files: Sequence[Path],
    runs: Path,
    data_root: Path,
    *,
    skip_missing: bool,
    load: bool,
    refresh: bool = False,
    download: bool = False,
    progress: Progress | None = None,
) -> Agenda:
    """Everything that can be known before anything is trained.

    load          also read the images, so that whatever is wrong with them shows now
    skip_missing  cells without data or word vectors are declined with the reason, not refused
    refresh       what has changed will be trained again, and what stands on it too

    Raises ValueError, MissingData: one sentence.
    """
    asked = suite.read(name, changes)
    table = registry(files)
    ready: list[Cell] = []
    declined: list[Item] = []
    digests: dict[str, str] = {}
    for written in asked.cells:
        try:
            cell, digest = _ready(written, table, data_root, load, download, progress)
        except (MissingData, plan.Unmet) as error:
            if not skip_missing:
                raise
            declined.append(Item(written, "declined", str(error)))
            continue
        digests[cell.material] = digest
        ready.append(cell)
    items = _stand(ready, table, runs, digests, refresh)
    return Agenda(asked, (*items, *declined), table, len(digests))


def _ready(
    written: Cell,
    table: Registry,
    data_root: Path,
    load: bool,
    download: bool,
    progress: Progress | None,
) -> tuple[Cell, str]:
    cell = plan.complete(written, table, lambda name: data_set(name).largest)
    options = dict(cell.data)
    data = data_set(options["name"])
    if not download:
        data.find(data_root, options["folder"])
    _fits(_unseeded(cell), table, data_root)
    if not load:
        return cell, ""
    hear = progress(cell.material) if progress else None
    return cell, _digest(cell, data_root, download, hear)


_digests: dict[tuple[object, ...], str] = {}


def _digest(
    cell: Cell, root: Path, download: bool, progress: Callable[[int, int], None] | None
) -> str:
    place = (cell.data, root)
    if place not in _digests:
        options = dict(cell.data)
        data = data_set(options["name"])
        _digests[place] = data.load(options, root, download=download, progress=progress).digest
    return _digests[place]


def data_set(name: str) -> Dataset:
    """A data set by name; ValueError with a suggestion where there is none."""
    if name not in DATASETS:
        raise ValueError(
            f"unknown data set {name!r}. {suggest(name, DATASETS)}"
            f"Data sets: {', '.join(sorted(DATASETS))}."
        )
    return DATASETS[name]


def _unseeded(cell: Cell) -> Cell:
    return Cell(cell.data, cell.backbone, cell.stages, 0)


@cache
def _width(backbone: tuple[tuple[str, object], ...]) -> int:
    options = {name: value for name, value in backbone if name != "name"}
    name = str(dict(backbone)["name"])
    return int(backbones.build(name, options, generator=torch.Generator()).width)


def _fits(cell: Cell, table: Registry, root: Path) -> None:
    key = (cell, root)
    if key in _fitting:
        return
    options = dict(cell.data)
    names = data_set(options["name"]).names(root, options["folder"])
    largest = options["largest"] or 10**9 if options["ratio"] == 1 else options["largest"]
    if largest is None:
        raise ValueError(
            f"{cell.material}: ratio {options['ratio']:g} needs to know the largest class. "
            "Give data.largest."
        )
    counts = class_counts(len(names), largest, options["ratio"], options["profile"])
    width = _width(cell.backbone)

    def problem(of: Cell, given: int) -> Problem:
        return Problem(
            width=given or width,
            counts=torch.tensor(counts),
            names=tuple(names),
            seed=0,
            points=stand_in(len(counts)),
        )

    try:
        plan.fits(cell, problem, table)
    except ValueError as error:
        raise ValueError(f"{cell.material} · {cell.network}: {error}") from None
    _fitting.add(key)


_fitting: set[tuple[Cell, Path]] = set()


def _stand(
    cells: Sequence[Cell], table: Registry, runs: Path, digests: dict[str, str], refresh: bool
) -> list[Item]:
    barred = {"diverged", "declined"} if refresh else {"diverged", "declined", "changed"}
    finished = [result for result in map(_result, records(runs)) if result]
    items: list[Item] = []
    states: dict[str, str] = {}
    for cell, wanted in plan.with_trunks(cells):
        record = Record(runs / cell.key)
        state, reason = plan.state(cell, record, table, digests.get(cell.material) or None)
        trunk = cell.trunk
        done = (*plan.DONE, "changed")  # stand on a trunk that was there
        if trunk and states[trunk.key] in barred and state not in done:
            state, reason = "declined", f"its trunk {trunk.label} is {states[trunk.key]}"
        states[cell.key] = state
        images = _images(cell)
        seconds = plan.predict(cell, finished, images) if images else None
        items.append(Item(cell, state, reason, seconds, wanted, images))
    return items


def _images(cell: Cell) -> int:
    """Images that a cell sees in training, over all epochs; 0 where that is not known yet."""
    options = dict(cell.data)
    data = data_set(options["name"])
    if not data.largest or not cell.stages[-1].recipe:
        return 0
    classes = len(data.names(Path(), options["folder"]))
    counts = class_counts(classes, options["largest"], options["ratio"], options["profile"])
    return sum(counts) * int(dict(cell.stages[-1].recipe)["epochs"])


def _result(record: Record) -> dict[str, object] | None:
    try:
        result = record.result()
        cell = record.cell()
    except Torn:
        return None
    if result is None or not result["seen"]:
        return None
    recipe = dict(cell.stages[-1].recipe)
    return {
        "network": cell.network,
        "precision": recipe.get("precision", ""),
        "pixels": dict(cell.data)["name"],
        "seconds": result["cost"]["seconds"],
        "seen": result["seen"],
    }
