"""How points lie on the sphere: DL2PA's Figures 2a to 2c, 3a and 3c, which need no images.

The cells come from `suites/geometry.yaml`: data set sphere, heads described as they were built.
Figure 3c is a cost: it belongs to the machine.
"""

from functools import partial

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from pandas import DataFrame

from reports import ink, stats, style, trace
from reports.evidence import Evidence
from reports.exhibits import Exhibit
from reports.exhibits.curves import canvas, draw, finish
from reports.frames import searches
from reports.methods import fits, that

CLASSES = 100  # of the paper's figures

SETS = {
    "lowest energy": ("fixed points=energy *", "fixed"),
    "largest average angle": ("fixed points=average_angle *", "fixed points=average_angle"),
    "random": ("fixed points=random *", "fixed points=random"),
}
"""Name of a set of points -> pattern of its head, and the head whose look it has."""

FRAMES = {
    "hpn, released": ("hpn placement=released *", "hpn placement=released"),
    "hpn": ("hpn placement=separation *", "hpn"),
    "etf": ("etf *", "etf"),
    "lowest energy": ("fixed points=energy *", "fixed"),
}
"""The same for Figure 3a."""


def average_angle(runs: DataFrame, printed: DataFrame, evidence: Evidence | None) -> list[Exhibit]:
    """Figure 2a: average pairwise angle against embedding length; it does not tell sets apart."""
    long = _sets(runs, SETS, "angle_mean")
    if long.empty:
        return []
    figure = _curves(long, 180 / np.pi, "Average pairwise angle (degrees)", top=180)
    return [
        _exhibit(
            *("2a", f"Average pairwise angle of {CLASSES} points", long, "angle_mean", figure),
            "Look at curves that lie on each other: by the average angle, points that spread and "
            "points that do not are equally good.",
            "The csv has radians.",
        )
    ]


def smallest_distance(
    runs: DataFrame, printed: DataFrame, evidence: Evidence | None
) -> list[Exhibit]:
    """Figure 2c: 1 − largest cosine against embedding length; this does tell sets apart."""
    long = _sets(runs.assign(distance=1 - runs["cosine_max"]), SETS, "distance")
    if long.empty:
        return []
    figure = _curves(long, 1, "1 − largest cosine", top=2)
    return [
        _exhibit(
            *("2c", f"Smallest cosine distance of {CLASSES} points", long, "cosine_max", figure),
            "Look at the distance between the curves: the points of lowest energy are the ones "
            "that keep apart.",
            "A simplex, from d = 99 on, has 1.0101; no set of 100 points has more.",
        )
    ]


def sphere(runs: DataFrame, printed: DataFrame, evidence: Evidence | None) -> list[Exhibit]:
    """Figure 2b: points in space, both halves of the sphere, coloured by their nearest neighbour.

    Lambert's equal-area projection: equal patches of the sphere are equal patches on paper.
    """
    if evidence is None:
        return []
    cells = _points(runs)
    cells = cells[(cells["dim"] == 3) & (cells["state"] == "done")]
    drawn: dict[str, DataFrame] = {}
    for name, (pattern, _) in SETS.items():
        mine = cells[that(cells["head"], partial(fits, pattern=pattern))].sort_values("seed")
        if len(mine):
            vectors = evidence.arrays(mine.iloc[0]["key"]).get("class_vectors")
            if vectors is not None:
                found = _neighbours(np.asarray(vectors, dtype=np.float64))
                drawn[name] = found.assign(keys=mine.iloc[0]["key"])
    if not drawn:
        return []
    long = pd.concat([part.assign(set=name) for name, part in drawn.items()], ignore_index=True)
    with matplotlib.rc_context(style.SETTINGS):
        figure = Figure(figsize=(6.6, 0.6 + 2.7 * len(drawn)), layout="constrained")
        axes = figure.subplots(len(drawn), 2, squeeze=False)
        norm = Normalize(0, long["nearest"].max())
        for row, (name, part) in zip(axes, drawn.items(), strict=True):
            for axis, sign in zip(row, (1, -1), strict=True):
                shown = _disc(axis, part, sign, norm)
            told = f"nearest {part['nearest'].min():.1f}°, mean {part['nearest'].mean():.1f}°"
            row[0].set_title(f"{name}: {told}", loc="left")
        figure.colorbar(shown, ax=axes, label="Angle to the nearest neighbour (degrees)")
        figure.suptitle("Figure 2b: points on the sphere", x=0.01, ha="left", fontsize=10)
    caption = (
        f"Figure 2b: {len(part)} points on the sphere, d = 3, each coloured by the angle to its "
        "nearest neighbour; left the upper half, right the lower, in Lambert's equal-area "
        "projection. One set of each kind, at the first seed."
    )
    return [
        Exhibit(
            name="dl2pa-figure-2b",
            title="Figure 2b: points on the sphere",
            look="Look for dark points: they have a neighbour closer than need be.",
            table=None,
            latex=None,
            csv=trace.csv(trace.identified(long.round(9), ["set", "point"])),
            figure=figure,
            caption=caption,
        )
    ]


