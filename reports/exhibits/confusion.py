"""What is taken for what: confusion of a baseline, and what other heads do otherwise.

Rows are true classes and sum to one, so that every class weighs the same however many test images
it has. More than 20 classes are drawn by groups: an answer is right, or another class of the many,
the medium or the few; where nothing is rare, by superclass. An image of all classes stands beside.
"""

from collections.abc import Callable
from dataclasses import dataclass

import matplotlib
import numpy as np
from pandas import DataFrame

from reports import ink, style, trace
from reports.evidence import Evidence
from reports.exhibits import Exhibit, chosen, matrices
from reports.exhibits.chosen import Curve
from reports.exhibits.frequency import SINGLE, Ranked, ranked
from reports.frames import Setting, single

OTHERS = 2
"""Heads beside the baseline; ours: three matrices are as many as fit the width of a page."""

WHOLE = 999
"""Up to so many classes there is an image of all; ours: of more a printed pixel holds several."""

COLUMNS = ("id", "ratio", "head", "dim", "shown", "true", "predicted", "n", "mean")
PERCENT = dict.fromkeys(("mean", "sd", "low", "high"), 1)

Kept = dict[tuple[Curve, float], tuple[DataFrame, list[np.ndarray]]]
"""Curve and ratio -> cells, and of each the counts (classes, classes) in label order."""


@dataclass(frozen=True, slots=True)
class Form:
    """How a matrix is drawn.

    rows, columns  what they are called
    gather         shares (classes, classes), rows and columns by rank -> (rows, columns)
    told           for the caption
    """

    rows: tuple[str, ...]
    columns: tuple[str, ...]
    gather: Callable[[np.ndarray], np.ndarray]
    told: str


def confusion(runs: DataFrame, name: str, evidence: Evidence | None = None) -> list[Exhibit]:
    """Confusion of a baseline, and differences to it paired by seed; then all classes as an image.

    runs: tidy frame of one setting. name: begins that of the files. evidence: 'confusion' of the
    cells, and counts, names, groups and superclasses among their facts; no exhibit without.
    The baseline is psc or else the first head, the others the most accurate: that chooses what to
    draw, and no winner. Raises ValueError for several settings.
    """
    setting = single(runs)
    kept: Kept = {}
    for curve in chosen.longest(chosen.curves(runs)):
        for ratio in chosen.spread(runs["ratio"], 2):
            cells, arrays = chosen.kept(
                curve.of(runs[runs["ratio"] == ratio]), evidence, "confusion"
            )
            if arrays:
                kept[curve, ratio] = cells, arrays
    if evidence is None or not kept:
        return []
    curves = _choose(kept)
    known = {
        ratio: ranked(cells["key"].iloc[0], evidence)
        for (curve, ratio), (cells, _) in kept.items()
        if curve == curves[0]
    }
    panels = [
        panel
        for ratio, classes in known.items()
        if (form := _form(classes)) is not None
        for panel in _panels(kept, curves, ratio, classes, form)
    ]
    last = max(known)
    found = [_of_forms(setting, name, panels, known)] if panels else []
    if SINGLE < len(known[last].order) <= WHOLE:
        found.append(_of_all(setting, name, kept, curves, last, known[last]))
    return found


def _choose(kept: Kept) -> list[Curve]:
    """The baseline, then the most accurate of the others that have all of its ratios."""
    curves = list(dict.fromkeys(curve for curve, _ in kept))
    baseline = next((c for c in curves if c.head == chosen.BASELINE), curves[0])
    ratios = [ratio for curve, ratio in kept if curve == baseline]
    rivals = [c for c in curves if c != baseline and all((c, r) in kept for r in ratios)]

    def error(curve: Curve) -> float:
        return -sum(float(kept[curve, ratio][0]["accuracy"].mean()) for ratio in ratios)

    return [baseline, *sorted(rivals, key=lambda c: (error(c), c.place()))[:OTHERS]]


def _form(classes: Ranked) -> Form | None:
    """Single classes, or groups by frequency, or superclasses; None where neither is of use."""
    groups = [group for group, _, _ in classes.borders()]
    above = sorted(set(classes.superclasses))
    if len(classes.order) <= SINGLE:
        names = tuple(n or str(k) for n, k in zip(classes.names, classes.order, strict=True))
        return Form(names, names, lambda shares: shares, "Classes stand from frequent to rare.")
    if len(groups) > 1:
        inside = np.array([[g == group for g in classes.groups] for group in groups], dtype=float)
        return Form(
            rows=tuple(groups),
            columns=("right", *(f"wrong, {group}" for group in groups)),
            gather=lambda shares: _by_group(shares, inside),
            told="Wrong, many: the answer is another class, one of the many.",
        )
    if 1 < len(above) <= SINGLE:
        inside = np.array([[a == one for a in classes.superclasses] for one in above], dtype=float)
        return Form(
            rows=tuple(above),
            columns=tuple(above),
            gather=lambda shares: _mean(inside, shares) @ inside.T,
            told="Superclasses, by name; the diagonal holds what stays within one.",
        )
    return None


