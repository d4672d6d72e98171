"""Interquartile means, profiles and chances: by hand, by naive twins, and their coverage."""

import itertools

import numpy as np
import pytest
from scipy import stats

from reports.robust import (
    TIMES,
    improvement,
    interquartile_mean,
    percentiles,
    profile,
    resample,
)


def strata(*scores: list[float]) -> list[np.ndarray]:
    return [np.array(part, dtype=float) for part in scores]


def quartile_mean_by_hand(parts: list[np.ndarray], grains: int = 2520) -> float:
    """Each run as many equal grains of its weight; the middle half of all grains."""
    sand = [x for part in parts for x in part for _ in range(grains // len(part))]
    sand.sort()
    cut = len(sand) // 4
    return float(np.mean(sand[cut : len(sand) - cut]))


def test_interquartile_mean_by_hand():
    """Runs 1 to 8 in two settings: the middle half is 3, 4, 5, 6."""
    assert interquartile_mean(strata([1, 8, 3, 6], [2, 7, 4, 5])) == pytest.approx(4.5)
    # six runs: 1.5 are cut at each end, so 2 and 5 count half: (1 + 3 + 4 + 2.5) / 3
    assert interquartile_mean(strata([1, 2, 3], [4, 5, 6])) == pytest.approx(3.5)
    assert interquartile_mean(strata([0, 2, 3], [4, 5, 60])) == pytest.approx(10.5 / 3)


def test_interquartile_mean_is_scipys_where_runs_divide_by_four():
    scores = np.random.default_rng(3).normal(size=(4, 6))
    assert interquartile_mean(list(scores)) == pytest.approx(stats.trim_mean(scores.ravel(), 0.25))


@pytest.mark.parametrize("sizes", [(3, 3), (1, 5, 2), (7,), (4, 3, 5)])
def test_interquartile_mean_against_grains_of_sand(sizes):
    generator = np.random.default_rng(sum(sizes))
    parts = [generator.normal(size=size) for size in sizes]
    assert interquartile_mean(parts) == pytest.approx(quartile_mean_by_hand(parts))


def test_a_lost_run_is_in_the_lowest_quarter_or_leaves_no_mean():
    lost = -np.inf
    assert interquartile_mean(strata([lost, 1, 2, 3])) == pytest.approx(1.5)
    assert interquartile_mean(strata([lost, lost, 2, 3])) == -np.inf
    low, high = percentiles(interquartile_mean(resample(strata([lost, 1, 2, 3]))))
    assert np.isnan(low) and high == 3.0


def test_profile_by_hand_and_settings_weigh_the_same():
    """Above 2: two of three, and one of one; the mean of 2/3 and 1, not 3/4. 2 is not above 2."""
    parts = strata([2, 3, 4], [9])
    assert profile(parts, np.array([2.0])) == pytest.approx([5 / 6])
    assert list(profile(parts, np.array([0.0, 10.0]))) == [1.0, 0.0]
    assert profile(strata([-np.inf, 1.0]), np.array([0.0])) == pytest.approx([0.5])


def test_improvement_by_hand():
    """(1, 3) against (2, 3): 1 loses twice, 3 wins once and ties once: 1.5 of 4."""
    assert improvement(strata([1, 3]), strata([2, 3])) == pytest.approx(1.5 / 4)
    assert improvement(strata([1, 3], [5]), strata([2, 3], [4])) == pytest.approx((0.375 + 1) / 2)


def test_improvement_is_mann_whitneys_statistic():
    generator = np.random.default_rng(8)
    first, second = generator.integers(0, 6, 9).astype(float), generator.integers(0, 6, 7) + 0.0
    wanted = stats.mannwhitneyu(first, second).statistic / (9 * 7)
    assert improvement([first], [second]) == pytest.approx(wanted)
    assert improvement([second], [first]) == pytest.approx(1 - wanted)


def test_seeds_are_drawn_within_their_setting_and_always_alike():
    parts = strata([1, 2, 3], [11, 12, 13, 14])
    small, large = resample(parts)
    assert small.shape == (TIMES, 3) and large.shape == (TIMES, 4)
    assert set(np.unique(small)) == {1, 2, 3} and set(np.unique(large)) == {11, 12, 13, 14}
    assert (resample(parts)[1] == large).all()
    assert (resample(parts, seed=1)[1] != large).any()
    # heads at the same seeds are drawn together
    shifted = resample(strata([101, 102, 103], [111, 112, 113, 114]))
    assert (shifted[0] == small + 100).all() and (shifted[1] == large + 100).all()


def test_interval_against_all_resamples_there_are():
    """Three seeds have 27 resamples; the bootstrap's distribution of their means is known."""
    values = np.array([1.0, 2.0, 6.0])
    every = np.array([np.mean(draw) for draw in itertools.product(values, repeat=3)])
    drawn = resample([values], times=20_000)[0].mean(axis=-1)
    assert percentiles(drawn, 0.5) == percentiles(every, 0.5)
    assert drawn.mean() == pytest.approx(every.mean(), abs=0.03)


@pytest.mark.parametrize(("seeds", "least", "most"), [(10, 0.89, 0.97), (3, 0.78, 0.92)])
def test_coverage(seeds, least, most):
    """95 % intervals cover so often; with three seeds too seldom, as captions say.

    Four normal settings, symmetric about 0, so that the true interquartile mean is 0.
    """
    generator, hits, tries = np.random.default_rng(1), 0, 250
    for _ in range(tries):
        parts = [generator.normal(mean, 1, seeds) for mean in (-1.0, -0.3, 0.3, 1.0)]
        low, high = percentiles(interquartile_mean(resample(parts, times=400)))
        hits += low <= 0 <= high
    assert least < hits / tries < most