def cosine_spread(runs: DataFrame, printed: DataFrame, evidence: Evidence | None) -> list[Exhibit]:
    """Figure 3a: mean, spread and extremes of the pairwise cosines at d = c = 100."""
    cells = _points(runs)
    cells = cells[cells["dim"] == CLASSES]
    measures = ("cosine_mean", "cosine_sd", "cosine_min", "cosine_max")
    parts = [_sets(cells, FRAMES, name) for name in measures]
    if parts[0].empty:
        return []
    long = parts[0][["set", "head", "dim", "n", "n_diverged", "n_failed", "keys"]].copy()
    for name, part in zip(measures, parts, strict=True):
        long[name] = part["mean"]
    with matplotlib.rc_context(style.SETTINGS):
        figure = Figure(figsize=(6.4, 1.5 + 0.42 * len(long)), layout="constrained")
        axis = figure.subplots()
        for i, row in enumerate(long.itertuples()):
            look = style.look(row.head)
            axis.plot([row.cosine_min, row.cosine_max], [i, i], color=look.colour, linewidth=1)
            ends = [row.cosine_mean - row.cosine_sd, row.cosine_mean + row.cosine_sd]
            axis.plot(ends, [i, i], color=look.colour, linewidth=5, solid_capstyle="butt")
            axis.plot(row.cosine_mean, i, marker=look.marker, color=look.colour, mec="white")
        axis.set_yticks(range(len(long)), [style.plain(name) for name in long["set"]])
        axis.set_ylim(len(long) - 0.5, -0.5)
        axis.set_xlabel(f"Cosine of two of {CLASSES} points, d = {CLASSES}")
    return [
        _exhibit(
            *("3a", f"Spread of pairwise cosines at d = c = {CLASSES}", long, "", figure),
            "Look for a bar that shrinks to a point at -0.0101: that is the simplex, where every "
            "pair is equally far apart.",
            "Thin line: smallest to largest cosine; thick: mean ± standard deviation over the "
            "pairs of one set of points.",
        )
    ]


def assignment_time(
    runs: DataFrame, printed: DataFrame, evidence: Evidence | None
) -> list[Exhibit]:
    """Figure 3c: seconds of one assignment against the number of classes. A cost."""
    cells = runs[runs["data"].str.startswith("sphere ") & runs["assignment_seconds"].notna()]
    cells = cells[that(cells["head"], lambda head: head.split(" ")[0] == "dl2pa")]
    if cells["classes"].nunique() < 2:
        return []
    long = stats.summary(cells, ["dim", "classes"], "assignment_seconds")
    long = long[long["n"] > 0]
    look = style.look("dl2pa")
    with matplotlib.rc_context(style.SETTINGS):
        figure, (axis,) = canvas(1, entries=long["dim"].nunique())
        for i, dim in enumerate(sorted(long["dim"].unique())):
            part = long[long["dim"] == dim].sort_values("classes")
            mine = style.Look(look.colour, style.MARKERS[i % len(style.MARKERS)], look.dashes)
            place = part["classes"].astype(float).to_numpy()
            draw(axis, place, part, f"d = {dim}", mine, "full", scale=1, always=True)
        ticks = sorted(long["classes"].unique())
        axis.set_xscale("log")
        axis.set_yscale("log")
        axis.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
        axis.xaxis.minorticks_off()
        axis.set_xlabel("Classes (log scale)")
        axis.set_ylabel("One assignment (seconds, log scale)")
        figure.legend(*axis.get_legend_handles_labels(), loc="outside right upper")
    exhibit = _exhibit(
        *("3c", "Time of one assignment", long, "assignment_seconds", figure),
        "Look how steeply the time grows: the assignment costs the cube of the classes at worst, "
        "and is done once an epoch.",
        "Wall time of one refresh, mean over the refreshes of a cell: it belongs to the machine "
        "and is kept with the costs.",
        cost=True,
    )
    return [exhibit]


