"""Neural collapse: how far class means and class vectors are from a simplex, at the end and before.

Papyan, Han, Donoho. "Prevalence of neural collapse during the terminal phase of deep learning
training." PNAS 117(40), 2020, arXiv:2008.08186. On the training set, all four fall to 0:

    NC1  scatter within classes over scatter between classes
    NC2  mean distance of the cosines of centred class means from −1 / (K − 1)
    NC3  distance of normalised class vectors from normalised class means
    NC4  share of examples where the scores disagree with the nearest class mean
"""

import math

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pandas import DataFrame

from reports import ink, latex, stats, style, trace
from reports.evidence import Evidence
from reports.exhibits import Exhibit, chosen
from reports.exhibits.chosen import Curve
from reports.frames import Setting, single

MEASURES = {"nc1": "NC1", "nc2": "NC2", "nc3": "NC3", "nc4": "NC4"}

WORDS = {
    "nc1": "NC1, within over\nbetween scatter",
    "nc2": "NC2, means' distance\nfrom a simplex",
    "nc3": "NC3, vectors' distance\nfrom means",
    "nc4": "NC4, share not at the\nnearest mean",
}

DECADES = 20
"""An axis is logarithmic where its means span more than this factor; ours."""

FINEST = 1e-4
"""Print has no finer digits, and an axis no lower end: there is only rounding of single precision;
ours."""


def collapse(runs: DataFrame, name: str, evidence: Evidence | None = None) -> list[Exhibit]:
    """NC1 to NC4: a table of the end, and curves along training where cells kept them.

    runs: tidy frame of one setting. name: begins that of the files. evidence: histories
    'train/nc1' to 'train/nc4'; without, as for heads on a frozen backbone, there is the table.
    Raises ValueError for several settings.
    """
    setting = single(runs)
    return [*_table(setting, runs, name), *_along(setting, runs, name, evidence)]


def _table(setting: Setting, runs: DataFrame, name: str) -> list[Exhibit]:
    """Mean and spread at the end of training, a block per ratio."""
    parts = [stats.summary(runs, ["ratio", "head", "dim"], nc).assign(metric=nc) for nc in MEASURES]
    long = chosen.stack(parts)
    if long["mean"].isna().all():
        return []
    long["rank"] = long["head"].map(style.rank)
    long = long.sort_values(["ratio", "rank", "dim", "metric"], ignore_index=True)
    long = trace.identified(long.drop(columns="rank"), ["head", "dim", "ratio", "metric"])
    same = ink.same_n(long)
    long["text"] = [_cell(row, counted=same is None) for _, row in long.iterrows()]
    rows, ids = [], []
    for (ratio, head, dim), part in long.groupby(["ratio", "head", "dim"], sort=False):
        rows.append([ink.ratio(ratio), head, dim, *part["text"]])
        ids.append(["", "", "", *part["id"]])
    columns = ["ratio", "head", "d", *MEASURES.values()]
    table, places = (DataFrame(each, columns=columns, dtype=object) for each in (rows, ids))
    marks = DataFrame("", index=table.index, columns=columns, dtype=object)
    title = f"Neural collapse on the training images of {setting.data}"
    caption = ink.join(
        f"{title}, at the end of training (Papyan et al. 2020); all four fall to 0.",
        "NC1: within-class over between-class scatter. NC2: mean distance of the cosines of "
        "centred class means from a simplex's. NC3: distance of class vectors from class means. "
        "NC4: share of images where the scores disagree with the nearest class mean.",
        _spoken(same),
        "Nothing is marked: less is more collapsed, not better.",
        f"{ink.LOST} finished/planned seeds: some diverged or failed."
        if (long["n_diverged"] + long["n_failed"]).any()
        else "",
        _protocol(setting),
    )
    by = ["id", "ratio", "head", "dim", "metric", "cells", "n", "n_diverged", "n_failed"]
    return [
        Exhibit(
            name=f"{name}-collapse",
            title=title,
            look="Look at NC2 and NC3 of heads with a fixed geometry against psc: do means follow?",
            table=table,
            latex=latex.fragment(table, marks, caption, f"{name}-collapse", block="ratio"),
            csv=trace.csv(long[[*by, "mean", "sd", "low", "high", "keys"]]),
            figure=None,
            caption=caption,
            marks=marks,
            ids=places,
        )
    ]


