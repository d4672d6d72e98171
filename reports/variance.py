"""Where the spread over seeds comes from: variance components of a crossed design.

    y_ijk = μ + a_i + b_j + c_k + e_ijk        subset i, initialisation j, order k, each drawn anew
    σ²_a = (MS_a - MS_e) / n_a                 n_a values for each level of a
    σ²_e = MS_e                                interactions and what is left, on N - 1 - Σ df

Every combination of levels stands once, so interactions cannot be told from noise: the residual
holds them, and is what changes whenever anything does. Method of moments; negative estimates are
kept beside the zero that is shown for them. Intervals are those of Williams, "A confidence interval
for variance components", Biometrika 49(1/2), 1962; of the residual the χ² one. Searle, Casella,
McCulloch, "Variance Components", Wiley 1992, chapters 3 and 4.

A crossed seed is a record, 'augment=1 backbone=0 head=0 order=1'; `subset_seed=2` stands in the
data. Streams that change together in all cells are one factor: a backbone's seed with a head's is
the initialisation, the order of batches with the augmentation the order.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from pandas import DataFrame, Series
from scipy import stats

LEVEL = 0.95
"""Of the intervals; 0.95, the convention of the field's error bars."""

STREAMS = ("subset", "backbone", "head", "order", "augment")
TOGETHER = {("backbone", "head"): "initialisation", ("order", "augment"): "order"}
RESIDUAL = "residual"

_SUBSET = re.compile(r" subset_seed=(\d+)\b")


@dataclass(frozen=True, slots=True)
class Component:
    """One source of variance, in the square of the units of the values.

    source       factor, or RESIDUAL
    df           degrees of freedom
    mean_square  of the analysis of variance
    estimate     of the variance, negative where the mean square is below the residual's
    variance     the estimate, or 0 where it is negative
    share        of the sum of all variances, in [0, 1]; NaN where nothing varies
    low, high    95 % interval of the variance, cut at 0
    p            of the F test against no such variance; NaN for the residual
    """

    source: str
    df: int
    mean_square: float
    estimate: float
    variance: float
    share: float
    low: float
    high: float
    p: float


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """A fully crossed design: one cell for each combination of levels.

    factors  name -> the streams that change together in it
    values   of the metric, one axis per factor
    keys     of the cells, same shape as values
    levels   the seeds at each place along each axis: to tell whether two grids are alike
    """

    factors: dict[str, tuple[str, ...]]
    values: np.ndarray
    keys: np.ndarray
    levels: tuple[tuple[tuple[int, ...], ...], ...]


def crossed(runs: DataFrame) -> Series:
    """Which cells have their seeds written apart: they are no independent seeds, in no table."""
    return runs["seed"].str.contains("=", regex=False).astype(bool)


def without_subset(data: str) -> str:
    """The data of a cell without the seed of its subset: 'digits subset_seed=2' -> 'digits'."""
    return _SUBSET.sub("", data)


def seeds(cell: Series) -> tuple[int, ...]:
    """The five seeds of a cell, in the order of STREAMS, from its columns data and seed."""
    found = _SUBSET.search(cell["data"])
    subset = int(found.group(1)) if found else 0  # the canonical subset is not named
    if "=" not in cell["seed"]:
        return (subset, *[int(cell["seed"])] * (len(STREAMS) - 1))
    own = dict(part.split("=") for part in cell["seed"].split(" "))
    return (subset, *(int(own[name]) for name in STREAMS[1:]))


