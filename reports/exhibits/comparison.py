"""Which heads of a setting differ: paired differences, and groups that cannot be told apart.

`reports.paired` and `reports.ranking` have the statistics; here they become tables and figures.
"""

import math

import pandas as pd
from pandas import DataFrame, Series

from reports import ink, latex, paired, ranking, stats
from reports.evidence import Evidence
from reports.exhibits import Exhibit
from reports.exhibits.forest import forest
from reports.frames import Setting, single
from reports.paired import Competitor
from reports.trace import csv, identified, keys_of
from reports.variance import crossed

DECIMALS = 2
"""Of differences in points: test sets of ten thousand images move by hundredths."""

SPREAD = dict.fromkeys(("difference", "sd", "low", "high"), DECIMALS)

SAME = (
    "Only equal seeds pair: same images, same initial backbone, same batches; a seed that is "
    "missing, diverged or failed in either head makes no pair."
)


def differences(
    runs: DataFrame,
    name: str,
    evidence: Evidence | None = None,
    against: Competitor | None = None,
) -> list[Exhibit]:
    """Differences of every head from the baseline, paired by seed: a table and a forest.

    runs: tidy frame of one setting. name: begins that of the files. against: head and length of the
    baseline; psc if there, else the first in print (`reports.paired.baseline`). Nothing where no
    ratio has a second competitor beside it. Raises ValueError for several settings.
    """
    setting = single(runs)
    runs = setting.runs[~crossed(setting.runs)]
    if runs.empty:
        return []
    base = against or paired.baseline(runs)
    parts = [
        paired.against(part, base).assign(ratio=ratio)
        for ratio, part in runs.groupby("ratio", sort=True)
        if base in paired.competitors(part)
    ]
    parts = [part for part in parts if len(part)]
    if not parts:
        return []
    long = identified(pd.concat(parts, ignore_index=True), ["head", "dim", "ratio"])
    unheld = sorted(set(runs["ratio"]) - set(long["ratio"]))
    title = f"Differences from {base[0]}, d = {base[1]} on {setting.data}"
    about = ink.join(
        f"{title}, in points of test accuracy, paired by seed; above 0 the head is better.",
        ink.protocol(setting),
        SAME,
        "Nothing to compare at " + ", ".join(map(ink.ratio, unheld)) + "." if unheld else "",
    )
    found = [_differences(long, f"{name}-differences", title, about)]
    return found + (
        [_forest(long, f"{name}-forest", title, about, setting)] if long["n"].any() else []
    )


def groups(runs: DataFrame, name: str, evidence: Evidence | None = None) -> list[Exhibit]:
    """Heads of each ratio by their mean, with intervals of their ranks and letters of groups.

    runs: tidy frame of one setting. name: begins that of the files. Only ratios where at least two
    competitors share at least two seeds. Raises ValueError for several settings.
    """
    setting = single(runs)
    runs = setting.runs[~crossed(setting.runs)]
    parts = [_ranked(part) for _, part in runs.groupby("ratio", sort=True)]
    parts = [part for part in parts if len(part)]
    if not parts:
        return []
    long = identified(pd.concat(parts, ignore_index=True), ["head", "dim", "ratio"])
    counted = ink.same_n(long) is None
    table = DataFrame(
        {
            "ratio": long["ratio"].map(ink.ratio),
            "head": long["head"],
            "d": long["dim"],
            "accuracy": [ink.cell(row, counted) for _, row in long.iterrows()],
            "rank [95 %]": [
                f"[{row['rank_low']}, {row['rank_high']}]" for _, row in long.iterrows()
            ],
            "group": long["letters"],
        },
        dtype=object,
    )
    title = f"Which heads can be told apart on {setting.data}"
    caption = ink.join(
        f"{title}: heads of each ratio by mean test accuracy, in per cent. Heads that share a "
        "letter cannot be told apart by paired t tests over seeds. The intervals hold the ranks of "
        "all heads of a ratio at once, with 95 % confidence.",
        _sizes(long, "Holm's correction over all pairs of a ratio"),
        "With fewer than two seeds a head is told apart from none."
        if (long["n"] < 2).any()
        else "",
        "No letters where more than 52 would be needed." if (long["letters"] == "").any() else "",
        ink.protocol(setting),
        ink.seeds(ink.same_n(long)),
        ink.lost(long),
    )
    look = "Look for a head whose letter no other head of its block has: only it stands alone."
    shown = ("accuracy", "rank [95 %]", "group")
    percent = dict.fromkeys(ink.SPREAD, 1)
    return [tabled(f"{name}-ranks", title, look, caption, long, table, shown, percent)]


def _forest(long: DataFrame, name: str, title: str, about: str, setting: Setting) -> Exhibit:
    where = f"{setting.data} · {setting.backbone} · {setting.recipe}"
    figure, beyond = forest(long, f"Differences paired by seed\n{where}")
    paired_once = long["n"] > 0
    caption = ink.join(
        about,
        "Points are means, bars their 95 % t intervals; filled where Holm's correction over all "
        "heads of a ratio holds the difference, hollow where it does not.",
        "Arrows: the interval goes on." if beyond else "",
        "Points without a bar are single pairs, or pairs that all differ alike."
        if long.loc[paired_once, "low"].isna().any()
        else "",
        "Without a pair, hence without a point: "
        + ", ".join(f"{r['head']}, d = {r['dim']}" for _, r in long[~paired_once].iterrows())
        + "."
        if not paired_once.all()
        else "",
    )
    look = "Look for filled points: only those heads differ from the baseline beyond their seeds."
    return Exhibit(name, title, look, None, None, csv(long), figure, caption, percent=SPREAD)


