"""Differences between heads, paired by seed: pure functions of paired arrays and of tidy frames.

At one seed all heads of a setting see the same images, the same initial backbone and the same
batches. What is tested is therefore the difference at each seed, and only equal seeds make a pair.

    d_i = x_i - y_i                   d̄ ± t(0.975, n - 1) s / √n,  s the sd of d_i with n - 1
    t   = d̄ √n / s                    two-sided p of Student's t with n - 1 degrees of freedom
    d_z = d̄ / s                       g = J d_z,  J = Γ(f/2) / (√(f/2) Γ((f - 1)/2)),  f = n - 1
    wins = (#{d_i > 0} + ½ #{d_i = 0}) / n

Student, "The probable error of a mean", Biometrika 6(1), 1908. Holm, "A simple sequentially
rejective multiple test procedure", Scandinavian Journal of Statistics 6(2), 1979. Hedges,
"Distribution theory for Glass's estimator of effect size", Journal of Educational Statistics 6(2),
1981: J. McGraw and Wong, "A common language effect size statistic", Psychological Bulletin 111(2),
1992: wins, ties half as in Vargha and Delaney, Journal of Educational and Behavioral Statistics
25(2), 2000.

The test takes the differences for roughly normal. Accuracy moves in steps of one test image, so few
seeds can differ by exactly the same amount: s = 0 says nothing of the spread then, and p, interval
and effect stay unknown; in Holm's family such a comparison counts with p = 1.
"""

import math
from collections.abc import Sequence
from itertools import combinations

import numpy as np
from pandas import DataFrame, MultiIndex
from scipy import special

from reports import style
from reports.stats import LEVEL
from reports.variance import crossed

ALPHA = 0.05
"""Chance of any false verdict in one family; 0.05, the convention of the field."""

BASELINE = "psc"
"""Head that the others are held against where it is there: the plain linear layer with softmax."""

FLAT = 1e-12
"""Below it a mean or standard deviation of differences is rounding, far below one test image."""

ABOVE, BELOW, UNTOLD = "above", "below", "no difference shown"
ALONE, FLAWED, UNPAIRED = (
    "one seed: no verdict",
    "no spread: no verdict",
    "no pair: no verdict",
)

Competitor = tuple[str, int]
"""Head and embedding length: a head at two lengths is two competitors."""


def compare(
    first: np.ndarray, second: np.ndarray, level: float = LEVEL
) -> dict[str, int | np.ndarray]:
    """Paired statistics of first - second along the first axis.

    first, second: (n, ...) without NaN, place i of both at one seed. level: of the interval; 0.95,
    see reports.stats.LEVEL. Returns n and, each of shape (...), difference, sd, low, high, p, dz,
    g, wins, in the units of the values; NaN where n or a lack of spread leaves one unknown.
    """
    apart = np.asarray(first, dtype=float) - np.asarray(second, dtype=float)
    n = len(apart)
    unknown = np.full(apart.shape[1:], math.nan)
    if n < 2:
        single = apart[0] if n else unknown
        wins = _wins(apart) if n else unknown
        names = ("sd", "low", "high", "p", "dz", "g")
        return {"n": n, "difference": single, **dict.fromkeys(names, unknown), "wins": wins}
    mean, sd = apart.mean(axis=0), apart.std(axis=0, ddof=1)
    mean, sd = (np.where(np.abs(each) < FLAT, 0.0, each) for each in (mean, sd))
    spread = np.where(sd > 0, sd, math.nan)
    reach = special.stdtrit(n - 1, (1 + level) / 2) * spread / math.sqrt(n)
    effect = mean / spread
    return {
        "n": n,
        "difference": mean,
        "sd": sd,
        "low": mean - reach,
        "high": mean + reach,
        "p": 2 * special.stdtr(n - 1, -np.abs(effect * math.sqrt(n))),
        "dz": effect,
        "g": effect * small_sample(n),
        "wins": _wins(apart),
    }


def small_sample(n: int) -> float:
    """Hedges' J for n pairs: what takes the upward bias out of d_z. NaN for fewer than three."""
    half = (n - 1) / 2
    if n < 3:  # J would be 0 for two pairs: no unbiased estimate exists
        return math.nan
    return math.exp(math.lgamma(half) - math.lgamma(half - 0.5)) / math.sqrt(half)


def holm(p: np.ndarray | Sequence[float]) -> np.ndarray:
    """Holm's adjusted p values; the last axis of p, (..., tests), is one family.

    An unknown p (NaN) counts in the family as p = 1 and stays unknown. Written out, since
    statsmodels' multipletests collects garbage at every call: a fifth of a second for each family.
    """
    values = np.asarray(p, dtype=float)
    filled = np.nan_to_num(values, nan=1.0)
    order = np.argsort(filled, axis=-1, kind="stable")
    steps = np.arange(values.shape[-1], 0, -1)
    climbing = np.maximum.accumulate(np.take_along_axis(filled, order, -1) * steps, axis=-1)
    adjusted = np.empty_like(values)
    np.put_along_axis(adjusted, order, np.minimum(climbing, 1.0), -1)
    return np.where(np.isnan(values), math.nan, adjusted)


def verdict(n: int, difference: float, sd: float, adjusted: float) -> str:
    """What may be said of a difference of n pairs: one of the six phrases of this module.

    adjusted: p after Holm's correction. Above or below only where it is less than ALPHA.
    """
    if n < 2:
        return ALONE if n else UNPAIRED
    if adjusted < ALPHA:
        return ABOVE if difference > 0 else BELOW
    return FLAWED if sd == 0 and abs(difference) > FLAT else UNTOLD


