"""Accuracy class by class, from frequent to rare.

With a hundred classes of a hundred test images each, a line through single classes is noise: above
20 classes the figure shows tenths, groups of a tenth of the classes by frequency. The csv has both,
single classes of the heads that are drawn.
"""

from dataclasses import dataclass

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pandas import DataFrame

from reports import ink, style, trace
from reports.counts import GROUPS
from reports.evidence import Evidence
from reports.exhibits import Exhibit, chosen
from reports.frames import single

SINGLE = 20
"""Up to so many classes are drawn one by one; ours: their names or ranks can still be read."""

PARTS = 10
"""Groups of classes drawn where there are more; ours: tenths, of ten classes for CIFAR-100."""

COLUMNS = (
    *("id", "ratio", "head", "dim", "ranks", "class", "name", "count", "group"),
    *("n", "mean", "sd", "low", "high", "keys"),
)

TITLE = "Accuracy by class, from frequent to rare"


@dataclass(frozen=True, slots=True, eq=False)
class Ranked:
    """The classes of one data set at one ratio, from frequent to rare; each field (classes,).

    order         label of each rank; equal counts keep the order of their labels
    counts        training images
    names         '' where unknown
    groups        many, medium or few
    superclasses  '' where unknown
    """

    order: np.ndarray
    counts: np.ndarray
    names: tuple[str, ...]
    groups: tuple[str, ...]
    superclasses: tuple[str, ...]

    def borders(self) -> list[tuple[str, int, int]]:
        """Name, first and last rank (from 1) of the groups that have classes."""
        spans = []
        for name in GROUPS:
            ranks = [rank for rank, group in enumerate(self.groups, 1) if group == name]
            spans += [(name, ranks[0], ranks[-1])] if ranks else []
        return spans


def ranked(key: str, evidence: Evidence) -> Ranked:
    """The classes as a finished cell tells them; all cells of one ratio have the same."""
    told = evidence.facts(key)["result"]
    counts = np.asarray(told["counts"], dtype=np.int64)
    order = np.argsort(-counts, kind="stable")
    names = told.get("names") or [""] * len(counts)
    above = told.get("superclasses") or [""] * len(counts)
    return Ranked(
        order=order,
        counts=counts[order],
        names=tuple(names[label] for label in order),
        groups=tuple(told["groups"][label] for label in order),
        superclasses=tuple(above[label] for label in order),
    )


def per_class(runs: DataFrame, name: str, evidence: Evidence | None = None) -> list[Exhibit]:
    """Test accuracy of every head by class frequency, a panel per ratio.

    runs: tidy frame of one setting. name: begins that of the files. evidence: 'per_class' of the
    cells, and the counts among their facts; no exhibit where no finished cell kept them.
    Raises ValueError for several settings.
    """
    setting = single(runs)
    kept = {}
    known: dict[float, Ranked] = {}
    for (ratio,), part in runs.groupby(["ratio"], sort=True):
        for curve in chosen.curves(part):
            cells, arrays = chosen.kept(curve.of(part), evidence, "per_class")
            if arrays and ratio not in known:
                known[ratio] = ranked(cells["key"].iloc[0], evidence)
            if arrays:
                kept[curve, ratio] = cells, arrays
    if not kept:
        return []
    shown, left = chosen.drawn(sorted({curve for curve, _ in kept}, key=chosen.Curve.place))
    found = {}
    for (curve, ratio), (behind, arrays) in kept.items():
        place = {"ratio": ratio, "head": curve.head, "dim": curve.dim}
        rows = _rows(known[ratio], np.stack(arrays), every=curve in shown)
        found[curve, ratio] = rows.assign(**place, keys=trace.keys_of(behind))
    ratios = chosen.spread([*known])
    panels = [{c: found[c, ratio] for c in shown if (c, ratio) in found} for ratio in ratios]
    cells = [{c: c.of(runs[runs["ratio"] == ratio]) for c in shown} for ratio in ratios]
    with matplotlib.rc_context(style.SETTINGS):
        figure, tops, strips = _canvas(
            len(ratios), chosen.legend_size([curve.label for curve in shown])
        )
        for nth, ratio in enumerate(ratios):
            _panel(tops[nth], panels[nth], cells[nth])
            _strip(strips[nth], known[ratio])
            _borders(tops[nth], strips[nth], known[ratio])
            tops[nth].set_title(ink.ratio(ratio), loc="left", pad=12)
            strips[nth].set_xlabel("Class by frequency rank" if ratio > 1 else "Class by label")
        tops[0].set_ylabel("Accuracy on the test set (%)")
        strips[0].set_ylabel("Training\nimages")
        cut = chosen.limit(tops[0], [_points(r) for panel in panels for r in panel.values()])
        chosen.beside(figure, tops)
        chosen.entitle(figure, TITLE, setting)
    total = max(len(each.order) for each in known.values())
    title = f"{TITLE}, on {setting.data}"
    caption = ink.join(
        f"{title}.",
        f"A point is the mean over a tenth of the {total} classes, ranked by training images."
        if total > SINGLE
        else "A point is one class; classes are ranked by training images.",
        "At ratio 1 all have as many, and stand in the order of their labels."
        if 1 in known
        else "",
        "Below: training images of each class.",
        "Dashed lines part the many, medium and few."
        if any(len(known[ratio].borders()) > 1 for ratio in ratios)
        else "",
        chosen.seeds([int(r["n"].max()) for panel in panels for r in panel.values()], "bars are"),
        "Bars that leave the panel are cut." if cut else "",
        chosen.gone([part for panel in cells for part in panel.values()]),
        chosen.left_out(left),
        chosen.some_ratios([*known], ratios),
        ink.protocol(setting),
    )
    look = (
        "Look at the right end: there the heads differ in what they do with few images."
        if max(known) > 1
        else "Look for a head that leaves the others in some classes only: it has a price there."
    )
    return [
        Exhibit(
            name=f"{name}-per-class",
            title=title,
            look=look,
            table=None,
            latex=None,
            csv=_csv([*found.values()]),
            figure=figure,
            caption=caption,
            percent=dict.fromkeys(("mean", "sd", "low", "high"), 1),
        )
    ]


