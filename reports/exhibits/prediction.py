"""What cells took, by kind, and how well that was foretold: the apparatus's own finding.

    ratio = predicted / measured seconds      a cell from its beginning to its record

A run notes with each cell what it expects and what that rests on, before the cell is begun. Times
belong to the machine: all of this is a cost.
"""

import math

import numpy as np
import pandas as pd
from pandas import DataFrame, Series

from reports import ink, latex, trace
from reports.evidence import Evidence
from reports.exhibits import Exhibit

NAME = "predictions"
CLOSE = 0.2
"""By how much a prediction may miss and still be close: the aim of `plan`."""

BY = ["data", "backbone", "kind", "rests on"]
NONE = "no prediction"


def predictions(runs: DataFrame, evidence: Evidence | None) -> list[Exhibit]:
    """What cells of each kind took, beside what was predicted: median ratio, share within 20 %."""
    cells = _timed(runs)
    if cells.empty:
        return []
    rows = [_row(dict(zip(BY, key, strict=True)), part) for key, part in cells.groupby(BY)]
    named = trace.identified(DataFrame(rows).round(6), BY)
    shown = DataFrame([_line(row) for _, row in named.iterrows()])
    ids = DataFrame({name: named["id"] for name in shown})
    ids[BY] = ""
    marks = DataFrame("", index=shown.index, columns=shown.columns)
    title = "Predicted against measured seconds"
    foretold = cells[cells["ratio"].notna()]
    caption = ink.join(
        f"{title} of a cell, medians over cells of one kind, of all heads, ratios and seeds.",
        "Ratio: predicted over measured; within 20 %: the share of cells that came out so.",
        _whole(foretold),
    )
    return [
        Exhibit(
            name=NAME,
            title=title,
            look="Look for kinds whose ratio is far from 1: there a plan is wrong.",
            table=shown,
            latex=latex.fragment(shown, marks, caption, NAME, block="data"),
            csv=trace.csv(named),
            figure=None,
            caption=caption,
            marks=marks,
            block="data",
            cost=True,
            percent={"within": 0},
            ids=ids,
        )
    ]


def _timed(runs: DataFrame) -> DataFrame:
    """Cells that are done and say what they took, with kind, basis, and both times."""
    cells = runs[(runs["state"] == "done") & runs["seconds"].notna()].copy()
    cells["measured"] = cells["seconds"] + cells["beside_seconds"].fillna(0.0)
    cells["ratio"] = cells["predicted_seconds"] / cells["measured"].where(cells["measured"] > 0)
    known = cells["beside_seconds"].notna()  # a prediction is of the whole
    cells.loc[~known, "ratio"] = math.nan
    cells["data"] = cells["data"].str.split(" ").str[0]
    cells["kind"] = [
        _kind(head, rate) for head, rate in cells[["head", "images_per_second"]].values
    ]
    cells["rests on"] = cells["predicted_from"].where(cells["ratio"].notna(), NONE)
    return cells


def _kind(head: str, rate: float) -> str:
    if not rate > 0:
        return "nothing to train"
    return "on a frozen trunk" if " > " in head else "trained"


def _row(place: dict[str, str], part: DataFrame) -> dict[str, object]:
    ratios = part["ratio"].dropna()
    return {
        **place,
        "cells": len(part),
        "measured": float(part["measured"].median()),
        "predicted": float(part["predicted_seconds"].median()) if len(ratios) else math.nan,
        "ratio": float(ratios.median()) if len(ratios) else math.nan,
        "within": _within(ratios),
        "keys": trace.keys_of(part),
    }


def _within(ratios: Series) -> float:
    return float((np.abs(ratios - 1) <= CLOSE).mean()) if len(ratios) else math.nan


def _line(row: Series) -> dict[str, str]:
    seconds = {name: ink.written(row[name]) for name in ("measured", "predicted")}
    share = ink.NOTHING if pd.isna(row["within"]) else f"{100 * row['within']:.0f}"
    return {
        **{name: str(row[name]) for name in BY},
        "n": str(row["cells"]),
        "measured, s": seconds["measured"],
        "predicted, s": seconds["predicted"],
        "ratio": ink.written(row["ratio"]),
        "within 20 %": share,
    }


def _whole(foretold: DataFrame) -> str:
    if foretold.empty:
        return "No cell had a prediction: nothing like it was finished when it was begun."
    ratios = foretold["ratio"]
    return (
        f"Of all {len(ratios)} cells with a prediction {_within(ratios):.0%} are within 20 %, "
        f"the median ratio is {ratios.median():.2f}."
    )
