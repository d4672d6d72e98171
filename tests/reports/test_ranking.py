"""Ranks: Demšar's worked example, R's, naive twins, and simulated error rates."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from reports.frames import tidy
from reports.paired import ABOVE, ALPHA, BELOW, compare, every_pair, holm
from reports.ranking import (
    critical_difference,
    friedman,
    letters,
    nemenyi,
    pair_matrix,
    rank_intervals,
    ranks,
    refusal,
)

DEMSAR = -np.array(
    [
        *([4, 3, 2, 1], [1, 2, 3, 4], [4, 1, 2, 3], [4, 1, 3, 2], [4, 2, 3, 1], [1, 2.5, 4, 2.5]),
        *([3, 2, 4, 1], [2.5, 2.5, 4, 1], [4, 3, 2, 1], [2.5, 2.5, 2.5, 2.5], [4, 2.5, 1, 2.5]),
        *([3, 2, 4, 1], [4, 1, 2, 3], [3, 1, 4, 2]),
    ],
    dtype=float,
)
"""Minus the ranks of C4.5, C4.5+m, C4.5+cf, C4.5+m+cf on 14 data sets: Demšar 2006, table 6."""

BASES = [
    *([5.40, 5.50, 5.55], [5.85, 5.70, 5.75], [5.20, 5.60, 5.50], [5.55, 5.50, 5.40]),
    *([5.90, 5.85, 5.70], [5.45, 5.55, 5.60], [5.40, 5.40, 5.35], [5.45, 5.50, 5.35]),
    *([5.25, 5.15, 5.00], [5.85, 5.80, 5.70], [5.25, 5.20, 5.10], [5.65, 5.55, 5.45]),
    *([5.60, 5.35, 5.45], [5.05, 5.00, 4.95], [5.50, 5.50, 5.40], [5.45, 5.55, 5.50]),
    *([5.55, 5.55, 5.35], [5.45, 5.50, 5.55], [5.50, 5.45, 5.25], [5.65, 5.60, 5.40]),
    *([5.70, 5.65, 5.55], [6.30, 6.30, 6.25]),
]
"""Seconds to first base, 22 players, three ways: Hollander and Wolfe 1973, table 7.1."""


def test_friedman_against_demsar_2006():
    """Printed in section 3.2.4: mean ranks 3.143 2.000 2.893 1.964, χ² = 9.28, F = 3.69, p < 0.05.

    His χ² takes no notice of ties; the correction divides by 1 - Σ(t³ - t) / (N k (k² - 1)), here
    three pairs and one quadruple: 1 - 78/840.
    """
    assert ranks(DEMSAR).mean(axis=0) == pytest.approx([3.143, 2.0, 2.893, 1.964], abs=5e-4)
    told = friedman(DEMSAR)
    plain = told.chi2 * (1 - 78 / 840)
    assert plain == pytest.approx(9.28, abs=0.005)
    assert 13 * plain / (14 * 3 - plain) == pytest.approx(3.69, abs=0.005)
    assert told.iman == pytest.approx(13 * told.chi2 / (14 * 3 - told.chi2))
    assert told.iman_p == pytest.approx(stats.f.sf(told.iman, 3, 39))
    assert (told.settings, told.heads) == (14, 4) and told.p < 0.05


def test_friedman_against_hollander_and_wolfe_1973():
    """R's friedman.test on their example prints chi-squared = 11.143, df = 2, p = 0.003805."""
    told = friedman(-np.array(BASES))
    assert told.chi2 == pytest.approx(11.143, abs=5e-4)
    assert told.p == pytest.approx(0.003805, abs=5e-7)


@pytest.mark.parametrize(
    "heads, q",
    [(2, 1.960), (3, 2.343), (4, 2.569), (5, 2.728), (6, 2.850), (7, 2.949), (10, 3.164)],
)
def test_critical_values_against_demsar_2006(heads, q):
    """Table 5(a), α = 0.05, of section 3.2.2."""
    alone = critical_difference(1, heads) / math.sqrt(heads * (heads + 1) / 6)
    assert alone == pytest.approx(q, abs=1.5e-3)  # he prints 2.850 for what is 2.8497


def test_critical_difference_against_demsar_2006():
    """Section 3.2.4: CD = 1.25 at 0.05, 1.12 at 0.10; at 0.10 the first differs from the last."""
    assert critical_difference(14, 4) == pytest.approx(1.25, abs=0.005)
    assert critical_difference(14, 4, alpha=0.10) == pytest.approx(1.12, abs=0.005)
    p = nemenyi(DEMSAR)
    assert 0.05 < p[0, 3] < 0.10 and 0.05 < p[0, 1]
    assert (p == p.T).all() and (np.diag(p) == 1).all()


