"""Accuracy curves: how a head bears imbalance, and how it bears a short embedding."""

import math

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from pandas import DataFrame

from reports import ink, style
from reports.evidence import Evidence
from reports.exhibits import Exhibit
from reports.exhibits.table import PERCENT, csv, measured
from reports.frames import Setting, single

LEGEND = "outside right upper"  # beside the axes: a legend never lies on data
INTERVALS = "Points are means over seeds; bars are 95 % t intervals of the mean"


def accuracy_against_ratio(
    runs: DataFrame, name: str, evidence: Evidence | None = None
) -> list[Exhibit]:
    """Accuracy of every head and embedding length as the imbalance grows.

    runs: tidy frame of one setting. name: begins that of the files. With one ratio only, the heads
    stand in rows instead; nothing if no cell has an accuracy. Raises ValueError for several
    settings.
    """
    setting = single(runs)
    long = measured(runs, ["accuracy"], place=["ratio"])
    if long["mean"].isna().all():
        return []
    alone = long["ratio"].nunique() == 1
    with matplotlib.rc_context(style.SETTINGS):
        figure = _rows(long) if alone else _ratios(long)
        _entitle(figure, "Accuracy by head" if alone else "Accuracy against imbalance", setting)
    look = (
        "Look for intervals that do not overlap: only those heads differ beyond their seeds."
        if alone
        else "Look for curves that fall less steeply to the right: they bear imbalance better."
    )
    title = f"Accuracy on {setting.data} against imbalance"
    return [_exhibit(f"{name}-against-ratio", title, look, setting, long, figure)]


def accuracy_against_dim(
    runs: DataFrame, name: str, evidence: Evidence | None = None
) -> list[Exhibit]:
    """Accuracy of every head as its embedding gets longer, one panel per ratio.

    runs: tidy frame of one setting. name: begins that of the files. Nothing if all cells share one
    embedding length or none has an accuracy. Raises ValueError for several settings.
    """
    setting = single(runs)
    long = measured(runs, ["accuracy"], place=["ratio"])
    if long["mean"].isna().all() or long["dim"].nunique() == 1:
        return []
    with matplotlib.rc_context(style.SETTINGS):
        figure = _dims(long)
        _entitle(figure, "Accuracy against embedding length", setting)
    look = "Look for curves that stay high to the left: those heads need few dimensions."
    title = f"Accuracy on {setting.data} against embedding length"
    return [_exhibit(f"{name}-against-dim", title, look, setting, long, figure)]


def _exhibit(
    name: str, title: str, look: str, setting: Setting, long: DataFrame, figure: Figure
) -> Exhibit:
    n = ink.same_n(long)
    gone = long[long["n"] == 0]
    caption = ink.join(
        f"{title}.",
        ink.protocol(setting),
        "Points are single seeds (n = 1): no interval can be stated."
        if n == 1
        else f"{INTERVALS}, n = {n} seeds."
        if n
        else f"{INTERVALS}; n differs, points without a bar are single seeds.",
        f"{ink.LOST} a seed diverged or failed; the mean is over the others."
        if (long["n_diverged"] + long["n_failed"]).any()
        else "",
        ink.bounds(long),
        "Without a finished seed, hence without a point: "
        + ", ".join(f"{_name(r)} at {ink.ratio(r['ratio'])}" for _, r in gone.iterrows())
        + "."
        if len(gone)
        else "",
    )
    return Exhibit(
        *(name, title, look, None, None, csv(long), figure, caption),
        percent=PERCENT,
    )


def _ratios(long: DataFrame) -> Figure:
    figure, axes = canvas(1, entries=len(long.groupby(["head", "dim"])))
    axis = axes[0]
    groups = _groups(long)
    span = math.log(long["ratio"].max() / long["ratio"].min())
    for i, (label, part, look, fill) in enumerate(groups):
        aside = math.exp(_aside(i, len(groups)) * span)
        draw(axis, part["ratio"].to_numpy() * aside, part, label, look, fill)
    ratios = sorted(long["ratio"].unique())
    axis.set_xscale("log")
    axis.set_xticks(ratios, [ink.ratio(r) for r in ratios])
    axis.xaxis.minorticks_off()
    axis.set_xlabel("Imbalance ratio, largest over smallest class (log scale)")
    finish(figure, axes)
    return figure


def _dims(long: DataFrame) -> Figure:
    ratios = sorted(long["ratio"].unique())
    heads = style.order(long["head"])
    figure, axes = canvas(len(ratios), entries=len(heads))
    dims = sorted(long["dim"].unique())
    span = math.log(dims[-1] / dims[0])
    for axis, ratio in zip(axes, ratios, strict=True):
        for i, head in enumerate(heads):
            part = long[(long["ratio"] == ratio) & (long["head"] == head)].sort_values("dim")
            aside = math.exp(_aside(i, len(heads)) * span)
            draw(axis, part["dim"].to_numpy() * aside, part, head, style.look(head), "full")
        axis.set_xscale("log", base=2)
        axis.set_xticks(dims, [str(d) for d in dims])
        axis.xaxis.minorticks_off()
        axis.set_xlabel("Embedding length d (log scale)")
        axis.set_title(ink.ratio(ratio), loc="left")
    finish(figure, axes)
    return figure


