"""What a crowded figure draws, and numbers over seeds against their plain twins."""

import numpy as np
import pandas as pd
import pytest

from reports import stats
from reports.exhibits import chosen
from reports.exhibits.chosen import Curve
from reports.frames import tidy


def test_numbers_over_seeds_are_those_of_the_plain_functions():
    values = np.random.default_rng(7).random((4, 6))
    values[0, 1] = values[1:, 2] = values[:, 3] = np.nan  # three, one and no seed
    found = chosen.over_seeds(values)
    for place, row in found.iterrows():
        known = [value for value in values[:, place] if not np.isnan(value)]
        assert row["n"] == len(known)
        plain = [stats.mean(known), stats.sd(known), *stats.interval(known)]
        assert row[["mean", "sd", "low", "high"]].tolist() == pytest.approx(plain, nan_ok=True)


def test_a_figure_draws_the_longest_of_each_head_and_those_without_options_first(make_runs):
    variants = [f"psc scale={scale}" for scale in range(2, 10)]
    runs = tidy(make_runs(heads=["dl2pa", *variants, "psc", "etf"], dims=(16, 64), seeds=1))
    found = chosen.curves(runs)
    assert found[:2] == [Curve("psc", 64), Curve("psc", 16)]
    shown, left = chosen.drawn(found)
    assert [c.head for c in shown] == ["psc", *variants[:5], "etf", "dl2pa"]
    assert {c.dim for c in shown} == {64}
    assert set(shown) | set(left) == set(found) and not set(shown) & set(left)
    assert "psc, d = 16" in chosen.left_out(left) and chosen.left_out([]) == ""


def test_of_many_ratios_the_ends_and_the_middle():
    assert chosen.spread([100, 1, 1, 10]) == [1, 10, 100]
    assert chosen.spread([1, 10, 50, 100, 200]) == [1, 50, 200]
    assert chosen.spread([1, 10, 100], 2) == [1, 100]


def test_no_interval_is_claimed_for_one_seed():
    assert "n = 1" in chosen.seeds([1, 1], "bars are")
    assert "n = 3 seeds" in chosen.seeds([3, 3], "bars are")
    assert "differs" in chosen.seeds([3, 2], "bars are")


def test_bars_that_are_wider_than_the_curves_are_cut_and_that_is_told():
    axis = chosen.Figure().subplots()
    narrow = pd.DataFrame({"mean": [0.2, 0.6], "low": [0.19, 0.59], "high": [0.21, 0.61]})
    assert not chosen.limit(axis, [narrow])
    assert axis.get_ylim() == pytest.approx((10, 70))
    assert chosen.limit(axis, [narrow, narrow.assign(high=0.9)])
    assert axis.get_ylim() == pytest.approx((10, 70))
