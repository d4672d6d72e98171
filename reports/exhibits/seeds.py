"""How many seeds a difference takes, and which randomness the seeds stand for."""

import itertools
import math
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from pandas import DataFrame, Series

from reports import ink, latex, power, stats, style, variance
from reports.evidence import Evidence
from reports.exhibits import Exhibit
from reports.frames import Setting, settings, single, slug
from reports.trace import identified

WHOLE, HALF = 0.01, 0.005
"""Differences in accuracy to resolve: one point and half a point, as fractions."""

BASELINE = "psc"
"""Head that the others are held against, where it is there."""

NEEDED = (
    *("head", "dim", "other", "other_dim", "ratio", "n", "lost", "mean", "sd", "sd_cautious"),
    *("resolved", "one_point", "one_point_cautious", "one_point_unpaired"),
    *("half_point", "half_point_cautious", "half_point_unpaired", "keys"),
)
SOURCES = (
    *("head", "dim", "other", "other_dim", "ratio", "source", "df", "sd", "share", "p"),
    *("variance_points2", "estimate_points2", "low_points2", "high_points2", "keys"),
)
"""Variances are in points squared: in squared fractions nobody could read them."""

TINY = "< 0.001"
"""How a smaller p is printed."""

Rival = tuple[str, int]


def needed(runs: DataFrame, name: str, evidence: Evidence | None = None) -> list[Exhibit]:
    """Seeds that it takes to resolve 1 point and 0.5 point, for pairs of heads.

    runs: tidy frame of one setting. name: begins the name of the files. Pairs are each head against
    the baseline (psc, else the first in the order of print), and neighbours by mean accuracy.
    [] unless some pair shares two finished seeds. Raises ValueError for several settings.
    """
    setting = single(runs)
    cells = setting.runs[(setting.runs["state"] != "pruned") & ~variance.crossed(setting.runs)]
    rows = []
    for ratio, part in cells.groupby("ratio", sort=True):
        done, lost = _finished(part)
        rows += [_pair(done, lost, *pair) | {"ratio": ratio} for pair in _pairs(part)]
    long = identified(DataFrame(rows, columns=list(NEEDED)), NEEDED[:5])
    if not (long["n"] > 1).any():
        return []
    shown = [
        {
            "ratio": ink.ratio(row["ratio"]),
            "head": _label(row["head"], row["dim"]),
            "against": _label(row["other"], row["other_dim"]),
            "seeds": f"{row['n']} {ink.LOST}" if row["lost"] else str(row["n"]),
            "difference": _points(row["mean"]),
            "sd": _points(row["sd"]),
            "resolved": _points(row["resolved"]),
            "1 point": _count(row, "one_point"),
            "0.5 point": _count(row, "half_point"),
        }
        for _, row in long.iterrows()
    ]
    table = DataFrame(shown, dtype=object)
    marks = DataFrame("", index=table.index, columns=table.columns, dtype=object)
    title = f"Seeds that a difference on {setting.data} takes"
    caption = ink.join(
        f"{title}: to resolve 1 and 0.5 points of test accuracy between two heads with "
        f"{100 * power.POWER:g} % power by a two-sided t test at {power.ALPHA:g}, uncorrected.",
        "First number: both heads trained on each seed, the standard deviation as seen; second: "
        f"at its upper {100 * power.CAUTION:g} % bound, for few seeds tell little of it; in "
        "brackets: were the seeds not shared.",
        "In points: difference, standard deviation (n − 1) of differences by seed, and the least "
        "difference that the seeds at hand resolve; seeds are those that both heads finished.",
        f"{ink.LOST} a seed of either diverged or failed and is left out here."
        if long["lost"].any()
        else "",
        ink.protocol(setting),
    )
    text = f"{name}-seeds-needed"
    exhibit = Exhibit(
        name=text,
        title=title,
        look="Look for pairs that took fewer seeds than they need: they decide nothing.",
        table=table,
        latex=latex.fragment(table, marks, caption, text, block="ratio"),
        csv=str(long.round(9).to_csv(index=False, lineterminator="\n")),
        figure=None,
        caption=caption,
        marks=marks,
        percent=dict.fromkeys(("mean", "sd", "sd_cautious", "resolved"), 2),
        ids=_ids(table, long["id"], ("ratio", "head", "against")),
    )
    return [exhibit]


