"""Features and class vectors on the circle and on the sphere, and labels' ways between points."""

from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from pandas import DataFrame, Series

from reports import ink, style, trace
from reports.evidence import Evidence
from reports.exhibits import Exhibit
from reports.exhibits.chosen import Curve, entitle, kept
from reports.exhibits.classes import (
    TOLD_APART,
    Classes,
    heading,
    left_out,
    legend,
    look,
    one_each,
    places,
    told,
)
from reports.frames import Setting, single
from reports.maps import arc, graticule, hammer, stations, torn, unit

POINTS = 400
"""Test images of a panel; ours: more hide each other at this size."""

SEED = 0  # of the choice of test images, the same for every panel

RINGS = (0.3, 0.9)
"""Radii of the innermost and the outermost class on the circle."""

GRID = style.SETTINGS["grid.color"]


@dataclass(frozen=True, slots=True, eq=False)
class Panel:
    """What is drawn of one cell; all directions have length 1.

    features  (shown, dim) of test images, with their labels, (shown,)
    vectors   (classes, dim), at the end
    ways      for each class the points that it had from the start on, (stations, dim), each next
              one another than the one before; None where the assignment was not kept
    """

    curve: Curve
    cell: Series
    features: np.ndarray
    labels: np.ndarray
    vectors: np.ndarray
    ways: list[np.ndarray] | None


def sphere(runs: DataFrame, name: str, evidence: Evidence | None = None) -> list[Exhibit]:
    """Test features and class vectors for d = 2 and d = 3, one exhibit for each.

    runs: tidy frame of one setting. name: begins that of the files. Nothing where no cell with so
    short an embedding kept its features.
    """
    setting = single(runs)
    if evidence is None:
        return []
    found = []
    for dim in (2, 3):
        cells, _ = kept(setting.runs[setting.runs["dim"] == dim], evidence, "embedding")
        if cells.empty:
            continue
        shown, left = one_each(cells)
        made = [_panel(curve, cell, evidence) for curve, cell in shown]
        panels = [panel for panel in made if panel is not None]
        if panels:
            classes = told(cells, evidence)
            found.append(_exhibit(setting, f"{name}-sphere-d{dim}", panels, left, classes))
    return found


def _panel(curve: Curve, cell: Series, evidence: Evidence) -> Panel | None:
    arrays = evidence.arrays(cell["key"])
    if not {"embedding", "labels", "class_vectors"} <= set(arrays):
        return None
    features, labels = np.asarray(arrays["embedding"], np.float64), np.asarray(arrays["labels"])
    vectors = unit(np.asarray(arrays["class_vectors"], np.float64))
    if features.shape[1:] != (curve.dim,) or vectors.shape != (cell["classes"], curve.dim):
        return None
    thinned = np.random.default_rng(SEED).permutation(len(features))[:POINTS]
    thinned.sort()
    film = arrays.get("epochs.head.assignment")
    # vectors stand where the last snapshot says, or the film is of something else
    known = film is not None and np.array_equal(film[-1], arrays.get("head.assignment"))
    ways = stations(np.asarray(film), vectors) if known else None
    return Panel(curve, cell, unit(features[thinned]), labels[thinned], vectors, ways)


def _exhibit(
    setting: Setting, name: str, panels: Sequence[Panel], left: Sequence[Curve], classes: Classes
) -> Exhibit:
    dim, count = panels[0].curve.dim, len(panels[0].vectors)
    on = "circle" if dim == 2 else "sphere"
    same, each = places([panel.cell for panel in panels])
    moving = [panel.ways is not None and count <= TOLD_APART for panel in panels]
    with matplotlib.rc_context(style.SETTINGS):
        figure, axes = _grid(len(panels) + sum(moving), dim)
        spots = iter(axes)
        for panel, words, moves in zip(panels, each, moving, strict=True):
            axis = next(spots)
            axis.set_title(heading(panel.curve, words), loc="left", fontsize=8)
            _draw(axis, panel, count)
            if moves:
                axis = next(spots)
                axis.set_title(heading(panel.curve, "moves of labels"), loc="left", fontsize=8)
                _draw_ways(axis, panel)
        if count <= TOLD_APART:
            legend(figure, classes, count)
        entitle(figure, f"Features on the {on}{f', {same}' if same else ''}", setting)
    shown = len(panels[0].features)
    caption = ink.join(
        f"Directions of test images' features and of class vectors on {setting.data}, d = {dim}: "
        f"{shown} images, chosen once at random and the same in each panel, each divided by its "
        "length, on which scores may depend too.",
        "Each class has its own ring; class vectors stand on the circle."
        if dim == 2
        else "Hammer's map of the whole sphere, which keeps areas; large marks are class vectors.",
        "" if count <= TOLD_APART else "Colour: number of the class, dark to light.",
        "Moves: from the point that a label had at the start (hollow) to the one that it has at "
        "the end (filled), by way of all that it had between."
        if any(moving)
        else "",
        ink.protocol(setting),
        f"One cell of each head{f': {same}' if same else '; ratio and seed above each'}.",
        left_out(left),
    )
    return Exhibit(
        name=name,
        title=f"Features and class vectors on the {on}, {setting.data}",
        look="Look for clouds that lie at their own class vector, and for class vectors with "
        "another one close by.",
        table=None,
        latex=None,
        csv=_rows(panels, classes),
        figure=figure,
        caption=caption,
    )