def _families(long: DataFrame) -> str:
    return ink.join(
        "± is the standard deviation of the differences (n − 1 in the denominator), in brackets "
        "the 95 % t interval of their mean.",
        _sizes(long, "p of the paired t test after Holm's correction over all heads of a ratio"),
        "Effect: mean over standard deviation of the differences, corrected for few seeds (Hedges "
        "1981), known from three pairs on; wins: seeds in which the head is better, in per cent, "
        "ties half.",
        f"Bold: above the baseline with p below {paired.ALPHA}, and no seed lost."
        if _bold(long).any()
        else f"Nothing is bold: no head is above with p below {paired.ALPHA} and no seed lost.",
        f"{ink.LOST} a seed diverged or failed in one of the two." if long["lost"].any() else "",
    )


def _sizes(long: DataFrame, what: str) -> str:
    sizes = long.groupby("ratio")["family"].first()
    told = ", ".join(f"{size} at {ink.ratio(ratio)}" for ratio, size in sizes.items())
    if sizes.nunique() == 1:
        told = str(sizes.iloc[0])
    return f"{what} (tests in a family: {told})."


def _bold(long: DataFrame) -> Series:
    return (long["verdict"] == paired.ABOVE) & (long["lost"] == 0)


def _differences(long: DataFrame, name: str, title: str, about: str) -> Exhibit:
    def brackets(row: Series) -> str:
        ends = [ink.written(row[end], DECIMALS) for end in ("low", "high")]
        return ink.NOTHING if math.isnan(row["low"]) else f"[{', '.join(ends)}]"

    def points(row: Series) -> str:
        mean, sd = (ink.written(row[each], DECIMALS) for each in ("difference", "sd"))
        return f"{mean} ± {sd}" if row["n"] > 1 else mean

    rows = [row for _, row in long.iterrows()]
    table = DataFrame(
        {
            "ratio": [ink.ratio(row["ratio"]) for row in rows],
            "head": [row["head"] for row in rows],
            "d": [row["dim"] for row in rows],
            "difference": [points(row) for row in rows],
            "95 % interval": [brackets(row) for row in rows],
            "pairs": [_pairs(row) for row in rows],
            "p (Holm)": [ink.written(row["holm"]) for row in rows],
            "effect": [ink.written(row["g"]) for row in rows],
            "wins": [ink.written(row["wins"], 0) for row in rows],
            "verdict": [row["verdict"] for row in rows],
        },
        dtype=object,
    )
    look = "Look at the verdicts: above or below is said only where Holm's correction holds it."
    shown = tuple(table.columns[3:])
    bold, caption = _bold(long), ink.join(about, _families(long))
    return tabled(name, title, look, caption, long, table, shown, SPREAD | {"wins": 0}, bold)


def _pairs(row: Series) -> str:
    whole = row["n"] == row["seeds"]
    return str(row["n"]) if whole else f"{row['n']}/{row['seeds']}{ink.LOST * (row['lost'] > 0)}"


def tabled(
    name: str,
    title: str,
    look: str,
    caption: str,
    long: DataFrame,
    table: DataFrame,
    shown: tuple[str, ...],
    percent: dict[str, int],
    bold: Series | None = None,
) -> Exhibit:
    """The exhibit of a table whose rows are those of `long`, from `reports.trace.identified`.

    shown: columns of the table that hold numbers of `long`, row by row. bold: which rows have the
    first of these in bold. percent: see Exhibit.
    """
    marks = DataFrame("", index=table.index, columns=table.columns, dtype=object)
    ids = marks.copy()
    for column in shown:
        ids[column] = long["id"].to_numpy()
    if bold is not None:
        marks.loc[bold.to_numpy(), shown[0]] = "bold"
    block = "ratio" if "ratio" in table else ""
    return Exhibit(
        name=name,
        title=title,
        look=look,
        table=table,
        latex=latex.fragment(table, marks, caption, name, block=block),
        csv=csv(long),
        figure=None,
        caption=caption,
        marks=marks,
        block=block,
        percent=percent,
        ids=ids,
    )


def _ranked(part: DataFrame) -> DataFrame:
    """Competitors of one ratio, best mean first; no rows where nobody shares two seeds."""
    pairs = paired.every_pair(part)
    if not (pairs["n"] >= 2).any():
        return DataFrame()
    means = stats.summary(part, ["ratio", "head", "dim"])
    order = {one: place for place, one in enumerate(paired.competitors(part))}
    printed = [order[one] for one in means[["head", "dim"]].itertuples(index=False, name=None)]
    means = means.assign(printed=printed, value=means["mean"].round(12))
    means = means.sort_values(
        ["value", "printed"], ascending=[False, True], na_position="last", ignore_index=True
    ).drop(columns=["printed", "value"])
    heads = list(means[["head", "dim"]].itertuples(index=False, name=None))
    bounds = ranking.rank_intervals(pairs, heads)
    return means.assign(
        rank_low=bounds["rank_low"],
        rank_high=bounds["rank_high"],
        letters=ranking.letters(ranking.pair_matrix(pairs, heads)),
        family=pairs["family"].iloc[0],
        keys=keys_of(part),  # a rank depends on every head
    )
