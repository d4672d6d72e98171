"""Accuracy tables: which head, at which embedding length, under which imbalance."""

import pandas as pd
from pandas import DataFrame

from reports import ink, latex, stats, style, trace
from reports.evidence import Evidence
from reports.exhibits import Exhibit
from reports.frames import single

CSV = ["id", "head", "dim", "ratio", "cells", "n", "n_diverged", "n_failed", *ink.SPREAD]
CSV += ["metric", "keys"]
PERCENT = dict.fromkeys(ink.SPREAD, 1)
GROUPS = {"accuracy": "all", "many": "many", "medium": "medium", "few": "few"}

MARKS = (
    "Bold: best of its {place}, where its 95 % t interval is clear of the next one's; underlined: "
    "second, where there is a best and its interval is clear of the third's."
)
UNMARKED = "Nothing is marked: no best is clear of the next by its 95 % t interval."


def accuracy_table(runs: DataFrame, name: str, evidence: Evidence | None = None) -> list[Exhibit]:
    """Mean and spread of test accuracy: rows by head and embedding length, columns by ratio.

    runs: tidy frame of one setting. name: begins that of the files. Raises ValueError for several
    settings.
    """
    setting = single(runs)
    long = measured(runs, ["accuracy"], place=["ratio"])
    long["column"] = long["ratio"].map(ink.ratio)
    table, marks, ids = _shown(long)
    title = f"Test accuracy on {setting.data}"
    caption = ink.join(
        f"{title}, in per cent, by imbalance ratio (largest over smallest class).",
        ink.protocol(setting),
        ink.seeds(ink.same_n(long)),
        _marks(marks, "column"),
        ink.lost(long),
    )
    look = "Look down each column for a number in bold: only there does one head stand clear."
    return [_exhibit(f"{name}-accuracy", title, look, caption, long, table, marks, ids)]


def group_table(runs: DataFrame, name: str, evidence: Evidence | None = None) -> list[Exhibit]:
    """Accuracy on all classes and on the many, medium and few ones: one block per ratio above 1.

    runs: tidy frame of one setting. name: begins that of the files. Nothing where every ratio is 1.
    Raises ValueError for several settings.
    """
    setting = single(runs)
    runs = runs[runs["ratio"] > 1]
    if runs.empty:
        return []
    long = measured(runs, list(GROUPS), place=["ratio", "metric"])
    long["column"] = long["metric"].map(GROUPS)
    table, marks, ids = _shown(long, "ratio")
    table["ratio"] = table["ratio"].map(ink.ratio)
    title = f"Test accuracy on {setting.data} by class frequency"
    caption = ink.join(
        f"{title}, in per cent: all classes, and those with many, medium and few training images.",
        f"Groups by the rule {setting.group_rule}; {ink.NOTHING} marks an empty group."
        if setting.group_rule
        else f"{ink.NOTHING} marks an empty group.",
        ink.protocol(setting),
        ink.seeds(ink.same_n(long)),
        _marks(marks, "block and column"),
        ink.lost(long),
    )
    look = "Look at what a gain on the few classes costs on the many, in the same row."
    return [_exhibit(f"{name}-groups", title, look, caption, long, table, marks, ids)]


def _exhibit(
    name: str,
    title: str,
    look: str,
    caption: str,
    long: DataFrame,
    table: DataFrame,
    marks: DataFrame,
    ids: DataFrame,
) -> Exhibit:
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
        percent=PERCENT,
        ids=ids,
    )


def measured(runs: DataFrame, metrics: list[str], place: list[str]) -> DataFrame:
    """One row per head, embedding length, ratio and metric, in the order of print.

    place: the columns within which heads compete for bold. Returns `stats.summary`'s columns with
    id, metric, mark ('', 'bold', 'underline') and text (the display string).
    """
    parts = [
        stats.summary(runs, ["ratio", "head", "dim"], metric).assign(metric=metric)
        for metric in metrics
    ]
    long = pd.concat(parts, ignore_index=True)
    long["rank"] = long["head"].map(style.rank)
    long["nth"] = long["metric"].map(metrics.index)
    long = long.sort_values(["ratio", "rank", "dim", "nth"], ignore_index=True)
    long["mark"] = ""
    for _, rivals in long.groupby(place):
        long.loc[rivals.index, "mark"] = stats.winner(rivals)
    counted = ink.same_n(long) is None
    long["text"] = [ink.cell(row, counted) for _, row in long.iterrows()]
    by = ["head", "dim", "ratio"] + (["metric"] if len(metrics) > 1 else [])
    return trace.identified(long.drop(columns=["rank", "nth"]), by)


def csv(long: DataFrame) -> str:
    """The plain numbers behind `measured`: fractions in [0, 1], seeds counted, no ink."""
    return trace.csv(long[CSV])


def _marks(marks: DataFrame, place: str) -> str:
    return MARKS.format(place=place) if marks.isin(["bold"]).any(axis=None) else UNMARKED


def _shown(long: DataFrame, *before: str) -> tuple[DataFrame, DataFrame, DataFrame]:
    """Display strings, marks and ids, each cell at the same place."""
    found = []
    for value in ("text", "mark", "id"):
        part = _wide(long, value, *before)
        if value != "text":
            part[[*before, "head", "dim"]] = ""
        found.append(part.rename(columns={"dim": "d"}))
    table, marks, ids = found
    return table, marks, ids


def _wide(long: DataFrame, value: str, *before: str) -> DataFrame:
    """Long to wide: rows by `before`, head and dim; a cell that was not run stays empty."""
    rows = [*before, "head", "dim"]
    places = long[[*rows, "column"]].itertuples(index=False, name=None)
    at = dict(zip(places, long[value], strict=True))
    keys = {place[:-1] for place in at}
    columns = list(dict.fromkeys(long["column"]))
    cells = [
        [*key, *(at.get((*key, column), "") for column in columns)]
        for key in sorted(keys, key=lambda key: (key[:-2], style.rank(key[-2]), key[-1]))
    ]
    return DataFrame(cells, columns=[*rows, *columns], dtype=object)
