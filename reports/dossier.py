"""What the page tells of each cell when it is opened: plain values for two blocks of JSON.

What was measured is one block, and the same records give the same bytes there. What belongs to a
machine and a day (seconds, memory, dates, versions, run ids) is the other one.
"""

import io
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from operator import itemgetter
from typing import Any

import numpy as np
import pandas as pd
from pandas import DataFrame

from reports import ink
from reports.evidence import Evidence
from reports.exhibits import Exhibit
from reports.frames import COLUMNS, COST

POINTS = 100
"""Of a curve, at most: a chart is about 300 pixels wide. Ours."""

CURVES = (
    *("train/loss", "train/validation", "train/oracle", "head/moved", "head/agreement"),
    *("train/nc1", "train/nc2", "train/nc3", "train/nc4"),
)
"""What is asked of evidence that cannot say which histories a cell has."""

MACHINE = (
    ("minutes", "seconds", lambda seconds: f"{seconds / 60:.1f}"),
    ("images/s", "images_per_second", "{:,.0f}".format),
    ("predicted minutes", "predicted_seconds", lambda seconds: f"{seconds / 60:.1f}"),
    ("peak memory, MB", "peak_memory_mb", "{:,.0f}".format),
    ("one assignment, s", "assignment_seconds", "{:.3g}".format),
    ("finished", "finished", str),
)
"""Heading, column of the frame, and how it is shown."""

Pairs = Sequence[tuple[float, float]]


class Shelf:
    """Values that many cells share, each kept once and named by its place."""

    def __init__(self) -> None:
        self.values: list[Any] = []
        self._places: dict[str, int] = {}

    def put(self, value: Any) -> int:
        """The place of a plain value; equal values have one place."""
        text = json.dumps(value)
        if text not in self._places:
            self._places[text] = len(self.values)
            self.values.append(value)
        return self._places[text]


@dataclass(frozen=True, slots=True)
class Known:
    """What is told of every cell, in the order of the frame; plain values.

    measured  `cells`, one mapping each, and `shared`, the values that these name by their place
    cost      what the machine adds: `headings` and `rows` for the table of cells, and `facts`, one
              mapping each, with device, threads, commit, versions and run id as far as known
    """

    measured: dict[str, Any]
    cost: dict[str, Any]


def known(runs: DataFrame, evidence: Evidence | None) -> Known:
    """Settings, curves, classes, digests and costs of every cell of a tidy frame."""
    return Known(_measured(runs, evidence), _costs(runs, evidence))


def rows(
    exhibits: Iterable[Exhibit], runs: DataFrame
) -> dict[str, list[tuple[str, list[int | str]]]]:
    """Exhibit -> (id, cells) of each row whose numbers lead back to cells.

    Cells are told by their place in the frame, by key if they are not there.
    """
    places = {key: place for place, key in enumerate(runs["key"])}
    found = {exhibit.name: _rows(exhibit.csv, places) for exhibit in exhibits}
    return {name: each for name, each in found.items() if each}


def _measured(runs: DataFrame, evidence: Evidence | None) -> dict[str, Any]:
    shelf = Shelf()
    names = ["key", "label", "state", "data", "backbone", "head", "recipe", "suites"]
    parts = [runs[name] for name in names] + [runs["ratio"].map(ink.ratio)]
    cells = [
        {
            **dict(zip([*names, "ratio"], values, strict=True)),
            "epochs": int(epochs),
            **_of_cell(values[0], evidence, shelf),
        }
        for *values, epochs in zip(*parts, runs["epochs"], strict=True)
    ]
    return {"cells": cells, "shared": shelf.values}


def _costs(runs: DataFrame, evidence: Evidence | None) -> dict[str, Any]:
    shown = [each for each in MACHINE if runs[each[1]].map(_known).any()]
    columns = [[show(v) if _known(v) else ink.NOTHING for v in runs[n]] for _, n, show in shown]
    return {
        "headings": [heading for heading, _, _ in shown],
        "rows": [list(row) for row in zip(*columns, strict=True)] or [[] for _ in runs["key"]],
        "facts": [_machine(_ask(evidence, "facts", key)) for key in runs["key"]],
    }


