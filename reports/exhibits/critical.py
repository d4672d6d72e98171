"""Which heads differ across settings: critical-difference diagrams and mean ranks.

Demšar, "Statistical comparisons of classifiers over multiple data sets", JMLR 7, 2006;
`reports.ranking` has the statistics. Settings fall into groups by the heads that they share.
"""

import math

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from pandas import DataFrame

from reports import ink, paired, ranking, style
from reports.evidence import Evidence
from reports.exhibits import Exhibit
from reports.exhibits.comparison import tabled
from reports.exhibits.profiles import Group, groups
from reports.trace import csv, identified, keys_of


def critical_difference(runs: DataFrame, evidence: Evidence | None = None) -> list[Exhibit]:
    """Critical-difference diagrams and mean ranks across settings, after Demšar 2006.

    runs: tidy frame without searches and geometric cells, of any settings. A setting here is a data
    set under one protocol at one ratio. Two exhibits for each group of settings that shares enough
    heads, see `reports.ranking.refusal`; nothing where none does, see `unranked`.
    """
    found: list[Exhibit] = []
    for group in _rankable(runs):
        suffix = f"-{len(found) // 2 + 1}" if found else ""
        found += _critical(group, suffix)
    return found


def unranked(runs: DataFrame) -> str:
    """Why there is no critical-difference diagram, in one sentence; nothing where there is one.

    runs: as for `critical_difference`.
    """
    if _rankable(runs):
        return ""
    sizes = [(len(group.settings), len(group.heads)) for group in groups(runs)]
    if not sizes:
        sizes = [(1, len(set(runs["head"])))] if len(runs) else [(0, 0)]
    return ranking.refusal(*max(sizes))


def _rankable(runs: DataFrame) -> list[Group]:
    found = groups(runs)
    return [one for one in found if not ranking.refusal(len(one.settings), len(one.heads))]


def _matrix(group: Group) -> np.ndarray:
    """Mean accuracies, (settings, heads); -inf, last in rank, where no seed finished."""
    done = group.runs.groupby(["place", "name"])["accuracy"].mean().unstack("name")
    return done.reindex(columns=list(group.heads)).fillna(-math.inf).to_numpy()


def _critical(group: Group, suffix: str) -> list[Exhibit]:
    matrix = _matrix(group)
    test = ranking.friedman(matrix)
    cd = ranking.critical_difference(test.settings, test.heads)
    mean_ranks = ranking.ranks(matrix).mean(axis=0)
    order = np.argsort(mean_ranks, kind="stable")
    p = ranking.nemenyi(matrix)[np.ix_(order, order)]
    if test.p >= paired.ALPHA:  # no post hoc test without a difference to look for
        p = np.ones_like(p)
    long = DataFrame(
        {
            "head": [group.heads[i] for i in order],
            "mean_rank": mean_ranks[order],
            "first": (ranking.ranks(matrix) == 1).sum(axis=0)[order],
            "letters": ranking.letters(p),
            **{"settings": test.settings, "heads": test.heads, "chi2": test.chi2, "p": test.p},
            **{"iman": test.iman, "iman_p": test.iman_p, "cd": cd},
            "keys": keys_of(group.runs),  # every rank depends on all heads
        }
    )
    long = identified(long, ["head"])
    caption = _across(group, test, cd, bool(np.isinf(matrix).any()))
    title = f"Mean ranks across {test.settings} settings"
    table = DataFrame(
        {
            "head": long["head"],
            "mean rank": long["mean_rank"].map(ink.written),
            "ranked first": long["first"].map(str),
            "group": long["letters"],
        },
        dtype=object,
    )
    shown = ("mean rank", "ranked first", "group")
    letters = "Heads that share a letter cannot be told apart."
    look = "Look for heads that no bar joins: only those differ across the settings."
    with matplotlib.rc_context(style.SETTINGS):
        figure = _diagram(long, cd)
    return [
        Exhibit(
            *(f"critical-difference{suffix}", title, look, None, None, csv(long), figure),
            ink.join(caption, "Bars join heads that cannot be told apart."),
        ),
        tabled(
            *(f"mean-ranks{suffix}", title, "Look for heads without a letter in common."),
            *(ink.join(caption, letters), long, table, shown, {}),
        ),
    ]


