"""How far class vectors follow a data set's superclasses: pure functions, no ink.

Whoever learns, or assigns, places of classes by what images look like puts an oak near a maple. The
score says by how much, against the same points with their classes shuffled:

    S = mean cosine of two classes of one superclass − mean cosine of two classes of two
    z = S / σ,   σ² = variance of S over all assignments of points to classes; its mean is 0
    p = (1 + draws with S at least as large) / (1 + draws)

σ is exact (Mantel, "The detection of disease clustering and a generalized regression approach",
Cancer Research 27(2), 1967, 209–220: the permutation variance of a sum of products of two
distances); p counts random assignments (Phipson and Smyth, "Permutation p-values should never be
zero", Statistical Applications in Genetics and Molecular Biology 9(1), 2010, arXiv:1603.05766).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_array

DRAWS = 999
"""Random assignments; ours: p can be as small as 0.001, and a thousand cells take a second."""

SEED = 0

ALIKE = 1e-6
"""Cosines closer than this are one cosine: class vectors are kept in float32."""


@dataclass(frozen=True, slots=True)
class Alignment:
    """How far class vectors follow the superclasses.

    score       mean cosine within superclasses minus across, in [-2, 2]; 0 for points that all
                lie alike, as those of a simplex
    z           score in standard deviations over all assignments; NaN where all are alike
    p           share of random assignments that do at least as well, one-sided; 1 where all do
    neighbours  share of classes whose nearest class is of their superclass; ties share a vote
    chance      its mean over all assignments
    """

    score: float
    z: float
    p: float
    neighbours: float
    chance: float


def cosines(vectors: np.ndarray) -> np.ndarray:
    """Cosine of each pair of vectors, (classes, dim) -> (classes, classes); 0 with a zero vector.

    Exactly symmetric; the diagonal is as computed.
    """
    vectors = np.asarray(vectors, dtype=np.float64)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    directions = np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)
    products = directions @ directions.T
    return np.clip((products + products.T) / 2, -1, 1)


def scorable(superclasses: Sequence[str]) -> bool:
    """Whether superclasses can be followed: four classes, a pair within one, and a pair across."""
    distinct = len(set(superclasses))
    return len(superclasses) >= 4 and 1 < distinct < len(superclasses)


def alignment(cosine: np.ndarray, superclasses: Sequence[str], draws: int = DRAWS) -> Alignment:
    """How far classes whose vectors have these cosines follow their superclasses.

    cosine: (classes, classes), symmetric. superclasses: of each class, `scorable`. draws: random
    assignments behind p, the same for all cells of a data set; see DRAWS.
    Raises ValueError for superclasses that do not fit.
    """
    if len(superclasses) != len(cosine) or not scorable(superclasses):
        raise ValueError(
            f"the score needs one superclass a class, with pairs within and across them, got "
            f"{len(set(superclasses))} superclasses of {len(superclasses)} classes for "
            f"{len(cosine)} vectors; leave this data set out."
        )
    classes = len(superclasses)
    same = together(tuple(superclasses))
    above = np.triu_indices(classes, 1)
    within, every = same[above], cosine[above]
    score = float(every[within].mean() - every[~within].mean())
    neighbours, chance = _nearest(cosine, same), float(same.sum() / (classes * (classes - 1)))
    if np.ptp(every) < ALIKE:
        return Alignment(0.0, math.nan, 1.0, neighbours, chance)
    weights = np.where(same, 1 / within.sum(), -1 / (~within).sum())
    shuffled = _pairs(tuple(superclasses), draws) @ cosine.ravel()
    # more within is less across, so that the sum within ranks assignments as the score does
    hits = int((shuffled >= every[within].sum() - ALIKE).sum())
    sigma = math.sqrt(permuted_variance(weights, cosine))
    return Alignment(score, score / sigma, (1 + hits) / (1 + draws), neighbours, chance)


@lru_cache(maxsize=2)
def together(superclasses: tuple[str, ...]) -> np.ndarray:
    """Which two different classes are of one superclass, (classes, classes), not to be changed."""
    names = np.array(superclasses, dtype=object)
    same = names[:, None] == names
    np.fill_diagonal(same, False)
    same.flags.writeable = False
    return same


def permuted_variance(weights: np.ndarray, values: np.ndarray) -> float:
    """Variance of Σ_{i<j} weights_ij · values_π(i)π(j) over all permutations π. Mantel 1967.

    Both (n, n), symmetric, n at least 4; diagonals do not count. A product of two entries of one
    permuted matrix has one of three means: the same pair, pairs with one point in common, and pairs
    with none.
    """
    own, other = _sums(weights), _sums(values)
    n = len(weights)
    pairs = n * (n - 1)  # ordered: each pair stands twice in the sums
    second = 2 * own.same * other.same / pairs
    second += 4 * own.joined * other.joined / (pairs * (n - 2))
    second += own.apart * other.apart / (pairs * (n - 2) * (n - 3))
    return max((second - (own.whole * other.whole / pairs) ** 2) / 4, 0.0)


class _Sums(NamedTuple):
    """Of a symmetric matrix over ordered pairs of points: entries, and products of two entries.

    whole   entries
    same    products of an entry with itself
    joined  with the entries of pairs that have one point in common with its own
    apart   with those of pairs that have none
    """

    whole: float
    same: float
    joined: float
    apart: float


def _sums(matrix: np.ndarray) -> _Sums:
    matrix = matrix - np.diag(np.diag(matrix))
    whole, same = float(matrix.sum()), float((matrix**2).sum())
    joined = float((matrix.sum(axis=1) ** 2).sum()) - same
    return _Sums(whole, same, joined, whole**2 - 2 * same - 4 * joined)


def _nearest(cosine: np.ndarray, same: np.ndarray) -> float:
    others = np.where(np.eye(len(cosine), dtype=bool), -np.inf, cosine)
    near = others >= others.max(axis=1, keepdims=True) - ALIKE
    return float(((near & same).sum(axis=1) / near.sum(axis=1)).mean())


@lru_cache(maxsize=2)
def _pairs(superclasses: tuple[str, ...], draws: int) -> csr_array:
    """For each draw the pairs that end within a superclass, (draws, classes²): times cosines, sums.

    One seed for all, so that heads differ by their vectors alone.
    """
    classes = len(superclasses)
    rows, columns = np.nonzero(np.triu(together(superclasses)))
    drawn = np.random.default_rng(SEED).permuted(np.tile(np.arange(classes), (draws, 1)), axis=1)
    places = (drawn[:, rows] * classes + drawn[:, columns]).ravel()
    ends = np.arange(0, len(places) + 1, len(rows))
    found = csr_array((np.ones(len(places)), places, ends), shape=(draws, classes**2))
    found.sort_indices()
    return found
