"""How prototypes lie: Figures 2 and 3 of the prototype classifiers (arXiv:2302.00491).

Each function gives one exhibit for every ground on which there is something to draw: one data set,
network, recipe of the features, ratio and width. The paper prints no numbers beside these figures,
so there is no verdict; what its text claims is measured and stands in the caption.
"""

import math
from collections.abc import Iterator
from functools import partial

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pandas import DataFrame, Series
from scipy.stats import spearmanr

from reports import ink, stats, style, trace
from reports.counts import CANONICAL, class_counts, group
from reports.evidence import Evidence
from reports.exhibits import Exhibit, numbered
from reports.exhibits.curves import LEGEND
from reports.frames import COMPARABLE, searches, slug
from reports.methods import fits, recipes, that

GROUND = [*COMPARABLE, "ratio", "dim"]
PROTOTYPES = "psc > prototypes"

VECTORS = {"softmax weights": "psc", "centroids": "psc > ncm", "prototypes": PROTOTYPES}
"""Set of class vectors -> the head whose `class_vectors` they are."""

PAIRS = {
    "all": style.Look(style.COLOURS["black"], "o", "-"),
    "many_many": style.Look(style.COLOURS["blue"], "s", "--"),
    "many_few": style.Look(style.COLOURS["orange"], "D", "-."),
    "few_few": style.Look(style.COLOURS["red"], "^", ":"),
}
"""Pairs of classes, as the readings of the prototype head are named, and how they are drawn."""

MEASURES = {
    "distance": ("Mean Euclidean distance", 1),
    "cosine": ("Mean cosine", -1),
}
"""Reading -> its name, and where the paper sees it go along training: up or down."""


def norms(runs: DataFrame, printed: DataFrame, evidence: Evidence | None) -> list[Exhibit]:
    """Figure 2: class sizes, and norms of weights, centroids and prototypes, class by class."""
    found = []
    for part in _grounds(runs) if evidence else ():
        counts = _counts(part)
        if counts is None:
            continue
        long = _norms(part, evidence, counts)
        if long.empty or long["set"].nunique() < 2:
            continue
        told = [_balance(name, mine) for name, mine in long.groupby("set", sort=False)]
        with matplotlib.rc_context(style.SETTINGS):
            figure = Figure(figsize=(7.2, 5.0), layout="constrained")
            axes = figure.subplots(2, 2, sharex=True).ravel()
            _sizes(axes[0], counts)
            for axis, (name, mine) in zip(axes[1:], long.groupby("set", sort=False), strict=False):
                _band(axis, mine["class"], mine, style.look(VECTORS[name]), marker=False)
                axis.set_ylim(bottom=0)  # balance is a matter of the whole length
                axis.set_title(name, loc="left")
                axis.set_ylabel("Euclidean norm")
            for axis in axes[1 + long["set"].nunique() :]:
                axis.remove()
            for axis in axes[-2:]:
                axis.set_xlabel("Class, by falling size")
        found.append(
            _exhibit(
                *("2", "Class size and norms of class vectors", part, long, figure),
                "Look for a flat curve: the paper sees weights that fall with the class size, "
                "uneven centroids, and learned prototypes of nearly equal norm.",
                f"Over the classes, {'; '.join(told)}.",
                "Class sizes are those of the profile, which add up to the images trained on.",
            )
        )
    return numbered(found)


