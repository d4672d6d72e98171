"""Where the classes lie: cosines of class vectors, and how far they follow the superclasses."""

import math

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from pandas import DataFrame, Series

from reports import ink, latex, stats, style, trace
from reports.alignment import DRAWS, alignment, cosines, scorable, together
from reports.evidence import Evidence
from reports.exhibits import Exhibit
from reports.exhibits.chosen import Curve, entitle, kept, lost
from reports.exhibits.classes import TOLD_APART, Classes, heading, left_out, one_each, places, told
from reports.frames import Setting, single

MOST = 200
"""Classes of a matrix; ours: beyond, a panel has less than a dot of print for each."""

HUES = LinearSegmentedColormap.from_list(
    "cosines", [(0, "#56B4E9"), (0.5, "#FFFFFF"), (0.75, "#E07B2A"), (1, "#4A1500")]
)
"""Sky below 0, white at 0, to dark red above. In grey, only what is above 0 gets dark."""

GROUPED = "Look for dark blocks along the diagonal: there classes of one superclass lie close."
PLAIN = "Look for dark cells: there two classes lie close and are easily taken for each other."

MEASURES = ("score", "z", "neighbours")


def prototype_geometry(
    runs: DataFrame, name: str, evidence: Evidence | None = None
) -> list[Exhibit]:
    """Cosine matrices of class vectors, and their score against the superclasses.

    runs: tidy frame of one setting. name: begins that of the files. Nothing where no cell kept
    class vectors; no score where the data set has no superclasses.
    """
    setting = single(runs)
    if evidence is None:
        return []
    cells, vectors = kept(setting.runs, evidence, "class_vectors")
    fit = [len(v) == n and v.ndim == 2 for v, n in zip(vectors, cells["classes"], strict=True)]
    cells, vectors = cells[fit], [v for v, fits in zip(vectors, fit, strict=True) if fits]
    if cells.empty:
        return []
    by_key = dict(zip(cells["key"], vectors, strict=True))
    classes = told(cells, evidence)
    count = len(vectors[0])
    found = []
    if count <= MOST:
        found.append(_matrices(setting, f"{name}-prototypes", cells, by_key, classes))
    if len(classes.superclasses) == count and scorable(classes.superclasses):
        found.append(_table(setting, f"{name}-superclasses", by_key, classes))
    return found


def _matrices(
    setting: Setting,
    name: str,
    cells: DataFrame,
    vectors: dict[str, np.ndarray],
    classes: Classes,
) -> Exhibit:
    shown, left = one_each(cells)
    matrices = {cell["key"]: cosines(vectors[cell["key"]]) for _, cell in shown}
    count = len(next(iter(matrices.values())))
    order = classes.by_superclass(count)
    grouped = len(classes.superclasses) == count
    off = ~np.eye(count, dtype=bool)
    every = np.abs(np.concatenate([matrix[off] for matrix in matrices.values()]))
    reach = min(max(0.05, math.ceil(20 * np.quantile(every, 0.99)) / 20), 1.0)
    same, each = places([cell for _, cell in shown])
    with matplotlib.rc_context(style.SETTINGS):
        figure, axes = _grid(len(shown), bool(_ticks(classes, order)))
        for axis, (curve, cell), words in zip(axes, shown, each, strict=True):
            ordered = matrices[cell["key"]][np.ix_(order, order)]
            image = _panel(axis, ordered, Normalize(-reach, reach))
            axis.set_title(heading(curve, words), loc="left", fontsize=7.5)
            if axis.get_subplotspec().is_first_col():
                _name_rows(axis, _ticks(classes, order))
            if grouped:
                _outline(axis, [classes.superclasses[k] for k in order])
        beyond = "both" if every.max() > reach else "neither"
        figure.colorbar(image, ax=axes, label="Cosine", extend=beyond, shrink=0.8, aspect=30)
        entitle(figure, f"Cosines of class vectors{f', {same}' if same else ''}", setting)
    by = "by superclass, outlined" if grouped else "in label order"
    caption = ink.join(
        f"Cosine of each pair of class vectors on {setting.data}; classes {by}; the diagonal, "
        "which is 1, is left grey.",
        ink.protocol(setting),
        f"One cell of each head{f': {same}' if same else '; ratio and seed above each'}.",
        left_out(left),
    )
    return Exhibit(
        name=name,
        title=f"Cosines of class vectors on {setting.data}",
        look=GROUPED if grouped else PLAIN,
        table=None,
        latex=None,
        csv=_rows(shown, matrices, classes, order),
        figure=figure,
        caption=caption,
    )


