"""What a crowded figure draws, and numbers over seeds for whole curves at once.

A figure bears about eight curves; `drawn` says which, and does not look at how well they did.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pandas import DataFrame
from scipy.stats import t

from reports import ink, stats, style
from reports.evidence import Evidence
from reports.frames import Setting

LIMIT = 8
"""Curves of one panel; ours: as many as `style` has colours."""

RATIOS = 3
"""Panels by ratio; ours: what stays readable at the width of a page."""

BASELINE = "psc"


@dataclass(frozen=True, slots=True)
class Curve:
    """One head at one embedding length."""

    head: str
    dim: int

    @property
    def label(self) -> str:
        """As in every legend: 'psc, d = 64'."""
        return f"{self.head}, d = {self.dim}"

    def place(self) -> tuple[tuple[int, bool, str], int]:
        """Sort key: heads in house order, of each the longest first."""
        return style.rank(self.head), -self.dim

    def of(self, runs: DataFrame) -> DataFrame:
        """Its rows."""
        return runs[(runs["head"] == self.head) & (runs["dim"] == self.dim)]


def curves(runs: DataFrame) -> list[Curve]:
    """All heads and embedding lengths of a frame: heads in house order, the longest first."""
    found = {Curve(*each) for each in zip(runs["head"], runs["dim"], strict=True)}
    return sorted(found, key=Curve.place)


def longest(found: Sequence[Curve]) -> list[Curve]:
    """Of each head the longest embedding."""
    most = {c.head: max(o.dim for o in found if o.head == c.head) for c in found}
    return [c for c in found if c.dim == most[c.head]]


def drawn(found: Sequence[Curve], limit: int = LIMIT) -> tuple[list[Curve], list[Curve]]:
    """Which curves a figure draws, and which it leaves to the csv; both in house order.

    Of each head the longest embedding; of more heads than the limit, those without options first.
    """
    kept = sorted(longest(found), key=lambda c: "=" in c.head)[:limit]
    return [c for c in found if c in kept], [c for c in found if c not in kept]


def spread(ratios: Sequence[float], limit: int = RATIOS) -> list[float]:
    """Up to `limit` of the ratios, rising: the least, the largest, and evenly between."""
    every = sorted(set(ratios))
    if len(every) <= limit:
        return every
    return [every[round(i * (len(every) - 1) / (limit - 1))] for i in range(limit)]


def kept(
    cells: DataFrame, evidence: Evidence | None, name: str
) -> tuple[DataFrame, list[np.ndarray]]:
    """The finished cells that kept an array of that name, and the arrays, as float64."""
    rows, arrays = [], []
    if evidence is not None:
        for row, (key, state) in enumerate(zip(cells["key"], cells["state"], strict=True)):
            array = evidence.arrays(key).get(name) if state == "done" else None
            if array is not None:
                rows.append(row)
                arrays.append(np.asarray(array, dtype=np.float64))
    return cells.iloc[rows], arrays


def over_seeds(values: np.ndarray) -> DataFrame:
    """`stats.mean`, `stats.sd` and `stats.interval` of every column of (seeds, places).

    Returns n, mean, sd, low, high, one row per place; NaN is no value and does not count.
    """
    known = ~np.isnan(values)
    n = known.sum(axis=0)
    mean = np.divide(np.nansum(values, axis=0), n, out=np.full(len(n), math.nan), where=n > 0)
    squares = np.where(known, (values - mean) ** 2, 0).sum(axis=0)
    sd = np.sqrt(np.divide(squares, n - 1, out=np.full(len(n), math.nan), where=n > 1))
    reach = t.ppf((1 + stats.LEVEL) / 2, np.maximum(n - 1, 1)) * sd / np.sqrt(np.maximum(n, 1))
    return DataFrame({"n": n, "mean": mean, "sd": sd, "low": mean - reach, "high": mean + reach})


def lost(cells: DataFrame) -> bool:
    """Whether a seed diverged or failed."""
    return bool(cells["state"].isin(["diverged", "failed"]).any())


def legend_label(curve: Curve, cells: DataFrame) -> str:
    """The curve's label, with † where a seed was lost."""
    return style.plain(curve.label + (f" {ink.LOST}" if lost(cells) else ""))


def stack(parts: Sequence[DataFrame]) -> DataFrame:
    """The parts one below the other."""
    return pd.concat(parts, ignore_index=True)


def seeds(counts: Sequence[int], what: str) -> str:
    """What is drawn over how many seeds, for captions. what: the band, 'bands are …'."""
    if max(counts) == 1:
        return "Single seeds (n = 1): no interval can be stated."
    told = f"n = {counts[0]} seeds" if len(set(counts)) == 1 else "n differs, see the csv"
    return f"Means over seeds, {what} 95 % t intervals of the mean; {told}."


def left_out(left: Sequence[Curve], where: str = "only in the csv") -> str:
    """The sentence that names what a figure leaves out and where it is, or nothing."""
    if not left:
        return ""
    return (
        f"Drawn: of a head the longest embedding, at most {LIMIT} heads, those without options "
        f"first; {where}: {'; '.join(c.label for c in left)}."
    )


def gone(shown: Sequence[DataFrame]) -> str:
    """The sentence that explains †, or nothing if no cell shown was lost."""
    if not any(lost(cells) for cells in shown):
        return ""
    return f"{ink.LOST} a seed diverged or failed; the mean is over the others."


def entitle(figure: Figure, title: str, setting: Setting) -> None:
    """Title, and the setting below it, flush left."""
    what = f"{setting.data} · {setting.backbone} · {setting.recipe}"
    figure.suptitle(style.plain(f"{title}\n{what}"), x=0.01, ha="left", fontsize=10)


def some_ratios(every: Sequence[float], shown: Sequence[float]) -> str:
    """The sentence that says which of the ratios are drawn, or nothing if all are."""
    if len(every) == len(shown):
        return ""
    return f"Drawn: {', '.join(map(ink.ratio, shown))}, of {len(every)} ratios; the csv has all."


def legend_size(labels: Sequence[str]) -> tuple[float, float]:
    """Width and height in inches that a legend of 8 points with such labels takes."""
    return 0.65 + 0.066 * max(map(len, labels)), 1.0 + 0.2 * len(labels)


def limit(axis: Axes, drawn: Sequence[DataFrame]) -> bool:
    """Let the means fill two thirds of the axis, per cent, and tell whether that cuts a bar.

    The interval of two seeds is so wide that it would flatten every curve.
    """
    points = 100 * stack(drawn)[["mean", "low", "high"]]
    least, most = points["mean"].min(), points["mean"].max()
    margin = max((most - least) / 4, 2)
    low, high = max(-2, least - margin), min(102, most + margin)
    axis.set_ylim(low, high)
    return bool((points["low"] < max(low, 0)).any() or (points["high"] > min(high, 100)).any())


def beside(figure: Figure, axes: Sequence[Axes]) -> None:
    """One legend beside all panels, each label once."""
    handles = {}
    for axis in axes:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    figure.legend(handles.values(), handles.keys(), loc="outside right upper", handlelength=3)