def components(runs: DataFrame, evidence: Evidence | None = None) -> list[Exhibit]:
    """Which of the seeds the spread comes from, where they were varied apart.

    runs: tidy frame of any settings, without searches and geometric cells. Returns one exhibit for
    each setting that has heads with a fully crossed design: of each head, and of its difference
    from the first in the order of print.
    """
    apart = runs[variance.crossed(runs)].reset_index(drop=True)
    data = dict(zip(apart["key"], apart["data"], strict=True))  # with the seeds of the subsets
    apart["data"] = apart["data"].map(variance.without_subset)
    found = []
    for setting in settings(apart) if len(apart) else ():
        rows: list[dict[str, object]] = []
        streams: dict[str, str] = {}
        partial = []
        cells = setting.runs.assign(data=setting.runs["key"].map(data))
        for ratio, part in cells.groupby("ratio", sort=True):
            grids: dict[Rival, variance.Grid] = {}
            for rival in _rivals(part):
                grid = variance.grid(_of(part, rival))
                if grid is None:
                    partial.append(f"{_label(*rival)} at {ink.ratio(float(ratio))}")
                else:
                    grids[rival] = grid
                    streams |= {name: " and ".join(of) for name, of in grid.factors.items()}
            for rival, grid in grids.items():
                rows += _sources(grid, {"head": rival[0], "dim": rival[1], "ratio": ratio})
            first, *others = [*grids] or [("", 0)]  # psc first, where it is there
            for rival in others:
                between = variance.difference(grids[rival], grids[first])
                if between is not None:
                    names = {"head": rival[0], "dim": rival[1], "ratio": ratio}
                    names |= {"other": first[0], "other_dim": first[1]}
                    rows += _sources(between, names)
        if rows:
            long = DataFrame(rows, columns=list(SOURCES))
            found.append(_where_from(long, setting, streams, partial))
    return found


def _pairs(part: DataFrame) -> list[tuple[Rival, Rival]]:
    """Each head against the baseline, then neighbours by mean, better first; no pair twice."""
    done = part[part["state"] == "done"]
    means = done.groupby(["head", "dim"])["accuracy"].mean()
    rivals = [rival for rival in _rivals(part) if rival in means.index]
    if not rivals:
        return []
    base = next((head for head, _ in rivals if head == BASELINE), rivals[0][0])
    bases = [rival for rival in rivals if rival[0] == base]
    pairs = [
        (rival, (base, rival[1]) if (base, rival[1]) in bases else bases[0])
        for rival in rivals
        if rival not in bases
    ]
    ranked = sorted(rivals, key=lambda rival: (-means[rival], rivals.index(rival)))
    known = {frozenset(pair) for pair in pairs}
    return pairs + [p for p in itertools.pairwise(ranked) if frozenset(p) not in known]


def _rivals(part: DataFrame) -> list[Rival]:
    """Heads with their embedding lengths in the order of print, longest first."""
    found = set(part[["head", "dim"]].itertuples(index=False, name=None))
    return sorted(found, key=lambda rival: (style.rank(rival[0]), -rival[1]))


def _of(part: DataFrame, rival: Rival) -> DataFrame:
    return part[(part["head"] == rival[0]) & (part["dim"] == rival[1])]


def _finished(part: DataFrame) -> tuple[dict[Rival, dict[str, tuple[float, str]]], Counter[Rival]]:
    """Accuracy and key of each head by seed, in the order of seeds; how many seeds each lost."""
    done: dict[Rival, dict[str, tuple[float, str]]] = {}
    lost: Counter[Rival] = Counter()
    columns = ["head", "dim", "seed", "state", "accuracy", "key"]
    for head, dim, seed, state, *found in part[columns].itertuples(index=False, name=None):
        mine = done.setdefault((head, dim), {})
        if state == "done":
            mine[seed] = tuple(found)
        else:
            lost[head, dim] += 1
    return done, lost


def _pair(
    done: Mapping[Rival, Mapping[str, tuple[float, str]]],
    lost: Mapping[Rival, int],
    first: Rival,
    second: Rival,
) -> dict[str, object]:
    """A row of NEEDED: the difference by seed of two heads, and how many seeds it takes."""
    seeds = [seed for seed in done[first] if seed in done[second]]
    cells = [[done[rival][seed] for seed in seeds] for rival in (first, second)]
    ours, theirs = (np.array([accuracy for accuracy, _ in own]) for own in cells)
    row: dict[str, object] = {
        **{"head": first[0], "dim": first[1], "other": second[0], "other_dim": second[1]},
        **{"n": len(seeds), "lost": lost[first] + lost[second]},
        **{"mean": stats.mean(ours - theirs), "sd": stats.sd(ours - theirs)},
        "keys": " ".join(sorted(key for own in cells for _, key in own)),
    }
    if len(seeds) < power.LEAST:
        return row
    sd = stats.sd(ours - theirs)
    bound = power.cautious(sd, len(seeds))
    apart = math.hypot(stats.sd(ours), stats.sd(theirs)) / math.sqrt(2)
    row |= {"sd_cautious": bound, "resolved": power.resolved(sd, len(seeds))}
    for name, difference in (("one_point", WHOLE), ("half_point", HALF)):
        row[name] = power.paired_seeds(sd, difference)
        row[f"{name}_cautious"] = power.paired_seeds(bound, difference)
        row[f"{name}_unpaired"] = power.unpaired_seeds(apart, difference)
    return row


