"""Numbers of seeds against printed tables, G*Power, statsmodels, and simulation."""

import math

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.power import TTestIndPower, TTestPower

from reports.power import (
    cautious,
    paired_power,
    paired_seeds,
    resolved,
    unpaired_power,
    unpaired_seeds,
)


@pytest.mark.parametrize(
    ("effect", "power", "printed"),
    [(0.2, 0.8, 393), (0.5, 0.8, 64), (0.8, 0.8, 26), (1.0, 0.8, 17)]
    + [(0.5, 0.9, 85), (0.8, 0.9, 34), (1.0, 0.9, 23)],
)
def test_unpaired_against_cohen(effect, power, printed):
    """Cohen, Statistical Power Analysis, 2nd ed., 1988, Table 2.4.1, a2 = .05; n of each group.

    The first three stand also in his "A power primer", Psychological Bulletin 112(1), 1992,
    Table 2. He rounds 393.4 to the nearest; we must not have less power than asked for.
    """
    assert unpaired_seeds(1.0, effect, power=power) - printed in (0, 1)
    assert unpaired_power(printed, effect) == pytest.approx(power, abs=0.015)


def test_paired_against_gpower():
    """Worked examples of G*Power: its manual on matched pairs (after Cohen 1969, p. 48) has power
    0.8321 for dz = 0.421637 and 50 pairs; UCLA's page has 10 pairs for dz = 1, and power 0.82 for
    35 pairs at dz = 0.5 (stats.oarc.ucla.edu/other/gpower/power-analysis-for-paired-sample-t-test).
    """
    assert paired_power(50, 0.421637) == pytest.approx(0.8321, abs=5e-5)
    assert paired_seeds(5.0, 5.0) == 10
    assert paired_power(35, 0.5) == pytest.approx(0.82, abs=0.005)


@pytest.mark.parametrize("effect", [0.15, 0.6, 1.3])
@pytest.mark.parametrize("n", [2, 3, 5, 20])
def test_power_is_statsmodels(effect, n):
    assert paired_power(n, effect) == pytest.approx(TTestPower().power(effect, n, 0.05))
    assert unpaired_power(n, effect) == pytest.approx(TTestIndPower().power(effect, n, 0.05))


@pytest.mark.parametrize("sd", [0.001, 0.3, 1.0, 2.7, 40.0])
def test_the_number_is_the_first_that_suffices(sd):
    n = paired_seeds(sd, 1.0)
    assert paired_power(n, 1 / sd) >= 0.8
    assert n == 2 or paired_power(n - 1, 1 / sd) < 0.8
    n = unpaired_seeds(sd, 1.0)
    assert unpaired_power(n, 1 / sd) >= 0.8
    assert n == 2 or unpaired_power(n - 1, 1 / sd) < 0.8


def test_by_simulation():
    """The t test itself, run on so many seeds, sees the difference in 80 % of trials."""
    generator = np.random.default_rng(0)
    n = paired_seeds(1.5, 1.0)
    p = stats.ttest_1samp(generator.normal(1.0, 1.5, (20_000, n)), 0, axis=1).pvalue
    assert (p < 0.05).mean() == pytest.approx(paired_power(n, 1 / 1.5), abs=0.01)
    n = unpaired_seeds(1.5, 1.0)
    x, y = generator.normal(1.0, 1.5, (20_000, n)), generator.normal(0.0, 1.5, (20_000, n))
    p = stats.ttest_ind(x, y, axis=1).pvalue
    assert (p < 0.05).mean() == pytest.approx(unpaired_power(n, 1 / 1.5), abs=0.01)
    none = stats.ttest_1samp(generator.normal(0.0, 1.5, (20_000, 5)), 0, axis=1).pvalue
    assert (none < 0.05).mean() == pytest.approx(paired_power(5, 0.0), abs=0.005)


def test_pairing_buys_what_the_shared_part_is():
    """Two heads whose runs share variance 0.99 of 1: σ_d = √0.02 against σ = 1."""
    assert paired_seeds(math.sqrt(0.02), 0.5) == 3
    assert unpaired_seeds(1.0, 0.5) == 64


def test_cautious_by_hand():
    """χ²(0.2, 2) = −2 ln 0.8 = 0.4463, so three seeds give a bound of s √(2 / 0.4463)."""
    assert cautious(1.0, 3) == pytest.approx(math.sqrt(2 / (-2 * math.log(0.8))))
    assert cautious(0.7, 10_000) == pytest.approx(0.7, rel=0.01)


@pytest.mark.parametrize("pilot", [2, 3, 5])
def test_four_of_five_cautious_plans_have_the_power(pilot):
    """Plans from pilots of so many seeds: how many ask for all the seeds that the true sd asks for.

    A plan does where one seed less has too little power at its own sd.
    """
    generator = np.random.default_rng(pilot)
    enough = paired_seeds(1.0, 1.0)
    sds = generator.normal(0, 1, (400, pilot)).std(axis=1, ddof=1)
    plain = np.mean([paired_power(enough - 1, 1 / sd) < 0.8 for sd in sds])
    careful = np.mean([paired_power(enough - 1, 1 / cautious(sd, pilot)) < 0.8 for sd in sds])
    assert plain < 0.55
    assert 0.77 < careful < 0.88  # seeds are whole, so a little more than 0.8


@pytest.mark.parametrize("n", [2, 3, 8])
def test_resolved_is_the_inverse(n):
    difference = resolved(0.02, n)
    assert paired_power(n, difference / 0.02) == pytest.approx(0.8)
    assert paired_seeds(0.02, difference * 1.0001) == n
    assert resolved(0.0, n) == 0.0


def test_no_spread_takes_two_seeds_and_nonsense_is_refused():
    assert paired_seeds(0.0, 0.01) == unpaired_seeds(0.0, 0.01) == 2
    for sd, difference in ((math.nan, 1.0), (1.0, 0.0), (-1.0, 1.0), (math.inf, 1.0)):
        with pytest.raises(ValueError, match="positive difference"):
            paired_seeds(sd, difference)
