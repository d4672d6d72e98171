"""replay: train a finished cell again beside its record, and compare everything measured."""

import math
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from benchmark.commands.desk import Desk, Options
from benchmark.commands.display import Display
from benchmark.engines.local import Event
from benchmark.planning.cell import Cell
from benchmark.planning.plan import DONE, Item
from benchmark.records.record import Record, records

CIRCUMSTANCES = {
    "commit": ("commit",),
    "versions": ("versions",),
    "device": ("cost", "device"),
    "threads": ("cost", "threads"),
    "processes": ("cost", "processes"),
    "digests of data, heads and words": ("digests",),
}
"""What may explain a difference -> where a result has it."""


def replay(key: str, options: Options, console: Console, *, foundations: bool) -> int:
    """Train a cell again in `replays/` beside the records, compare, and clear that away.

    key          of a finished cell, or as much of it as tells it from the others
    options      threads 0: as many as the record names, for they change the last bits
    foundations  train what it stands on again too; otherwise that is taken from the records

    Gives 0 where all is the same to the last bit, 1 where something differs or it did not finish,
    128 + signal where interrupted: the same command then goes on. The record itself is not touched.
    Raises ValueError for an unknown key, Torn for a damaged record.
    """
    known = finished(key, options.runs)
    cell = known.cell()
    threads = options.threads or int(_at(known.result() or {}, ("cost", "threads")) or 1)
    desk = Desk(replace(options, threads=threads), console)
    place = options.runs.resolve().parent / "replays"
    desk.runs = place
    below = [*_below(cell)]
    if not foundations:
        _copy(below, options.runs, place)
    cells = [each for each in [*below, cell] if Record(place / each.key).result() is None]
    console.print(f"replay {cell.label} ({cell.key})", markup=False)
    ended, interrupted = _train(desk, cells, console)
    if interrupted:
        console.print("interrupted; the same command goes on where this one stopped")
        return 128 + interrupted
    again = Record(place / cell.key)
    if again.result() is None:
        console.print(f"not finished: {ended.get(cell.key, 'a cell below it failed')}; {place}")
        return 1
    same = compare(known, again, console)
    shutil.rmtree(place)
    return 0 if same else 1


def finished(key: str, runs: Path) -> Record:
    """The one finished record whose key begins so; ValueError if there is none, or several."""
    found = [each for each in records(runs) if key and each.key.startswith(key)]
    found = [each for each in found if each.result() is not None]
    if len(found) != 1:
        raise ValueError(
            f"{len(found)} finished cells under {runs} have a key that begins with {key!r}. "
            "`python -m benchmark plan --suite NAME` shows the keys."
        )
    return found[0]


def compare(known: Record, again: Record, console: Console) -> bool:
    """Say what differs between two records of one cell; whether nothing does."""
    old, new = known.result() or {}, again.result() or {}
    told = [*_numbers("metrics", old["metrics"], new["metrics"])]
    if old["state"] != new["state"]:
        told.insert(0, f"state: {old['state']}, now {new['state']}")
    if _rows(known.curves()) != _rows(again.curves()):
        told.append("curves differ")
    if repr(old["readings"]) != repr(new["readings"]):
        told.append("readings differ")
    told += _arrays("arrays", known.arrays(), again.arrays())
    told += _arrays("weights", known.weights(), again.weights())
    for line in told:
        console.print(line, markup=False, highlight=False)
    if not told:
        console.print("identical: metrics, curves, readings, arrays and weights, to the last bit")
        return True
    for name, path in CIRCUMSTANCES.items():
        before, now = _at(old, path), _at(new, path)
        if before != now:
            console.print(f"{name}: {before}, now {now}", markup=False, highlight=False)
    return False


def _below(cell: Cell) -> Iterator[Cell]:
    """All that a cell stands on, lowest first, each once."""
    seen: set[str] = set()
    for each in cell.foundations:
        for lower in (*_below(each), each):
            if lower.key not in seen:
                seen.add(lower.key)
                yield lower


def _copy(cells: Sequence[Cell], runs: Path, place: Path) -> None:
    for each in cells:
        record = Record(runs / each.key)
        if record.result() is None:
            raise ValueError(
                f"the record of {each.label}, on which it stands, is not here. "
                "Add --foundations to train that again too."
            )
        if Record(place / each.key).result() is None:
            shutil.copytree(record.folder, place / each.key, dirs_exist_ok=True)


def _train(desk: Desk, cells: Sequence[Cell], console: Console) -> tuple[Mapping[str, str], int]:
    """How each cell ended, by key; the number of the signal that interrupted, or 0."""
    if not cells:
        return {}, 0
    with Display(console, [Item(each, "missing") for each in cells], 1) as display:

        def tell(event: Event | None) -> None:
            if event is not None and event.kind in DONE:
                event.values["note"] = "trained again"
            display.hear(event)

        engine = desk.engine(1, tell)
        ended = engine.run(cells)
    return ended, int(engine.interrupted)


def _numbers(what: str, old: Mapping[str, float], new: Mapping[str, float]) -> Iterator[str]:
    for name in sorted({*old, *new}):
        before, now = old.get(name, math.nan), new.get(name, math.nan)
        if before != now and not (math.isnan(before) and math.isnan(now)):
            yield f"{what} {name}: {before:.6g}, now {now:.6g} ({now - before:+.2g})"


def _arrays(
    what: str, old: Mapping[str, np.ndarray], new: Mapping[str, np.ndarray]
) -> Iterator[str]:
    if old.keys() != new.keys():
        yield f"{what}: {', '.join(sorted(old.keys() ^ new.keys()))} in one only"
    names = [n for n in old if n in new and not _equal(old[n], new[n])]
    if not names:
        return
    shapes = [n for n in names if old[n].shape != new[n].shape]
    if shapes:
        yield f"{what}: {', '.join(shapes)} of another shape"
    gaps = [
        float(np.nanmax(np.abs(old[n].astype(float) - new[n].astype(float))))
        for n in names
        if n not in shapes
    ]
    if gaps:
        yield f"{what}: {len(gaps)} of {len(old)} differ, by {max(gaps):.2g} at most"


def _equal(one: np.ndarray, other: np.ndarray) -> bool:
    floats = np.issubdtype(one.dtype, np.floating)
    return one.shape == other.shape and np.array_equal(one, other, equal_nan=floats)


def _rows(curves: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Curves without the time of day."""
    return [{name: v for name, v in row.items() if name != "time"} for row in curves]


def _at(result: Mapping[str, Any], path: Sequence[str]) -> Any:
    found: Any = result
    for name in path:
        found = found.get(name) if isinstance(found, Mapping) else None
    return found
