"""The files that a run keeps beside its numbers: made from a record, and read back.

    cell.json, result.json  what was done, and what came of it
    curves.csv              one row an epoch
    readings.csv            one row for each time that the head told its own measures
    per_class.csv           one row a class: its training images, its accuracy
    arrays.safetensors      the record's own

CSV because `mlflow ui` shows it as a table; numbers are written with all their digits. Reading a
cell's histories back takes a millisecond or two; asking MLflow for each takes a hundred times that.
"""

import csv
import io
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import compress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors.numpy import load_file

from benchmark.planning.cell import Cell
from benchmark.records.record import Record

ARRAYS = "arrays.safetensors"
_APART = ("epoch", "step", "time")  # say where a row stands, and are no measures


class Point(NamedTuple):
    """One value of a history.

    step   of training for readings, the epoch for curves: as MLflow counts them
    epoch  counted from 1, 0 before training; NaN where nobody knows how long an epoch was
    """

    step: float
    epoch: float
    value: float


Histories = dict[str, list[Point]]


def curve(name: str) -> str:
    """What MLflow calls a column of the curves: 'train/loss'."""
    return _named(f"train/{name}")


def reading(name: str) -> str:
    """What MLflow calls a reading of a head: 'head/moved'."""
    return _named(f"head/{name}")


def _named(text: str) -> str:
    """A name of a metric as MLflow takes it: a head's readings are named freely."""
    return re.sub(r"[^\w\-. :/]", "_", text, flags=re.ASCII)


def measures(row: Mapping[str, Any]) -> Iterable[tuple[str, float]]:
    """What was measured in a row of curves or readings: rows need not have the same names."""
    return ((name, float(value)) for name, value in row.items() if name not in _APART)


def epochs_of(step: float, steps: float, epochs: int) -> float:
    """After how many epochs of the last stage a step stands; NaN where it trained none.

    steps, epochs  of the whole stage
    """
    return step / (steps / max(epochs, 1)) if steps > 0 else math.nan


def files(record: Record, cell: Cell, result: Mapping[str, Any]) -> dict[str, bytes]:
    """Name -> content of all that a finished cell's run is to keep.

    Raises Torn where the record is damaged.
    """
    epochs, steps = dict(cell.stages[-1].recipe).get("epochs", 0), result["size"]["steps"]
    told = [
        {"step": row["step"], "epoch": epochs_of(row["step"], steps, epochs), **row}
        for row in result["readings"]
    ]
    right = record.arrays().get("per_class")  # verified: what is damaged is not handed on
    found = {
        "cell.json": _json(cell.to_json()),
        "result.json": _json({k: v for k, v in result.items() if k != "readings"}),
        "curves.csv": _csv(record.curves()),
        "readings.csv": _csv(told),
        ARRAYS: (record.folder / ARRAYS).read_bytes(),
    }
    return found if right is None else {**found, "per_class.csv": _csv(_classes(result, right))}


def _classes(result: Mapping[str, Any], right: np.ndarray[Any, Any]) -> list[dict[str, Any]]:
    """One row a class, in label order: as much as the result says of it."""
    known = {
        "name": result.get("names"),
        "superclass": result.get("superclasses"),
        "group": result.get("groups"),
        "images": result.get("counts"),
    }
    told = {name: values for name, values in known.items() if values}
    return [
        {"label": i, **{n: v[i] for n, v in told.items()}, "accuracy": float(share)}
        for i, share in enumerate(right)
    ]


def _json(value: Any) -> bytes:
    return json.dumps(value, indent=1, ensure_ascii=False).encode()


def _csv(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """A table with every name that any row has, in order of appearance; a gap is empty."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    if rows:
        writer.writeheader()
        writer.writerows(rows)
    return text.getvalue().encode()


def facts(folder: Path) -> dict[str, Any]:
    """What was done and what came of it: 'cell' and 'result', each empty where it is not there."""
    found: dict[str, Any] = {}
    for name in ("cell", "result"):
        path = folder / f"{name}.json"
        found[name] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return found


def arrays(folder: Path) -> dict[str, np.ndarray[Any, Any]]:
    """Arrays by name; empty where none were kept."""
    path = folder / ARRAYS
    return dict(load_file(path)) if path.is_file() else {}


def histories(folder: Path) -> Histories | None:
    """Every curve and reading by its name in MLflow, in the order of steps.

    None where a run has no such files: those of older versions have not.
    """
    if not (folder / "curves.csv").is_file():
        return None
    found: Histories = {}
    for name, place, named in (("curves.csv", "epoch", curve), ("readings.csv", "step", reading)):
        with open(folder / name, encoding="utf-8", newline="") as file:
            rows = csv.reader(file)
            header = next(rows, [])
            columns = list(zip(*rows, strict=True)) or [()] * len(header)
        table = dict(zip(header, columns, strict=True))
        if not table:
            continue
        steps, epochs = ([float(each) for each in table[name]] for name in (place, "epoch"))
        for column, texts in table.items():
            if column not in _APART:
                told = [bool(text) for text in texts]  # a gap is empty
                values = map(float, compress(texts, told))
                places = compress(steps, told), compress(epochs, told)
                kept = found.setdefault(named(column), [])
                kept += map(Point._make, zip(*places, values, strict=True))
    return {name: sorted(points) for name, points in found.items()}
