"""What a command is to work on: a suite read, completed, checked, and held against the records."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import torch

from benchmark import backbones
from benchmark.backbones import BACKBONES
from benchmark.planning import plan, suite
from benchmark.planning.cell import Cell, Pairs
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
    fitting: set[Cell] = set()
    digests: dict[Pairs, str] = {}
    for written in asked.cells:
        try:
            cell = _complete(written, table, data_root, download)
            if (unseeded := replace(cell, seed=0)) not in fitting:
                _fits(unseeded, table, data_root)
                fitting.add(unseeded)
            if load and cell.data not in digests:
                hear = progress(cell.material) if progress else None
                digests[cell.data] = _load(cell, data_root, download, hear)
        except (MissingData, plan.Unmet) as error:
            if not skip_missing:
                raise
            declined.append(Item(written, "declined", str(error)))
        else:
            ready.append(cell)
    return Agenda(asked, (*_stand(ready, table, runs, digests, refresh), *declined), table)


def _complete(written: Cell, table: Registry, root: Path, download: bool) -> Cell:
    """The cell in its canonical form; MissingData where its images are not here."""
    cell = plan.complete(written, table, lambda name: data_set(name).largest, _backbone_options)
    options = dict(cell.data)
    if not download:
        data_set(options["name"]).find(root, options["folder"])
    return cell


def _load(
    cell: Cell, root: Path, download: bool, progress: Callable[[int, int], None] | None
) -> str:
    """Read the images, which shows whatever is wrong with them; gives their digest."""
    options = dict(cell.data)
    data = data_set(options["name"])
    return data.load(options, root, download=download, progress=progress).digest


def data_set(name: str) -> Dataset:
    """A data set by name; ValueError with a suggestion where there is none."""
    if name not in DATASETS:
        raise ValueError(
            f"unknown data set {name!r}. {suggest(name, DATASETS)}"
            f"Data sets: {', '.join(sorted(DATASETS))}."
        )
    return DATASETS[name]


def _backbone_options(name: str) -> Mapping[str, object]:
    return BACKBONES[name].options if name in BACKBONES else {}  # unknown: said by `build`


@cache
def _width(backbone: tuple[tuple[str, object], ...]) -> int:
    options = {name: value for name, value in backbone if name != "name"}
    name = str(dict(backbone)["name"])
    return int(backbones.build(name, options, generator=torch.Generator()).width)


def _fits(cell: Cell, table: Registry, root: Path) -> None:
    """Build the heads once, on a stand-in problem of the right size; ValueError: they do not."""
    options = dict(cell.data)
    names = data_set(options["name"]).names(root, options["folder"])
    largest = options["largest"]
    if largest is None and options["ratio"] == 1:
        largest = 1  # every image is kept as found: how many is not known yet, and not needed
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


def _stand(
    cells: Sequence[Cell], table: Registry, runs: Path, digests: dict[Pairs, str], refresh: bool
) -> list[Item]:
    barred = {"diverged", "declined", "running"} | (set() if refresh else {"changed"})
    finished = [result for result in map(_result, records(runs)) if result]
    items: list[Item] = []
    states: dict[str, str] = {}
    for cell, wanted in plan.with_trunks(cells):
        record = Record(runs / cell.key)
        state, reason = plan.state(cell, record, table, digests.get(cell.data))
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