def _sources(grid: variance.Grid, names: dict[str, object]) -> list[dict[str, object]]:
    """Rows of SOURCES of one design."""
    keys = " ".join(sorted({key for both in grid.keys.flat for key in both.split(" ")}))
    return [
        {
            **names,
            **{"source": one.source, "df": one.df, "sd": math.sqrt(one.variance) / 100},
            **{"share": one.share, "p": one.p, "variance_points2": one.variance},
            **{"estimate_points2": one.estimate, "low_points2": one.low},
            **{"high_points2": one.high, "keys": keys},
        }
        for one in variance.components(100 * grid.values, list(grid.factors))
    ]


def _where_from(
    long: DataFrame, setting: Setting, streams: Mapping[str, str], partial: Sequence[str]
) -> Exhibit:
    long = identified(long.astype({"other_dim": "Int64"}), SOURCES[:6])
    shown = [
        {
            "ratio": ink.ratio(row["ratio"]),
            "head": _difference(row),
            "source": row["source"],
            "df": str(row["df"]),
            "sd": _points(row["sd"]),
            "variance [95 %]": _squared(row),
            "share": ink.percent(row["share"]),
            "p": _chance(row["p"]),
        }
        for _, row in long.iterrows()
    ]
    table = DataFrame(shown, dtype=object)
    marks = DataFrame("", index=table.index, columns=table.columns, dtype=object)
    title = f"Where the spread over seeds on {setting.data} comes from"
    together = "; ".join(f"{name}: the seeds of {of}" for name, of in streams.items() if name != of)
    caption = ink.join(
        f"{title}: variance components of test accuracy, seeds varied apart and fully crossed, one "
        "cell for each combination.",
        f"{together[0].upper()}{together[1:]}." if together else "",
        "Standard deviation in points, variance in points squared, share of all variance in per "
        "cent; method of moments, intervals after Williams 1962, F test against the residual.",
        "Interactions cannot be told from noise: the residual holds both.",
        "An estimate below zero is shown as zero, with the estimate in brackets."
        if (long["estimate_points2"] < 0).any()
        else "",
        f"Not fully crossed, hence left out: {', '.join(partial)}." if partial else "",
        ink.protocol(setting),
    )
    name = slug(setting.slug, "variance")
    return Exhibit(
        name=name,
        title=title,
        look="Look for the largest share: more seeds of any other kind would change little.",
        table=table,
        latex=latex.fragment(table, marks, caption, name, block="head"),
        csv=str(long.round(9).to_csv(index=False, lineterminator="\n")),
        figure=None,
        caption=caption,
        marks=marks,
        block="head",
        percent={"sd": 2, "share": 1},
        ids=_ids(table, long["id"], ("ratio", "head", "source")).mask(table == TINY, ""),
    )


def _ids(table: DataFrame, ids: Series, words: Sequence[str]) -> DataFrame:
    """The id of each cell's row, but for columns that hold words."""
    return DataFrame({name: "" if name in words else ids for name in table}, dtype=object)


def _label(head: str, dim: int) -> str:
    return f"{head}, d = {dim}"


def _difference(row: Series) -> str:
    label = _label(row["head"], row["dim"])
    return (
        label if pd.isna(row["other"]) else f"{label} less {_label(row['other'], row['other_dim'])}"
    )


def _points(fraction: float) -> str:
    """A difference of fractions in points, two decimals; – for NaN."""
    return ink.NOTHING if math.isnan(fraction) else f"{100 * fraction:.2f}".replace("-", "−")


def _count(row: Series, what: str) -> str:
    """Seeds as '4 – 15 [6]': as seen, cautious, unpaired; – where unknown."""
    if math.isnan(row[what]):
        return ink.NOTHING
    seen, careful, apart = (int(row[f"{what}{kind}"]) for kind in ("", "_cautious", "_unpaired"))
    return f"{seen} – {careful} [{apart}]"


def _squared(row: Series) -> str:
    value, low, high = (f"{row[f'{name}_points2']:.2f}" for name in ("variance", "low", "high"))
    estimate = row["estimate_points2"]
    below = f" (−{-estimate:.2f})" if estimate < 0 else ""
    return f"{value}{below} [{low}, {high}]"


def _chance(p: float) -> str:
    return ink.NOTHING if math.isnan(p) else TINY if p < 0.001 else f"{p:.3f}"