def _points(runs: DataFrame) -> DataFrame:
    """Cells on the sphere with the paper's number of points, described as they were built."""
    runs = runs[~searches(runs) & (runs["epochs"] == 0) & runs["data"].str.startswith("sphere ")]
    return runs[runs["classes"] == CLASSES]


def _sets(runs: DataFrame, sets: dict[str, tuple[str, str]], metric: str) -> DataFrame:
    """Mean and interval of a measure for each set and embedding length, over seeds."""
    cells = _points(runs)
    parts = []
    for name, (pattern, head) in sets.items():
        mine = cells[that(cells["head"], partial(fits, pattern=pattern))]
        if mine[metric].notna().any():
            found = stats.summary(mine.assign(head=head, set=name), ["set", "dim"], metric)
            parts.append(found.assign(head=head))
    return pd.concat(parts, ignore_index=True) if parts else DataFrame()


def _curves(long: DataFrame, scale: float, what: str, top: float) -> Figure:
    with matplotlib.rc_context(style.SETTINGS):
        figure, (axis,) = canvas(1, entries=long["set"].nunique())
        for nth, (name, part) in enumerate(long.groupby("set", sort=False)):
            part = part.sort_values("dim")
            look = style.look(part["head"].iloc[0])
            place = part["dim"].to_numpy() * 1.02**nth  # points that agree stand side by side
            draw(axis, place, part, name, look, "full", scale=scale, always=True)
        dims = sorted(long["dim"].unique())
        axis.set_xscale("log", base=2)
        axis.set_xticks(dims, [str(dim) for dim in dims])
        axis.xaxis.minorticks_off()
        axis.set_xlabel("Embedding length d (log scale)")
        finish(figure, [axis], what, top)
    return figure


def _neighbours(points: np.ndarray) -> DataFrame:
    """Unit vectors, (classes, 3) -> x, y, z and the angle to the nearest neighbour in degrees."""
    points = points / np.linalg.norm(points, axis=1, keepdims=True)
    cosines = points @ points.T
    np.fill_diagonal(cosines, -1)
    nearest = np.degrees(np.arccos(np.clip(cosines.max(1), -1, 1)))
    x, y, z = points.T
    return DataFrame({"point": range(len(points)), "x": x, "y": y, "z": z, "nearest": nearest})


def _disc(axis: Axes, part: DataFrame, sign: int, norm: Normalize) -> object:
    """One half of the sphere, seen from outside: radius √(2 (1 − |z|)), 0 at the pole."""
    half = part[sign * part["z"] >= 0]
    height = half["z"].abs()
    flat = np.hypot(half["x"], half["y"]).replace(0, 1)
    radius = np.sqrt(2 * (1 - height))
    x, y = sign * radius * half["x"] / flat, radius * half["y"] / flat
    shown = axis.scatter(x, y, c=half["nearest"], norm=norm, cmap="viridis", s=16)
    turn = np.linspace(0, 2 * np.pi, 200)
    rim = np.sqrt(2)
    axis.plot(rim * np.cos(turn), rim * np.sin(turn), color=style.COLOURS["grey"], linewidth=0.8)
    axis.set_aspect("equal")
    axis.set_axis_off()
    return shown


def _exhibit(
    number: str,
    title: str,
    long: DataFrame,
    metric: str,
    figure: Figure,
    look: str,
    more: str = "",
    cost: bool = False,
) -> Exhibit:
    """metric: the column of the frame that was summarised, '' where the csv's columns say it."""
    counts = sorted(set(long.loc[long["n"] > 0, "n"]))
    n = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    with matplotlib.rc_context(style.SETTINGS):
        heading = style.plain(f"Figure {number}: {title}")
        figure.suptitle(heading, x=0.01, ha="left", fontsize=10)
    caption = ink.join(
        f"Figure {number}: {title}.",
        "Assignments on the machine at hand, no image is seen."
        if cost
        else "Points as they are made, before any training; no image is seen.",
        f"Means over seeds, n = {n}; bars are 95 % t intervals, none for a single seed.",
        more,
    )
    plain = long.drop(columns="bound", errors="ignore").round(9)  # cosines may be negative
    plain = plain.assign(metric=metric) if metric else plain
    by = [name for name in ("set", "dim", "classes") if name in plain]
    return Exhibit(
        name=f"dl2pa-figure-{number}",
        title=f"Figure {number}: {title}",
        look=look,
        table=None,
        latex=None,
        csv=trace.csv(trace.identified(plain, by)),
        figure=figure,
        caption=caption,
        cost=cost,
    )
