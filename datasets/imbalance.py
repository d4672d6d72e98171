"""How many images each class keeps, and which ones: the canonical long-tailed subsets.

Cao, Wei, Gaidon, Aréchiga, Ma. "Learning Imbalanced Datasets with Label-Distribution-Aware Margin
Loss." NeurIPS 2019, arXiv:1906.07413, fixed what the field trains on: class k of K keeps

    exponential   nₖ = ⌊n · f^(k/(K−1))⌋        f = 1 / ratio, truncated, not rounded
    step          nₖ = n for the first half of the classes, ⌊n · f⌋ for the rest

images, in label order, drawn by NumPy's legacy generator at seed 0. ETF (arXiv:2203.09081) and
DL2PA (CVPR 2024) train on the same images. The third profile is ours:

    pareto        nₖ = ⌊n · (k+1)^(−a)⌋          a = log(ratio) / log(K): the last keeps ⌊n · f⌋

a power law of the rank, Zipf's where a = 1: steeper at the frequent end than the exponential one.

Alshammari, Wang, Ramanan, Kong. "Long-Tailed Recognition via Weight Balancing." CVPR 2022,
arXiv:2203.14197, released code, keeps as many images of each class, but the `first` in file order.

    n  largest    K  classes    nₖ  counts[k]
"""

import difflib
import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

PROFILES = ("exponential", "step", "pareto")
RULES = ("kang", "at_least_100", "dl2pa_index")
SUBSETS = ("canonical", "first", "released_pair")

# where the frequent and the medium classes end, by class index (released DL2PA code)
_INDEX_BORDERS = {10: (3, 7), 100: (36, 71)}


def class_counts(classes: int, largest: float, ratio: float, profile: str) -> tuple[int, ...]:
    """Images of each class, (classes,), by a named profile; no class may be left empty."""
    if classes < 1 or largest < 1:
        raise ValueError(
            f"a profile needs at least one class and one image, got {classes} classes and largest "
            f"{largest}. Give positive numbers."
        )
    if not (ratio >= 1 and math.isfinite(ratio)):
        raise ValueError(
            f"ratio is the largest class over the smallest, at least 1, got {ratio}. "
            f"Write 100, not 0.01."
        )
    # exactly this order of operations in double precision: others truncate elsewhere
    f = 1 / ratio
    last = max(classes - 1, 1)
    match profile:
        case "exponential":
            counts = [int(largest * f ** (k / last)) for k in range(classes)]
        case "step":
            half = (classes + 1) // 2
            counts = [int(largest) if k < half else int(largest * f) for k in range(classes)]
        case "pareto":
            # f ** (log(k+1) / log(K)) is (k+1) ** (−a) with the ends exact
            scale = math.log(classes) or 1.0
            counts = [int(largest * f ** (math.log(k + 1) / scale)) for k in range(classes)]
        case _:
            raise ValueError(unknown("profile", profile, PROFILES))
    for k, count in enumerate(counts):
        if count < 1:
            raise ValueError(
                f"class {k} would keep no image: largest {largest} at ratio {ratio:g} leaves less "
                f"than one. Choose a ratio below {largest}."
            )
    return tuple(counts)


def subset(
    which: str,
    labels: np.ndarray,
    counts: Sequence[int],
    seed: int,
    names: Sequence[str] | None = None,
) -> np.ndarray:
    """Indices of the images that survive, (sum of counts,) int64, class after class.

    canonical      as in `canonical_subset`
    first          the first of each class as found, whatever the seed
    released_pair  of a pipeline of stages the first trains on `first`, all others on `canonical`:
                   what is asked for here is the material of the others
    """
    if which not in SUBSETS:
        raise ValueError(unknown("subset", which, SUBSETS))
    if which != "first":
        return canonical_subset(labels, counts, seed, names)
    kept = [_available(labels, k, count, names)[:count] for k, count in enumerate(counts)]
    return np.concatenate(kept) if kept else np.empty(0, np.int64)