def _by_group(shares: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Right answers, then wrong ones by the group of the answer; inside: (groups, classes)."""
    right = np.diag(shares)
    wrong = shares - np.diag(right)
    return np.column_stack([_mean(inside, right[:, None]), _mean(inside, wrong) @ inside.T])


def _mean(inside: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Mean over the classes of each group that have test images, NaN for a group of none."""
    known = ~np.isnan(shares).any(axis=1)
    n = inside[:, known].sum(axis=1, keepdims=True)
    total = inside[:, known] @ shares[known]
    return np.divide(total, n, out=np.full(total.shape, np.nan), where=n > 0)


def _shares(counts: np.ndarray, classes: Ranked) -> np.ndarray:
    """Counts (classes, classes) in label order -> shares of each true class, by rank."""
    ordered = counts[np.ix_(classes.order, classes.order)]
    total = ordered.sum(axis=1, keepdims=True)
    return np.divide(ordered, total, out=np.full(ordered.shape, np.nan), where=total > 0)


def _panels(
    kept: Kept, curves: list[Curve], ratio: float, classes: Ranked, form: Form
) -> list[matrices.Panel]:
    """The baseline's shares, and the differences to it at the seeds that both have."""
    base = curves[0]
    cells, counts = kept[base, ratio]
    shares = [form.gather(_shares(each, classes)) for each in counts]
    panels = [matrices.Panel(base, ratio, form.rows, form.columns, cells, np.stack(shares))]
    at = dict(zip(cells["seed"], shares, strict=True))
    for curve in curves[1:]:
        theirs, counts = kept[curve, ratio]
        pairs = [
            form.gather(_shares(each, classes)) - at[seed]
            for seed, each in zip(theirs["seed"], counts, strict=True)
            if seed in at
        ]
        if pairs:
            both = chosen.stack([theirs, cells])
            both = both[both["seed"].isin(cells["seed"]) & both["seed"].isin(theirs["seed"])]
            place = (curve, ratio, form.rows, form.columns)
            panels.append(matrices.Panel(*place, both, np.stack(pairs), base))
    return panels


def _of_forms(
    setting: Setting,
    name: str,
    panels: list[matrices.Panel],
    known: dict[float, Ranked],
) -> Exhibit:
    rows = {r: [p for p in panels if p.ratio == r] for r in dict.fromkeys(p.ratio for p in panels)}
    with matplotlib.rc_context(style.SETTINGS):
        figure = matrices.differences([*rows.values()])
        chosen.entitle(figure, "What is taken for what", setting)
    title = f"Confusion on {setting.data}: the baseline, and what others do otherwise"
    told = dict.fromkeys(form.told for r in rows if (form := _form(known[r])) is not None)
    caption = ink.join(
        f"{title}.",
        "Left: share of each row's test images, in per cent, every class weighing the same;",
        "right of it: the difference to that, in points, paired by seed.",
        *told,
        "Empty: below half a point, or a point where there are only signs."
        if matrices.blanks(panels)
        else "",
        _counted([len(panel.shares) for panel in panels]),
        _choice(len(panels) > len(rows)),
        f"Drawn: {', '.join(map(ink.ratio, rows))}, of {setting.runs['ratio'].nunique()} ratios."
        if setting.runs["ratio"].nunique() > len(rows)
        else "",
        ink.protocol(setting),
    )
    look = "Look at which wrong answers become fewer, and at what cost in the other rows."
    long = chosen.stack([panel.long() for panel in panels])
    by = ["head", "dim", "ratio", "shown", "true", "predicted"]
    named = trace.identified(long, by)[[*COLUMNS, "sd", "low", "high", "keys"]]
    return Exhibit(
        *(f"{name}-confusion", title, look, None, None, trace.csv(named), figure, caption),
        percent=PERCENT,
    )


def _of_all(
    setting: Setting,
    name: str,
    kept: Kept,
    curves: list[Curve],
    ratio: float,
    classes: Ranked,
) -> Exhibit:
    labels = tuple(map(str, classes.order))
    panels = []
    for curve in curves:
        cells, counts = kept[curve, ratio]
        shares = np.stack([_shares(each, classes) for each in counts])
        panels.append(matrices.Panel(curve, ratio, labels, labels, cells, shares))
    with matplotlib.rc_context(style.SETTINGS):
        figure = matrices.images(panels, [first for _, first, _ in classes.borders()[1:]])
        chosen.entitle(figure, f"What is taken for what, {ink.ratio(ratio)}", setting)
    title = f"Confusion of all classes of {setting.data}"
    caption = ink.join(
        f"{title}, at ratio {ink.ratio(ratio)}.",
        "Share of each true class's test images, mean over seeds; classes stand",
        "from frequent to rare, top to bottom and left to right, lines part many, medium and few."
        if len(classes.borders()) > 1
        else "in the order of their labels.",
        "The scale is a square root, so that rare confusions can be seen.",
        _counted([len(panel.shares) for panel in panels]),
        _choice(len(panels) > 1),
        "The csv leaves out what is 0 for every seed.",
        ink.protocol(setting),
    )
    look = "Look for dark columns: classes that swallow others."
    long = chosen.stack([panel.long() for panel in panels])
    long = trace.identified(long[long["mean"] > 0], ["head", "dim", "ratio", "true", "predicted"])
    csv = trace.csv(long[[*COLUMNS, "keys"]].round({"mean": 6}))  # an image shows no more
    return Exhibit(
        *(f"{name}-confusion-all", title, look, None, None, csv, figure, caption),
        percent=PERCENT,
    )


def _counted(seeds: list[int]) -> str:
    told = f"n = {seeds[0]}" if len(set(seeds)) == 1 else f"n = {min(seeds)} to {max(seeds)}"
    return f"Means over seeds, {told}; the csv has the intervals."


def _choice(several: bool) -> str:
    if not several:
        return ""
    return (
        f"Drawn: {chosen.BASELINE} or else the first head, and the {OTHERS} most accurate of the "
        "others, each at its longest embedding."
    )