def test_nemenyi_says_what_the_critical_difference_says():
    rng = np.random.default_rng(4)
    for heads, settings, step in ((3, 20, 0.9), (5, 12, 0.5), (8, 20, 0.4)):
        matrix = rng.normal(size=(settings, heads)) + np.arange(heads) * step
        mean = ranks(matrix).mean(axis=0)
        apart = np.abs(mean[:, None] - mean[None, :]) > critical_difference(settings, heads)
        assert ((nemenyi(matrix) < ALPHA) == apart).all() and apart.any() and not apart.all()


def test_when_all_settings_agree():
    """F is infinite then; six orders of three heads agree three times by chance in 1 of 36."""
    told = friedman(np.array([[0.3, 0.2, 0.1], [0.5, 0.3, 0.2], [0.9, 0.8, 0.1]]))
    assert told.chi2 == pytest.approx(6) and told.p == pytest.approx(math.exp(-3))
    assert told.iman == math.inf and told.iman_p == pytest.approx(1 / 36)
    tied = friedman(np.array([[0.3, 0.2, 0.2], [0.5, 0.3, 0.3]]))
    assert tied.iman_p == pytest.approx(1 / 3)  # three ways to place the odd one out
    alike = friedman(np.full((4, 3), 0.7))
    assert (alike.chi2, alike.p, alike.iman_p) == (0, 1, 1)


def test_ranks_are_from_the_best_and_blind_to_rounding():
    assert ranks(np.array([[0.3, 0.1 + 0.2, 0.9, 0.1]])).tolist() == [[2.5, 2.5, 1, 4]]
    assert ranks(np.array([[0.3, -math.inf, 0.1]])).tolist() == [[1, 3, 2]]


@pytest.mark.parametrize("settings, heads", [(1, 5), (6, 2), (0, 0)])
def test_too_few_are_refused(settings, heads):
    assert f"got {settings} sharing {heads}" in refusal(settings, heads)
    assert refusal(2, 3) == ""


def test_friedman_refuses():
    with pytest.raises(ValueError, match="at least 2 settings that share at least 3 heads, got 1"):
        friedman(np.ones((1, 4)))


def cliques_by_hand(same: np.ndarray) -> set[frozenset[int]]:
    """Sets of heads that all share, and that no other head can join: by trying every set."""
    k = len(same)
    every = [
        set(part)
        for size in range(1, k + 1)
        for part in itertools.combinations(range(k), size)
        if all(same[i, j] for i, j in itertools.combinations(part, 2))
    ]
    return {frozenset(one) for one in every if not any(one < other for other in every)}


def test_letters_are_the_maximal_cliques():
    rng = np.random.default_rng(6)
    for k in (1, 2, 3, 5, 7):
        for _ in range(8):
            p = rng.uniform(0, 0.12, (k, k))
            p = np.triu(p, 1) + np.triu(p, 1).T + np.eye(k)
            found = letters(p)
            each = sorted(set("".join(found)))
            groups = [frozenset(i for i in range(k) if one in found[i]) for one in each]
            assert set(groups) == cliques_by_hand(p >= ALPHA) and len(groups) == len(set(groups))
            assert each == [chr(ord("a") + i) for i in range(len(each))]


def test_letters_by_hand():
    """The first differs from the last two, the second from the last: a, ab, bc, c."""
    p = np.ones((4, 4))
    for i, j in ((0, 2), (0, 3), (1, 3)):
        p[i, j] = p[j, i] = 0.01
    assert letters(p) == ["a", "ab", "bc", "c"]
    p[0, 2] = p[2, 0] = math.nan  # no test: not told apart
    assert letters(p) == ["a", "a", "ab", "b"]


def test_letters_run_out():
    assert letters(np.eye(53)) == [""] * 53


