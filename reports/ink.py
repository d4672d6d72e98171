"""Numbers and protocols as words: the one place where a fraction becomes per cent.

Plain Unicode throughout; `reports.latex` and `reports.page` escape it for their own paper.
"""

import math

from pandas import DataFrame, Series

from reports.frames import Setting

NOTHING = "–"
LOST = "†"

SPREAD = ("mean", "sd", "low", "high", "bound")
"""Columns of `stats.summary` in the unit of what is summarised."""


def percent(share: float) -> str:
    """A fraction in [0, 1] as per cent with one decimal, without the sign; – for NaN."""
    return NOTHING if math.isnan(share) else f"{100 * share:.1f}"


def number(value: float) -> str:
    """A number without needless digits; nothing for NaN."""
    return "" if math.isnan(value) else f"{value:g}"


def written(value: float, decimals: int | None = None) -> str:
    """A number of a CSV as it stands in print; – for NaN, and − for a sign.

    decimals: it is a fraction, written in per cent with so many; None: it is not, and gets four
    digits where it is not whole.
    """
    if math.isnan(value):
        return NOTHING
    if decimals is not None:
        text = f"{100 * value:.{decimals}f}"
    else:
        text = f"{value:.0f}" if value % 1 == 0 else f"{value:.4g}"
    return text.replace("-", "−")


def ratio(value: float) -> str:
    """An imbalance ratio, largest over smallest class: 100 -> '1:100', 1 -> 'balanced'."""
    return "balanced" if value == 1 else f"1:{value:g}"


def cell(row: Series, counted: bool) -> str:
    """One row of `stats.summary` as '62.1 ± 0.4', in per cent, mean and standard deviation.

    counted: write the number of seeds behind it, '62.1 ± 0.4 (5)'. A cell that lost seeds always
    does, '62.1 ± 0.4 (4/5†)'. No ± for a single seed; – where there is nothing to average.
    """
    lost = row["n_diverged"] + row["n_failed"]
    share = f"({row['n']}/{row['cells']}{LOST})"
    if row["n"] == 0:
        return f"{NOTHING} {share}" if lost == row["cells"] else NOTHING
    text = percent(row["mean"])
    if row["n"] > 1:
        text += f" ± {percent(row['sd'])}"
    if lost:
        return f"{text} {share}"
    return f"{text} ({row['n']})" if counted else text


def same_n(summary: DataFrame) -> int | None:
    """The planned number of seeds if it is one number for all rows that have a value, else None."""
    planned = summary.loc[summary["n"] > 0, "cells"].unique()
    return int(planned[0]) if len(planned) == 1 else None


def protocol(setting: Setting) -> str:
    """What every number of a setting has in common, in one sentence for captions."""
    words = [f"Backbone {setting.backbone}", f"recipe {setting.recipe}"]
    words.append(f"{setting.epochs} epochs")
    if (setting.runs["ratio"] > 1).any():
        words.append(f"largest class {setting.largest} images")
        words += [f"profile {setting.profile}"] if setting.profile else []
    if setting.stated:
        words.append("stated for all cells: " + ", ".join(setting.stated))
    return "; ".join(words) + "; test set, last epoch, one view, nothing selected on test."


def seeds(n: int | None) -> str:
    """What ± and n mean, for captions; n: seeds of every cell, or None if they differ."""
    if n == 1:
        return "n = 1 seed: no spread can be stated."
    spread = "Mean ± standard deviation (n − 1 in the denominator) over seeds, in per cent"
    return f"{spread}; n in brackets." if n is None else f"{spread}; n = {n}."


def lost(summary: DataFrame) -> str:
    """The sentence that explains †, or nothing if every seed finished."""
    if not (summary["n_diverged"] + summary["n_failed"]).any():
        return ""
    return (
        f"{LOST} finished/planned seeds: some diverged or failed; the mean is over the finished "
        "ones, and such a cell is never marked as best. " + bounds(summary)
    ).strip()


def bounds(summary: DataFrame) -> str:
    """How low the mean of what lost seeds can be, or nothing if none that has a mean lost one.

    summary: as from `stats.summary`, of fractions, by some of head, dim, ratio and metric.
    """
    rows = summary[summary["bound"].notna() & (summary["n"] > 0)]
    if rows.empty:
        return ""
    told = ", ".join(f"{percent(row['bound'])} ({_place(row)})" for _, row in rows.iterrows())
    return f"With the lost seeds at zero it is at least {told}."


def _place(row: Series) -> str:
    words = [str(row[name]) for name in ("set", "head") if name in row]
    words += [f"d = {row['dim']}"] if "dim" in row else []
    words += [ratio(row["ratio"])] if "ratio" in row else []
    words += [str(row["metric"])] if row.get("metric", "accuracy") != "accuracy" else []
    return ", ".join(words)


def join(*sentences: str) -> str:
    """Sentences that are not empty, with one space between."""
    return " ".join(sentence for sentence in sentences if sentence)
