"""Paired differences against published examples, foreign twins and simulated error rates."""

import math

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from reports.frames import tidy
from reports.paired import (
    ABOVE,
    ALONE,
    BELOW,
    FLAWED,
    UNPAIRED,
    UNTOLD,
    against,
    baseline,
    between,
    compare,
    competitors,
    every_pair,
    holm,
    scores,
    small_sample,
    verdict,
)

SLEEP = ([0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0],)
SLEEP += ([1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4],)
"""Additional hours of sleep under two drugs, ten patients: Student, Biometrika 6(1), 1908."""


def test_paired_t_against_student_1908():
    """R's t.test(extra ~ group, paired = TRUE) on its `sleep` data prints

    t = -4.0621, df = 9, p-value = 0.002833, interval -2.4598858 -0.7001142, difference -1.58.
    """
    told = compare(*map(np.array, SLEEP))
    assert told["n"] == 10 and told["difference"] == pytest.approx(-1.58)
    assert told["sd"] == pytest.approx(1.58 * math.sqrt(10) / 4.0621, rel=1e-5)
    assert told["p"] == pytest.approx(0.002833, abs=5e-7)
    assert (told["low"], told["high"]) == pytest.approx((-2.4598858, -0.7001142), abs=5e-8)
    twin = stats.ttest_rel(*SLEEP)
    assert told["p"] == pytest.approx(twin.pvalue, rel=1e-12)


def test_effect_sizes_against_lakens_2013():
    """Ratings of two films by ten viewers: Lakens, Frontiers in Psychology 4:863, 2013, table 1.

    Printed there: mean difference 1.00, its sd 0.67, d_z = 1.50.
    """
    first = np.array([9, 7, 8, 9, 8, 9, 9, 10, 9, 9])
    second = np.array([9, 6, 7, 8, 7, 9, 8, 8, 8, 7])
    told = compare(first, second)
    assert told["difference"] == pytest.approx(1.0) and told["sd"] == pytest.approx(0.67, abs=5e-3)
    assert told["dz"] == pytest.approx(1.5)
    assert told["wins"] == pytest.approx(0.9)  # eight above and two ties, counted by hand
    assert told["g"] == pytest.approx(1.5 * small_sample(10))


def test_what_rounding_leaves_of_equal_means_is_no_effect():
    first = np.array([0.1 + 0.2, 0.1, 0.2, 0.4, 0.7])
    told = compare(first, np.array([0.3, 0.2, 0.1, 0.7, 0.4]))
    assert first.sum() != 1.7 or np.mean(first - [0.3, 0.2, 0.1, 0.7, 0.4]) != 0
    assert (told["difference"], told["dz"], told["p"]) == (0, 0, 1) and told["sd"] > 0.1


@pytest.mark.parametrize("n, exact", [(3, math.sqrt(1 / math.pi)), (5, 0.7979), (11, 0.9228)])
def test_hedges_correction(n, exact):
    """By hand, n = 3: Γ(1) / (√1 Γ(½)) = 1/√π; then by the recursion of Γ:

    f = 4: Γ(2)/(√2 Γ(3/2)) = 1/(√2 · 0.886227) = 0.7979; f = 10: 24/(√5 · 11.6317) = 0.9227.
    """
    assert small_sample(n) == pytest.approx(exact, abs=1.5e-4)
    assert small_sample(n) == pytest.approx(1 - 3 / (4 * (n - 1) - 1), abs=0.07)  # his own shortcut


def test_hedges_correction_takes_the_bias_out():
    """Mean of g over many samples is the true effect; that of d_z is a quarter above it."""
    drawn = np.random.default_rng(1).normal(0.5, 1.0, (5, 200_000))
    told = compare(drawn, np.zeros_like(drawn))
    assert told["g"].mean() == pytest.approx(0.5, abs=0.01)
    assert told["dz"].mean() > 0.6


def test_few_pairs_know_little():
    two = compare(np.array([0.62, 0.60]), np.array([0.60, 0.59]))
    # by hand: differences 0.02 and 0.01, s = 0.01/√2, t = 0.015/0.005 = 3; for one degree of
    # freedom p = 1 - (2/π) arctan t, and t(0.975) = 12.7062 of any printed table
    assert two["sd"] == pytest.approx(0.01 / math.sqrt(2))
    assert two["p"] == pytest.approx(1 - 2 / math.pi * math.atan(3))
    assert two["high"] == pytest.approx(0.015 + 12.7062 * 0.005, abs=1e-6)
    assert two["dz"] == pytest.approx(3 / math.sqrt(2)) and math.isnan(two["g"])
    one = compare(np.array([0.62]), np.array([0.60]))
    assert one["difference"] == pytest.approx(0.02) and one["wins"] == 1
    assert all(math.isnan(one[name]) for name in ("sd", "low", "high", "p", "dz", "g"))
    none = compare(np.array([]), np.array([]))
    assert none["n"] == 0 and math.isnan(none["difference"]) and math.isnan(none["wins"])


