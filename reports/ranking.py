"""Ranks of heads: across settings after Friedman and Nemenyi, within one from paired differences.

Across N settings and k heads, R_j the mean rank of head j, 1 the best, ties by mean ranks:

    χ² = 12 N / (k (k + 1)) (Σ R_j² - k (k + 1)² / 4), over the share of ranks that are not tied
    F  = (N - 1) χ² / (N (k - 1) - χ²)      on k - 1 and (k - 1)(N - 1) degrees of freedom
    CD = q √(k (k + 1) / (6 N))             q: studentised range of k means at infinity, over √2

Demšar, "Statistical comparisons of classifiers over multiple data sets", JMLR 7, 2006, section
3.2.2; F is the correction of Iman and Davenport, Communications in Statistics A9(6), 1980. The
gate to the post hoc test is the p of χ², not that of F: with two settings F is infinite whenever
both rank the heads alike, which three heads do by chance once in six.

Within one setting a head's rank lies between 1 + those shown above it and k - those shown below
it. If no pair is told apart falsely, all these intervals hold at once, so they inherit the error
of the family of all pairs: Al Mohamad, Goeman, van Zwet and others, "Simultaneous confidence sets
for ranks using the partitioning principle", arXiv:1708.02729, with Holm's procedure on paired
differences in place of Tukey's on independent means.

Letters: heads that share one cannot be told apart. Piepho, "An algorithm for a letter-based
representation of all-pairwise comparisons", Journal of Computational and Graphical Statistics
13(2), 2004.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from pandas import DataFrame, Series
from scipy import stats

from reports.paired import ABOVE, ALPHA, BELOW, Competitor

SETTINGS, HEADS = 2, 3
"""Fewest for Friedman's test: one setting has nothing to agree with, two heads are a sign test."""


@dataclass(frozen=True, slots=True)
class Friedman:
    """Friedman's test of heads that are all alike.

    settings, heads      N and k
    chi2, p              statistic, corrected for ties, and its p from χ² with k - 1
    iman, iman_p         F of Iman and Davenport and its p; where all settings rank alike F is
                         infinite and p is exact: the chance that they do
    """

    settings: int
    heads: int
    chi2: float
    p: float
    iman: float
    iman_p: float


def refusal(settings: int, heads: int) -> str:
    """Why so many settings and heads cannot be ranked, or nothing if they can."""
    if settings >= SETTINGS and heads >= HEADS:
        return ""
    return (
        f"ranks across settings need at least {SETTINGS} settings that share at least {HEADS} "
        f"heads, got {settings} sharing {heads}; run more of them with the same heads."
    )


def ranks(matrix: np.ndarray) -> np.ndarray:
    """Ranks within each row, 1 the highest value, ties by their mean; same shape (N, k).

    Values that differ by less than 1e-12 are tied: they are means that were rounded differently.
    """
    return np.asarray(stats.rankdata(-np.round(matrix, 12), axis=1))


def friedman(matrix: np.ndarray) -> Friedman:
    """Friedman's test and its correction by Iman and Davenport.

    matrix: (settings, heads), higher is better, no NaN. Raises ValueError, in one sentence, for
    fewer than two settings or three heads.
    """
    n, k = matrix.shape
    if reason := refusal(n, k):
        raise ValueError(reason)
    ranked = ranks(matrix)
    if (ranked == ranked[0, 0]).all():  # all tied everywhere: χ² would be 0/0
        return Friedman(n, k, 0.0, 1.0, 0.0, 1.0)
    chi2, p = (float(value) for value in stats.friedmanchisquare(*ranked.T))
    rest = n * (k - 1) - chi2
    if rest > 1e-9 * n * k:
        iman = (n - 1) * chi2 / rest
        iman_p = float(stats.f.sf(iman, k - 1, (k - 1) * (n - 1)))
    else:
        orders = math.factorial(k)
        for times in Counter(ranked[0]).values():
            orders //= math.factorial(times)
        iman, iman_p = math.inf, float(orders) ** (1 - n)
    return Friedman(n, k, chi2, p, iman, iman_p)


def critical_difference(settings: int, heads: int, alpha: float = ALPHA) -> float:
    """Nemenyi's critical difference of mean ranks.

    alpha: chance of telling any two alike heads apart; 0.05, see reports.paired.ALPHA.
    """
    q = stats.studentized_range.ppf(1 - alpha, heads, math.inf) / math.sqrt(2)
    return float(q * math.sqrt(heads * (heads + 1) / (6 * settings)))


def nemenyi(matrix: np.ndarray) -> np.ndarray:
    """Nemenyi's p for every pair of heads, (heads, heads), symmetric, 1 on the diagonal.

    matrix: (settings, heads), higher is better, no NaN.
    """
    import scikit_posthocs  # a second to load, pyplot with it: only where there is a use for it

    return np.asarray(scikit_posthocs.posthoc_nemenyi_friedman(ranks(matrix)))


def letters(p: np.ndarray, alpha: float = ALPHA) -> list[str]:
    """Letters for each head, best first: two share a letter if and only if p is not below alpha.

    p: (heads, heads), adjusted for all pairs, heads in the order in which letters are to come;
    an unknown p (NaN) tells nothing apart. alpha: 0.05, see reports.paired.ALPHA. Where it would
    take more than 52 letters, a to z and A to Z, all are empty.
    """
    import scikit_posthocs  # as in nemenyi

    known = np.nan_to_num(p, nan=1.0)
    try:
        found = scikit_posthocs.compact_letter_display(known, alpha=alpha)
    except ValueError:  # its only one: out of letters
        return [""] * len(known)
    return ["".join(text.split()) for text in found]


def pair_matrix(pairs: DataFrame, order: Sequence[Competitor]) -> np.ndarray:
    """Holm's p of every pair as a symmetric matrix, (heads, heads), NaN where there is none.

    pairs: as from `reports.paired.every_pair`. order: of rows and columns.
    """
    place = {one: i for i, one in enumerate(order)}
    matrix = np.full((len(order), len(order)), math.nan)
    columns = ["head", "dim", "other", "other_dim", "holm"]
    for head, dim, other, other_dim, p in pairs[columns].itertuples(index=False, name=None):
        i, j = place[head, dim], place[other, other_dim]
        matrix[i, j] = matrix[j, i] = p
    return matrix


def rank_intervals(pairs: DataFrame, order: Sequence[Competitor]) -> DataFrame:
    """Simultaneous 95 % intervals of ranks: rank_low and rank_high, one row per competitor.

    pairs: as from `reports.paired.every_pair`, of all pairs of `order`.
    """
    above: Series = pd.Series(0, index=range(len(order)))
    below = above.copy()
    place = {one: i for i, one in enumerate(order)}
    columns = ["head", "dim", "other", "other_dim", "verdict"]
    for head, dim, other, other_dim, said in pairs[columns].itertuples(index=False, name=None):
        if said in (ABOVE, BELOW):
            i, j = place[head, dim], place[other, other_dim]
            lower, upper = (j, i) if said == ABOVE else (i, j)
            above[lower] += 1
            below[upper] += 1
    return DataFrame({"rank_low": 1 + above, "rank_high": len(order) - below})
