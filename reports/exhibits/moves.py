"""Which point each label has while a head is trained: how many change it, and where they end."""

import math
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from pandas import DataFrame, Series

from reports import ink, latex, stats, style, trace
from reports.evidence import Evidence
from reports.exhibits import Exhibit
from reports.exhibits.chosen import (
    LIMIT,
    Curve,
    beside,
    curves,
    entitle,
    lost,
    spread,
    stack,
)
from reports.exhibits.classes import (
    TOLD_APART,
    Classes,
    heading,
    left_out,
    look,
    one_each,
    places,
    told,
)
from reports.exhibits.curves import canvas
from reports.films import MEASURES, Film, film
from reports.frames import Setting, single


def moves(runs: DataFrame, name: str, evidence: Evidence | None = None) -> list[Exhibit]:
    """Changes of the assignment by epoch, how it settles, and the way of each class.

    runs: tidy frame of one setting. name: begins that of the files. Nothing where no cell has an
    assignment that moves; the ways only of up to 20 classes.
    """
    setting = single(runs)
    if evidence is None:
        return []
    done = setting.runs.loc[setting.runs["state"] == "done", "key"]
    every = {key: film(key, evidence) for key in done}
    films = {key: found for key, found in every.items() if found is not None}
    alive = {key for key, own in films.items() if own.shares.any()}
    heads = set(setting.runs.loc[setting.runs["key"].isin(alive), "head"])
    runs = setting.runs[setting.runs["head"].isin(heads) & (setting.runs["state"] != "pruned")]
    if runs.empty:
        return []
    found = [_shares(setting, f"{name}-moves", runs, films)]
    if any(films[key].known for key in runs["key"] if key in films):
        found.append(_settling(setting, f"{name}-settling", runs, films))
    whole = runs[[key in films and films[key].points is not None for key in runs["key"]]]
    if len(whole) and whole["classes"].max() <= TOLD_APART:
        found.append(_ways(setting, f"{name}-ways", whole, films, told(whole, evidence)))
    return found


def _shares(setting: Setting, name: str, runs: DataFrame, films: Mapping[str, Film]) -> Exhibit:
    ratios = spread(runs["ratio"].unique())
    every = curves(runs)
    plain_first = sorted(every, key=lambda curve: "=" in curve.head)[:LIMIT]
    shown = [curve for curve in every if curve in plain_first]
    parts, told_n = [], []
    with matplotlib.rc_context(style.SETTINGS):
        figure, axes = canvas(len(ratios), entries=len(shown))
        panels = dict(zip(ratios, axes, strict=True))
        for ratio, axis in panels.items():
            axis.set_title(ink.ratio(ratio), loc="left")
            _count_epochs(axis)
        for curve, (ratio, cells) in ((c, p) for c in every for p in c.of(runs).groupby("ratio")):
            long = _over_seeds(cells, films)
            if long.empty:
                continue
            keys = trace.keys_of(cells[cells["key"].isin(films)])
            parts.append(long.assign(head=curve.head, dim=curve.dim, ratio=ratio, keys=keys))
            if curve in shown and ratio in panels:
                told_n += [*long["n"]]
                dims = [other.dim for other in shown if other.head == curve.head]
                _line(panels[ratio], long, curve, dims)
        axes[0].set_ylabel("Labels that changed their point (%)")
        axes[0].set_ylim(bottom=0)
        beside(figure, axes)
        entitle(figure, "Labels that change their point", setting)
    gap = max(np.diff(films[key].epochs).max() for key in runs["key"] if key in films)
    caption = ink.join(
        f"Share of labels on {setting.data} that have another point than "
        + ("one epoch before." if gap == 1 else f"up to {gap:g} epochs before."),
        "Refreshed once an epoch, an assignment shows its first change after the second.",
        ink.protocol(setting),
        _seeds(told_n),
        f"Drawn: at most {LIMIT} curves, heads without options first, at {len(ratios)} ratios; all "
        "are in the csv."
        if len(shown) < len(every) or len(ratios) < runs["ratio"].nunique()
        else "",
        f"{ink.LOST} a seed diverged or failed; the mean is over the others." if lost(runs) else "",
    )
    long = stack(parts)
    columns = ["head", "dim", "ratio", "epoch", "n", "mean", "sd", "lowest", "highest", "keys"]
    return Exhibit(
        name=name,
        title=f"Labels that change their point on {setting.data}",
        look="Look for curves that reach 0: from there on the assignment stays as it is.",
        table=None,
        latex=None,
        csv=trace.csv(trace.identified(long[columns].round(9), ["head", "dim", "ratio", "epoch"])),
        figure=figure,
        caption=caption,
        percent=dict.fromkeys(("mean", "sd", "lowest", "highest"), 1),
    )


