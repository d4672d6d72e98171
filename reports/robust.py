"""Many settings at once: interquartile means, performance profiles, chances of improvement.

Agarwal, Schwarzer, Castro, Courville, Bellemare. "Deep Reinforcement Learning at the Edge of the
Statistical Precipice." NeurIPS 2021, arXiv:2108.13264, section 4.

    IQM      mean of the middle half of all runs
    F(τ)     share of runs above τ, a mean over settings
    P(X>Y)   chance that a run of one head beats a run of another in the same setting, ties half,
             a mean over settings: the Mann-Whitney statistic over the number of its pairs

Intervals are percentiles of a bootstrap in strata: a setting is a stratum, and seeds are drawn
again within each. Equal sizes get equal draws: two heads whose scores stand in the order of the
same seeds are drawn seed by seed together.

A run that diverged or failed is -inf: below every threshold, and in the lowest quarter of the IQM.
Where more than a quarter is lost there is no IQM.

Where we differ: a setting weighs the same however many seeds it has, and exactly a quarter of the
weight is cut at each end, parts of runs included. With the same number of seeds everywhere and
runs divisible by four this is scipy's trim_mean(0.25), which the released code (rliable) takes.
"""

from collections.abc import Sequence

import numpy as np

LEVEL = 0.95
"""Of the intervals, percentiles of the bootstrap; 0.95, section 4."""

TIMES = 2000
"""Resamples; 2000, the released code's default for profiles."""

SEED = 0
"""Of the draws; any number, stated so that equal frames give equal bytes."""

CUT = 0.25
"""Share of the weight cut off at each end; a quarter, by the mean's name."""

Strata = Sequence[np.ndarray]


def interquartile_mean(strata: Strata) -> np.ndarray:
    """Mean of the middle half of all runs.

    strata: scores of each setting, (..., seeds), equal but for the last axis.
    Returns (...); -inf where a lost run reaches the middle half.
    """
    scores = np.concatenate(strata, axis=-1)
    sizes = [part.shape[-1] for part in strata]
    weights = np.concatenate([np.full(size, 1 / (len(sizes) * size)) for size in sizes])
    order = np.argsort(scores, axis=-1, kind="stable")
    upper = np.cumsum(weights[order], axis=-1)
    lower = upper - weights[order]
    kept = np.minimum(upper, 1 - CUT) - np.maximum(lower, CUT)
    inside = kept > 1e-12  # what is left by rounding must not drag a lost run in
    middle = np.where(inside, np.take_along_axis(scores, order, axis=-1), 0.0)
    return np.asarray((np.where(inside, kept, 0.0) * middle).sum(axis=-1) / (1 - 2 * CUT))


def profile(strata: Strata, thresholds: np.ndarray) -> np.ndarray:
    """Share of runs strictly above each threshold, a mean over settings.

    strata: scores of each setting, (..., seeds). thresholds: (thresholds,), in their units.
    Returns (..., thresholds).
    """
    shares = [(part[..., None] > thresholds).mean(axis=-2) for part in strata]
    return np.asarray(sum(shares) / len(shares))


def improvement(first: Strata, second: Strata) -> np.ndarray:
    """Chance that a run of the first beats one of the second, in [0, 1]; 0.5 if they are alike.

    first, second: scores of each setting, (..., seeds); numbers of seeds may differ. Returns (...).
    """
    chances = []
    for ours, theirs in zip(first, second, strict=True):
        one, other = ours[..., :, None], theirs[..., None, :]
        chances.append(((one > other) + 0.5 * (one == other)).mean(axis=(-2, -1)))
    return np.asarray(sum(chances) / len(chances))


def resample(strata: Strata, times: int = TIMES, seed: int = SEED) -> list[np.ndarray]:
    """Seeds drawn again with replacement within each setting, as often as there are.

    strata: scores of each setting, (seeds,). times: 2000, see TIMES. seed: of an own generator.
    Returns one array for each, (times, seeds).
    """
    generator = np.random.default_rng(seed)
    return [part[generator.integers(len(part), size=(times, len(part)))] for part in strata]


def percentiles(estimates: np.ndarray, level: float = LEVEL) -> tuple[np.ndarray, np.ndarray]:
    """The interval between two percentiles of bootstrap estimates, (times, ...).

    level: share of the estimates within; 0.95, see LEVEL.
    Returns (low, high), each (...); NaN where lost runs leave no bound.
    """
    # without interpolation: between -inf and a number there is nothing
    bounds = np.quantile(
        estimates, [(1 - level) / 2, (1 + level) / 2], axis=0, method="inverted_cdf"
    )
    low, high = np.where(np.isfinite(bounds), bounds, np.nan)
    return low, high
