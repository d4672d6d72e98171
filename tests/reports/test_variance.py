"""Variance components against a published analysis, by hand, and by simulation."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from pandas import DataFrame
from statsmodels.formula.api import ols
from statsmodels.stats.anova import anova_lm

from benchmark.planning.suite import read
from benchmark.records.describe import describe
from reports.frames import tidy
from reports.variance import components, crossed, difference, grid, seeds, without_subset

# diameters in mm: a row for each plate, six samples of penicillin
PENICILLIN = """
272326232321 272326232321 252125242420 262325232320 252226222320 242225232219 242023212219
262226242421 242124222220 242124232219 262326242421 252226242420 262426242522 262326232320
262325242422 252225232320 252124232320 252224232319 242123212119 262326242421 252124222218
252225222220 242124222419 242124222118
"""


def test_penicillin():
    """Davies and Goldsmith, Statistical Methods in Research and Production, 1972, section 6.6:
    24 plates crossed with 6 samples, one value each. lme4's documented REML fit, which on a
    complete table is the method of moments: variances 0.7169, 3.7309, residual 0.3024.
    """
    rows = [[int(row[i : i + 2]) for i in range(0, 12, 2)] for row in PENICILLIN.split()]
    found = {c.source: c for c in components(np.array(rows, float), ["plate", "sample"])}
    assert found["plate"].variance == pytest.approx(0.716908, abs=1e-5)
    assert found["sample"].variance == pytest.approx(3.73092, abs=1e-4)
    assert found["residual"].variance == pytest.approx(0.302415, abs=1e-5)
    assert (found["plate"].df, found["sample"].df, found["residual"].df) == (23, 5, 115)


def test_by_hand():
    """Two by two: 1 2 / 3 8. Means of rows 1.5 and 5.5, of columns 2 and 5, of all 3.5.

    MS_a = 2 (2² + 2²) = 16, MS_b = 2 (1.5² + 1.5²) = 9, residuals ±1, MS_e = 4 on 1.
    σ²_a = (16 − 4) / 2 = 6, σ²_b = (9 − 4) / 2 = 2.5, of 12.5 in all.
    """
    a, b, rest = components(np.array([[1.0, 2.0], [3.0, 8.0]]), ["a", "b"])
    assert (a.mean_square, b.mean_square, rest.mean_square) == pytest.approx((16, 9, 4))
    assert (a.variance, b.variance, rest.variance) == pytest.approx((6, 2.5, 4))
    assert (a.share, b.share, rest.share) == pytest.approx((6 / 12.5, 2.5 / 12.5, 4 / 12.5))
    # F(1, 1) = 4 is t = 2 on one degree of freedom: p = 1 − (2/π) atan 2
    assert a.p == pytest.approx(1 - 2 / math.pi * math.atan(2)) and math.isnan(rest.p)


def test_a_negative_estimate_is_kept_beside_its_zero():
    """Rows alike, columns alike, and the corners apart: all is residual."""
    a, b, rest = components(np.array([[0.0, 1.0], [1.0, 0.0]]), ["a", "b"])
    assert (a.estimate, b.estimate) == pytest.approx((-0.5, -0.5))
    assert (a.variance, a.share, a.low) == (0, 0, 0) and rest.share == 1


def test_three_factors_against_statsmodels():
    values = np.random.default_rng(2).normal(size=(3, 4, 2))
    places = [(*place, value) for place, value in np.ndenumerate(values)]
    long = DataFrame(places, columns=["a", "b", "c", "y"])
    table = anova_lm(ols("y ~ C(a) + C(b) + C(c)", long).fit())
    found = components(values, ["C(a)", "C(b)", "C(c)"])
    for one in found[:3]:
        row = table.loc[one.source]
        assert one.mean_square == pytest.approx(row["mean_sq"])
        assert one.p == pytest.approx(row["PR(>F)"])
    assert found[3].mean_square == pytest.approx(table.loc["Residual", "mean_sq"])


def test_nothing_varies():
    found = components(np.full((3, 3, 3), 0.1), ["a", "b", "c"])
    assert [one.variance for one in found] == [0, 0, 0, 0]
    assert all(math.isnan(one.share) and one.low == one.high == 0 for one in found)


def simulated(generator: np.random.Generator, sds: tuple[float, ...], sizes: tuple[int, ...]):
    values = generator.normal(0, sds[-1], sizes)
    for axis, (sd, size) in enumerate(zip(sds, sizes, strict=False)):
        values += generator.normal(0, sd, size).reshape([-1 if i == axis else 1 for i in range(3)])
    return values


def test_simulation_recovers_components_and_intervals_cover():
    """Standard deviations 2, 1, 0 and residual 1, three levels each: means of estimates, coverage.

    The intervals may cover more than they claim, not less, but for chance in 600 trials.
    """
    generator, sds = np.random.default_rng(4), (2.0, 1.0, 0.0, 1.0)
    trials = [components(simulated(generator, sds, (3, 3, 3)), "abc") for _ in range(600)]
    for source, sd in enumerate(sds):
        mine = [trial[source] for trial in trials]
        estimates = np.array([one.estimate for one in mine])
        error = estimates.std() / math.sqrt(len(mine))
        assert abs(estimates.mean() - sd**2) < 3 * error
        assert np.mean([one.low <= sd**2 <= one.high for one in mine]) > 0.925
    assert np.mean([trial[2].p < 0.05 for trial in trials]) == pytest.approx(0.05, abs=0.025)


@pytest.mark.parametrize("shape", [(3,), (1, 3), (3, 3, 1)])
def test_too_little_is_refused(shape):
    with pytest.raises(ValueError, match="at least two"):
        components(np.zeros(shape), "abc"[: len(shape)])


@pytest.fixture
def crossing(make_runs):
    """Cells of psc and etf: 2 subsets, 3 initialisations, 2 orders, accuracy 0.5 and by place."""

    def make() -> DataFrame:
        parts = []
        for subset, first, order in itertools.product((0, 4), (0, 1, 2), (0, 1)):
            named = f"subset_seed={subset} " if subset else ""
            part = make_runs(["psc", "etf"], ratios=[20], data=f"digits {named}validation=0.1")
            part = part[part["seed"] == "0"].copy()
            part["seed"] = f"augment={order} backbone={first} head={first} order={order}"
            part["key"] = [f"{head}{subset}{first}{order}" for head in part["head"]]
            part["accuracy"] = 0.5 + 0.01 * first + 0.02 * order + (part["head"] == "etf") * 0.1
            parts.append(part)
        return tidy(pd.concat(parts))

    return make


def test_seeds_are_read_from_their_texts(crossing):
    runs = crossing()
    assert without_subset("digits subset_seed=4 validation=0.1") == "digits validation=0.1"
    assert without_subset("digits") == "digits"
    one = runs[(runs["data"] != "digits validation=0.1")].iloc[-1]
    assert seeds(one) == (4, 2, 2, 1, 1)
    assert seeds(pd.Series({"data": "digits", "seed": "7"})) == (0, 7, 7, 7, 7)
    assert crossed(runs).all() and not crossed(runs.assign(seed="3")).any()


def test_streams_in_step_are_one_factor(crossing):
    runs = crossing()
    found = grid(runs[runs["head"] == "psc"])
    assert found.factors == {
        "subset": ("subset",),
        "initialisation": ("backbone", "head"),
        "order": ("order", "augment"),
    }
    assert found.values.shape == (2, 3, 2)
    assert found.values[1] == pytest.approx(np.array([[0.5, 0.52], [0.51, 0.53], [0.52, 0.54]]))
    where = runs.set_index("key").loc[found.keys[1, 2, 0]]
    assert "subset_seed=4" in where["data"] and "backbone=2 head=2 order=0" in where["seed"]


def test_streams_varied_alone_keep_their_names(crossing):
    runs = crossing()
    runs["seed"] = runs["seed"].str.replace(r"head=\d", "head=0", regex=True)
    runs["seed"] = runs["seed"].str.replace(r"augment=\d", "augment=9", regex=True)
    assert list(grid(runs[runs["head"] == "psc"]).factors) == ["subset", "backbone", "order"]


def test_what_is_not_fully_crossed_is_no_design(crossing):
    runs = crossing()
    psc = runs[runs["head"] == "psc"]
    assert grid(psc.iloc[1:]) is None
    assert grid(psc.iloc[:0]) is None
    assert grid(pd.concat([psc, psc.iloc[:1]])) is None  # one combination twice
    assert grid(pd.concat([psc.iloc[1:], psc.iloc[1:2]])) is None  # one lacks, one is there twice
    assert grid(psc.assign(seed="3")) is None  # one factor only
    lost = psc.copy()
    lost.loc[lost.index[0], ["state", "accuracy"]] = ["diverged", np.nan]
    assert grid(lost) is None


def test_difference_of_two_heads_is_paired(crossing):
    runs = crossing()
    psc, etf = (grid(runs[runs["head"] == head]) for head in ("psc", "etf"))
    between = difference(etf, psc)
    assert between.values == pytest.approx(np.full((2, 3, 2), 0.1))
    assert set(between.keys[0, 0, 0].split(" ")) == {etf.keys[0, 0, 0], psc.keys[0, 0, 0]}
    assert difference(etf, grid(runs[runs["head"] == "psc"].iloc[:6])) is None


def test_the_shipped_suite_is_fully_crossed():
    """Seeds and data as the ledger writes them for the cells of suite crossed."""
    cells = read("crossed").cells
    rows = [describe(cell) | {"state": "done", "accuracy": 0.5} for cell in cells]
    for head in ("psc", "etf"):
        found = grid(DataFrame([row for row in rows if row["head"] == head]))
        assert list(found.factors) == ["subset", "initialisation", "order"]
        assert found.values.shape == (3, 3, 3)
