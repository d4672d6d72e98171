"""A forest of differences from a baseline: a row per head, a panel per ratio, bars of intervals."""

import math

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pandas import DataFrame

from reports import ink, style
from reports.paired import ABOVE, BELOW, Competitor, competitors

PANELS = 3
"""Side by side: more do not fit the width of a page beside the names of heads."""

REACH = 2.5
"""How far intervals are drawn, in largest differences of a panel: two seeds give very long ones."""


def forest(long: DataFrame, title: str) -> tuple[Figure, bool]:
    """The figure, and whether an interval goes beyond it.

    long: rows as from `reports.paired.against`, with ratio, at least one with a pair. Fractions
    there, points here. Filled where the verdict is above or below, hollow elsewhere. title: above.
    """
    rivals = competitors(long)
    labels = [style.plain(f"{head}, d = {dim}") for head, dim in rivals]
    ratios = sorted(long["ratio"].unique())
    columns = 2 if len(ratios) == 4 else min(len(ratios), PANELS)
    rows = -(-len(ratios) // columns)
    names = 0.065 * max(map(len, labels))  # inches, as all sizes here
    wide = max(6.0, 0.4 + names + 2.3 * columns)
    base, dim = long[["other", "other_dim"]].iloc[0]
    with matplotlib.rc_context(style.SETTINGS):
        figure = Figure(
            figsize=(wide, rows * (0.25 * len(rivals) + 0.7) + 0.7), layout="constrained"
        )
        axes = figure.subplots(rows, columns, sharey=True, squeeze=False).ravel()
        for spare in axes[len(ratios) :]:
            spare.remove()
        beyond = [
            _panel(axis, long[long["ratio"] == ratio], rivals)
            for axis, ratio in zip(axes, ratios, strict=False)
        ]
        for axis, ratio in zip(axes, ratios, strict=False):
            axis.set_title(ink.ratio(ratio), loc="left")
        axes[0].set_yticks(range(len(labels)), labels)
        axes[0].set_ylim(len(labels) - 0.5, -0.5)
        what = f"Difference of test accuracy from {base}, d = {dim} (points)"
        figure.supxlabel(style.plain(what), fontsize=9)
        figure.suptitle(style.plain(title), x=0.01, ha="left", fontsize=10)
    return figure, any(beyond)


def _panel(axis: Axes, part: DataFrame, rivals: list[Competitor]) -> bool:
    """One ratio's differences; whether an interval goes beyond what is drawn."""
    most = 100 * float(part["difference"].abs().max())
    limit = REACH * most if most > 0 else math.inf
    axis.axvline(0, color=style.COLOURS["grey"], linewidth=0.8)
    beyond = False
    for row in part[part["n"] > 0].to_dict("records"):
        place = rivals.index((row["head"], row["dim"]))
        look = style.look(row["head"])
        if not math.isnan(row["low"]):
            ends = 100 * np.array([row["low"], row["high"]])
            drawn = np.clip(ends, -limit, limit)
            axis.plot(drawn, [place, place], color=look.colour, linewidth=1.3)
            for end, cut, mark in zip(ends, drawn, ("<", ">"), strict=True):
                if end != cut:
                    axis.plot(cut, place, marker=mark, color=look.colour, markersize=4)
                    beyond = True
        held = row["verdict"] in (ABOVE, BELOW)
        axis.plot(
            *(100 * row["difference"], place),
            color=look.colour,
            marker=look.marker,
            markerfacecolor=look.colour if held else "white",
        )
    return beyond