def grid(cells: DataFrame, metric: str = "accuracy") -> Grid | None:
    """The cells of one head in one setting as a crossed design.

    cells: tidy rows that differ in seeds only. metric: column of the values.
    None unless at least two factors vary, and every combination stands there once with a value.
    """
    done = cells[(cells["state"] == "done") & cells[metric].notna()]
    if done.empty:
        return None
    where = np.array([seeds(cell) for _, cell in done.iterrows()])
    groups: dict[tuple[int, ...], list[int]] = {}
    for stream in range(len(STREAMS)):
        _, first, pattern = np.unique(where[:, stream], return_index=True, return_inverse=True)
        if len(first) > 1:
            same = tuple(int(first[level]) for level in pattern)  # equal for streams in step
            groups.setdefault(same, []).append(stream)
    columns = list(groups.values())
    levels = tuple(
        tuple(sorted({tuple(int(v) for v in row) for row in where[:, group]})) for group in columns
    )
    shape = tuple(len(level) for level in levels)
    if len(shape) < 2 or len(done) != math.prod(shape):
        return None
    values = np.full(shape, np.nan)
    keys = np.full(shape, "", dtype=object)
    for row, key, value in zip(where, done["key"], done[metric], strict=True):
        place = tuple(
            level.index(tuple(int(v) for v in row[group]))
            for group, level in zip(columns, levels, strict=True)
        )
        values[place], keys[place] = value, key
    if np.isnan(values).any():
        return None
    streams = [tuple(STREAMS[i] for i in group) for group in columns]
    factors = {TOGETHER.get(names, " + ".join(names)): names for names in streams}
    return Grid(factors, values, keys, levels)


def difference(first: Grid, second: Grid) -> Grid | None:
    """The first less the second, cell by cell at the same seeds; None if their designs differ."""
    if first.levels != second.levels or first.factors != second.factors:
        return None
    keys = first.keys + " " + second.keys
    return Grid(first.factors, first.values - second.values, keys, first.levels)


def components(
    values: np.ndarray, factors: Sequence[str], level: float = LEVEL
) -> tuple[Component, ...]:
    """Variance components of a fully crossed random design with one value a combination.

    values: one axis per factor, at least two levels each. factors: their names.
    level: of the intervals; 0.95, see LEVEL. Returns one for each factor, then the residual.
    Raises ValueError for fewer than two factors or levels: nothing would be left to compare with.
    """
    if values.ndim < 2 or min(values.shape) < 2 or len(factors) != values.ndim:
        raise ValueError(
            f"variance components need at least two named factors of at least two levels each, "
            f"got {list(factors)} with {list(values.shape)} levels; cross the seeds in the suite."
        )
    values = values - values.flat[0]  # so that equal values leave nothing at all
    effects = [_effect(values, axis) for axis in range(values.ndim)]
    rest = values - values.mean() - sum(effects)
    rest_df = values.size - 1 - sum(size - 1 for size in values.shape)
    noise = float((rest**2).sum()) / rest_df
    tail = (1 - level) / 2
    found: list[Component] = []
    for name, effect, size in zip(factors, effects, values.shape, strict=True):
        df, times = size - 1, values.size // size
        square = float((effect**2).sum()) * times / df
        low, high = (
            df
            * (square - stats.f.ppf(1 - part, df, rest_df) * noise)
            / (times * stats.chi2.ppf(1 - part, df))
            for part in (tail, 1 - tail)
        )
        estimate = (square - noise) / times
        p = float(stats.f.sf(square / noise, df, rest_df)) if noise > 0 else math.nan
        bounds = max(float(low), 0.0), max(float(high), 0.0)
        found.append(Component(name, df, square, estimate, max(estimate, 0.0), 0.0, *bounds, p))
    low, high = (rest_df * noise / stats.chi2.ppf(q, rest_df) for q in (1 - tail, tail))
    found.append(
        Component(RESIDUAL, rest_df, noise, noise, noise, 0.0, float(low), float(high), math.nan)
    )
    whole = sum(one.variance for one in found)
    share = [one.variance / whole if whole > 0 else math.nan for one in found]
    return tuple(replace(one, share=part) for one, part in zip(found, share, strict=True))


def _effect(values: np.ndarray, axis: int) -> np.ndarray:
    """Means at each level of one factor less the grand mean, shaped to be taken off the values."""
    others = tuple(other for other in range(values.ndim) if other != axis)
    return np.asarray(values.mean(axis=others, keepdims=True) - values.mean())