def competitors(runs: DataFrame) -> list[Competitor]:
    """Heads with their lengths, in the order of print."""
    found = set(runs[["head", "dim"]].itertuples(index=False, name=None))
    return sorted(found, key=lambda one: (style.rank(one[0]), one[1]))


def baseline(runs: DataFrame) -> Competitor:
    """Whom the others of a setting are held against: psc if there, else the first in print.

    runs: tidy rows of one setting. Of several lengths it is the one that finished at most ratios,
    and of those the longest.
    """
    everyone = competitors(runs)
    head = BASELINE if BASELINE in {one[0] for one in everyone} else everyone[0][0]
    done = runs[(runs["state"] == "done") & (runs["head"] == head)]
    ratios = done.groupby("dim")["ratio"].nunique()
    return max(
        (one for one in everyone if one[0] == head),
        key=lambda one: (int(ratios.get(one[1], 0)), one[1]),
    )


def scores(runs: DataFrame, metric: str = "accuracy") -> DataFrame:
    """Seeds × competitors: the metric of finished cells, NaN for every other.

    runs: tidy rows of one setting at one ratio. Cells of a crossed design are left out: they
    share seeds in part, so they are no independent seeds. Raises ValueError for several ratios.
    """
    if runs["ratio"].nunique() > 1:
        ratios = ", ".join(f"{ratio:g}" for ratio in sorted(runs["ratio"].unique()))
        raise ValueError(f"seeds pair within one ratio, got {ratios}; hand in one at a time.")
    plain = runs[~crossed(runs)]
    placed = plain.set_index(["seed", "head", "dim"])[metric]
    placed = placed.where((plain["state"] == "done").to_numpy())
    table = placed.unstack(["head", "dim"])
    seeds = sorted(table.index, key=lambda seed: (len(seed), seed))  # 2 before 10
    names = ["head", "dim"]
    return table.reindex(
        index=seeds, columns=MultiIndex.from_tuples(competitors(runs), names=names)
    )


def between(
    runs: DataFrame, pairs: Sequence[tuple[Competitor, Competitor]], metric: str = "accuracy"
) -> DataFrame:
    """One row per pair of competitors, first minus second; all rows are one family of Holm.

    runs: tidy rows of one setting at one ratio. metric: column; accuracy, what heads are for.
    Returns head, dim, other, other_dim, those of `compare`, and
    seeds    how many seeds either of them was given    lost  of those, diverged or failed in one
    holm     p adjusted within the family               family  pairs in it: those of two seeds
    verdict  see `verdict`                              keys  of the cells of both
    """
    table = scores(runs, metric)
    values = {one: table[one].to_numpy() for one in table.columns}
    plain = runs[~crossed(runs)]
    lost = plain[plain["state"].isin(["diverged", "failed"])]
    seeds, gone, keys = (
        part.groupby(["head", "dim"])[name].agg(set).to_dict()
        for part, name in ((plain, "seed"), (lost, "seed"), (plain, "key"))
    )
    rows = []
    for one, other in pairs:
        both = ~(np.isnan(values[one]) | np.isnan(values[other]))
        rows.append(
            {"head": one[0], "dim": one[1], "other": other[0], "other_dim": other[1]}
            | compare(values[one][both], values[other][both])
            | {"seeds": len(seeds.get(one, set()) | seeds.get(other, set()))}
            | {"lost": len(gone.get(one, set()) | gone.get(other, set()))}
            | {"keys": " ".join(sorted(keys.get(one, set()) | keys.get(other, set())))}
        )
    columns = ["head", "dim", "other", "other_dim", "n", "seeds", "lost", "difference", "sd"]
    columns += ["low", "high", "p", "holm", "family", "dz", "g", "wins", "verdict", "keys"]
    frame = DataFrame(rows, columns=columns)
    tested = frame["n"] >= 2
    frame["family"] = int(tested.sum())
    frame["holm"] = math.nan
    frame.loc[tested, "holm"] = holm(frame.loc[tested, "p"].astype(float))
    told = frame[["n", "difference", "sd", "holm"]].itertuples(index=False, name=None)
    frame["verdict"] = [verdict(*row) for row in told]
    floats = ["difference", "sd", "low", "high", "p", "holm", "dz", "g", "wins"]
    return frame.astype(dict.fromkeys(floats, float))


def against(runs: DataFrame, base: Competitor, metric: str = "accuracy") -> DataFrame:
    """Every other competitor minus the baseline: rows as of `between`, one family.

    runs: tidy rows of one setting at one ratio.
    """
    return between(runs, [(one, base) for one in competitors(runs) if one != base], metric)


def every_pair(runs: DataFrame, metric: str = "accuracy") -> DataFrame:
    """Each pair of competitors once, earlier in print minus later: rows as of `between`.

    runs: tidy rows of one setting at one ratio. All pairs are one family.
    """
    return between(runs, list(combinations(competitors(runs), 2)), metric)


def _wins(apart: np.ndarray) -> np.ndarray:
    """Equal accuracies can differ in the last bit, so that ties are taken within FLAT."""
    return np.asarray(((apart > FLAT) + 0.5 * (np.abs(apart) <= FLAT)).mean(axis=0))
