import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datasets.imbalance import (
    canonical_subset,
    carve,
    class_counts,
    group,
    remaining_largest,
    subset,
)

LARGEST = {10: 5000, 100: 500}


# the published sizes of CIFAR-10-LT and CIFAR-100-LT
@pytest.mark.parametrize(
    "classes, ratio, total, rarest",
    [
        (10, 1, 50000, 5000),
        (10, 10, 20431, 500),
        (10, 50, 13996, 100),
        (10, 100, 12406, 50),
        (10, 200, 11203, 25),
        (100, 1, 50000, 500),
        (100, 10, 19573, 50),
        (100, 50, 12608, 10),
        (100, 100, 10847, 5),
        (100, 200, 9502, 2),
    ],
)
def test_exponential(classes, ratio, total, rarest):
    counts = class_counts(classes, LARGEST[classes], ratio, "exponential")
    assert sum(counts) == total
    assert counts[0] == LARGEST[classes] and counts[-1] == rarest


@pytest.mark.parametrize(
    "ratio, counts",
    [
        (10, (5000, 3871, 2997, 2320, 1796, 1391, 1077, 834, 645, 500)),
        (50, (5000, 3237, 2096, 1357, 878, 568, 368, 238, 154, 100)),
        (100, (5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50)),
        (200, (5000, 2775, 1540, 854, 474, 263, 146, 81, 45, 25)),
    ],
)
def test_exponential_class_by_class(ratio, counts):
    assert class_counts(10, 5000, ratio, "exponential") == counts


@pytest.mark.parametrize(
    "classes, totals",
    [(10, (27500, 25500, 25250, 25125)), (100, (27500, 25500, 25250, 25100))],
)
def test_step(classes, totals):
    for ratio, total in zip((10, 50, 100, 200), totals, strict=True):
        counts = class_counts(classes, LARGEST[classes], ratio, "step")
        assert sum(counts) == total
        assert len(set(counts)) == 2 and counts[classes // 2 - 1] == LARGEST[classes]


@pytest.mark.parametrize("classes, ratio", [(10, 10), (10, 100), (100, 100)])
def test_pareto(classes, ratio):
    counts = class_counts(classes, LARGEST[classes], ratio, "pareto")
    exponent = np.log(ratio) / np.log(classes)
    naive = [LARGEST[classes] / (k + 1) ** exponent for k in range(classes)]
    assert all(0 <= exact - count < 1 + 1e-6 for exact, count in zip(naive, counts, strict=True))
    assert counts[0] == LARGEST[classes] and counts[-1] == LARGEST[classes] // ratio
    assert sum(counts) < sum(class_counts(classes, LARGEST[classes], ratio, "exponential"))


@pytest.mark.parametrize("profile", ["exponential", "step", "pareto"])
@pytest.mark.parametrize("classes", [1, 2, 3, 100])
def test_ratio_one_is_balanced(profile, classes):
    assert class_counts(classes, 7, 1, profile) == (7,) * classes


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        ((10, 50, 100, "exponential"), "class 8 would keep no image: largest 50 at ratio 100"),
        ((10, 50, 100, "step"), "class 5 would keep no image"),
        ((10, 50, 0.01, "exponential"), "Write 100, not 0.01"),
        ((10, 50, float("nan"), "exponential"), "at least 1, got nan"),
        ((10, 50, 10, "exponental"), "Did you mean 'exponential'"),
        ((10, 0, 10, "step"), "largest 0"),
    ],
)
def test_profiles_refused(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        class_counts(*arguments)


def subset_by_hand(labels, counts, seed):
    """What the field does: the global generator, one class after the other."""
    before = np.random.get_state()
    np.random.seed(seed)
    kept = []
    for k, n in enumerate(counts):
        mine = [i for i, label in enumerate(labels) if label == k]
        mine = np.array(mine, dtype=np.int64)
        np.random.shuffle(mine)
        kept.extend(mine[:n])
    np.random.set_state(before)
    return kept


@pytest.mark.parametrize("seed", [0, 1, 7])
def test_subset_against_its_naive_twin(seed):
    labels = np.random.default_rng(5).integers(0, 10, 3000)
    counts = class_counts(10, 200, 50, "exponential")
    state = np.random.get_state()[1].copy()
    subset = canonical_subset(labels, counts, seed)
    assert (np.random.get_state()[1] == state).all()
    assert subset.dtype == np.int64
    assert subset.tolist() == subset_by_hand(labels, counts, seed)
    assert np.bincount(labels[subset]).tolist() == list(counts)
    assert (np.diff(labels[subset]) >= 0).all()


def test_subset_of_all_still_shuffles_every_class():
    labels = np.repeat([0, 1], [50, 50])
    full = canonical_subset(labels, (50, 10), 0)
    none = canonical_subset(labels, (0, 10), 0)
    assert full[50:].tolist() == none.tolist()


def test_the_first_of_each_class():
    labels = np.array([2, 0, 1, 0, 2, 1, 0, 2, 0])
    for seed in (0, 5):
        assert subset("first", labels, (3, 1, 2), seed).tolist() == [1, 3, 6, 2, 0, 4]
    for which in ("canonical", "released_pair"):
        found = subset(which, labels, (3, 1, 2), 4)
        assert found.tolist() == canonical_subset(labels, (3, 1, 2), 4).tolist()
    with pytest.raises(ValueError, match=r"^class 1 \(dog\) has 2 images and needs 3"):
        subset("first", labels, (3, 3, 2), 0, ("cat", "dog", "elk"))
    with pytest.raises(ValueError, match="unknown subset 'last'. Choose one of: canonical, first"):
        subset("last", labels, (3, 1, 2), 0)


def test_how_far_the_two_subsets_are_apart():
    """CIFAR-100 at 1:100: the prototype classifiers' second stage sees other images of rare ones.

    Of 500 images two independent choices of n share n²/500 on average.
    """
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(100), 500))
    counts = class_counts(100, 500, 100, "exponential")
    first, other = (set(subset(w, labels, counts, 0).tolist()) for w in ("first", "canonical"))
    few = {k for k, n in enumerate(counts) if n < 20}
    fresh = [i for i in other - first if labels[i] in few]
    assert len(few) == 30 and sum(n for n in counts if n < 20) == 305
    assert len(fresh) > 290  # 302 in torchvision's order
    assert abs(len(other - first) - sum(n - n * n / 500 for n in counts)) < 200