def _seeds(counts: Sequence[int]) -> str:
    if not counts or max(counts) == 1:
        return "Single seeds (n = 1)."
    told_n = f"n = {counts[0]} seeds" if len(set(counts)) == 1 else "n differs, see the csv"
    return f"Means over seeds, bands from the lowest to the highest seed; {told_n}."


def _over_seeds(cells: DataFrame, films: Mapping[str, Film]) -> DataFrame:
    """By epoch the mean share over the cells that have a film, and its range.

    The range, and no t interval: most shares are 0, and few seeds that differ would cover all.
    """
    rows = [
        {"epoch": int(epoch), "share": share}
        for key in cells["key"]
        if key in films
        for epoch, share in zip(films[key].epochs[1:], films[key].shares, strict=True)
    ]
    if not rows:
        return DataFrame()
    shares = DataFrame(rows).groupby("epoch")["share"]
    kinds = {"n": "count", "mean": "mean", "sd": "std", "lowest": "min", "highest": "max"}
    return shares.agg([*kinds.values()]).set_axis([*kinds], axis=1).reset_index()


def _line(axis: Axes, long: DataFrame, curve: Curve, dims: Sequence[int]) -> None:
    """A curve in its head's colour, its dashes and marker by the embedding length."""
    nth = sorted(dims).index(curve.dim)
    own = style.look(curve.head)
    marker = style.MARKERS[(style.MARKERS.index(own.marker) + nth) % len(style.MARKERS)]
    mean = 100 * long["mean"]
    axis.plot(
        *(long["epoch"], mean),
        color=own.colour,
        linestyle=style.DASHES[nth % len(style.DASHES)],
        marker=marker,
        markevery=(nth, max(1, len(long) // 8)),
        markersize=4,
        label=style.plain(curve.label),
    )
    axis.fill_between(
        long["epoch"],
        100 * long["lowest"],
        100 * long["highest"],
        color=own.colour,
        alpha=0.12,
        linewidth=0,
    )


def _settling(setting: Setting, name: str, runs: DataFrame, films: Mapping[str, Film]) -> Exhibit:
    runs = runs.copy()
    known = {key: own.measures() for key, own in films.items()}
    for measure in MEASURES:
        runs[measure] = [known.get(key, {}).get(measure, math.nan) for key in runs["key"]]
    by = ["ratio", "head", "dim"]
    sums = {measure: stats.summary(runs, by, measure) for measure in MEASURES}
    long = sums["changes"][[*by, "cells", "n", "n_diverged", "n_failed", "keys"]].copy()
    for measure, part in sums.items():
        long[measure], long[f"{measure}_sd"] = part["mean"].round(9), part["sd"].round(9)
    long["rank"] = long["head"].map(style.rank)
    long = long.sort_values(["ratio", "rank", "dim"], ignore_index=True).drop(columns="rank")
    long = trace.identified(long, ["head", "dim", "ratio"])
    table = DataFrame([_printed(row) for _, row in long.iterrows()])
    ids = DataFrame({column: long["id"] for column in table})
    ids[["ratio", "head", "d"]] = ""
    marks = table.map(lambda _: "")
    classes = int(runs["classes"].max())
    title = f"How the assignment settles on {setting.data}"
    caption = ink.join(
        f"{title}, {classes} labels.",
        "Changes: of its point by a label, mean over labels; last: epoch after which the last "
        "change of any label shows; returned: labels that end where they started, in per cent, of "
        f"which a random ending has {ink.percent(1 / classes)}; stayed: labels that never change.",
        "Changes are seen from one snapshot to the next.",
        f"{ink.NOTHING} where a record says how many changed, but not which."
        if (long["n"] == 0).any()
        else "",
        ink.protocol(setting),
        "Mean ± standard deviation (n − 1 in the denominator) over n seeds; nothing is marked.",
        f"{ink.LOST} finished/planned seeds: some diverged or failed; the rest is over the others."
        if lost(runs)
        else "",
    )
    return Exhibit(
        name=name,
        title=title,
        look="Look whether the last change comes long before the end, and whether more labels than "
        "by chance are back where they started: then the start was not forgotten.",
        table=table,
        latex=latex.fragment(table, marks, caption, name, block="ratio"),
        csv=trace.csv(long),
        figure=None,
        caption=caption,
        marks=marks,
        percent=dict.fromkeys(("returned", "returned_sd", "stayed", "stayed_sd"), 1),
        ids=ids,
    )


def _printed(row: Series) -> dict[str, object]:
    gone = row["n_diverged"] + row["n_failed"]
    shown = {"ratio": ink.ratio(row["ratio"]), "head": row["head"], "d": row["dim"]}
    shown["n"] = f"{row['n']}/{row['cells']}{ink.LOST}" if gone else str(row["n"])
    for measure, scale, decimals in (
        ("changes", 1, 2),
        ("last", 1, 1),
        ("returned", 100, 1),
        ("stayed", 100, 1),
    ):
        mean, sd = scale * row[measure], scale * row[f"{measure}_sd"]
        text = ink.NOTHING if math.isnan(mean) else f"{mean:.{decimals}f}"
        shown[measure] = text if math.isnan(sd) else f"{text} ± {sd:.{decimals}f}"
    return shown


def _ways(
    setting: Setting,
    name: str,
    cells: DataFrame,
    films: Mapping[str, Film],
    classes: Classes,
) -> Exhibit:
    shown, left = one_each(cells)
    same, each = places([cell for _, cell in shown])
    rows = []
    with matplotlib.rc_context(style.SETTINGS):
        figure, axes = _row(len(shown))
        lowest = 0
        for axis, (curve, cell), words in zip(axes, shown, each, strict=True):
            own = films[cell["key"]]
            held = own.places()
            axis.set_title(heading(curve, words), loc="left")
            _count_epochs(axis)
            _draw_ways(axis, own.epochs, held)
            lowest = max(lowest, int(held.max()))
            for k, line in enumerate(held.T):
                rows.append(
                    {"head": curve.head, "dim": curve.dim, "ratio": cell["ratio"]}
                    | {"seed": cell["seed"], "class": classes.called(k)}
                    | {"changes": int((line[1:] != line[:-1]).sum())}
                    | {"points_of": " ".join(str(place) for place in line)}
                    | {"epochs": " ".join(f"{epoch:g}" for epoch in own.epochs)}
                    | {"keys": cell["key"]}
                )
        count = held.shape[1]
        axes[0].set_yticks(range(count), [style.plain(classes.called(k)) for k in range(count)])
        axes[0].set_ylim(lowest + 0.6, -0.6)
        axes[0].set_ylabel("Point, named after its last class")
        entitle(figure, f"Which point each class has{f', {same}' if same else ''}", setting)
    caption = ink.join(
        f"Which point each class of {setting.data} has after each epoch; a line is a class, its "
        "mark stands at the start, and a row is a point, named after the class that ends there.",
        ink.protocol(setting),
        f"One cell of each head{f': {same}' if same else '; ratio and seed above each'}.",
        left_out(left),
    )
    return Exhibit(
        name=name,
        title=f"Which point each class has, {setting.data}",
        look="Look for lines that cross early and then run straight: the assignment has settled.",
        table=None,
        latex=None,
        csv=trace.csv(trace.identified(DataFrame(rows), ["head", "dim", "ratio", "class"])),
        figure=figure,
        caption=caption,
    )


def _draw_ways(axis: Axes, epochs: np.ndarray, held: np.ndarray) -> None:
    for k, own in enumerate(held.T):
        mine = look(k)
        line = {"color": mine.colour, "linewidth": 1.2}
        axis.plot(epochs, own, mine.dashes, **line, solid_joinstyle="round")
        axis.plot(epochs[0], own[0], mine.marker, color=mine.colour, clip_on=False, zorder=3)
    axis.grid(False)


def _count_epochs(axis: Axes) -> None:
    axis.set_xlabel("Epoch")
    axis.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))


def _row(panels: int) -> tuple[Figure, list[Axes]]:
    """Panels that share their y axis, with room for names beside them."""
    rows = -(-panels // 4)
    columns = -(-panels // rows)
    figure = Figure(figsize=(2.6 * columns + 2.2, 2.9 * rows + 0.6), layout="constrained")
    axes = figure.subplots(rows, columns, sharey=True, squeeze=False).ravel()
    for spare in axes[panels:]:
        spare.remove()
    return figure, list(axes[:panels])