def test_differences_without_spread_are_no_proof():
    """Equal differences of accuracies, unequal in the last bit: a naive t is in the billions."""
    told = compare(np.array([0.63, 0.62, 0.61]), np.array([0.62, 0.61, 0.60]))
    assert told["sd"] == 0 and math.isnan(told["p"]) and math.isnan(told["low"])
    assert verdict(3, 0.01, 0.0, math.nan) == FLAWED
    same = compare(np.array([0.3, 0.1 + 0.2]), np.array([0.1 + 0.2, 0.3]))
    assert same["wins"] == 0.5 and verdict(2, float(same["difference"]), 0.0, math.nan) == UNTOLD


def test_holm_against_holm_1979():
    """Worked by hand from the procedure: 0.01, 0.04, 0.03, 0.005 times 4, 3, 2, 1 in order of p."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == pytest.approx([1.0, 1.0])
    assert len(holm([])) == 0


def test_holm_against_statsmodels():
    drawn = np.random.default_rng(2).uniform(size=(6, 9)) ** 3
    drawn[:, 3] = drawn[:, 4]  # ties; few rows, for it collects garbage at every call
    twin = [multipletests(row, method="holm")[1] for row in drawn]
    assert holm(drawn) == pytest.approx(np.array(twin), rel=1e-12)


def test_an_unknown_p_makes_the_family_no_smaller():
    assert holm([0.02, math.nan, 0.04]) == pytest.approx([0.06, math.nan, 0.08], nan_ok=True)


@pytest.mark.parametrize(
    "told, said",
    [
        ((3, 0.01, 0.002, 0.049), ABOVE),
        ((3, -0.01, 0.002, 0.049), BELOW),
        ((3, 0.01, 0.002, 0.05), UNTOLD),
        ((1, 0.3, math.nan, math.nan), ALONE),
        ((0, math.nan, math.nan, math.nan), UNPAIRED),
        ((4, 0.01, 0.0, math.nan), FLAWED),
        ((4, 0.0, 0.0, math.nan), UNTOLD),
    ],
)
def test_verdicts(told, said):
    assert verdict(*told) == said


def test_only_equal_seeds_pair(make_runs, lose_cells):
    runs = make_runs(heads=["psc", "etf"], ratios=[10], seeds=12)
    etf = runs["head"] == "etf"
    runs.loc[~etf, "accuracy"] = [0.5 + 0.01 * seed for seed in range(12)]
    runs.loc[etf, "accuracy"] = [0.52 + 0.01 * seed + 0.001 * (seed % 3) for seed in range(12)]
    runs = lose_cells(runs, etf & (runs["seed"] == "2"))
    runs = lose_cells(runs, ~etf & (runs["seed"] == "3"), "failed")
    runs = runs[~(etf & (runs["seed"] == "4"))]
    runs.loc[etf & (runs["seed"] == "5"), "seed"] = "05"  # no number: a name
    frame = tidy(runs)
    assert list(scores(frame).index) == [*map(str, range(10)), "05", "10", "11"]
    row = against(frame, ("psc", 128)).iloc[0]
    left = [0, 1, 6, 7, 8, 9, 10, 11]
    assert (row["n"], row["seeds"], row["lost"]) == (len(left), 13, 2)
    naive = [0.02 + 0.001 * (seed % 3) for seed in left]
    assert row["difference"] == pytest.approx(np.mean(naive))
    assert row["sd"] == pytest.approx(np.std(naive, ddof=1))
    assert len(row["keys"].split()) == len(frame) == 23


def test_pairing_is_not_by_order_of_rows(make_runs):
    """Seeds that are wide apart but move together: paired the spread is nothing, unpaired huge."""
    runs = make_runs(heads=["psc", "etf"], ratios=[10], seeds=4)
    level = runs["seed"].astype(int) * 0.1
    runs["accuracy"] = level + (runs["head"] == "etf") * 0.02
    runs["accuracy"] += (runs["seed"] == "3") * (runs["head"] == "etf") * 0.001
    shuffled = runs.sample(frac=1, random_state=5)
    row = between(shuffled, [(("etf", 128), ("psc", 128))]).iloc[0]
    assert row["sd"] == pytest.approx(0.0005) and row["verdict"] == ABOVE


def test_a_family_is_all_tests_of_a_ratio(make_runs, lose_cells):
    runs = make_runs(heads=["psc", "etf", "dl2pa", "hpn"], ratios=[10], seeds=3)
    runs["accuracy"] += np.random.default_rng(3).normal(0, 0.004, len(runs))
    runs = lose_cells(runs, (runs["head"] == "hpn") & (runs["seed"] != "0"))
    frame = tidy(runs)
    rows = against(frame, ("psc", 128))
    assert set(rows["family"]) == {2}  # hpn has one pair left, hence no test
    tested = rows[rows["n"] > 1]
    assert tested["holm"].to_numpy() == pytest.approx(holm(tested["p"].to_numpy()))
    assert rows.set_index("head")["verdict"]["hpn"] == ALONE
    pairs = every_pair(frame)
    assert len(pairs) == 6 and set(pairs["family"]) == {3}
    assert pairs["holm"].dropna().ge(pairs["p"].dropna()).all()


def test_lengths_are_competitors(make_runs):
    runs = tidy(make_runs(heads=["psc", "hpn"], dims=(3, 16), ratios=[10]))
    assert competitors(runs) == [("psc", 3), ("psc", 16), ("hpn", 3), ("hpn", 16)]
    rows = against(runs, ("psc", 16))
    assert list(zip(rows["head"], rows["dim"], strict=True)) == [
        *(("psc", 3), ("hpn", 3), ("hpn", 16)),
    ]


def test_baseline(make_runs, lose_cells):
    runs = make_runs(heads=["etf", "psc"], dims=(3, 16))
    assert baseline(tidy(runs)) == ("psc", 16)
    lost = lose_cells(runs, (runs["head"] == "psc") & (runs["dim"] == 16) & (runs["ratio"] == 10))
    assert baseline(tidy(lost)) == ("psc", 3)  # finished at more ratios
    assert baseline(tidy(make_runs(heads=["hpn", "etf"]))) == ("etf", 128)


def test_crossed_seeds_are_no_seeds(make_runs):
    runs = make_runs(heads=["psc", "etf"], ratios=[10], seeds=3)
    runs.loc[runs["seed"] == "2", "seed"] = "augment=1 backbone=0 head=0 order=1"
    row = every_pair(tidy(runs)).iloc[0]
    assert (row["n"], row["seeds"]) == (2, 2) and len(row["keys"].split()) == 4


def test_several_ratios_are_refused(make_runs):
    with pytest.raises(ValueError, match="within one ratio, got 1, 10, 100"):
        scores(tidy(make_runs()))


def simulated(heads: int, seeds: int, tables: int = 8000) -> np.ndarray:
    """Accuracies of heads that are all alike: (seeds, tables, heads), a level for each seed."""
    rng = np.random.default_rng([heads, seeds])
    level = rng.normal(0.5, 0.05, (seeds, tables, 1))
    return level + rng.normal(0, 0.004, (seeds, tables, heads))


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_error_rates_against_a_baseline_are_what_they_claim(seeds):
    """Family-wise error of Holm is at most 0.05, of p alone far above; intervals cover 95 %.

    Differences from one baseline are correlated, which makes Holm's procedure cautious.
    """
    drawn = simulated(7, seeds)
    told = compare(drawn[:, :, 1:], drawn[:, :, :1])
    noise = 4 * math.sqrt(0.05 * 0.95 / drawn.shape[1])  # four standard errors: 0.0097
    family = (holm(told["p"]) < 0.05).any(axis=1).mean()
    assert 0.02 < family < 0.05 + noise
    assert (told["p"] < 0.05).any(axis=1).mean() > 0.12
    assert (told["p"] < 0.05)[:, 0].mean() == pytest.approx(0.05, abs=noise)
    covered = (told["low"] < 0) & (told["high"] > 0)
    assert covered[:, 0].mean() == pytest.approx(0.95, abs=noise)


def test_holm_is_not_needlessly_cautious():
    """Of independent tests the family-wise error is 1 - (1 - 0.05/m)^m, just below 0.05."""
    rng = np.random.default_rng(7)
    first, second = rng.normal(0.5, 0.01, (2, 3, 20_000, 6))
    family = (holm(compare(first, second)["p"]) < 0.05).any(axis=1).mean()
    noise = 4 * math.sqrt(0.05 * 0.95 / 20_000)
    assert family == pytest.approx(1 - (1 - 0.05 / 6) ** 6, abs=noise)


def test_true_differences_are_found_and_false_ones_still_held():
    """Half of the heads are better by 3 sd: found mostly at five seeds, no false word on the rest.

    That the error holds whichever are true is what Holm's procedure claims beyond a global test.
    """
    drawn = simulated(7, 5)
    drawn[:, :, 1:4] += 0.012 * math.sqrt(2)
    told = compare(drawn[:, :, 1:], drawn[:, :, :1])
    shown = holm(told["p"]) < 0.05
    assert shown[:, :3].mean() > 0.5
    assert shown[:, 3:].any(axis=1).mean() < 0.05 + 4 * math.sqrt(0.05 * 0.95 / drawn.shape[1])
