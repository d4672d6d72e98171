"""DL2PA's ablations as figures: updates per epoch, uniformity, assignment (3b, 3d, 4a, 4b).

Each function gives one exhibit for every protocol under which there is something to draw: one data
set, network, recipe, ratio, and the same other options of the head. The paper prints no numbers
beside these figures, so there is no verdict.
"""

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pandas import DataFrame, Series

from reports import ink, stats, style, trace
from reports.evidence import Evidence
from reports.exhibits import Exhibit, numbered
from reports.exhibits.curves import LEGEND, canvas, draw, finish
from reports.frames import COMPARABLE, geometric, searches, single, slug
from reports.methods import options, that

GROUND = [*COMPARABLE, "ratio"]
FIXED = "dl2pa assignment=fixed"


def updates(runs: DataFrame, printed: DataFrame, evidence: Evidence | None) -> list[Exhibit]:
    """Figure 3b: accuracy against updates_per_epoch, one curve for each embedding length."""
    found = []
    cells = _swept(runs, "dl2pa", "updates_per_epoch", 1.0)
    cells = cells[~cells["rest"].str.contains("assignment=fixed", regex=False).astype(bool)]
    for part in _grounds(cells, "rest"):
        counts = part.groupby("dim")["value"].nunique()
        part = part[part["dim"].isin(counts.index[counts > 1])]
        if part["accuracy"].isna().all():  # also where nothing is left
            continue
        long = stats.summary(part, ["dim", "value"])
        with matplotlib.rc_context(style.SETTINGS):
            figure, (axis,) = canvas(1, entries=long["dim"].nunique())
            for label, mine, look in _by_dim(long, "dl2pa"):
                draw(axis, mine["value"].to_numpy(), mine, label, look, "full")
            _log(axis, long["value"], "Updates of the assignment per epoch (log scale)")
            finish(figure, [axis])
        found.append(
            _exhibit(
                *("3b", "Accuracy against updates of the assignment per epoch", part),
                *(long.rename(columns={"value": "updates_per_epoch"}), figure),
                "Look for curves that rise to the right, and for flatter ones at larger d: "
                "that is what the paper reports.",
            )
        )
    return numbered(found)


def uniformity(runs: DataFrame, printed: DataFrame, evidence: Evidence | None) -> list[Exhibit]:
    """Figure 3d: psc with a uniformity term of growing weight, between plain psc and dl2pa."""
    found = []
    for part in _grounds(_swept(runs, "psc", "uniformity", 0.0), "rest"):
        dims = sorted(part.loc[part["value"] > 0, "dim"].unique())
        if not dims:
            continue
        part = part[part["dim"].isin(dims)]
        ours = _beside(runs, part)
        both = pd.concat([part.assign(head="psc"), ours.assign(head="dl2pa", value=0.0)])
        long = stats.summary(both, ["head", "dim", "value"])
        if long["n"].sum() == 0:
            continue
        with matplotlib.rc_context(style.SETTINGS):
            figure, axes = canvas(len(dims), entries=3)
            for axis, dim in zip(axes, dims, strict=True):
                mine = long[long["dim"] == dim]
                _level(axis, mine[mine["head"] == "dl2pa"], "dl2pa")
                psc = mine[mine["head"] == "psc"].sort_values("value")
                _level(axis, psc[psc["value"] == 0], "psc")
                curve = psc[psc["value"] > 0]
                look = style.look("psc uniformity=0.01")
                draw(axis, curve["value"].to_numpy(), curve, "psc with uniformity", look, "full")
                _log(axis, curve["value"], "Weight lambda (log scale)")
                axis.set_title(f"d = {dim}", loc="left")
            finish(figure, axes)
        found.append(
            _exhibit(
                *("3d", "psc with a uniformity term of growing weight", part),
                *(long.rename(columns={"value": "uniformity"}), figure),
                "Look whether any weight of the term brings psc up to the level of dl2pa.",
                "Levels: plain psc and dl2pa at the same d, bands are 95 % t intervals.",
            )
        )
    return numbered(found)


