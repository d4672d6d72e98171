"""What a command is to work on: a suite read, completed, checked, and held against the records."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch

from benchmark import backbones
from benchmark.backbones import BACKBONES
from benchmark.commands import outlook
from benchmark.commands.outlook import Finished
from benchmark.planning import forecast, plan, suite
from benchmark.planning.cell import Cell, Pairs
from benchmark.planning.forecast import Job, Past
from benchmark.planning.plan import Item, Registry
from benchmark.planning.suite import Suite, suggest
from benchmark.records.record import Record, Torn, digest, records
from benchmark.training.points import stand_in
from benchmark.training.registry import registry
from benchmark.training.runner import privileged
from benchmark.training.runner import words as words_of
from datasets import DATASETS
from datasets.base import Dataset, MissingData
from datasets.imbalance import class_counts, remaining_largest
from datasets.samplers import epoch_length
from heads.base import Needs, Problem

Progress = Callable[[str], Callable[[int, int], None]]


@dataclass(frozen=True, slots=True)
class Agenda:
    """A suite's cells in order, trunks first, each with its state; and the table of heads.

    past  what the finished cells of this folder took
    """

    suite: Suite
    items: tuple[Item, ...]
    registry: Registry
    past: tuple[Past, ...] = ()


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
    words: Mapping[str, Path] | None = None,
) -> Agenda:
    """Everything that can be known before anything is trained: of a suite by name or path."""
    return of(
        suite.read(name, changes),
        files,
        runs,
        data_root,
        skip_missing=skip_missing,
        load=load,
        refresh=refresh,
        download=download,
        progress=progress,
        words=words,
    )


def of(
    asked: Suite,
    files: Sequence[Path],
    runs: Path,
    data_root: Path,
    *,
    skip_missing: bool,
    load: bool,
    refresh: bool = False,
    download: bool = False,
    progress: Progress | None = None,
    words: Mapping[str, Path] | None = None,
) -> Agenda:
    """Everything that can be known before anything is trained.

    load          also read the images, so that whatever is wrong with them shows now
    skip_missing  cells without data are declined with the reason, not refused; those without word
                  vectors are declined in any case, unless there are no others
    refresh       what has changed will be trained again, and what stands on it too
    words         files of word vectors by name of the data set; '' for all others

    Raises ValueError, MissingData: one sentence.
    """
    table = registry(files)
    given = words or {}
    ready: list[Cell] = []
    declined: list[Item] = []
    fitting: set[Cell] = set()
    digests: dict[Pairs, str] = {}
    vectors: dict[str, str] = {}
    for written in asked.cells:
        try:
            cell = _complete(written, table, data_root, download, given)
            if (unseeded := replace(cell, seed=0)) not in fitting:
                found = _fits(unseeded, table, data_root, given)
                if found is not None:
                    vectors[str(dict(cell.data)["name"])] = found
                fitting.add(unseeded)
            if load and cell.data not in digests:
                hear = progress(cell.material) if progress else None
                digests[cell.data] = _load(cell, data_root, download, hear)
        except MissingData as error:
            if not skip_missing:
                raise
            declined.append(Item(written, "declined", str(error)))
        except plan.Unmet as error:  # what few have: the rest of the suite needs none of it
            declined.append(Item(written, "declined", str(error)))
        else:
            ready.append(cell)
    if declined and not ready and not skip_missing:
        raise ValueError(declined[0].reason)
    here = _Here(table, runs, data_root, digests, vectors)
    found = [each for each in map(_result, records(runs)) if each is not None]
    past = tuple(outlook.past(found, table))
    items = _stand(ready, here, refresh, found)
    return Agenda(asked, (*outlook.predicted(items, past), *declined), table, past)


@dataclass(frozen=True, slots=True)
class _Here:
    """What lies here: heads, records, data, and digests of what was looked at.

    images by data record, words by name of the data set
    """

    table: Registry
    runs: Path
    root: Path
    images: Mapping[Pairs, str]
    words: Mapping[str, str]

    def state(self, cell: Cell) -> tuple[str, str]:
        """Where a cell stands, with the reason."""
        words = self.words.get(str(dict(cell.data)["name"]))
        images = self.images.get(cell.data)
        return plan.state(cell, Record(self.runs / cell.key), self.table, images, words)


def vector_files(given: Sequence[str]) -> dict[str, Path]:
    """Files of word vectors as typed, FILE or DATA=FILE, by name of the data set; '' for all.

    Raises ValueError: no such file, unknown data set, or two files for one.
    """
    files: dict[str, Path] = {}
    for text in given:
        name, equals, file = text.partition("=")
        name, file = (name, file) if equals and not Path(text).exists() else ("", text)
        if name:
            data_set(name)
        if not Path(file).is_file():
            raise ValueError(
                f"--words {text!r}: there is no file {file!r}. Give FILE, or DATA=FILE for one "
                "data set."
            )
        if name in files:
            what = f"data set {name!r}" if name else "all data sets"
            raise ValueError(f"--words names two files for {what}. Give one.")
        files[name] = Path(file).resolve()
    return files


def _complete(
    written: Cell, table: Registry, root: Path, download: bool, words: Mapping[str, Path]
) -> Cell:
    """The cell in its canonical form; MissingData where its images are not here."""
    cell = plan.complete(
        written,
        table,
        lambda name: data_set(name).largest,
        _backbone_options,
        lambda name: name in words or "" in words,
        lambda name: name not in BACKBONES or BACKBONES[name].experts,
    )
    if not download:
        options = dict(cell.data)
        data_set(options["name"]).find(root, options["folder"], options.get("classes"))
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


def _fits(cell: Cell, table: Registry, root: Path, given: Mapping[str, Path]) -> str | None:
    """Build the heads once, on a stand-in problem of the right size; ValueError: they do not.

    Gives the digest of the word vectors, None where no head needs them.
    """
    options = dict(cell.data)
    names = tuple(_names(cell, root))
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
    file = privileged(cell, table, given)
    vectors = words_of(file, names) if file else None

    def problem(of: Cell, stage: int, before: int) -> Problem:
        needs = table.needs(of.stages[stage])
        own = before or width
        return Problem(
            width=own,
            counts=torch.tensor(counts),
            names=names,
            seed=0,
            points=stand_in(len(counts)),
            words=vectors if needs.words else None,
            source=_stand_in_source(needs, len(counts), own),
        )

    try:
        plan.fits(cell, problem, table)
    except ValueError as error:
        raise ValueError(f"{cell.material} · {cell.network}: {error}") from None
    return None if vectors is None else digest(vectors.numpy().tobytes())


def _stand_in_source(needs: Needs, classes: int, width: int) -> torch.Tensor | None:
    """Class vectors of the right shape in place of those that a cell will start from."""
    if needs.source is None:
        return None
    return stand_in(classes)(int(needs.source[1].get("dim") or width))


def _names(cell: Cell, root: Path) -> Sequence[str]:
    options = dict(cell.data)
    return data_set(options["name"]).names(root, options["folder"], options.get("classes"))


def _stand(
    cells: Sequence[Cell], here: _Here, refresh: bool, finished: Sequence[Finished]
) -> list[Item]:
    barred = {"diverged", "declined"} | (set() if refresh else {"changed"})
    known = {cell.data: dict(result["size"]) for cell, result in finished}
    items: list[Item] = []
    states: dict[str, str] = {}
    for cell, wanted in plan.with_foundations(cells):
        state, reason = here.state(cell)
        done = (*plan.DONE, "changed")  # stand on what was there
        for under in cell.foundations:
            if states[under.key] in barred and state not in done:
                what = "trunk" if under == cell.trunk else "source"
                state, reason = "declined", f"its {what} {under.label} is {states[under.key]}"
        states[cell.key] = state
        images, job = _job(cell, here, known.get(cell.data))
        items.append(Item(cell, state, reason, None, wanted, images, job))
    return items


def _job(cell: Cell, here: _Here, known: Mapping[str, Any] | None) -> tuple[int, Job | None]:
    """Images that a cell sees in training, over all epochs, and what else there is to do.

    known  sizes of a finished cell on the same images

    0 and None where it is not known yet how many images there are.
    """
    options, needs = dict(cell.data), here.table.needs(cell.stages[-1])
    own = data_set(options["name"]).largest
    if own:
        names = _names(cell, here.root)
        largest = remaining_largest(options["largest"], options["validation"])
        counts = class_counts(len(names), largest, options["ratio"], options["profile"])
        classes, train = len(names), sum(counts)
    elif known:
        classes, train, counts = known["classes"], known["train_images"], ()
    else:
        return 0, None
    recipe, images = dict(cell.stages[-1].recipe), 0
    if recipe:
        drawn = recipe.get("epoch_images", "natural")
        images = (epoch_length(counts, drawn) if counts else train) * int(recipe["epochs"])
    largest = own or -(-train // classes)
    job = forecast.job(*(cell, needs), images=images, train=train, largest=largest, classes=classes)
    return images, job


def _result(record: Record) -> Finished | None:
    try:
        result = record.result()
        return None if result is None else (record.cell(), result)
    except Torn:
        return None