def _protocol(setting: Setting) -> str:
    """As for accuracies, without its end: these are measured on training images."""
    return f"{ink.protocol(setting).split('; test set')[0]}."


def _spoken(n: int | None) -> str:
    if n == 1:
        return ink.seeds(n)
    spread = "Mean ± standard deviation (n − 1 in the denominator) over seeds"
    return f"{spread}; n in brackets." if n is None else f"{spread}; n = {n}."


def _cell(row: pd.Series, counted: bool) -> str:
    """Three digits, and not finer than FINEST: '17.7 ± 0.9', '0.0213 ± 0.0021', '… (4/5†)'."""
    lost = row["n_diverged"] + row["n_failed"]
    share = f"({row['n']}/{row['cells']}{ink.LOST})"
    if row["n"] == 0:
        return f"{ink.NOTHING} {share}" if lost == row["cells"] else ink.NOTHING
    size = math.floor(math.log10(max(row["mean"], FINEST)))
    decimals = min(max(2 - size, 0), -round(math.log10(FINEST)))
    text = f"{row['mean']:.{decimals}f}"
    if row["n"] > 1:
        text += f" ± {row['sd']:.{decimals}f}"
    if lost:
        return f"{text} {share}"
    return f"{text} ({row['n']})" if counted else text


def _along(
    setting: Setting, runs: DataFrame, name: str, evidence: Evidence | None
) -> list[Exhibit]:
    """Curves of at most eight heads, for the least and the largest ratio that have any."""
    if evidence is None:
        return []
    followed = _followed(runs, evidence)
    shown, left = chosen.drawn(chosen.curves(runs[runs["key"].isin([*followed])]))
    parts = []
    for curve in shown:
        for (ratio,), cells in curve.of(runs).groupby(["ratio"], sort=True):
            place = {"ratio": ratio, "head": curve.head, "dim": curve.dim}
            mine = {key: followed[key] for key in cells["key"] if key in followed}
            for nc in MEASURES:
                told = {key: curves[nc] for key, curves in mine.items() if nc in curves}
                if told:
                    parts.append(_over_epochs(told).assign(metric=nc, **place))
    if not parts:
        return []
    long = chosen.stack(parts)
    every = sorted(set(long["ratio"]))
    ratios = chosen.spread(every, 2)
    cells = {(c, r): c.of(runs[runs["ratio"] == r]) for c in shown for r in ratios}
    drawn = long[long["ratio"].isin(ratios)]
    with matplotlib.rc_context(style.SETTINGS):
        figure = _draw(drawn, ratios, shown, cells)
        chosen.entitle(figure, "Neural collapse along training", setting)
    title = f"Neural collapse along training on {setting.data}"
    silent = [c for c in chosen.longest(chosen.curves(runs)) if c not in [*shown, *left]]
    caption = ink.join(
        f"{title}, at up to ten epochs, on a sample of the training images with as many of each "
        "class as there are, up to one size; all four fall to 0.",
        chosen.seeds(drawn.groupby(["ratio", "head"])["n"].max().tolist(), "bars are"),
        "Bars that leave a panel are cut." if drawn["low"].notna().any() else "",
        chosen.gone([*cells.values()]),
        f"Without curves, as on a frozen backbone: {'; '.join(c.label for c in silent)}."
        if silent
        else "",
        chosen.left_out(left, "not drawn"),
        chosen.some_ratios(every, ratios),
        _protocol(setting),
    )
    named = trace.identified(long, ["head", "dim", "ratio", "metric", "epoch"])
    columns = ["id", "ratio", "head", "dim", "metric", "epoch", "n", "mean", "sd", "low", "high"]
    return [
        Exhibit(
            name=f"{name}-collapse-along",
            title=title,
            look="Look for curves that level off: that geometry is as near as this head comes.",
            table=None,
            latex=None,
            csv=trace.csv(named[[*columns, "keys"]]),
            figure=figure,
            caption=caption,
        )
    ]


