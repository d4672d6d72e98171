"""Classes in figures: what they are called, and one colour and marker for each of up to 20."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from pandas import DataFrame, Series

from reports import ink, style
from reports.evidence import Evidence
from reports.exhibits.chosen import LIMIT, Curve, curves, drawn

TOLD_APART = 20
"""Classes that one panel can tell apart; ours: eight colours times markers that still read."""


@dataclass(frozen=True, slots=True)
class Classes:
    """What records say of the classes, in label order; empty where they do not.

    counts: training images.
    """

    names: tuple[str, ...]
    superclasses: tuple[str, ...]
    counts: tuple[int, ...]

    def called(self, label: int) -> str:
        """'7 horse', or '7' for a class without a name."""
        return f"{label} {self.names[label]}" if label < len(self.names) else str(label)

    def by_superclass(self, classes: int) -> list[int]:
        """Labels ordered by the name of their superclass, or as they are."""
        known = len(self.superclasses) == classes
        return sorted(range(classes), key=lambda k: (self.superclasses[k] if known else "", k))


def told(cells: DataFrame, evidence: Evidence) -> Classes:
    """Names, superclasses and counts as the first finished cell with facts has them."""
    for key, state in zip(cells["key"], cells["state"], strict=True):
        result = evidence.facts(key).get("result", {}) if state == "done" else {}
        if result:
            found = (result.get(name) or () for name in ("names", "superclasses", "counts"))
            return Classes(*map(tuple, found))
    return Classes((), (), ())


def look(label: int) -> style.Look:
    """Colour, marker and dash of a class: pairs repeat after 24, so up to 20 are all different."""
    colours = [*style.COLOURS.values()]
    marker = style.MARKERS[label % len(style.MARKERS)]
    return style.Look(
        *(colours[label % len(colours)], marker),
        style.DASHES[label // len(colours) % len(style.DASHES)],
    )


def legend(figure: Figure, classes: Classes, count: int) -> None:
    """One entry for each class, beside all panels."""
    entries = [
        Line2D([], [], color=look(k).colour, marker=look(k).marker, linestyle="none")
        for k in range(count)
    ]
    words = [style.plain(classes.called(k)) for k in range(count)]
    figure.legend(entries, words, loc="outside right upper")


def one_each(cells: DataFrame) -> tuple[list[tuple[Curve, Series]], list[Curve]]:
    """The cells of a figure with a panel for each head, and the curves that get none.

    cells: those with something to show, in tidy order. Of a head the shortest embedding, where
    places are scarce; of that the largest ratio, of that the first seed; of more heads than
    `chosen.LIMIT`, those without options first. Returns curves with their cell, in house order.
    """
    least = cells.groupby("head")["dim"].transform("min")
    kept, _ = drawn(curves(cells[cells["dim"] == least]))
    left = [curve for curve in curves(cells) if curve not in kept]
    return [(curve, _first(curve.of(cells))) for curve in kept], left


def left_out(left: Sequence[Curve]) -> str:
    """The sentence that names what has no panel, or nothing."""
    if not left:
        return ""
    return (
        f"Of a head the shortest embedding; at most {LIMIT} heads, those without options first; "
        f"without a panel: {'; '.join(curve.label for curve in left)}."
    )


def heading(curve: Curve, words: str = "", width: int = 26) -> str:
    """Above a panel: head and embedding length, in lines of at most so many characters."""
    lines = textwrap.wrap(curve.head, width, break_on_hyphens=False)
    return style.plain("\n".join([*lines, f"d = {curve.dim}{f', {words}' if words else ''}"]))


def places(cells: Sequence[Series]) -> tuple[str, list[str]]:
    """Ratio and seed of the cells in words: once if all share them, else for each of them."""
    words = [f"{ink.ratio(cell['ratio'])}, seed {cell['seed']}" for cell in cells]
    return (words[0], [""] * len(words)) if len(set(words)) == 1 else ("", words)


def _first(cells: DataFrame) -> Series:
    return cells[cells["ratio"] == cells["ratio"].max()].iloc[0]
