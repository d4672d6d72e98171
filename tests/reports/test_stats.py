"""Intervals against a published example; winners; lost seeds."""

import math

import pytest
from pandas import DataFrame

from reports.frames import tidy
from reports.stats import interval, mean, sd, summary, winner


def test_interval_against_student_1908():
    """Additional sleep by drug 2 over drug 1, ten patients: Student, Biometrika 6(1), 1908.

    R's t.test on its `sleep` data prints the 95 per cent interval 0.7001142 2.4598858, mean 1.58.
    """
    gains = [1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4]
    assert mean(gains) == pytest.approx(1.58)
    assert sd(gains) == pytest.approx(1.23, abs=0.005)  # Student's own figure
    assert interval(gains) == pytest.approx((0.7001142, 2.4598858), abs=5e-8)


def test_interval_by_hand_for_two_values():
    """For n = 2: s = |a − b|/√2, t(0.975, 1) = 12.7062 (any printed table)."""
    low, high = interval([0.4, 0.6])
    assert (low, high) == pytest.approx((0.5 - 12.7062 * 0.1, 0.5 + 12.7062 * 0.1), abs=1e-5)


def test_too_few_values():
    assert math.isnan(mean([])) and math.isnan(sd([0.5]))
    assert all(map(math.isnan, interval([0.5])))
    assert mean([0.5]) == 0.5
    assert interval([0.5, 0.5]) == (0.5, 0.5)


def test_summary_counts_lost_seeds_and_averages_the_others(make_runs, lose_cells):
    runs = make_runs(heads=["psc"], ratios=[100], seeds=5)
    runs["accuracy"] = [0.60, 0.61, 0.62, 0.63, 0.64]
    runs = lose_cells(runs, runs["seed"] == "0")
    runs = lose_cells(runs, runs["seed"] == "4", "failed")
    row = summary(tidy(runs), ["head", "ratio"]).iloc[0]
    assert (row["cells"], row["n"], row["n_diverged"], row["n_failed"]) == (5, 3, 1, 1)
    assert row["mean"] == pytest.approx(0.62) and row["sd"] == pytest.approx(0.01)
    assert row["bound"] == pytest.approx((0.61 + 0.62 + 0.63) / 5)
    assert row["keys"].split() == sorted(runs["key"])


def test_the_bound_of_nothing_lost_and_of_everything_lost(make_runs, lose_cells):
    runs = make_runs(heads=["psc"], ratios=[100], seeds=2)
    assert math.isnan(summary(tidy(runs), ["head"])["bound"].item())
    gone = summary(tidy(lose_cells(runs, runs["seed"] != "")), ["head"])
    assert gone["bound"].item() == 0 and math.isnan(gone["mean"].item())
    # a group without classes has no accuracy, so a lost seed bounds nothing
    half = lose_cells(runs.assign(few=math.nan), runs["seed"] == "0")
    assert math.isnan(summary(tidy(half), ["head"], "few")["bound"].item())


def test_summary_of_an_empty_group(make_runs):
    row = summary(tidy(make_runs(heads=["psc"], ratios=[100], few=math.nan)), ["head"], "few")
    assert row["n"].item() == 0 and row["cells"].item() == 3 and math.isnan(row["mean"].item())


def rivals(*rows: tuple[float, float, int, int]) -> DataFrame:
    """(mean, half width, n, lost) -> summary."""
    return DataFrame(
        [
            {"mean": m, "low": m - w, "high": m + w, "n": n, "n_diverged": lost, "n_failed": 0}
            for m, w, n, lost in rows
        ]
    )


@pytest.mark.parametrize(
    ("rows", "marks"),
    [
        ([(0.5, 0.01, 3, 0), (0.7, 0.01, 3, 0), (0.6, 0.01, 3, 0)], ["", "bold", "underline"]),
        ([(0.7, 0.06, 3, 0), (0.6, 0.06, 3, 0)], ["", ""]),  # the intervals touch
        ([(0.7, 0.01, 3, 0), (0.6, 0.01, 3, 0)], ["bold", ""]),  # nobody to be second before
        ([(0.7, 0.01, 3, 0), (0.6, 0.06, 3, 0), (0.5, 0.06, 3, 0)], ["bold", "", ""]),
        ([(0.7, 0.06, 3, 0), (0.6, 0.06, 3, 0), (0.2, 0.01, 3, 0)], ["", "", ""]),
        ([(0.7, 0.01, 2, 1), (0.6, 0.01, 3, 0), (0.5, 0.01, 3, 0)], ["", "", ""]),  # lost a seed
        ([(0.7, 0.01, 3, 0), (0.6, 0.01, 2, 1), (0.5, 0.01, 3, 0)], ["bold", "", ""]),
        ([(0.7, math.nan, 1, 0), (0.6, 0.01, 3, 0)], ["", ""]),  # one seed has no interval
        ([(0.7, 0.01, 3, 0), (0.6, math.nan, 1, 0)], ["", ""]),
        ([(0.7, 0.01, 3, 0), (math.nan, math.nan, 0, 3)], ["", ""]),
        ([(0.7, 0.0, 3, 0), (0.7, 0.0, 3, 0)], ["", ""]),  # a tie
        ([(0.7, 0.01, 3, 0)], [""]),
    ],
)
def test_winner(rows, marks):
    assert list(winner(rivals(*rows))) == marks