def _followed(runs: DataFrame, evidence: Evidence) -> dict[str, dict[str, dict[float, float]]]:
    """Key -> measure -> epoch -> value, of the cells whose collapse was followed along training."""
    found = {}
    for key in runs.loc[runs["state"] == "done", "key"]:
        told = evidence.histories(key)
        curves = {nc: dict(told[f"train/{nc}"]) for nc in MEASURES if told.get(f"train/{nc}")}
        if curves:
            found[key] = curves
    return found


def _over_epochs(curves: dict[str, dict[float, float]]) -> DataFrame:
    """Mean and interval at each epoch: epoch, n, mean, sd, low, high, keys.

    curves: key -> epoch -> value.
    """
    epochs = sorted({epoch for curve in curves.values() for epoch in curve})
    values = [[curve.get(epoch, math.nan) for epoch in epochs] for curve in curves.values()]
    rows = chosen.over_seeds(np.array(values).reshape(len(curves), len(epochs)))
    keys = [" ".join(sorted(k for k in curves if epoch in curves[k])) for epoch in epochs]
    return rows.assign(epoch=epochs, keys=keys)


def _draw(
    long: DataFrame,
    ratios: list[float],
    shown: list[Curve],
    cells: dict[tuple[Curve, float], DataFrame],
) -> Figure:
    """A row per measure and a column per ratio; two by two for one ratio."""
    legend = chosen.legend_size([f"{curve.label} {ink.LOST}" for curve in shown])
    alone = len(ratios) == 1
    size = (6.0 + legend[0], 5.0 if alone else 7.6)
    figure = Figure(figsize=size, layout="constrained")
    shape = (2, 2) if alone else (4, 2)
    axes = figure.subplots(*shape, sharex=True, sharey=False if alone else "row")
    epochs = sorted(set(long["epoch"]))
    step = (epochs[-1] - epochs[0]) / max(len(epochs) - 1, 1)
    places = [(nc, ratio) for nc in MEASURES for ratio in ratios]
    for axis, (nc, ratio) in zip(axes.ravel(), places, strict=True):
        part = long[(long["metric"] == nc) & (long["ratio"] == ratio)]
        for nth, curve in enumerate(shown):
            beside = step * 0.6 * ((nth + 0.5) / len(shown) - 0.5)
            _curve(axis, curve, curve.of(part), cells[curve, ratio], beside)
        if axis.get_subplotspec().is_first_col() or alone:
            axis.set_ylabel(WORDS[nc])
            _scale(axis, long[long["metric"] == nc])
        if axis.get_subplotspec().is_first_row() and (nc == "nc1"):
            axis.set_title(ink.ratio(ratio), loc="left")
        if axis.get_subplotspec().is_last_row():
            axis.set_xlabel("Epoch")
    chosen.beside(figure, [*axes.ravel()])
    return figure


def _curve(axis: Axes, curve: Curve, rows: DataFrame, cells: DataFrame, beside: float) -> None:
    """beside: how far from its epochs the curve stands, so that bars can be told apart."""
    if rows.empty:
        return
    look = style.look(curve.head)
    rows = rows.sort_values("epoch")[["epoch", "mean", "low", "high"]].astype(float)
    x = rows["epoch"] + beside
    mean, low, high = (rows[side].clip(lower=FINEST) for side in ("mean", "low", "high"))
    axis.plot(
        *(x, mean),
        color=look.colour,
        marker=look.marker,
        markersize=4,
        linestyle=look.dashes,
        label=chosen.legend_label(curve, cells),
    )
    if rows["low"].notna().any():
        reach = np.nan_to_num(np.stack([mean - low, high - mean]))
        axis.errorbar(x, mean, reach, fmt="none", ecolor=look.colour, elinewidth=0.7, alpha=0.6)


def _scale(axis: Axes, rows: DataFrame) -> None:
    """Logarithmic where the means span decades; the means fill the axis, whatever the bands."""
    means = rows["mean"].astype(float).clip(lower=FINEST).dropna()
    if means.empty:
        return
    least, most = means.min(), means.max()
    if most > DECADES * least:
        axis.set_yscale("log")
        axis.set_ylim(least / 1.6, most * 1.6)
    else:
        axis.set_ylim(
            max(0, least - 0.3 * (most - least)), most + max(0.3 * (most - least), FINEST)
        )
