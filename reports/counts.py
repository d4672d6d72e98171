"""How many images each class of a long-tailed data set has, and how many classes each group.

Figures that go by class size need the counts, which finished cells do not keep: they follow from
the profile. Cao, Wei, Gaidon, Aréchiga, Ma. "Learning Imbalanced Datasets with
Label-Distribution-Aware Margin Loss." NeurIPS 2019, arXiv:1906.07413:

    nₖ = ⌊n · f^(k/(K−1))⌋,   f = 1 / ratio        truncated, in label order

Groups as in the released code of Kang et al., arXiv:1910.09217: many above 100 images, few below
20, medium between.
"""

from collections.abc import Sequence

GROUPS = ("many", "medium", "few")

CANONICAL = {"cifar10": (10, 5000), "cifar100": (100, 500)}
"""Data set -> classes, images of the largest class where a cell does not say otherwise."""

LISTED = {"imagenet_lt": (385, 479, 136), "inaturalist18": (842, 4076, 3224)}
"""Classes in GROUPS where lists of images fix the imbalance, as the field's papers count them. For
inaturalist18 one also reads 842/3701/3599, at which hardly any published row adds up."""


def class_counts(classes: int, largest: float, ratio: float) -> tuple[int, ...]:
    """Images of each class in label order, (classes,), by the exponential profile."""
    # exactly this order of operations in double precision: others truncate elsewhere
    f = 1 / ratio
    return tuple(int(largest * f ** (k / max(classes - 1, 1))) for k in range(classes))


def group(count: int) -> str:
    """Which of GROUPS a class with that many training images belongs to."""
    return "many" if count > 100 else "few" if count < 20 else "medium"


def sizes(data: str, ratio: float) -> tuple[int, ...] | None:
    """Number of classes in each of GROUPS, None for a data set that is not known here."""
    if data in LISTED:
        return LISTED[data]
    if data not in CANONICAL:
        return None
    groups = [group(count) for count in class_counts(*CANONICAL[data], ratio)]
    return tuple(groups.count(name) for name in GROUPS)


def weighted(accuracies: Sequence[float], classes: Sequence[int]) -> float:
    """Accuracy over all classes from that of the groups: every class has as many test images."""
    return sum(a * n for a, n in zip(accuracies, classes, strict=True)) / sum(classes)
