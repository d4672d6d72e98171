"""Per cent in ink, and every seed accounted for."""

import math

import pandas as pd
import pytest

from reports import ink


@pytest.mark.parametrize(
    ("row", "counted", "text"),
    [
        ((0.621, 0.004, 5, 5, 0), False, "62.1 ± 0.4"),
        ((0.621, 0.004, 5, 5, 0), True, "62.1 ± 0.4 (5)"),
        ((0.621, 0.004, 4, 5, 1), False, "62.1 ± 0.4 (4/5†)"),
        ((0.621, 0.004, 4, 5, 1), True, "62.1 ± 0.4 (4/5†)"),
        ((0.621, math.nan, 1, 1, 0), False, "62.1"),
        ((0.621, math.nan, 1, 3, 2), False, "62.1 (1/3†)"),
        ((math.nan, math.nan, 0, 5, 5), False, "– (0/5†)"),
        ((math.nan, math.nan, 0, 5, 0), True, "–"),  # an empty group of classes
    ],
)
def test_cell(row, counted, text):
    names = ["mean", "sd", "n", "cells", "n_diverged"]
    row = pd.Series(row, index=names, dtype=object)
    assert ink.cell(pd.concat([row, pd.Series({"n_failed": 0})]), counted) == text


@pytest.mark.parametrize(
    ("value", "decimals", "text"),
    [
        *((0.49349, 1, "49.3"), (-0.0055, 2, "−0.55"), (math.nan, 1, "–"), (1.0, 1, "100.0")),
        *((3.0, None, "3"), (464154.0, None, "464154"), (0.0123456, None, "0.01235")),
        *((-0.62914, None, "−0.6291"), (1.5e-07, None, "1.5e−07")),
    ],
)
def test_written(value, decimals, text):
    assert ink.written(value, decimals) == text


def test_bounds_name_what_lost_a_seed_and_has_a_mean():
    rows = pd.DataFrame(
        {
            **{"head": ["psc", "etf", "hpn"], "dim": [64, 3, 3], "ratio": [20.0, 1.0, 1.0]},
            **{"n": [4, 5, 0], "bound": [0.4934, math.nan, 0.0]},
        }
    )
    assert ink.bounds(rows) == (
        "With the lost seeds at zero it is at least 49.3 (psc, d = 64, 1:20)."
    )
    few = rows.assign(metric="few")
    assert "49.3 (psc, d = 64, 1:20, few)" in ink.bounds(few)
    assert ink.bounds(rows.tail(2)) == ""


def test_ratio():
    assert [ink.ratio(value) for value in (1.0, 100.0, 33.5)] == ["balanced", "1:100", "1:33.5"]
