"""How many seeds it takes to resolve a difference between two heads.

Cohen, "Statistical Power Analysis for the Behavioral Sciences", 2nd ed., 1988, chapter 2, with the
exact noncentral t distribution in place of his tables.

    paired     T = d̄ √n / s           n - 1 degrees of freedom, noncentrality √n δ / σ_d
    unpaired   T = (x̄ - ȳ) √(n/2) / s  2n - 2 degrees of freedom, noncentrality √(n/2) δ / σ

    δ  difference to resolve    σ_d  sd of differences by seed    σ  pooled sd of single runs

With few seeds the standard deviation is itself uncertain. The cautious number takes its upper
one-sided 80 % bound instead, s √((n - 1) / χ²(0.2, n - 1)): then the test has the power asked for
in four of five such pilot studies, where the plain number has it in fewer than half.
Browne, "On the use of a pilot sample for sample size determination", Statistics in Medicine
14(17), 1995.
"""

import math
from collections.abc import Callable
from functools import cache

import numpy as np
from scipy import optimize, stats

ALPHA = 0.05
"""Two-sided error of the test; 0.05, the convention of the field."""

POWER = 0.80
"""Chance of seeing a difference that is there; 0.80, Cohen 1988, section 2.4."""

CAUTION = 0.80
"""Confidence of the cautious bound; 0.80, after Browne 1995."""

LEAST = 2
"""Seeds: one has no standard deviation."""


def paired_power(n: int, effect: float, alpha: float = ALPHA) -> float:
    """Chance that the paired t test of n seeds sees the effect.

    effect: true mean difference over the standard deviation of differences by seed.
    """
    return _power(n - 1, effect * math.sqrt(n), alpha)


def unpaired_power(n: int, effect: float, alpha: float = ALPHA) -> float:
    """Chance that the t test of n seeds of each head, not shared, sees the effect.

    effect: true difference of the means over the pooled standard deviation of single runs.
    """
    return _power(2 * n - 2, effect * math.sqrt(n / 2), alpha)


def paired_seeds(sd: float, difference: float, power: float = POWER, alpha: float = ALPHA) -> int:
    """Fewest seeds that resolve a difference, both heads trained on each.

    sd: of differences by seed. difference: to resolve, in the same units. power, alpha: see above.
    Raises ValueError for a difference that is not positive, or a negative or unknown sd.
    """
    return _fewest(paired_power, 1, sd, difference, power, alpha)


def unpaired_seeds(sd: float, difference: float, power: float = POWER, alpha: float = ALPHA) -> int:
    """Fewest seeds of each head that resolve a difference, were they not shared.

    sd: pooled, of single runs. Otherwise as `paired_seeds`.
    """
    return _fewest(unpaired_power, 2, sd, difference, power, alpha)


def cautious(sd: float, n: int, confidence: float = CAUTION) -> float:
    """Upper one-sided bound of a standard deviation seen over n values, in its units.

    confidence: of the bound; 0.80, see CAUTION.
    """
    return sd * math.sqrt((n - 1) / float(stats.chi2.ppf(1 - confidence, n - 1)))


def resolved(sd: float, n: int, power: float = POWER, alpha: float = ALPHA) -> float:
    """The smallest difference that n paired seeds resolve, in the units of sd, of differences."""
    return sd * _least_effect(n, power, alpha)


@cache
def _least_effect(n: int, power: float, alpha: float) -> float:
    def lacking(effect: float) -> float:
        return paired_power(n, effect, alpha) - power

    return float(optimize.brentq(lacking, 0.0, 1000.0))


def _power(df: int, noncentrality: float, alpha: float) -> float:
    critical = stats.t.ppf(1 - alpha / 2, df)
    tails = [stats.nct.sf(critical, df, noncentrality), stats.nct.cdf(-critical, df, noncentrality)]
    return float(np.nansum(tails))  # scipy 1.17 has NaN for some far tails, below 1e-15


def _fewest(
    chance: Callable[[int, float, float], float],
    samples: int,
    sd: float,
    difference: float,
    power: float,
    alpha: float,
) -> int:
    if not (difference > 0 and sd >= 0 and math.isfinite(sd)):
        raise ValueError(
            f"seeds are counted for a positive difference and a known standard deviation, got "
            f"{difference:g} and {sd:g}; leave out what has fewer than two seeds."
        )
    if sd == 0:
        return LEAST
    effect = difference / sd
    # where to begin: Guenther, "Sample size formulas for normal theory t tests", The American
    # Statistician 35(4), 1981; it is off by one or two where n is small
    two_sided, sure = stats.norm.ppf(1 - alpha / 2), stats.norm.ppf(power)
    about = samples * ((two_sided + sure) / effect) ** 2 + two_sided**2 / (2 * samples)
    n = max(LEAST, round(about))
    while chance(n, effect, alpha) < power:
        n += 1
    while n > LEAST and chance(n - 1, effect, alpha) >= power:
        n -= 1
    return n