def thinned(pairs: Pairs, points: int = POINTS) -> tuple[list[float], list[float]]:
    """Places and values of a curve, in the order of places, at most `points` of them.

    Both ends stay, and of each of (points - 2) / 2 equal stretches between them the least and the
    largest value, so that a peak is never lost. What is not finite is left out.
    """
    finite = math.isfinite
    curve = sorted((p for p in pairs if finite(p[0]) and finite(p[1])), key=itemgetter(0))
    if len(curve) > points:
        stretches = (points - 2) // 2
        cuts = [1 + nth * (len(curve) - 2) // stretches for nth in range(stretches + 1)]
        kept = {0, len(curve) - 1}
        value = [y for _, y in curve].__getitem__
        for begin, end in pairwise(cuts):
            kept.add(min(range(begin, end), key=value))
            kept.add(max(range(begin, end), key=value))
        curve = [curve[i] for i in sorted(kept)]
    return [rounded(x) for x, _ in curve], [rounded(y) for _, y in curve]


def rounded(value: float) -> float:
    """To four significant digits; whole numbers stay whole."""
    short = float(f"{value:.4g}")
    return int(short) if abs(short) < 1e15 and short.is_integer() else short


def _of_cell(key: str, evidence: Evidence | None, shelf: Shelf) -> dict[str, Any]:
    facts = _ask(evidence, "facts", key)
    result = facts.get("result") or {}
    per_class = () if evidence is None else evidence.arrays(key).get("per_class", ())
    names = ("names", "counts", "groups", "superclasses")
    told: dict[str, Any] = {
        "settings": {name: shelf.put(part) for name, part in _parts(facts.get("cell") or {})},
        "curves": {
            name: [shelf.put(places), values]
            for name, pairs in sorted(_histories(key, evidence).items())
            for places, values in [thinned(pairs)]
            if places
        },
        "metrics": {
            name: rounded(value)
            for name, value in sorted(plain(result.get("metrics") or {}).items())
            if name not in COLUMNS and value is not None
        },
        "classes": shelf.put({name: plain(result.get(name) or []) for name in names}),
        "accuracies": [rounded(v) if math.isfinite(v) else None for v in map(float, per_class)],
        "digests": shelf.put(plain(result.get("digests") or {})),
    }
    return told


def _parts(cell: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """A cell's settings by heading: single values together, then each mapping, then each stage."""
    single = {}
    parts = []
    for name, value in plain(cell).items():
        if isinstance(value, dict):
            parts.append((name, value))
        elif isinstance(value, list) and value and all(isinstance(each, dict) for each in value):
            one = name.removesuffix("s")
            parts += [
                (f"{one} {nth}" if len(value) > 1 else one, each)
                for nth, each in enumerate(value, 1)
            ]
        elif name not in ("key", "label"):
            single[name] = value
    return [("cell", single), *parts] if single else parts


def _histories(key: str, evidence: Evidence | None) -> dict[str, Pairs]:
    """Curves and readings by name; final numbers, which are kept in the frame, and costs are not.

    Evidence that has `histories(key)`, all series of a cell at once, is asked once a cell.
    """
    if evidence is None:
        return {}
    ask = getattr(evidence, "histories", None)
    if callable(ask):
        found = dict(ask(key))
    else:
        frames = {name: evidence.series(key, name) for name in CURVES}
        found = {
            name: list(zip(frame["epoch"].fillna(frame["step"]), frame["value"], strict=True))
            for name, frame in frames.items()
        }
    return {
        name: pairs
        for name, pairs in found.items()
        if "/" in name and name.rpartition("/")[2] not in COST
    }


def _ask(evidence: Evidence | None, name: str, key: str) -> Mapping[str, Any]:
    """What evidence says of a cell, nothing where it is of a kind that cannot say it."""
    ask: Callable[[str], Mapping[str, Any]] | None = getattr(evidence, name, None)
    return ask(key) if callable(ask) else {}


def _machine(facts: Mapping[str, Any]) -> dict[str, Any]:
    result = facts.get("result") or {}
    told = {
        "cost": {
            name: rounded(value) if isinstance(value, float) else value
            for name, value in plain(result.get("cost") or {}).items()
        },
        "commit": result.get("commit"),
        "versions": plain(result.get("versions") or {}),
        "run": facts.get("run"),
    }
    return {name: value for name, value in told.items() if value}


def _rows(text: str, places: Mapping[str, int]) -> list[tuple[str, list[int | str]]]:
    """The rows of an exhibit's CSV that name their cells; none in one without `id` and `keys`."""
    if not {"id", "keys"} <= set(text.partition("\n")[0].split(",")):
        return []
    rows = pd.read_csv(io.StringIO(text), usecols=["id", "keys"], dtype=str, keep_default_na=False)
    return [
        (name, [places.get(key, key) for key in keys.split()])
        for name, keys in zip(rows["id"], rows["keys"], strict=True)
        if keys
    ]


def plain(value: Any) -> Any:
    """Values of numpy and the like as JSON knows them; what is not a finite number is nothing."""
    if isinstance(value, Mapping):
        return {str(name): plain(each) for name, each in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        if {type(each) for each in value} <= {int, str}:  # thousands of counts and names
            return list(value)
        return [plain(each) for each in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)


def _known(value: object) -> bool:
    return not (pd.isna(value) or value == "")
