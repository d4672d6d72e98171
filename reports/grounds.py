"""Which finished cells a claim may be tried on, and how far they are from print.

Cells at a place of print differ from it in nothing, or in what is told in words: fewer epochs,
fewer images, another network. Cells that differ in the same words are one ground, and a claim is
judged on each ground by itself: a verdict on a fifth of the images is none on all of them.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from pandas import DataFrame

from reports import ink
from reports.claims import Place, Term, share
from reports.evidence import Evidence
from reports.frames import searches
from reports.methods import canonical, fits, recipes
from reports.quantities import MEASURED, WAYS, measured

SILENT = ("oracle", "flip", "precision")  # fields of a recipe that leave the training as it is

Cell = Mapping[str, Any]

Ground = tuple[str, ...]
"""What differs from print, one phrase each; empty: nothing."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One term on one ground.

    values  seed -> what the metric is, in the unit of print
    cells   seed -> key, also of seeds that were lost
    lost    seeds that diverged or failed
    exact   nothing was trained: points on the sphere, which lie where they lie
    variant the head, where it is not the one nearest to print; else ''
    """

    values: Mapping[str, float]
    cells: Mapping[str, str]
    lost: tuple[str, ...]
    exact: bool
    variant: str


class Kept:
    """Evidence that is asked for once: several claims read the same arrays and series."""

    def __init__(self, evidence: Evidence):
        self._evidence = evidence
        self._arrays: dict[str, Mapping[str, np.ndarray]] = {}
        self._series: dict[tuple[str, str], DataFrame] = {}

    def arrays(self, key: str) -> Mapping[str, np.ndarray]:
        """As of the evidence."""
        if key not in self._arrays:
            self._arrays[key] = self._evidence.arrays(key)
        return self._arrays[key]

    def series(self, key: str, name: str) -> DataFrame:
        """As of the evidence."""
        if (key, name) not in self._series:
            self._series[key, name] = self._evidence.series(key, name)
        return self._series[key, name]


class Cells:
    """The cells of a report by place of print; what it finds is kept."""

    def __init__(self, runs: DataFrame, evidence: Evidence | None):
        """runs: tidy frame. evidence: without it nothing that it measures is known."""
        runs = runs[~searches(runs) & runs["state"].isin(["done", "diverged", "failed"])]
        # a cell that failed early has no width, but others on its network do
        widths = runs.groupby(["data", "backbone"])["width"].transform("max")
        heads = {head: recipes(canonical(head)) for head in runs["head"].unique()}
        self._cells: list[Cell] = [
            cell | {"full": width} | dict(zip(("pipe", "later"), heads[cell["head"]], strict=True))
            for cell, width in zip(runs.to_dict("records"), widths, strict=True)
        ]
        self._evidence = None if evidence is None else Kept(evidence)
        self._places: dict[Place, list[tuple[Ground, Cell]]] = {}
        self._samples: dict[Term, dict[Ground, Sample]] = {}

    def samples(self, term: Term) -> dict[Ground, Sample]:
        """The term on every ground where it has cells."""
        if term not in self._samples:
            found: dict[Ground, list[tuple[int, Cell]]] = {}
            for ground, cell in self._at(term.place):
                length = cell["full"] if term.dim is None else term.dim
                if cell["ratio"] != term.ratio or pd.isna(length) or cell["dim"] != length:
                    continue
                nth = next((n for n, p in enumerate(term.patterns) if fits(cell["pipe"], p)), None)
                if nth is not None:
                    found.setdefault(ground, []).append((nth, cell))
            self._samples[term] = {
                ground: self._sample(term, some) for ground, some in found.items()
            }
        return self._samples[term]

    def _at(self, place: Place) -> list[tuple[Ground, Cell]]:
        if place not in self._places:
            placed = [(_ground(cell, place), cell) for cell in self._cells]
            self._places[place] = [(g, cell) for g, cell in placed if g is not None]
        return self._places[place]

    def _sample(self, term: Term, found: Sequence[tuple[int, Cell]]) -> Sample:
        """Of cells on one ground those of one head, on one network, nearest to print.

        found: with each cell which of the term's patterns it fits.
        """
        place = term.place
        networks = {name: n for n, name in enumerate(place.networks)}
        ranks = [
            (nth, _later(cell["later"], place), networks.get(cell["backbone"], 9), cell["pipe"])
            for nth, cell in found
        ]
        nearest = min(ranks)
        mine = [cell for rank, (_, cell) in zip(ranks, found, strict=True) if rank == nearest]
        # a default written out makes another cell, but not another seed
        mine.sort(key=lambda cell: [cell[name] for name in ("head", "recipe", "key")])
        seeds = {cell["seed"]: cell for cell in reversed(mine)}
        done = [cell for cell in seeds.values() if cell["state"] == "done"]
        values = {cell["seed"]: self._value(term.metric, cell) for cell in done}
        nth, later, _, pipe = nearest
        return Sample(
            {seed: value for seed, value in values.items() if not math.isnan(value)},
            {seed: cell["key"] for seed, cell in seeds.items()},
            tuple(sorted(seed for seed, cell in seeds.items() if cell["state"] != "done")),
            all(cell["epochs"] == 0 for cell in mine),
            ", ".join([*([pipe] if nth else []), *later]),
        )

    def _value(self, metric: str, cell: Cell) -> float:
        """What a metric is for a finished cell, in the unit of print; NaN if unknown."""
        scale = 100 if share(metric) else 1
        if metric not in MEASURED and metric.split(" ")[0] not in WAYS:
            return scale * float(cell[metric])
        if self._evidence is None:
            return math.nan
        return scale * measured(metric, cell, self._evidence)


def _ground(facts: Mapping[str, object], place: Place) -> Ground | None:
    """How cells with these facts differ from a place of print; None: they are not at it."""
    data, words = str(facts["data"]), place.data.split(" ")
    recipe, *changes = str(facts["recipe"]).split(" ")
    released = [each for each in place.recipes if recipe.startswith(f"{each}_")]
    if data.split(" ")[: len(words)] != words or not (recipe in place.recipes or released):
        return None
    if place.ratio is not None and facts["ratio"] != place.ratio:
        return None
    differs = data.split(" ")[len(words) :]
    differs += [f"recipe {recipe}"] if recipe not in place.recipes else []
    planned = re.search(r"_(\d+)", recipe)  # recipes are named after their epochs
    for change in changes:
        name, _, value = change.partition("=")
        if name == "epochs" and planned:
            differs.append(f"{value} of {planned[1]} epochs")
        elif name not in SILENT:
            differs.append(change)
    if place.largest and facts["largest"] not in (0, place.largest):
        differs.append(f"largest class {facts['largest']} of {place.largest} images")
    if facts["ratio"] != 1 and facts["profile"] not in ("", "exponential"):
        differs.append(f"profile {facts['profile']} at {ink.ratio(facts['ratio'])}")
    network = str(facts["backbone"])
    if network not in place.networks:
        differs.append(f"network {network} for {place.networks[0]}")
    return tuple(differs)


def _later(stages: Mapping[str, str], place: Place) -> tuple[str, ...]:
    """How later stages were trained in another way than by the recipe that bears their name."""
    told = []
    for name, text in stages.items():
        recipe, *changes = text.split(" ")
        told += [f"{name} by {recipe}"] if recipe not in (name, *place.later) else []
        told += [f"{name} with {each}" for each in changes if each.split("=")[0] not in SILENT]
    return tuple(told)
