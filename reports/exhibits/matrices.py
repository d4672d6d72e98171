"""Matrices as images: shares in greys, differences between two colours with their signs."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize, PowerNorm
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from pandas import DataFrame

from reports import ink, style, trace
from reports.exhibits import chosen
from reports.exhibits.chosen import Curve

NUMBERED = 12
"""Up to so many columns there is room for numbers; beyond, only signs of a point or more."""


@dataclass(frozen=True, slots=True, eq=False)
class Panel:
    """One matrix.

    rows, columns  what they are called
    cells          those behind it
    shares         (seeds, rows, columns), fractions, or their differences to those of `over`
    """

    curve: Curve
    ratio: float
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    cells: DataFrame
    shares: np.ndarray
    over: Curve | None = None

    def long(self) -> DataFrame:
        """One row per entry: ratio, head, dim, shown, true, predicted, `over_seeds`, keys."""
        entries = chosen.over_seeds(self.shares.reshape(len(self.shares), -1))
        entries["true"] = np.repeat(self.rows, len(self.columns))
        entries["predicted"] = np.tile(self.columns, len(self.rows))
        shown = "difference" if self.over else "share"
        place = {"ratio": self.ratio, "head": self.curve.head, "dim": self.curve.dim}
        return entries.assign(shown=shown, **place, keys=trace.keys_of(self.cells))

    def percent(self) -> np.ndarray:
        """Mean over the seeds, (rows, columns), per cent; NaN where nothing is known."""
        mean = chosen.over_seeds(self.shares.reshape(len(self.shares), -1))["mean"].to_numpy()
        return 100 * mean.reshape(self.shares.shape[1:])


def differences(rows: Sequence[Sequence[Panel]]) -> Figure:
    """A row per ratio: shares of the baseline, then differences to them, all with one scale."""
    columns = max(map(len, rows))
    heights = [0.9 + max(0.9, min(2.6, 0.26 * len(row[0].rows))) for row in rows]
    names = max(len(name) for row in rows for name in row[0].rows)
    figure = Figure(
        figsize=(0.4 + 0.065 * names + 2.7 * columns, 1.5 + sum(heights)), layout="constrained"
    )
    axes = figure.subplots(len(rows), columns, squeeze=False, height_ratios=heights)
    most = max([abs(np.nan_to_num(p.percent())).max() for row in rows for p in row[1:]] or [1])
    scales = {False: Normalize(0, 100), True: Normalize(-most, most)}
    images = {}
    for line, row in zip(axes, rows, strict=True):
        for axis in line[len(row) :]:
            axis.remove()
        for nth, (axis, panel) in enumerate(zip(line, row, strict=False)):
            image = _image(axis, panel, scales[panel.over is not None])
            images[panel.over is not None] = image
            _name(axis, panel, beside=nth == 0)
            _number(axis, panel, image)
    figure.colorbar(
        *(images[False],),
        **{"ax": axes[:, 0], "location": "bottom", "label": "Share of the row (%)"},
    )
    if True in images:
        figure.colorbar(
            images[True],
            ax=axes[:, 1:],
            location="bottom",
            label="Difference to the baseline (points)",
            shrink=1 / (columns - 1),
        )
    return figure


def images(panels: Sequence[Panel], borders: Sequence[int]) -> Figure:
    """Panels side by side without names; borders: ranks, from 1, where a group begins."""
    figure = Figure(figsize=(0.9 + 2.7 * len(panels), 3.6), layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for axis, panel in zip(axes, panels, strict=True):
        image = _image(axis, panel, PowerNorm(0.5, 0, 100))
        for border in borders:
            for line in (axis.axhline, axis.axvline):
                line(border - 1.5, color=style.COLOURS["red"], linewidth=0.6)
        axis.set_xticks([])
        axis.set_yticks([])
        axis.set_aspect("equal")
        axis.set_title(style.plain(panel.curve.label), loc="left", fontsize=8)
        axis.set_xlabel("Predicted class")
    axes[0].set_ylabel("True class")
    figure.colorbar(image, ax=axes, label="Share of the true class (%)", shrink=0.7)
    return figure


def blanks(panels: Sequence[Panel]) -> bool:
    """Whether an entry is too small to be written."""
    return any(
        len(p.columns) > NUMBERED or (len(p.columns) > 6 and (abs(p.percent()) < 0.5).any())
        for p in panels
    )


def _image(axis: Axes, panel: Panel, norm: Normalize) -> AxesImage:
    # darker is more for shares; the ends of PuOr differ for colour-blind readers, signs do for grey
    cmap = "PuOr" if panel.over else "Greys"
    image = axis.imshow(panel.percent(), cmap=cmap, norm=norm, aspect="auto")
    axis.grid(False)
    for side in ("top", "right"):
        axis.spines[side].set_visible(True)
    return image


def _name(axis: Axes, panel: Panel, beside: bool) -> None:
    label = panel.curve.label
    head = (
        f"{label}\nminus {panel.over.label}" if panel.over else f"{ink.ratio(panel.ratio)}\n{label}"
    )
    axis.set_title(style.plain(head), loc="left", fontsize=8)
    upright = len(panel.columns) > 5
    names = [style.plain(n if upright else n.replace(", ", ",\n")) for n in panel.columns]
    axis.set_xticks(range(len(names)), names, fontsize=7, rotation=90 if upright else 0)
    rows = [style.plain(n) for n in panel.rows] if beside else [""] * len(panel.rows)
    axis.set_yticks(range(len(rows)), rows, fontsize=7)
    if beside:
        axis.set_ylabel("True class")
    if upright:
        axis.set_xlabel("Predicted class")


def _number(axis: Axes, panel: Panel, image: AxesImage) -> None:
    """Entries in per cent or points; integers, and none below a half, where there are many."""
    for (row, column), value in np.ndenumerate(panel.percent()):
        text = _entry(value, len(panel.columns), panel.over is not None)
        red, green, blue, _ = image.cmap(image.norm(value))
        # weights of the eye's three cones in grey: ITU-R BT.601
        light = 0.299 * red + 0.587 * green + 0.114 * blue
        if text:
            axis.text(
                *(column, row, text),
                in_layout=False,  # they are inside: measuring hundreds of them takes seconds
                ha="center",
                va="center",
                fontsize=8 if len(panel.columns) <= 6 else 6,
                color="white" if light < 0.5 else "black",
            )


def _entry(value: float, columns: int, signed: bool) -> str:
    if np.isnan(value):
        return ink.NOTHING
    sign = ("+" if value > 0 else "−" if value < 0 else "") if signed else ""
    if columns > NUMBERED:
        return sign if abs(value) >= 1 else ""
    if columns > 6:
        return f"{sign}{abs(value):.0f}" if abs(value) >= 0.5 else ""
    return f"{sign}{abs(value):.1f}"