def canonical_subset(
    labels: np.ndarray, counts: Sequence[int], seed: int, names: Sequence[str] | None = None
) -> np.ndarray:
    """Indices of the images that survive, (sum of counts,) int64, class after class.

    One legacy generator for all classes, each class shuffled even where all or none of it is kept:
    that is what makes the subset the one that LDAM-DRW, ETF and DL2PA train on.
    """
    generator = np.random.RandomState(seed)
    kept = []
    for k, count in enumerate(counts):
        indices = _available(labels, k, count, names)
        generator.shuffle(indices)
        kept.append(indices[:count])
    return np.concatenate(kept) if kept else np.empty(0, np.int64)


def _available(labels: np.ndarray, k: int, count: int, names: Sequence[str] | None) -> np.ndarray:
    """All images of class k, ascending; ValueError where there are fewer than `count`."""
    indices = np.flatnonzero(labels == k).astype(np.int64)
    if len(indices) < count:
        name = f"class {k}" if names is None else f"class {k} ({names[k]})"
        raise ValueError(
            f"{name} has {len(indices)} images and needs {count}. "
            f"Lower `largest`, raise `ratio`, or supply the missing images."
        )
    return indices


def carve(labels: np.ndarray, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Set aside a share of each class: (indices that remain, indices carved), both ascending.

    Class k gives ⌊fraction · available⌋ images, before any profile; see `remaining_largest`.
    """
    share = _share(fraction)
    generator = np.random.RandomState(seed)
    chosen = np.zeros(len(labels), dtype=bool)
    for k in np.unique(labels):
        indices = np.flatnonzero(labels == k)
        generator.shuffle(indices)
        chosen[indices[: int(share * len(indices))]] = True
    return np.flatnonzero(~chosen), np.flatnonzero(chosen)


def remaining_largest(largest: int, fraction: float) -> int:
    """Size of the largest class after a carve: ⌊(1 − fraction) · largest⌋.

    Rounded down although `carve` leaves ⌈(1 − fraction) · available⌉: so whatever profile could be
    filled before the carve can still be filled after it, class by class.
    """
    return int((1 - _share(fraction)) * largest)


def group(counts: Sequence[int], rule: str) -> tuple[str, ...]:
    """'many', 'medium' or 'few' for each class, (classes,), by a named rule.

    kang          many > 100 training images, few < 20; released code of Kang et al.,
                  arXiv:1910.09217, and of all that follow
    at_least_100  many >= 100, few < 20; as the prototype-classifier paper (IJCAI 2023) writes it
    dl2pa_index   by class index, whatever the counts: 36/35/29 of 100 classes, 3/4/3 of 10; DL2PA
    """
    match rule:
        case "kang":
            return tuple("many" if n > 100 else "few" if n < 20 else "medium" for n in counts)
        case "at_least_100":
            return tuple("many" if n >= 100 else "few" if n < 20 else "medium" for n in counts)
        case "dl2pa_index":
            if len(counts) not in _INDEX_BORDERS:
                raise ValueError(
                    f"groups 'dl2pa_index' is defined for 10 and for 100 classes, got "
                    f"{len(counts)}. Use groups: kang."
                )
            many, medium = _INDEX_BORDERS[len(counts)]
            return tuple(
                "many" if k < many else "medium" if k < medium else "few"
                for k in range(len(counts))
            )
        case _:
            raise ValueError(unknown("groups rule", rule, RULES))


def _share(fraction: float) -> Fraction:
    """The fraction as its decimals are written: 0.29 of 100 images is 29, not 28."""
    if not 0 <= fraction < 1:
        raise ValueError(
            f"validation is the share of each class that is set aside, in [0, 1), got {fraction}. "
            f"Write 0.1 for a tenth, 0 for none."
        )
    return Fraction(str(fraction))


def unknown(what: str, given: object, known: Sequence[str]) -> str:
    """The sentence for a name that is not known, with the nearest that is."""
    close = difflib.get_close_matches(str(given), known, n=1)
    hint = f"Did you mean '{close[0]}'? " if close else ""
    return f"unknown {what} '{given}'. {hint}Choose one of: {', '.join(known)}."