def assignment(runs: DataFrame, printed: DataFrame, evidence: Evidence | None) -> list[Exhibit]:
    """Figure 4a: accuracy against embedding length, assignment dynamic and fixed, and the gap."""
    found = []
    for part in _grounds(_assignments(runs), "rest"):
        pairs = _gaps(part)
        if part["dim"].nunique() < 2 or pairs.empty:
            continue
        long = stats.summary(part, ["head", "dim"])
        long = pd.concat([long, pairs], ignore_index=True)
        dims = sorted(long["dim"].unique())
        with matplotlib.rc_context(style.SETTINGS):
            figure = Figure(figsize=(7.2, 5.2), layout="constrained")
            upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[2, 1])
            for head in ("dl2pa", FIXED):
                mine = long[long["head"] == head].sort_values("dim")
                draw(upper, mine["dim"].to_numpy(), mine, head, style.look(head), "full")
            gap = long[long["head"] == "gap"].sort_values("dim")
            draw(lower, gap["dim"].to_numpy(), gap, "", style.look("dl2pa"), "none")
            lower.axhline(0, color=style.COLOURS["grey"], linewidth=0.8)
            lower.set_xscale("log", base=2)
            lower.set_xticks(dims, [str(dim) for dim in dims])
            lower.xaxis.minorticks_off()
            lower.set_xlabel("Embedding length d (log scale)")
            lower.set_ylabel("Gap, points")
            upper.set_ylabel("Accuracy on the test set (%)")
            figure.legend(*upper.get_legend_handles_labels(), loc=LEGEND, handlelength=3)
        found.append(
            _exhibit(
                *("4a", "Accuracy against d, assignment dynamic or fixed", part),
                *(long, figure),
                "Look at the gap below: the paper's claim is that it is above 0 at small d and "
                "closes as d grows.",
                "Gap: dynamic minus fixed at the same seed, mean of the pairs.",
            )
        )
    return numbered(found)


def settling(runs: DataFrame, printed: DataFrame, evidence: Evidence | None) -> list[Exhibit]:
    """Figure 4b: share of labels that the last refresh moved, by epoch and embedding length."""
    if evidence is None:
        return []
    found = []
    cells = _assignments(runs)
    cells = cells[(cells["head"] == "dl2pa") & (cells["state"] == "done")]
    for part in _grounds(cells, "rest"):
        long = _histories(part, evidence)
        if long.empty or long["dim"].nunique() < 2:
            continue
        with matplotlib.rc_context(style.SETTINGS):
            figure, (axis,) = canvas(1, entries=long["dim"].nunique())
            for label, mine, look in _by_dim(long, "dl2pa"):
                mine = mine.sort_values("step")
                epochs, mean = mine["epoch"], 100 * mine["mean"]
                line = {"color": look.colour, "linestyle": look.dashes, "label": label}
                axis.plot(epochs, mean, marker=look.marker, markevery=0.1, **line)
                axis.fill_between(
                    *(epochs, 100 * mine["low"].fillna(mine["mean"])),
                    100 * mine["high"].fillna(mine["mean"]),
                    color=look.colour,
                    alpha=0.12,
                    linewidth=0,
                )
            axis.set_xlabel("Epoch")
            finish(figure, [axis], "Labels moved by the last refresh (%)")
        found.append(
            _exhibit(
                *("4b", "Share of labels that change their prototype", part, long, figure),
                "Look for curves that reach 0: from there on the assignment stays, the sooner the "
                "larger d is, if the paper is right.",
                "Bands are 95 % t intervals over seeds, where there is more than one.",
            )
        )
    return numbered(found)


def _swept(runs: DataFrame, name: str, key: str, default: float) -> DataFrame:
    """Cells of one head, one stage, with the value of an option and the text of the others."""
    runs = runs[~searches(runs) & ~geometric(runs) & (runs["state"] != "pruned")]
    runs = runs[that(runs["head"], lambda head: head.split(" ")[0] == name and ">" not in head)]
    runs = runs.copy()
    parsed = [options(head) for head in runs["head"]]
    runs["value"] = Series([float(each.get(key, default)) for each in parsed], runs.index)
    others = [" ".join(f"{k}={v}" for k, v in each.items() if k != key) for each in parsed]
    runs["rest"] = Series(others, runs.index, dtype=object)
    # a default written out makes another cell, but not another seed
    return runs.drop_duplicates([*GROUND, "value", "rest", "dim", "seed"])


def _assignments(runs: DataFrame) -> DataFrame:
    """Cells of dl2pa at one update per epoch, named dynamic or fixed, others as `rest`."""
    runs = _swept(runs, "dl2pa", "updates_per_epoch", 1.0)
    runs = runs[runs["value"] == 1]
    fixed = that(runs["rest"], lambda rest: "assignment=fixed" in rest.split(" "))
    runs["rest"] = [
        " ".join(word for word in rest.split(" ") if word != "assignment=fixed")
        for rest in runs["rest"]
    ]
    return runs.assign(head=Series("dl2pa", runs.index).mask(fixed, FIXED).astype(object))


def _grounds(runs: DataFrame, *more: str) -> list[DataFrame]:
    return [part for _, part in runs.groupby([*GROUND, *more], sort=True)]