def _rows(
    shown: list[tuple[Curve, Series]],
    matrices: dict[str, np.ndarray],
    classes: Classes,
    order: list[int],
) -> str:
    """One row a class in the order of the matrix; its row of the matrix as one text."""
    rows = []
    for curve, cell in shown:
        matrix = matrices[cell["key"]]
        others = np.where(np.eye(len(matrix), dtype=bool), -np.inf, matrix)
        for k in order:
            near = int(others[k].argmax())
            rows.append(
                {"head": curve.head, "dim": curve.dim, "ratio": cell["ratio"]}
                | {"seed": cell["seed"], "class": classes.called(k)}
                | {"superclass": classes.superclasses[k] if classes.superclasses else ""}
                | {"nearest": classes.called(near), "nearest_cosine": round(matrix[k, near], 6)}
                | {"cosines": " ".join(f"{v:.3f}" for v in np.round(matrix[k, order], 3) + 0.0)}
                | {"keys": cell["key"]}
            )
    return trace.csv(trace.identified(DataFrame(rows), ["head", "dim", "ratio", "class"]))


def _table(
    setting: Setting, name: str, vectors: dict[str, np.ndarray], classes: Classes
) -> Exhibit:
    scored = {key: alignment(cosines(v), classes.superclasses) for key, v in vectors.items()}
    runs = setting.runs[setting.runs["state"] != "pruned"].copy()
    for measure in (*MEASURES, "p"):
        values = [getattr(scored[k], measure) if k in scored else math.nan for k in runs["key"]]
        runs[measure] = np.array(values, dtype=np.float64)
    long = _summary(runs)
    first = next(iter(scored.values()))
    long["chance"], long["draws"] = first.chance, DRAWS
    long = trace.identified(long, ["head", "dim", "ratio"])
    table, ids = _print(long)
    marks = table.map(lambda _: "")
    distinct = len(set(classes.superclasses))
    pairs = int(together(classes.superclasses).sum() // 2)
    title = f"How far class vectors follow the superclasses of {setting.data}"
    caption = ink.join(
        f"{title}: {len(classes.superclasses)} classes in {distinct} superclasses.",
        f"Score: mean cosine of two classes within a superclass ({pairs} pairs) minus that across; "
        "z: in standard deviations over all assignments of the same points to the classes, exact, "
        "and bounded where the points are nearly alike, as they are from d = classes/2 on; "
        f"p: share of {DRAWS} random assignments that do as well, (1 + hits)/(1 + draws), "
        "one-sided, the largest over seeds; "
        "neighbours: share of classes, in per cent, whose nearest class is of their superclass, "
        f"by chance {ink.percent(first.chance)}.",
        f"{ink.NOTHING} where all points are alike, as those of a simplex: there all assignments "
        "score 0."
        if long["z"].isna().any()
        else "",
        ink.protocol(setting),
        "Mean ± standard deviation (n − 1 in the denominator) over n seeds; nothing is marked: "
        "following the superclasses is neither good nor bad in itself.",
        f"{ink.LOST} finished/planned seeds: some diverged or failed; the rest is over the others."
        if lost(runs)
        else "",
    )
    return Exhibit(
        name=name,
        title=title,
        look="Look for z far above 0: heads that learn their class vectors or assign them by what "
        "images look like can get there; where points are dealt out blindly, as by hpn, they stay.",
        table=table,
        latex=latex.fragment(table, marks, caption, name, block="ratio"),
        csv=trace.csv(long),
        figure=None,
        caption=caption,
        marks=marks,
        percent=dict.fromkeys(("neighbours", "neighbours_sd", "chance"), 1),
        ids=ids,
    )


def _summary(runs: DataFrame) -> DataFrame:
    """One row per ratio, head and length that has a score: means, spreads, and the largest p."""
    by = ["ratio", "head", "dim"]
    parts = {measure: stats.summary(runs, by, measure) for measure in MEASURES}
    long = parts["score"][[*by, "cells", "n", "n_diverged", "n_failed", "keys"]].copy()
    for measure, part in parts.items():
        long[measure], long[f"{measure}_sd"] = part["mean"], part["sd"]
    largest = runs.groupby(by, sort=True)["p"].max()
    long["p"] = [largest[place] for place in long[by].itertuples(index=False, name=None)]
    long = long[long["n"] > 0].round(dict.fromkeys([*long.columns[-7:]], 9))
    long["rank"] = long["head"].map(style.rank)
    return long.sort_values(["ratio", "rank", "dim"], ignore_index=True).drop(columns="rank")


def _print(long: DataFrame) -> tuple[DataFrame, DataFrame]:
    """Display strings, and the id of the row behind each."""
    rows = []
    for _, row in long.iterrows():
        gone = row["n_diverged"] + row["n_failed"]
        rows.append(
            {"ratio": ink.ratio(row["ratio"]), "head": row["head"], "d": row["dim"]}
            | {"n": f"{row['n']}/{row['cells']}{ink.LOST}" if gone else str(row["n"])}
            | {"score": _spread(row["score"], row["score_sd"], 3)}
            | {"z": _spread(row["z"], row["z_sd"], 1), "p": _fixed(row["p"], 4)}
            | {"neighbours": _spread(100 * row["neighbours"], 100 * row["neighbours_sd"], 1)}
        )
    table = DataFrame(rows)
    ids = DataFrame({column: long["id"] for column in table})
    ids[["ratio", "head", "d"]] = ""
    return table, ids


def _spread(mean: float, sd: float, decimals: int) -> str:
    text = _fixed(mean, decimals)
    return text if math.isnan(sd) else f"{text} ± {_fixed(sd, decimals)}"


def _fixed(value: float, decimals: int) -> str:
    # adding 0 takes the sign off a rounded −0
    return (
        ink.NOTHING
        if math.isnan(value)
        else f"{round(value, decimals) + 0.0:.{decimals}f}".replace("-", "−")
    )


def _grid(panels: int, named: bool) -> tuple[Figure, list[Axes]]:
    rows = -(-panels // 4)
    columns = -(-panels // rows)
    side = 3.0 if panels == 1 else 1.8
    figure = Figure(figsize=(side * columns + (1.9 if named else 0.9), (side + 0.45) * rows + 0.5))
    figure.set_layout_engine("constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for spare in axes[panels:]:
        spare.remove()
    return figure, list(axes[:panels])


def _panel(axis: Axes, matrix: np.ndarray, norm: Normalize) -> object:
    axis.set_facecolor("#BBBBBB")  # shows through on the diagonal
    hidden = np.ma.masked_where(np.eye(len(matrix), dtype=bool), matrix)
    axis.grid(False)
    axis.set_xticks([])
    axis.set_yticks([])
    axis.spines[:].set_visible(False)
    return axis.imshow(hidden, cmap=HUES, norm=norm, interpolation="nearest")


def _ticks(classes: Classes, order: list[int]) -> list[tuple[float, str]]:
    """Where a name stands beside the rows: superclasses, or up to 20 classes."""
    if len(classes.superclasses) == len(order):
        ordered = [classes.superclasses[k] for k in order]
        return [
            (ordered.index(each) + (ordered.count(each) - 1) / 2, each)
            for each in dict.fromkeys(ordered)
        ]
    return [(i, classes.called(k)) for i, k in enumerate(order)] if len(order) <= TOLD_APART else []


def _name_rows(axis: Axes, ticks: list[tuple[float, str]]) -> None:
    axis.set_yticks([place for place, _ in ticks], [style.plain(text) for _, text in ticks])
    axis.tick_params(axis="y", labelsize=5.5, length=0, pad=1)


def _outline(axis: Axes, ordered: list[str]) -> None:
    for each in dict.fromkeys(ordered):
        start, size = ordered.index(each) - 0.5, ordered.count(each)
        square = Rectangle((start, start), size, size, fill=False, linewidth=0.4, clip_on=False)
        axis.add_patch(square)
