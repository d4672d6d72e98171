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


def test_ratio():
    assert [ink.ratio(value) for value in (1.0, 100.0, 33.5)] == ["balanced", "1:100", "1:33.5"]