def separation(runs: DataFrame, printed: DataFrame, evidence: Evidence | None) -> list[Exhibit]:
    """Figure 3: mean distance and cosine between prototypes along training, by groups of classes.

    From the readings distance_all, …, cosine_few_few of the prototype head.
    """
    found = []
    for part in _grounds(runs) if evidence else ():
        cells = _cells(part, PROTOTYPES)
        long = _histories(cells, evidence)
        if long.empty:
            continue
        with matplotlib.rc_context(style.SETTINGS):
            figure = Figure(figsize=(7.2, 3.2), layout="constrained")
            for axis, (measure, (title, _)) in zip(
                figure.subplots(1, 2), MEASURES.items(), strict=True
            ):
                for pair, look in PAIRS.items():
                    mine = long[(long["measure"] == measure) & (long["pair"] == pair)]
                    if len(mine):
                        _band(axis, mine["step"], mine, look, label=pair.replace("_", " – "))
                axis.set_xlabel("Step")
                axis.set_title(title, loc="left")
            figure.legend(*axis.get_legend_handles_labels(), loc=LEGEND, handlelength=3)
        told = [_course(long, measure, pair) for measure in MEASURES for pair in PAIRS]
        found.append(
            _exhibit(
                *("3", "Distances and cosines between prototypes", part, long, figure),
                "Look whether distances rise and cosines fall all along, and whether pairs of rare "
                "classes stay closer than pairs of frequent ones: that is what the paper reports.",
                f"From first to last reading: {'; '.join(filter(None, told))}.",
                "Pairs of two different classes; many: at least 100 images, few: below 20.",
            )
        )
    return numbered(found)


def _grounds(runs: DataFrame) -> Iterator[DataFrame]:
    runs = runs[~searches(runs) & (runs["state"] == "done")]
    for _, part in runs.groupby(GROUND, sort=True):
        yield part


def _cells(part: DataFrame, pattern: str) -> DataFrame:
    """Cells of a head; of those with other recipes for the same stages, one kind only."""
    pipes = part["head"].map(lambda head: recipes(head)[0])
    mine = part[that(pipes, partial(fits, pattern=pattern))]
    # the plain name first, then the one with fewest words
    heads = sorted(mine["head"].unique(), key=lambda head: (len(head), head))
    return mine[mine["head"] == heads[0]] if heads else mine


def _counts(part: DataFrame) -> tuple[int, ...] | None:
    """Images of each class, None where they are not known for certain."""
    cell = part.iloc[0]
    data = str(cell["data"]).split(" ")[0]
    if data not in CANONICAL or cell["ratio"] == 1 or cell["profile"] not in ("", "exponential"):
        return None
    classes, largest = CANONICAL[data]
    counts = class_counts(classes, cell["largest"] or largest, cell["ratio"])
    images = part["train_images"].dropna().unique()
    return counts if images.tolist() == [sum(counts)] else None


def _norms(part: DataFrame, evidence: Evidence, counts: tuple[int, ...]) -> DataFrame:
    """Mean norm of each class over seeds, for each set of vectors that was kept."""
    rows = []
    for name, pattern in VECTORS.items():
        kept, keys = [], []
        cells = _cells(part, pattern)
        for key in cells["key"]:
            vectors = evidence.arrays(key).get("class_vectors")
            if vectors is not None and len(vectors) == len(counts):
                kept.append(np.linalg.norm(np.asarray(vectors, dtype=np.float64), axis=1))
                keys.append(key)
        for k, lengths in enumerate(np.transpose(kept) if kept else ()):
            low, high = stats.interval(lengths)
            rows.append(
                {"set": name, "head": cells["head"].iloc[0], "class": k, "images": counts[k]}
                | {"group": group(counts[k]), "n": len(lengths), "mean": stats.mean(lengths)}
                | {"low": low, "high": high, "keys": " ".join(sorted(keys))}
            )
    return DataFrame(rows)


def _balance(name: str, mine: DataFrame) -> str:
    """How far norms vary, and whether with the class size."""
    with np.errstate(invalid="ignore"):
        spread = stats.sd(mine["mean"]) / stats.mean(mine["mean"])
        rank = spearmanr(mine["images"], mine["mean"]).statistic if spread > 0 else math.nan
    with_size = f", rank correlation with size {rank:+.2f}" if not math.isnan(rank) else ""
    return f"{name}: sd over mean {spread:.3f}{with_size}".replace("-", "−")


