"""The papers' numbers, as they stand in print, with protocol, origin and known errors.

One row of `published/PAPER_YEAR.csv` is one number:

    table, method, dataset, ratio, dim, backbone   its place in print; ratio: largest over smallest
                                                   class, 200 where a paper says 0.005
    split, features                                classes it is over: all, many, medium, few; what
                                                   the features were trained with
    metric, value, std                             accuracy in per cent, cosines as they are
    network, epochs, recipe, augmentation          how it was measured, as far as known; epochs:
                                                   '200 or 320' where paper and code differ
    selection                                      which of the epochs it was read at
    source                                         who measured it: papers quote each other
    corrected                                      the value without a known error, where that
                                                   follows from mathematics
    comparable                                     no: the number cannot be right
    error                                          what is known to be wrong or contradictory
    apart                                          what sets it apart from most of its table, to be
                                                   said beside the number: an ensemble, more epochs
"""

import warnings
from difflib import get_close_matches
from pathlib import Path

import numpy as np
import pandas as pd
from pandas import DataFrame, Series

FOLDER = Path(__file__).parent / "published"
FILES = {"dl2pa": "dl2pa_2024.csv", "prototype_classifier": "prototype_classifier_2023.csv"}
TEXTS = ("table", "method", "dataset", "backbone", "metric", "network", "epochs", "recipe")
TEXTS += ("augmentation", "selection", "source", "error", "split", "features", "apart")
NUMBERS = ("ratio", "dim", "value", "std", "corrected")


def printed(paper: str) -> DataFrame:
    """The numbers of a paper, in the order of print; accuracies as fractions in [0, 1].

    Returns the columns of the file, beside `text` and `std_text` as printed, `half`: half a unit of
    the last printed digit, what rounding may hide, and `truth`: the corrected value where there is
    one, else the printed one. Unknown numbers are NaN, columns that a file lacks empty. Raises
    ValueError for an unknown paper, and where its file is damaged.
    """
    if paper not in FILES:
        near = get_close_matches(paper, FILES, n=1)
        hint = f"Did you mean {near[0]!r}? " if near else ""
        raise ValueError(f"unknown paper {paper!r}. {hint}Papers: {', '.join(sorted(FILES))}.")
    raw = _rows(FOLDER / FILES[paper])
    raw = raw.assign(**{name: "" for name in TEXTS if name not in raw})
    scale = raw["metric"].map(lambda metric: 0.01 if metric == "accuracy" else 1.0)
    columns = {name: raw[name].astype(object) for name in TEXTS}
    numbers = {name: _numbers(raw, name, paper) for name in NUMBERS}
    for name in ("value", "std", "corrected"):
        numbers[name] = (numbers[name] * scale).round(9)  # 0.6622, not 0.6622000000000001
    told = raw["corrected"].where(raw["corrected"] != "", raw["value"])
    return DataFrame(
        columns
        | numbers
        | {
            "comparable": raw["comparable"] == "yes",
            "text": raw["value"].astype(object),
            "std_text": raw["std"].astype(object),
            "half": told.map(_half) * scale,
            "truth": numbers["corrected"].where(raw["corrected"] != "", numbers["value"]),
        }
    )


def _rows(path: Path) -> DataFrame:
    """The table as it was typed; ValueError where it is none, or lacks a column."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # more fields than headings
            raw = pd.read_csv(path, dtype=str, keep_default_na=False, index_col=False).fillna("")
    except (ValueError, pd.errors.ParserWarning) as error:
        what = " ".join(str(error).split())
        raise ValueError(f"{path} is no table of numbers ({what}). Restore it with git.") from None
    lacking = [name for name in (*NUMBERS, "metric", "comparable") if name not in raw]
    if lacking:
        raise ValueError(f"{path} has no column {lacking[0]!r}. Restore it with git.")
    if raw.empty:
        raise ValueError(f"{path} has no rows. Restore it with git.")
    return raw


def _numbers(raw: DataFrame, name: str, paper: str) -> Series:
    found = pd.to_numeric(raw[name], errors="coerce").astype("float64")
    wrong = raw[name][(raw[name] != "") & ~np.isfinite(found)]
    if len(wrong):
        raise ValueError(
            f"{FILES[paper]}, line {wrong.index[0] + 2}: {name} is {wrong.iloc[0][:40]!r}, which "
            "is no number. Restore it with git."
        )
    return found


def _half(text: str) -> float:
    """Half a unit of the last digit: 0.05 for '62.1'."""
    return 0.5 * 10.0 ** -len(text.partition(".")[2])