def _rows(long: DataFrame) -> Figure:
    figure = Figure(figsize=(6.4, 1.5 + 0.27 * len(long)), layout="constrained")
    axis = figure.subplots()
    groups = _groups(long)
    for i, (_, part, look, fill) in enumerate(groups):
        draw(axis, np.array([i]), part, "", look, fill, sideways=True)
    axis.set_yticks(range(len(groups)), [style.plain(label) for label, *_ in groups])
    axis.set_ylim(len(groups) - 0.5, -0.5)
    axis.set_xlabel(f"Accuracy on the test set (%), ratio {ink.ratio(long['ratio'].iloc[0])}")
    axis.set_xlim(*_within(axis.get_xlim()))
    return figure


def _groups(long: DataFrame) -> list[tuple[str, DataFrame, style.Look, str]]:
    """One curve per head and embedding length: label, points, look, and fill by length."""
    groups = []
    for head in style.order(long["head"]):
        mine = long[long["head"] == head]
        for i, dim in enumerate(sorted(mine["dim"].unique(), reverse=True)):
            part = mine[mine["dim"] == dim].sort_values("ratio")
            fill = style.FILLS[i % len(style.FILLS)]
            groups.append((_name(part.iloc[0]), part, style.look(head), fill))
    return groups


def draw(
    axis: Axes,
    place: np.ndarray,
    part: DataFrame,
    label: str,
    look: style.Look,
    fill: str,
    sideways: bool = False,
    scale: float = 100,
    always: bool = False,
) -> None:
    """One curve: points with bars; joined only where there is more than one seed.

    place: of the points, (n,). part: as from `stats.summary`, (n,) rows. scale: of what is drawn
    over what is measured; 100, per cent. always: join them for one seed too, where chance has no
    part in them.
    """
    known = part["mean"].notna().to_numpy()
    place, part = place[known], part[known]
    mean = scale * part["mean"].to_numpy()
    reach = np.nan_to_num(scale * part["high"].to_numpy() - mean)
    x, y = (mean, place) if sideways else (place, mean)
    joined = look.dashes if always or (part["n"] > 1).any() else "none"
    axis.plot(
        *(x, y),
        color=look.colour,
        marker=look.marker,
        fillstyle=fill,
        linestyle=joined,
        label=style.plain(label),
    )
    bars = {"xerr": reach} if sideways else {"yerr": reach}
    capsize = 2.5 if reach.any() else 0
    axis.errorbar(x, y, fmt="none", ecolor=look.colour, elinewidth=1, capsize=capsize, **bars)
    lost = (part["n_diverged"] + part["n_failed"]).to_numpy() > 0
    for spot in zip(x[lost], y[lost], strict=True):
        axis.annotate(
            *(ink.LOST, spot, (4, 4)),
            textcoords="offset points",
            color=look.colour,
            fontsize=11,
            fontweight="bold",
        )


def canvas(panels: int, entries: int) -> tuple[Figure, list[Axes]]:
    """A figure with panels that share their y axis, and room for a legend of that many entries."""
    columns = 2 if panels == 4 else min(panels, 3)
    rows = -(-panels // columns)
    height = max(3.0 * rows + 0.6, 0.2 * entries + 1.0)
    figure = Figure(figsize=(3.0 * columns + (4.2 if columns == 1 else 2.2), height))
    figure.set_layout_engine("constrained")
    axes = figure.subplots(rows, columns, sharey=True, squeeze=False).ravel()
    for spare in axes[panels:]:
        spare.remove()
    return figure, list(axes[:panels])


def finish(
    figure: Figure, axes: list[Axes], what: str = "Accuracy on the test set (%)", top: float = 100
) -> None:
    """Name the y axes, keep them in [0, top], and put one legend beside all panels."""
    axes[0].set_ylim(max(0.0, axes[0].get_ylim()[0]), min(top, axes[0].get_ylim()[1]))
    for axis in axes:
        if axis.get_subplotspec().is_first_col():
            axis.set_ylabel(what)
    handles: dict[str, Line2D] = {}
    for axis in axes:
        for line, label in zip(*axis.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, line)
    figure.legend(handles.values(), handles.keys(), loc=LEGEND, handlelength=3)


def _entitle(figure: Figure, title: str, setting: Setting) -> None:
    what = f"{setting.data} · {setting.backbone} · {setting.recipe}"
    figure.suptitle(style.plain(f"{title}\n{what}"), x=0.01, ha="left", fontsize=10)


def _name(row: object) -> str:
    return f"{row['head']}, d = {row['dim']}"


def _aside(i: int, count: int) -> float:
    """How far the i-th of count curves stands beside its tick, as a share of the axis."""
    return (i - (count - 1) / 2) * min(0.012, 0.1 / count)


def _within(limits: tuple[float, float]) -> tuple[float, float]:
    return max(0.0, limits[0]), min(100.0, limits[1])
