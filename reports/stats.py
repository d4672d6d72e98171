"""Means, spreads and intervals over seeds: pure functions, no ink.

A seed that diverged or failed is neither averaged as zero nor dropped in silence: it is counted.

    mean ± t(0.975, n − 1) · s / √n        the 95 % interval of the mean, s with n − 1

The interval assumes that accuracies over seeds are roughly normal; for one seed there is none.
Source: Student, "The probable error of a mean", Biometrika 6(1), 1908.
"""

import math
from collections.abc import Sequence

import numpy as np
from pandas import DataFrame, Series
from scipy import stats

from reports.trace import keys_of

LEVEL = 0.95
"""Of the intervals; 0.95, the convention of the field's error bars."""


def mean(values: Sequence[float]) -> float:
    """Arithmetic mean of the values, (n,); NaN for none."""
    return float(np.mean(values)) if len(values) else math.nan


def sd(values: Sequence[float]) -> float:
    """Standard deviation with n − 1, of the values, (n,); NaN for fewer than two."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else math.nan


def interval(values: Sequence[float], level: float = LEVEL) -> tuple[float, float]:
    """Student's t interval of the mean, in the units of the values, (n,).

    level: probability of covering the mean; 0.95, see LEVEL.
    Returns (low, high), both NaN for fewer than two values. It is not cut to [0, 1].
    """
    if len(values) < 2:
        return math.nan, math.nan
    reach = stats.t.ppf((1 + level) / 2, len(values) - 1) * sd(values) / math.sqrt(len(values))
    return mean(values) - float(reach), mean(values) + float(reach)


def summary(runs: DataFrame, by: Sequence[str], metric: str = "accuracy") -> DataFrame:
    """One row per combination of `by`, over its seeds.

    runs: tidy frame. by: columns to group by. metric: the column to summarise, fractions in [0, 1].
    Returns by + cells (planned), n (with a value), n_diverged, n_failed, mean, sd, low, high,
    bound, and the keys of the cells, where the frame has a column key.
    bound: the mean if every lost seed had scored zero, below which it cannot be; NaN where none is
    lost. It holds for fractions in [0, 1] and whatever else cannot be negative.
    A metric that a finished cell does not have (an empty group of classes) leaves n below cells.
    """
    rows = []
    for key, part in runs.groupby(list(by), sort=True):
        state, found = part["state"].to_numpy(), part[metric].to_numpy(dtype=float)
        done = state == "done"
        values = found[done & ~np.isnan(found)]
        low, high = interval(values)
        diverged, failed = (int((state == name).sum()) for name in ("diverged", "failed"))
        lost = diverged + failed
        # where seeds finished without the metric, its value is not low: it does not exist
        bounded = lost > 0 and (len(values) > 0 or not done.any())
        rows.append(
            dict(zip(by, key, strict=True))
            | {"cells": len(part), "n": len(values)}
            | {"n_diverged": diverged, "n_failed": failed}
            | {"mean": mean(values), "sd": sd(values), "low": low, "high": high}
            | {"bound": float(values.sum()) / (len(values) + lost) if bounded else math.nan}
            | ({"keys": keys_of(part)} if "key" in part else {})
        )
    return DataFrame(rows)


def winner(summary: DataFrame) -> Series:
    """Which competitors deserve ink: 'bold', 'underline' or '', on the index of the summary.

    summary: rows that compete with each other, as from `summary`; higher is better.
    Bold: the best, if its interval is clear of the next one's. Underline: the second, if there is a
    bold one above it and its own interval is clear of the third's. Neither goes to one with fewer
    than two seeds or with a seed that diverged or failed; nothing is clear of a single seed.
    """
    marks = Series("", index=summary.index, dtype=object)
    ranked = summary.dropna(subset="mean").sort_values("mean", ascending=False, kind="stable")
    for place, mark in enumerate(("bold", "underline")):
        if len(ranked) < place + 2 or not _clear(ranked.iloc[place], ranked.iloc[place + 1]):
            break
        marks[ranked.index[place]] = mark
    return marks


def _clear(upper: Series, lower: Series) -> bool:
    lost = upper["n_diverged"] + upper["n_failed"]
    return bool(lost == 0 and upper["n"] >= 2 and upper["low"] > lower["high"])