def _rows(panels: Sequence[Panel], classes: Classes) -> str:
    """One row a head and class: its vector, where it started, its images shown as one text."""
    rows = []
    for panel in panels:
        for k, vector in enumerate(panel.vectors):
            mine = panel.features[panel.labels == k]
            held = None if panel.ways is None else panel.ways[k]
            start = vector if held is None or not len(held) else held[0]
            rows.append(
                {"head": panel.curve.head, "dim": panel.curve.dim, "ratio": panel.cell["ratio"]}
                | {"seed": panel.cell["seed"], "class": classes.called(k)}
                | {axis: round(float(at), 6) for axis, at in zip("xyz", vector, strict=False)}
                | {f"start_{a}": round(float(at), 6) for a, at in zip("xyz", start, strict=False)}
                | {"stations": len(held) if held is not None else 1, "images": len(mine)}
                | {"features": "; ".join(" ".join(f"{v:.3f}" for v in each) for each in mine)}
                | {"keys": panel.cell["key"]}
            )
    return trace.csv(trace.identified(DataFrame(rows), ["head", "dim", "ratio", "class"]))


def _grid(panels: int, dim: int) -> tuple[Figure, list[Axes]]:
    rows = -(-panels // (4 if dim == 2 else 2))
    columns = -(-panels // rows)
    wide, high = (2.3, 2.7) if dim == 2 else (3.6, 2.3)
    figure = Figure(figsize=(wide * columns + 1.2, high * rows + 0.6), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes:
        axis.set_axis_off()
        axis.set_aspect("equal")
    return figure, list(axes)


def _draw(axis: Axes, panel: Panel, count: int) -> None:
    flat = panel.curve.dim == 2
    _ground(axis, flat)
    for k in range(count):
        colour, marker = _mark(k, count)
        mine = panel.features[panel.labels == k]
        spots = mine * _ring(k, count) if flat else hammer(mine)
        axis.plot(
            *spots.T, marker, color=colour, markersize=2.6, markeredgewidth=0, alpha=0.7, zorder=2
        )
        _place(axis, panel.vectors[k], k, count, filled=True)


def _draw_ways(axis: Axes, panel: Panel) -> None:
    flat = panel.curve.dim == 2
    count = len(panel.vectors)
    _ground(axis, flat)
    for k, way in enumerate(panel.ways or []):
        colour, _ = _mark(k, count)
        dashes = look(k).dashes
        for start, end in zip(way[:-1], way[1:], strict=True):
            line = np.array([start, end]) if flat else torn(hammer(arc(start, end)))
            axis.plot(*line.T, dashes, color=colour, linewidth=0.8, alpha=0.8, zorder=2)
        if len(way) > 1:
            _place(axis, way[0], k, count, filled=False)
        _place(axis, panel.vectors[k], k, count, filled=True)


def _place(axis: Axes, vector: np.ndarray, k: int, count: int, filled: bool) -> None:
    """A point of class k, with its number where a panel can bear it."""
    flat = len(vector) == 2
    (x, y) = vector if flat else hammer(vector[None])[0]
    colour, marker = _mark(k, count)
    size, edge = (6, "white") if filled else (9, colour)
    if count > TOLD_APART:
        marker, size, edge = "D", 4, "black"
    face = colour if filled else "none"
    line = {"markeredgecolor": edge, "markeredgewidth": 0.7}
    axis.plot(x, y, marker, markersize=size, markerfacecolor=face, **line, zorder=3)
    if not filled or count > TOLD_APART:
        return
    away = (10 * x, 10 * y) if flat else (0, 7)
    axis.annotate(
        *(str(k), (x, y), away),
        textcoords="offset points",
        ha="center",
        va="center",
        fontsize=7,
        fontweight="bold",
        color=colour,
        path_effects=[withStroke(linewidth=1.5, foreground="white")],
        zorder=4,
    )


def _ring(k: int, count: int) -> float:
    """Radius of a class on the circle: within the circle of class vectors, the first innermost."""
    low, high = RINGS
    return low + (high - low) * k / max(count - 1, 1)


def _mark(k: int, count: int) -> tuple[str | tuple[float, ...], str]:
    """Colour and marker of a class; by its number, dark to light, where there are too many."""
    if count <= TOLD_APART:
        return look(k).colour, look(k).marker
    return matplotlib.colormaps["viridis"](k / (count - 1)), "o"


def _ground(axis: Axes, flat: bool) -> None:
    """The circle, or the map's rim with meridians and parallels every 30 degrees."""
    turn = np.linspace(-np.pi, np.pi, 361)
    grey = {"color": GRID, "linewidth": 0.5, "zorder": 1}
    rim = {"color": style.COLOURS["grey"], "linewidth": 0.8, "zorder": 1}
    if flat:
        axis.plot(np.cos(turn), np.sin(turn), **rim)
        axis.set_xlim(-1.35, 1.35)
        axis.set_ylim(-1.35, 1.35)
        return
    tilt = np.linspace(-np.pi / 2, np.pi / 2, 181)
    for latitude in np.radians([-60, -30, 0, 30, 60]):
        axis.plot(*graticule(turn * (1 - 1e-9), np.full_like(turn, latitude)).T, **grey)
    for longitude in np.radians([-120, -60, 0, 60, 120]):
        axis.plot(*graticule(np.full_like(tilt, longitude), tilt).T, **grey)
    for edge in (-np.pi * (1 - 1e-9), np.pi):
        axis.plot(*graticule(np.full_like(tilt, edge), tilt).T, **rim)