def test_rank_intervals_by_hand(make_runs):
    """Surely etf is above psc and psc above hpn; dl2pa scatters so that nothing is sure.

    So etf is first or second, psc second or third, hpn third or fourth, dl2pa anywhere.
    """
    runs = make_runs(heads=["psc", "etf", "hpn", "dl2pa"], ratios=[10], seeds=6)
    level = {"etf": 0.7, "psc": 0.5, "hpn": 0.3, "dl2pa": 0.5}
    rng = np.random.default_rng(8)
    spread = np.where(runs["head"] == "dl2pa", 0.25, 0.003)
    runs["accuracy"] = runs["head"].map(level) + rng.normal(0, 1, len(runs)) * spread
    pairs = every_pair(tidy(runs.assign(accuracy=runs["accuracy"].clip(0, 1))))
    order = [("etf", 128), ("psc", 128), ("dl2pa", 128), ("hpn", 128)]
    bounds = rank_intervals(pairs, order)
    assert bounds["rank_low"].tolist() == [1, 2, 1, 3]
    assert bounds["rank_high"].tolist() == [2, 3, 4, 4]
    matrix = pair_matrix(pairs, order)
    assert (matrix[0, 1] < ALPHA) and (matrix == matrix.T)[~np.eye(4, dtype=bool)].all()
    for row in pairs.to_dict("records"):
        i, j = order.index((row["head"], row["dim"])), order.index((row["other"], row["other_dim"]))
        assert matrix[i, j] == row["holm"]
        assert (row["verdict"] in (ABOVE, BELOW)) == (matrix[i, j] < ALPHA)


def test_rank_intervals_hold_all_ranks_at_once():
    """Of five heads, two alike: in at most 5 % of tables some true rank lies outside its interval.

    Heads that are alike have the ranks of both places.
    """
    rng = np.random.default_rng(9)
    true = np.array([0.50, 0.50, 0.49, 0.485, 0.40])
    tables, heads = 4000, len(true)
    drawn = rng.normal(0, 0.01, (5, tables, 1)) + rng.normal(true, 0.004, (5, tables, heads))
    first, second = np.triu_indices(heads, 1)
    told = compare(drawn[:, :, first], drawn[:, :, second])
    sign = np.where(holm(told["p"]) < ALPHA, np.sign(told["difference"]), 0)
    above = np.zeros((tables, heads))
    below = np.zeros((tables, heads))
    for column, (i, j) in enumerate(zip(first, second, strict=True)):
        below[:, i] += sign[:, column] > 0
        above[:, j] += sign[:, column] > 0
        above[:, i] += sign[:, column] < 0
        below[:, j] += sign[:, column] < 0
    low, high = 1 + above, heads - below
    least, most = np.array([1, 1, 3, 4, 5]), np.array([2, 2, 3, 4, 5])
    wrong = ((low > least) | (high < most)).any(axis=1).mean()
    assert wrong < 0.05 + 4 * math.sqrt(0.05 * 0.95 / tables)
    assert (high - low).mean() < 2  # and they say something


def alike(settings: int, heads: int, tables: int) -> np.ndarray:
    """Accuracies of heads that are all alike: (tables, settings, heads), a level for each row."""
    rng = np.random.default_rng([settings, heads])
    level = rng.normal(0.5, 0.1, (tables, settings, 1))
    return level + rng.normal(0, 0.01, (tables, settings, heads))


@pytest.mark.parametrize("settings, heads", [(2, 4), (5, 4), (12, 8)])
def test_nemenyi_errs_no_more_than_it_claims(settings, heads):
    """Some pair of alike heads is told apart in at most 5 %, and in not much less of many settings.

    Taken for independent normal ranks the critical difference is only nearly right for few.
    """
    tables = 5000
    drawn = alike(settings, heads, tables)
    mean = ranks(drawn.reshape(-1, heads)).reshape(drawn.shape).mean(axis=1)
    wrong = (np.ptp(mean, axis=1) > critical_difference(settings, heads)).mean()
    assert wrong < 0.05 + 4 * math.sqrt(0.05 * 0.95 / tables)
    assert settings < 12 or wrong > 0.03


@pytest.mark.parametrize("settings, heads", [(2, 3), (2, 4), (12, 4)])
def test_friedman_errs_no_more_than_it_claims(settings, heads):
    """The gate errs in at most 5 %; F of Iman and Davenport, taken at its word, often at two."""
    tests = [friedman(matrix) for matrix in alike(settings, heads, 500)]
    noise = 4 * math.sqrt(0.05 * 0.95 / len(tests))
    gate = np.mean([test.p < ALPHA for test in tests])
    assert gate < 0.05 + noise
    assert settings < 12 or gate > 0.05 - noise
    infinite = np.mean([test.iman == math.inf for test in tests])
    if settings == 2:  # by chance both rank alike in 1 of heads! tables
        assert infinite == pytest.approx(1 / math.factorial(heads), abs=0.07)