def _across(group: Group, test: ranking.Friedman, cd: float, lost: bool) -> str:
    lone = group.runs.groupby(["place", "name"])["accuracy"].count().min() < 2
    shown = test.p < paired.ALPHA
    return ink.join(
        f"Mean ranks of {test.heads} heads over {test.settings} settings by mean test accuracy, 1 "
        "the best (Demšar 2006). Settings: " + "; ".join(group.settings) + ".",
        f"Friedman: chi-squared = {ink.written(test.chi2)}, p = {ink.written(test.p)}; as "
        f"corrected by Iman and Davenport: p = {ink.written(test.iman_p)}. Nemenyi: CD = "
        f"{ink.written(cd)} at {paired.ALPHA}.",
        ""
        if shown
        else "Friedman shows no difference, so no pair is told apart, whatever its distance.",
        "Settings that share a data set share test images, and all share seeds: they are not "
        "independent, as the test takes them to be, so p tends to be too small: a summary, no "
        "proof.",
        "A head that finished no seed in a setting is ranked last there." if lost else "",
        "Some means are of one seed." if lone else "",
    )


def _diagram(long: DataFrame, cd: float) -> Figure:
    """The diagram of Demšar 2006, figure 1: an axis of ranks, heads at both sides, bars below."""
    k = len(long)
    bars = _bars(long)
    sides = -(-k // 2)
    step, gap = 0.24, 0.1 * len(bars) + 0.15  # inches, as all heights here
    below = gap + step * sides
    first, last = long["head"].iloc[:sides], long["head"].iloc[sides:]
    left, right = (0.075 * names.str.len().max() + 0.75 for names in (first, last))
    across = max(3.2, 0.45 * k)
    figure = Figure(figsize=(left + across + right, below + 0.95))
    width, height = figure.get_size_inches()
    axis = figure.add_axes((left / width, 0.05 / height, across / width, 1 - 0.1 / height))
    axis.set_axis_off()
    axis.set_xlim(1, k)
    axis.set_ylim(-below, 0.85)
    axis.plot([1, k], [0, 0], color="black", linewidth=1, clip_on=False)
    for rank in range(1, k + 1):
        axis.plot([rank, rank], [0, 0.07], color="black", linewidth=1, clip_on=False)
        axis.text(rank, 0.1, str(rank), ha="center", va="bottom", fontsize=8)
    reach = min(cd, k - 1)  # wider than the axis means that no pair can be told apart
    axis.plot([1, 1 + reach], [0.5, 0.5], color="black", linewidth=1.5, clip_on=False)
    for end in (1, 1 + reach):
        axis.plot([end, end], [0.45, 0.55], color="black", linewidth=1.5, clip_on=False)
    said = f"CD = {cd:.2f}" + ("" if cd <= k - 1 else ", wider than all ranks")
    axis.text(1, 0.6, said, ha="left", va="bottom", fontsize=8)
    for level, (low, high) in enumerate(bars):
        y = -0.1 * (level + 1)
        ends = [low - 0.012 * (k - 1), high + 0.012 * (k - 1)]
        axis.plot(ends, [y, y], color="black", linewidth=3, solid_capstyle="butt", clip_on=False)
    aside = 0.15 / across * (k - 1)
    for place, row in enumerate(long.to_dict("records")):
        early = place < sides
        y = -gap - step * (place if early else k - 1 - place) - step / 2
        look = style.look(row["head"].split(", d = ")[0])
        edge = 1 - aside if early else k + aside
        axis.plot(
            *([row["mean_rank"]] * 2 + [edge], [0, y, y]),
            color=look.colour,
            linewidth=1,
            clip_on=False,
        )
        axis.plot(row["mean_rank"], 0, color=look.colour, marker=look.marker, clip_on=False)
        axis.plot(edge, y, color=look.colour, marker=look.marker, clip_on=False)
        rank = f"{row['mean_rank']:.2f}"
        text = f"{row['head']}  {rank}" if early else f"{rank}  {row['head']}"
        spot = edge - aside if early else edge + aside
        axis.text(spot, y, style.plain(text), ha="right" if early else "left", va="center")
    return figure


def _bars(long: DataFrame) -> list[tuple[float, float]]:
    """First and last mean rank of each letter that several heads share, best first."""
    found = []
    for letter in sorted(set("".join(long["letters"]))):
        spots = long.loc[long["letters"].str.contains(letter, regex=False), "mean_rank"]
        if len(spots) > 1:
            found.append((float(spots.min()), float(spots.max())))
    return sorted(found)