def _histories(cells: DataFrame, evidence: Evidence) -> DataFrame:
    """Mean over seeds of every reading, by measure, pair and step."""
    rows = []
    for measure in MEASURES:
        for pair in PAIRS:
            name = f"head/{measure}_{pair}"
            parts = [evidence.series(key, name).assign(key=key) for key in cells["key"]]
            known = [part for part in parts if len(part)]
            for step, at in pd.concat(known).groupby("step") if known else ():
                low, high = stats.interval(at["value"].to_numpy())
                rows.append(
                    {"measure": measure, "pair": pair, "step": step, "n": len(at)}
                    | {"mean": stats.mean(at["value"].to_numpy()), "low": low, "high": high}
                    | {"keys": trace.keys_of(at)}
                )
    return DataFrame(rows)


def _course(long: DataFrame, measure: str, pair: str) -> str:
    """Where a curve began and ended, and how much of it went the way that the paper reports."""
    mine = long[(long["measure"] == measure) & (long["pair"] == pair)].sort_values("step")
    if len(mine) < 2:
        return ""
    mean = mine["mean"].to_numpy()
    way = MEASURES[measure][1]
    right = int((way * np.diff(mean) > 0).sum())
    text = f"{measure} {pair.replace('_', ' – ')} {mean[0]:.3f} to {mean[-1]:.3f}"
    return f"{text}, {'up' if way > 0 else 'down'} in {right} of {len(mean) - 1}"


def _largest(cell: Series) -> str:
    data = str(cell["data"]).split(" ")[0]
    usual = CANONICAL[data][1] if data in CANONICAL else "as found"
    return f"largest class {cell['largest'] or usual}"


def _sizes(axis: Axes, counts: tuple[int, ...]) -> None:
    axis.bar(range(len(counts)), counts, width=1.0, color=style.COLOURS["grey"])
    axis.set_title("class size", loc="left")
    axis.set_ylabel("Training images")


def _band(
    axis: Axes,
    place: Series,
    mine: DataFrame,
    look: style.Look,
    *,
    label: str = "",
    marker: bool = True,
) -> None:
    """A curve of means with the interval over seeds as a band, where there is one."""
    line = {"color": look.colour, "linestyle": look.dashes if marker else "-", "label": label}
    axis.plot(place, mine["mean"], marker=look.marker if marker else "", markevery=0.1, **line)
    axis.fill_between(
        *(place, mine["low"].fillna(mine["mean"]), mine["high"].fillna(mine["mean"])),
        color=look.colour,
        alpha=0.15,
        linewidth=0,
    )


def _exhibit(
    number: str,
    title: str,
    part: DataFrame,
    long: DataFrame,
    figure: Figure,
    look: str,
    *more: str,
) -> Exhibit:
    cell = part.iloc[0]
    where = f"{cell['data']}, {cell['backbone']}, {ink.ratio(cell['ratio'])}"
    seeds = sorted(set(long["n"]))
    n = f"n = {seeds[0]}" if len(seeds) == 1 else f"n from {seeds[0]} to {seeds[-1]}"
    with matplotlib.rc_context(style.SETTINGS):
        heading = f"Figure {number}: {title}\n{where} · {cell['recipe']}"
        figure.suptitle(style.plain(heading), x=0.01, ha="left", fontsize=10)
    caption = ink.join(
        f"Figure {number}: {title}, on {where}, features by recipe {cell['recipe']}, "
        f"{cell['epochs']} epochs, {_largest(cell)}.",
        f"Means over seeds, {n}; bands are 95 % t intervals, none for a single seed.",
        *more,
    )
    by = [name for name in ("set", "class", "measure", "pair", "step") if name in long]
    words = [str(cell[name]) for name in ("data", "backbone", "recipe")]
    words += [f"{cell['ratio']:g}", str(cell["dim"]), str(cell["largest"])]
    return Exhibit(
        name=slug("prototype-classifier-figure", number, *words),
        title=f"Figure {number}: {title}",
        look=look,
        table=None,
        latex=None,
        csv=trace.csv(trace.identified(long.round(9), by)),
        figure=figure,
        caption=caption,
    )
