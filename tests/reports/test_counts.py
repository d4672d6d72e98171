"""Class sizes without the data sets: the canonical totals, and the same as the data sets have."""

import pytest

from datasets import imbalance
from reports.counts import GROUPS, LISTED, class_counts, group, sizes, weighted


@pytest.mark.parametrize(
    ("ratio", "total", "smallest"), [(10, 19573, 50), (50, 12608, 10), (100, 10847, 5)]
)
def test_canonical_counts_of_cifar100(ratio, total, smallest):
    counts = class_counts(100, 500, ratio)
    assert (sum(counts), counts[0], counts[-1]) == (total, 500, smallest)
    assert counts == imbalance.class_counts(100, 500, ratio, "exponential")


def test_counts_of_cifar10_by_hand():
    assert class_counts(10, 5000, 100) == (5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50)


def test_groups_are_those_of_the_data_sets():
    counts = range(1, 130)
    assert tuple(map(group, counts)) == imbalance.group([*counts], "kang")


@pytest.mark.parametrize(
    ("ratio", "wanted"), [(100, (35, 35, 30)), (50, (41, 41, 18)), (10, (69, 31, 0))]
)
def test_sizes_of_groups(ratio, wanted):
    assert sizes("cifar100", ratio) == wanted


def test_listed_sizes_cover_all_classes():
    assert {data: sum(classes) for data, classes in LISTED.items()} == {
        "imagenet_lt": 1000,
        "inaturalist18": 8142,
    }
    assert sizes("svhn", 50) is None and len(GROUPS) == 3


def test_weighted_by_hand():
    assert weighted((0.7, 0.5, 0.1), (1, 2, 1)) == pytest.approx((0.7 + 1.0 + 0.1) / 4)