def _beside(runs: DataFrame, part: DataFrame) -> DataFrame:
    """dl2pa cells on the same ground and dims as those of psc; the released form where it is."""
    ours = _assignments(runs)
    ours = ours[(ours["head"] == "dl2pa") & ours["dim"].isin(part["dim"].unique())]
    for name in GROUND:
        ours = ours[ours[name] == part[name].iloc[0]]
    other = {"prototypes", "means", "momentum", "start"}
    ours = ours[that(ours["rest"], lambda rest: not other & set(options(f"dl2pa {rest}")))]
    rests = sorted(ours["rest"].unique(), key=lambda rest: ("reduction=sum" not in rest, rest))
    return ours[ours["rest"] == rests[0]] if rests else ours


def _gaps(part: DataFrame) -> DataFrame:
    """Dynamic minus fixed, paired by seed: one row for each embedding length with pairs."""
    done = part[part["state"] == "done"].pivot_table(
        index=["dim", "seed"], columns="head", values="accuracy"
    )
    if not {"dl2pa", FIXED} <= set(done.columns):
        return DataFrame()
    gap = (done["dl2pa"] - done[FIXED]).dropna().rename("accuracy")
    keys = part.groupby(["dim", "seed"])["key"].agg(" ".join)
    pairs = gap.to_frame().join(keys).reset_index()
    return stats.summary(pairs.assign(state="done", head="gap"), ["head", "dim"])


def _histories(part: DataFrame, evidence: Evidence) -> DataFrame:
    """Mean share of moved labels over seeds, by embedding length and step."""
    rows = []
    for _, cell in part.iterrows():
        series = evidence.series(cell["key"], "head/moved")
        # before the first refresh, after one epoch, nothing can have moved
        series = series[series["epoch"] > 1]
        facts = {"dim": cell["dim"], "state": "done", "key": cell["key"]}
        rows.append(series.assign(accuracy=series["value"], **facts))
    long = pd.concat(rows, ignore_index=True) if rows else DataFrame()
    return long if long.empty else stats.summary(long, ["dim", "step", "epoch"])


def _by_dim(long: DataFrame, head: str) -> list[tuple[str, DataFrame, style.Look]]:
    """One curve for each embedding length, in the head's colour with a marker and dash of its own.

    long: has a column dim.
    """
    look = style.look(head)
    return [
        (
            f"d = {dim}",
            long[long["dim"] == dim],
            style.Look(
                *(look.colour, style.MARKERS[i % len(style.MARKERS)]),
                style.DASHES[i % len(style.DASHES)],
            ),
        )
        for i, dim in enumerate(sorted(long["dim"].unique()))
    ]


def _level(axis: Axes, row: DataFrame, head: str) -> None:
    """A horizontal line at the mean of one row, with its interval as a band; nothing for none."""
    row = row.dropna(subset="mean")
    if row.empty:
        return
    look, first = style.look(head), row.iloc[0]
    axis.axhline(100 * first["mean"], color=look.colour, linestyle=look.dashes, label=head)
    if first["n"] > 1:
        band = {"color": look.colour, "alpha": 0.12, "linewidth": 0}
        axis.axhspan(100 * first["low"], 100 * first["high"], **band)


def _log(axis: Axes, values: Series, label: str) -> None:
    ticks = sorted(values.dropna().unique())
    axis.set_xscale("log")
    axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axis.xaxis.minorticks_off()
    axis.set_xlabel(label)


def _exhibit(
    number: str,
    title: str,
    part: DataFrame,
    long: DataFrame,
    figure: Figure,
    look: str,
    more: str = "",
) -> Exhibit:
    setting = single(part.drop(columns=["value", "rest"]))
    where = f"{setting.data}, {setting.backbone}, {ink.ratio(part['ratio'].iloc[0])}"
    counts = sorted(set(long.loc[long["n"] > 0, "n"]))
    n = f"n = {counts[0]}" if len(counts) == 1 else f"n from {counts[0]} to {counts[-1]}"
    with matplotlib.rc_context(style.SETTINGS):
        heading = f"Figure {number}: {title}\n{where} · {setting.recipe}"
        figure.suptitle(style.plain(heading), x=0.01, ha="left", fontsize=10)
    caption = ink.join(
        f"Figure {number}: {title}, on {where}.",
        ink.protocol(setting),
        f"Means over seeds, {n}; bars are 95 % t intervals, none for a single seed.",
        more,
        f"{ink.LOST} a seed diverged or failed; the mean is over the others."
        if (long["n_diverged"] + long["n_failed"]).any()
        else "",
        ink.bounds(long),
    )
    by = ["head", "dim", "updates_per_epoch", "uniformity", "step"]
    named = trace.identified(long, [column for column in by if column in long])
    metric = "head/moved" if "step" in named else "accuracy"
    csv = trace.csv(named.assign(metric=metric))
    name = slug("dl2pa", "figure", number, setting.data, setting.backbone, setting.recipe)
    return Exhibit(
        *(name, f"Figure {number}: {title}", look, None, None, csv, figure, caption),
        percent=dict.fromkeys(ink.SPREAD, 1),
    )