def _rows(classes: Ranked, accuracy: np.ndarray, every: bool) -> DataFrame:
    """Mean and interval of the parts that are drawn, then of each class.

    accuracy: (seeds, classes), in label order, NaN for a class without test images. every: whether
    single classes are wanted where parts are drawn.
    """
    total = len(classes.order)
    if total <= SINGLE:
        return _singles(classes, accuracy)
    parts = np.array_split(np.arange(total), PARTS)
    means = np.stack([_mean(accuracy[:, classes.order[part]]) for part in parts], axis=1)
    tenths = chosen.over_seeds(means).assign(
        first=[part[0] + 1 for part in parts],
        last=[part[-1] + 1 for part in parts],
        count=[classes.counts[part].mean() for part in parts],
        **{"class": "", "name": "", "group": ""},
    )
    return chosen.stack([tenths, _singles(classes, accuracy)]) if every else tenths


def _singles(classes: Ranked, accuracy: np.ndarray) -> DataFrame:
    ranks = np.arange(1, len(classes.order) + 1)
    return chosen.over_seeds(accuracy[:, classes.order]).assign(
        first=ranks,
        last=ranks,
        count=classes.counts,
        **{"class": classes.order.astype(str), "name": classes.names, "group": classes.groups},
    )


def _mean(values: np.ndarray) -> np.ndarray:
    """Mean over the known classes of (seeds, classes), (seeds,); NaN where none is known."""
    n = (~np.isnan(values)).sum(axis=1)
    return np.divide(np.nansum(values, axis=1), n, out=np.full(len(n), np.nan), where=n > 0)


def _csv(found: list[DataFrame]) -> str:
    long = chosen.stack(found)
    first, last = long["first"].astype(str), long["last"].astype(str)
    single = long["class"] != ""
    long["ranks"] = first.where(single, first + "-" + last)
    long["spot"] = ("class " + long["class"]).where(single, "ranks " + long["ranks"])
    return trace.csv(trace.identified(long, ["head", "dim", "ratio", "spot"])[[*COLUMNS]])


def _canvas(panels: int, legend: tuple[float, float]) -> tuple[Figure, list[Axes], list[Axes]]:
    """Panels that share their y axis, a strip below each, and room for a legend of that size."""
    width = (4.0 if panels == 1 else 3.0 * panels) + legend[0]
    figure = Figure(figsize=(width, max(4.2, legend[1])), layout="constrained")
    axes = figure.subplots(
        *(2, panels), sharex="col", sharey="row", squeeze=False, height_ratios=(4, 1)
    )
    return figure, list(axes[0]), list(axes[1])


def _panel(
    axis: Axes, part: dict[chosen.Curve, DataFrame], cells: dict[chosen.Curve, DataFrame]
) -> None:
    for nth, (curve, every) in enumerate(part.items()):
        rows = _points(every)
        look = style.look(curve.head)
        # beside each other, so that bars can be told apart
        aside = (rows["last"] - rows["first"] + 1) * 0.6 * ((nth + 0.5) / len(part) - 0.5)
        x = (rows["first"] + rows["last"]) / 2 + aside
        mean = 100 * rows["mean"]
        axis.plot(
            *(x, mean),
            color=look.colour,
            marker=look.marker,
            markersize=4,
            linestyle=look.dashes,
            label=chosen.legend_label(curve, cells[curve]),
        )
        reach = np.nan_to_num(100 * rows["high"] - mean)
        if reach.any():
            axis.errorbar(x, mean, reach, fmt="none", ecolor=look.colour, elinewidth=0.7, alpha=0.6)


def _points(rows: DataFrame) -> DataFrame:
    """The rows that are drawn: of the tenths where there are any."""
    tenths = rows[rows["class"] == ""]
    return tenths if len(tenths) else rows


def _strip(axis: Axes, classes: Ranked) -> None:
    """Training images of each class."""
    total = len(classes.order)
    least, most = max(1, classes.counts.min()), classes.counts.max()
    floor = 0.0
    if most > 5 * least:
        axis.set_yscale("log")
        floor = least / 2
    edges = np.arange(total + 1) + 0.5
    axis.stairs(classes.counts, edges, fill=True, color="#bbbbbb", baseline=floor)
    axis.set_ylim(bottom=floor)
    axis.set_xlim(0.5, total + 0.5)
    if total <= SINGLE:
        axis.set_xticks(range(1, total + 1), [*map(str, range(1, total + 1))], fontsize=7)


def _borders(top: Axes, strip: Axes, classes: Ranked) -> None:
    """Borders of many, medium and few, and their names above the panel."""
    borders = classes.borders()
    for name, first, last in borders if len(borders) > 1 else []:
        if first > 1:
            for axis in (top, strip):
                axis.axvline(first - 0.5, color="#555555", linewidth=0.8, linestyle=(0, (4, 3)))
        top.annotate(
            *(name, ((first + last) / 2, 1)),
            xycoords=("data", "axes fraction"),
            xytext=(0, 2),
            textcoords="offset points",
            ha="center",
            fontsize=7,
            color="#555555",
        )