def test_too_few_images():
    labels = np.array([0, 0, 0, 1, 1])
    with pytest.raises(ValueError, match="^class 1 has 2 images and needs 3"):
        canonical_subset(labels, (3, 3), 0)
    with pytest.raises(ValueError, match=r"^class 1 \(dog\) has 2 images and needs 3"):
        canonical_subset(labels, (3, 3), 0, ("cat", "dog"))


def test_carve():
    labels = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [100, 29, 3]))
    remaining, carved = carve(labels, 0.29, 0)
    assert np.bincount(labels[carved], minlength=3).tolist() == [29, 8, 0]
    assert sorted([*remaining, *carved]) == list(range(132))
    assert (np.diff(remaining) > 0).all() and (np.diff(carved) > 0).all()
    again = carve(labels, 0.29, 0)[1]
    other = carve(labels, 0.29, 1)[1]
    assert (again == carved).all() and not np.array_equal(other, carved)
    assert len(carve(labels, 0, 0)[1]) == 0
    for wrong in (-0.1, 1, 1.5):
        with pytest.raises(ValueError, match="share of each class"):
            carve(labels, wrong, 0)


@settings(deadline=None, max_examples=200)
@given(
    classes=st.integers(2, 12),
    largest=st.integers(1, 300),
    ratio=st.floats(1, 300),
    fraction=st.sampled_from([0.0, 0.01, 0.05, 0.07, 0.1, 0.15, 0.29, 1 / 3, 0.5, 0.9]),
    profile=st.sampled_from(["exponential", "step", "pareto"]),
)
def test_what_could_be_filled_can_be_filled_after_a_carve(
    classes, largest, ratio, fraction, profile
):
    """Classes that hold not one image more than the profile asks for: the narrowest case."""
    try:
        available = class_counts(classes, largest, ratio, profile)
        counts = class_counts(classes, remaining_largest(largest, fraction), ratio, profile)
    except ValueError:
        return
    labels = np.repeat(np.arange(classes), available)
    remaining, _ = carve(labels, fraction, 0)
    canonical_subset(labels[remaining], counts, 0)


def test_remaining_largest():
    assert remaining_largest(5000, 0.1) == 4500
    assert remaining_largest(100, 0.29) == 71
    assert remaining_largest(500, 0) == 500


def sizes(groups):
    return tuple(groups.count(name) for name in ("many", "medium", "few"))


@pytest.mark.parametrize(
    "ratio, kang, at_least_100",
    [
        (10, (69, 31, 0), (70, 30, 0)),
        (20, (53, 47, 0), (54, 46, 0)),
        (50, (41, 41, 18), (41, 41, 18)),
        (100, (35, 35, 30), (35, 35, 30)),
        (200, (30, 31, 39), (31, 30, 39)),
    ],
)
def test_groups_of_cifar100(ratio, kang, at_least_100):
    counts = class_counts(100, 500, ratio, "exponential")
    assert sizes(group(counts, "kang")) == kang
    assert sizes(group(counts, "at_least_100")) == at_least_100
    assert sizes(group(counts, "dl2pa_index")) == (36, 35, 29)


def test_groups_at_the_borders():
    assert group((101, 100, 99, 20, 19), "kang") == ("many", "medium", "medium", "medium", "few")
    assert group((101, 100, 99, 20, 19), "at_least_100") == (
        "many", "many", "medium", "medium", "few",
    )  # fmt: skip
    by_index = group((1,) * 10, "dl2pa_index")
    assert by_index == ("many",) * 3 + ("medium",) * 4 + ("few",) * 3
    with pytest.raises(ValueError, match="for 10 and for 100 classes, got 5"):
        group((1,) * 5, "dl2pa_index")
    with pytest.raises(ValueError, match="Did you mean 'kang'"):
        group((1,), "kangg")
