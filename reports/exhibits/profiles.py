"""Many settings at once: which head is above which accuracy how often, and how surely.

Agarwal et al. 2021, arXiv:2108.13264; `reports.robust` has the statistics. A setting here is a data
set under one protocol at one ratio. Only heads that stand in every setting are compared, so
settings fall into groups by the heads that they share; a group has its own exhibits.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from pandas import DataFrame

from reports import ink, latex, robust, style
from reports.evidence import Evidence
from reports.exhibits import Exhibit
from reports.frames import settings, shortened
from reports.trace import identified, keys_of
from reports.variance import crossed

STEPS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05)
"""Between thresholds, fractions; the smallest that gives no more than MOST of them."""

MOST = 41
"""Thresholds: a curve in print has no use for more."""

BASELINE = "psc"
"""Head that the others are held against, where it is there."""

SUMMARY = (
    *("head", "settings", "runs", "lost", "iqm", "low", "high"),
    *("baseline", "improvement", "improvement_low", "improvement_high", "keys"),
)
PERCENT = dict.fromkeys(
    ("iqm", "low", "high", "improvement", "improvement_low", "improvement_high"), 1
)


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """Heads that all stand in the same settings.

    settings  what they are, in words, in order
    heads     in the order of print
    runs      tidy rows with `name`, the head with its length where one has several, and `place`,
              which of the settings
    """

    settings: tuple[str, ...]
    heads: tuple[str, ...]
    runs: DataFrame

    def scores(self, head: str) -> list[dict[str, float]]:
        """Accuracy by seed in each setting, in the order of seeds; -inf where lost."""
        mine = self.runs[self.runs["name"] == head]
        found: list[dict[str, float]] = [{} for _ in self.settings]
        columns = ["place", "seed", "state", "accuracy"]
        for place, seed, state, accuracy in mine[columns].itertuples(index=False, name=None):
            found[place][seed] = accuracy if state == "done" else -np.inf
        return found


def profiles(runs: DataFrame, evidence: Evidence | None = None) -> list[Exhibit]:
    """Profiles, interquartile means and chances of improvement of heads across settings.

    runs: tidy frame without searches and geometric cells, of any settings. Returns three exhibits
    for each group of at least two settings that share at least two heads.
    """
    found: list[Exhibit] = []
    for nth, group in enumerate(groups(runs), start=1):
        suffix = "" if nth == 1 else f"-{nth}"
        summary = _summary(group)
        found.append(_profile(group, f"profiles{suffix}"))
        found.append(_means(group, summary, f"interquartile-means{suffix}"))
        found.append(_table(group, summary, f"improvement{suffix}"))
    return found


def groups(runs: DataFrame) -> list[Group]:
    """Settings parted so that, each time, heads times settings is largest; each stands in one.

    Only finished, diverged and failed cells count, and only seeds that are one number.
    """
    runs = runs[(runs["state"] != "pruned") & ~crossed(runs)]
    left: list[tuple[str, DataFrame]] = []
    for setting in settings(runs) if len(runs) else ():
        raw = runs[runs["key"].isin(setting.runs["key"])]  # heads by their full names
        for ratio, part in raw.groupby("ratio", sort=True):
            words = f"{setting.data} {ink.ratio(float(ratio))}, {setting.backbone}"
            left.append((f"{words}, {setting.recipe}", part))
    several = _several(part for _, part in left)
    left = [(words, part.assign(name=_names(part, several))) for words, part in left]
    found: list[Group] = []
    while True:
        heads = _best([set(part["name"]) for _, part in left])
        used = [one for one in left if heads and heads <= set(one[1]["name"])]
        if not used:
            return found
        left = [one for one in left if not any(one is other for other in used)]
        rows = [
            part[part["name"].isin(heads)].assign(place=place)
            for place, (_, part) in enumerate(used)
        ]
        together = shortened(pd.concat(rows, ignore_index=True))
        together["name"] = _names(together, _several(p for _, p in together.groupby("place")))
        told = tuple(text for text, _ in used)
        found.append(Group(told, tuple(_order(set(together["name"]))), together))


def _several(parts: Iterable[DataFrame]) -> set[str]:
    """Heads that have more than one embedding length in some setting."""
    return {
        head for part in parts for head, own in part.groupby("head") if own["dim"].nunique() > 1
    }


def _names(part: DataFrame, several: set[str]) -> list[str]:
    """Heads with their length where it tells something apart; a default may differ by data."""
    return [
        f"{head}, d = {dim}" if head in several else head
        for head, dim in part[["head", "dim"]].itertuples(index=False, name=None)
    ]


def _plain(name: str) -> str:
    """The head of a name: what its colour goes by."""
    return name.split(", d = ")[0]


def _order(names: set[str]) -> list[str]:
    def key(name: str) -> tuple[tuple[int, bool, str], int]:
        head, _, dim = name.partition(", d = ")
        return style.rank(head), -int(dim or 0)

    return sorted(names, key=key)


def _best(heads: Sequence[set[str]]) -> set[str]:
    """Of the sets of heads that two settings share, the one with most heads times settings."""
    shared = {frozenset(one & other) for i, one in enumerate(heads) for other in heads[:i]}
    worth = [(len(one) * sum(one <= each for each in heads), sorted(one)) for one in shared]
    worth = [one for one in worth if len(one[1]) > 1]
    return set(max(worth)[1]) if worth else set()


def _summary(group: Group) -> DataFrame:
    """One row per head: IQM and chance of improvement over the baseline, with intervals."""
    baseline = next((h for h in group.heads if _plain(h) == BASELINE), group.heads[0])
    rival = group.scores(baseline)
    rows = []
    for head in group.heads:
        mine = group.runs[group.runs["name"] == head]
        scores = group.scores(head)
        strata = _arrays(scores)
        low, high = robust.percentiles(robust.interquartile_mean(robust.resample(strata)))
        value = float(robust.interquartile_mean(strata))
        row: dict[str, object] = {
            **{"head": head, "settings": len(group.settings), "runs": len(mine)},
            **{"lost": int((mine["state"] != "done").sum())},
            **{"iqm": value if np.isfinite(value) else np.nan, "low": float(low)},
            **{"high": float(high) if np.isfinite(value) else np.nan, "baseline": baseline},
        }
        both = [(o, t, [s for s in o if s in t]) for o, t in zip(scores, rival, strict=True)]
        if head != baseline and all(seeds for *_, seeds in both):
            ours = [np.array([own[seed] for seed in seeds]) for own, _, seeds in both]
            theirs = [np.array([other[seed] for seed in seeds]) for _, other, seeds in both]
            drawn = robust.improvement(robust.resample(ours), robust.resample(theirs))
            bounds = robust.percentiles(drawn)
            row |= {"improvement": float(robust.improvement(ours, theirs))}
            row["improvement_low"], row["improvement_high"] = map(float, bounds)
            mine = group.runs[group.runs["name"].isin([head, baseline])]
        rows.append(row | {"keys": keys_of(mine)})
    return DataFrame(rows).reindex(columns=SUMMARY)


def _arrays(scores: Iterable[dict[str, float]]) -> list[np.ndarray]:
    return [np.array([*of.values()]) for of in scores]


def _profile(group: Group, name: str) -> Exhibit:
    done = group.runs["accuracy"].dropna()
    thresholds = _thresholds(float(done.min()), float(done.max())) if len(done) else np.zeros(1)
    rows = []
    for head in group.heads:
        strata = _arrays(group.scores(head))
        drawn = robust.profile(robust.resample(strata), thresholds)
        bounds = zip(robust.profile(strata, thresholds), *robust.percentiles(drawn), strict=True)
        keys = keys_of(group.runs[group.runs["name"] == head])
        for threshold, (share, low, high) in zip(thresholds, bounds, strict=True):
            rows.append(
                {"head": head, "threshold": threshold, "share": share, "low": low, "high": high}
                | {"keys": keys}
            )
    long = DataFrame(rows)
    with matplotlib.rc_context(style.SETTINGS):
        figure = _curves(long, group.heads)
        _entitle(figure, "Share of runs above an accuracy", group)
    title = f"Performance profiles across {len(group.settings)} settings"
    caption = ink.join(
        f"{title}: share of runs whose test accuracy is above the threshold, a mean over settings.",
        _told(group, "Bands are pointwise"),
    )
    look = "Look for a curve above another everywhere: that head is better at every level."
    return Exhibit(
        *(name, title, look, None, None, _csv(long, ["head", "threshold"]), figure, caption),
        percent=dict.fromkeys(("threshold", "share", "low", "high"), 1),
    )


def _thresholds(low: float, high: float) -> np.ndarray:
    """From below the lowest score to above the highest, in whole steps."""
    for step in STEPS:
        first, last = np.floor(low / step), np.ceil(high / step)
        if last - first < MOST:
            break
    return np.round(np.arange(first, last + 1) * step, 6)


def _curves(long: DataFrame, heads: Sequence[str]) -> Figure:
    figure = Figure(figsize=(7.2, max(3.6, 0.2 * len(heads) + 1.2)), layout="constrained")
    axis = figure.subplots()
    for i, head in enumerate(heads):
        mine = long[long["head"] == head]
        look = style.look(_plain(head))
        x = 100 * mine["threshold"]
        axis.plot(
            *(x, 100 * mine["share"]),
            color=look.colour,
            linestyle=look.dashes,
            marker=look.marker,
            fillstyle=_fill(head, heads),
            markevery=_spots(mine["share"].to_numpy(), i),
            label=style.plain(head),
        )
        axis.fill_between(
            *(x, 100 * mine["low"], 100 * mine["high"]),
            color=look.colour,
            alpha=0.12,
            linewidth=0,
        )
    axis.set_xlabel("Threshold: accuracy on the test set (%)")
    axis.set_ylabel("Runs above it (%)")
    axis.set_ylim(-2, 102)
    figure.legend(loc="outside right upper", handlelength=3)
    return figure


def _spots(shares: np.ndarray, nth: int) -> list[int]:
    """Where a curve has markers: on its way down, and not where its neighbours have theirs."""
    falling = np.flatnonzero((shares > 0) & (shares < 1))
    apart = [int(spot) for spot in falling if spot % 4 == nth % 4]
    return apart or [int(spot) for spot in falling[:1]]


def _fill(head: str, heads: Sequence[str]) -> str:
    """Of the marker: tells the lengths of one head apart, longest first."""
    alike = [other for other in heads if _plain(other) == _plain(head)]
    return style.FILLS[alike.index(head) % len(style.FILLS)]


def _means(group: Group, summary: DataFrame, name: str) -> Exhibit:
    with matplotlib.rc_context(style.SETTINGS):
        figure = Figure(figsize=(6.4, 1.5 + 0.27 * len(summary)), layout="constrained")
        axis = figure.subplots()
        known = summary.reset_index(drop=True).dropna(subset="iqm")
        for place, row in known.iterrows():
            mine = style.look(_plain(row["head"]))
            ends = row[["low", "high"]].fillna(row["iqm"]).astype(float)
            axis.plot(100 * ends, [place, place], color=mine.colour, linewidth=1.3)
            axis.plot(
                *(100 * row["iqm"], place),
                color=mine.colour,
                marker=mine.marker,
                fillstyle=_fill(row["head"], group.heads),
            )
        labels = [style.plain(_lost(row["head"], row["lost"])) for _, row in summary.iterrows()]
        axis.set_yticks(range(len(labels)), labels)
        axis.set_ylim(len(labels) - 0.5, -0.5)
        axis.set_xlabel("Interquartile mean of test accuracy (%)")
        _entitle(figure, "Interquartile mean across settings", group)
    title = f"Interquartile means across {len(group.settings)} settings"
    caption = ink.join(
        f"{title}: mean of the middle half of all runs, where a setting weighs the same however "
        "many seeds it has. Accuracy is not normalised: settings that are much harder or easier "
        "than the others fall outside the middle half.",
        _told(group, "Bars are"),
    )
    look = "Look for bars that do not overlap: only those heads differ beyond their seeds."
    return Exhibit(
        *(name, title, look, None, None, _csv(summary, ["head"]), figure, caption),
        percent=PERCENT,
    )


def _table(group: Group, summary: DataFrame, name: str) -> Exhibit:
    baseline = summary["baseline"].iloc[0]
    chance = f"above {baseline} [95 %]"
    rows = [
        {
            "head": _lost(row["head"], row["lost"]),
            "runs": str(row["runs"]),
            "interquartile mean [95 %]": _between(row["iqm"], row["low"], row["high"]),
            chance: _between(*(row[f"improvement{end}"] for end in ("", "_low", "_high"))),
        }
        for _, row in summary.iterrows()
    ]
    table = DataFrame(rows, dtype=object)
    marks = DataFrame("", index=table.index, columns=table.columns, dtype=object)
    ids = marks.assign(**dict.fromkeys(table.columns[1:], identified(summary, ["head"])["id"]))
    title = f"Chance of improvement over {baseline} across {len(group.settings)} settings"
    caption = ink.join(
        f"{title}: how often a run of the head is above a run of {baseline} in the same setting, "
        "in per cent, ties half, a mean over settings; 50 where they are alike. Beside it the "
        "interquartile mean of test accuracy, in per cent.",
        _told(group, "In brackets"),
        "Nothing is marked: an interval of a few seeds is too narrow to name a winner.",
    )
    return Exhibit(
        name=name,
        title=title,
        look="Look for a chance whose interval stays on one side of 50.",
        table=table,
        latex=latex.fragment(table, marks, caption, name),
        csv=_csv(summary, ["head"]),
        figure=None,
        caption=caption,
        marks=marks,
        block="",
        percent=PERCENT,
        ids=ids,
    )


def _between(value: float, low: float, high: float) -> str:
    if np.isnan(value):
        return ink.NOTHING
    return f"{ink.percent(value)} [{ink.percent(low)}, {ink.percent(high)}]"


def _lost(head: str, lost: int) -> str:
    return f"{head} {ink.LOST}" if lost else head


def _told(group: Group, what: str) -> str:
    """Bootstrap, numbers of seeds, and the settings, for captions."""
    sizes = group.runs.groupby(["name", "place"]).size()
    low, high = int(sizes.min()), int(sizes.max())
    n = f"n = {low}" if low == high else f"n from {low} to {high}"
    lost = (group.runs["state"] != "done").any()
    stated = sorted(set(group.runs["stated"]) - {""})
    return ink.join(
        f"{what} 95 % percentile intervals of {robust.TIMES} bootstrap resamples, seeds drawn "
        f"again within each setting (generator seed {robust.SEED}; Agarwal et al. 2021); with "
        "fewer than five seeds they are too narrow.",
        f"{n} seeds a head and setting.",
        f"{ink.LOST} a seed diverged or failed: it counts as below every threshold."
        if lost
        else "",
        f"Settings: {'; '.join(group.settings)}.",
        f"Stated for all cells: {', '.join(stated)}." if stated else "",
    )


def _entitle(figure: Figure, title: str, group: Group) -> None:
    what = f"{len(group.settings)} settings, {len(group.heads)} heads"
    figure.suptitle(f"{title}\n{what}", x=0.01, ha="left", fontsize=10)


def _csv(long: DataFrame, by: Sequence[str]) -> str:
    return str(identified(long.round(9), by).to_csv(index=False, lineterminator="\n"))
