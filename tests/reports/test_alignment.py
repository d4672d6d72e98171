"""The superclass score: by hand, by enumeration of all assignments, and by a naive twin."""

import itertools
import math

import numpy as np
import pytest

from reports.alignment import ALIKE, alignment, cosines, permuted_variance, scorable


def naive_score(vectors: np.ndarray, superclasses) -> float:
    """The two means, pair by pair."""
    within, across = [], []
    for i, j in itertools.combinations(range(len(vectors)), 2):
        a, b = vectors[i], vectors[j]
        cosine = float(a @ b) / math.sqrt(float(a @ a) * float(b @ b))
        (within if superclasses[i] == superclasses[j] else across).append(cosine)
    return sum(within) / len(within) - sum(across) / len(across)


def naive_neighbours(vectors: np.ndarray, superclasses) -> float:
    """Share of classes whose nearest class, found one by one, is of their superclass."""
    hits = 0
    for i in range(len(vectors)):
        near = max(
            (j for j in range(len(vectors)) if j != i),
            key=lambda j: vectors[i] @ vectors[j] / np.linalg.norm(vectors[j]),
        )
        hits += superclasses[i] == superclasses[near]
    return hits / len(vectors)


def test_two_pairs_at_a_right_angle_by_hand():
    # Of the three ways to pair four points one scores 1, two score (0 + 0)/2 - (1 + 1 + 0 + 0)/4.
    vectors = np.array([[1, 0], [0, 3], [2, 0], [0, 1]])
    found = alignment(cosines(vectors), ["x", "y", "x", "y"])
    assert found.score == pytest.approx(1)
    assert found.z == pytest.approx(1 / math.sqrt((1 + 0.25 + 0.25) / 3))
    assert found.p == pytest.approx(1 / 3, abs=4 * math.sqrt(2 / 9 / 999))
    assert (found.neighbours, found.chance) == (1, pytest.approx(1 / 3))
    other = alignment(cosines(vectors), ["x", "x", "y", "y"])
    assert other.score == pytest.approx(-0.5) and other.neighbours == 0
    assert other.p == 1  # all assignments do at least as well


@pytest.mark.parametrize("superclasses", ["aabb", "aabbc", "aaabbc", "abcaad"])
def test_z_and_p_are_those_of_all_assignments(superclasses):
    vectors = np.random.default_rng(len(superclasses)).normal(size=(len(superclasses), 3))
    scores = np.array(
        [
            naive_score(vectors[list(order)], superclasses)
            for order in itertools.permutations(range(len(vectors)))
        ]
    )
    found = alignment(cosines(vectors), superclasses)
    own = naive_score(vectors, superclasses)
    assert scores.mean() == pytest.approx(0, abs=1e-12)
    assert found.score == pytest.approx(own)
    assert found.z == pytest.approx(own / scores.std())
    share = (scores >= own - 1e-9).mean()
    assert found.p == pytest.approx(share, abs=4 * math.sqrt(share * (1 - share) / 999) + 1e-3)


def test_variance_over_permutations_is_that_of_their_enumeration():
    chance = np.random.default_rng(5)
    weights, values = (m + m.T for m in chance.normal(size=(2, 6, 6)))
    above = np.triu_indices(6, 1)
    sums = [
        (weights[above] * values[np.ix_(order, order)][above]).sum()
        for order in itertools.permutations(range(6))
    ]
    assert permuted_variance(weights, values) == pytest.approx(np.var(sums))


@pytest.mark.parametrize("seed", range(3))
def test_as_many_classes_as_cifar100_against_the_naive_twin(seed):
    chance = np.random.default_rng(seed)
    superclasses = [str(k % 20) for k in range(100)]
    centres = chance.normal(size=(20, 8))
    vectors = 0.5 * seed * centres[np.arange(100) % 20] + chance.normal(size=(100, 8))
    found = alignment(cosines(vectors), superclasses)
    assert found.score == pytest.approx(naive_score(vectors, superclasses))
    assert found.neighbours == pytest.approx(naive_neighbours(vectors, superclasses))
    assert found.chance == pytest.approx(4 / 99)
    if seed:
        assert found.z > 4 and found.p == 1 / 1000
    else:
        assert abs(found.z) < 4


def test_points_that_are_all_alike_cannot_follow_anything():
    simplex = (np.eye(6) - 1 / 6).astype(np.float32)
    found = alignment(cosines(simplex), "aabbcc")
    assert found.score == 0 and math.isnan(found.z) and found.p == 1
    assert found.neighbours == pytest.approx(found.chance) == pytest.approx(1 / 5)


def test_ties_share_a_vote():
    # The third class is as near to the first as to the second, but for the rounding of float32.
    cosine = np.full((4, 4), -0.5)
    cosine[2, 0] = cosine[0, 2] = 0.5
    cosine[2, 1] = cosine[1, 2] = 0.5 + ALIKE / 10
    found = alignment(cosine, "abab")
    assert found.neighbours == pytest.approx((1 + 0 + 1 / 2 + 1 / 3) / 4)


def test_the_order_of_classes_and_the_length_of_vectors_do_not_matter():
    chance = np.random.default_rng(1)
    vectors, names = chance.normal(size=(9, 4)), np.array([*"aaabbbccc"])
    order = chance.permutation(9)
    first = alignment(cosines(vectors), names.tolist())
    again = alignment(cosines(vectors[order] * 7), names[order].tolist())
    assert (again.score, again.z) == (pytest.approx(first.score), pytest.approx(first.z))
    assert alignment(cosines(vectors), names.tolist()) == first


def test_p_is_below_a_twentieth_once_in_twenty_where_nothing_is_followed():
    superclasses = [*"aaabbbcccddd"]
    chance = np.random.default_rng(3)
    p = [alignment(cosines(chance.normal(size=(12, 5))), superclasses, 199).p for _ in range(600)]
    assert np.mean(np.array(p) <= 0.05) == pytest.approx(0.05, abs=4 * math.sqrt(0.0475 / 600))


def test_cosines_of_a_zero_vector_are_zero():
    found = cosines(np.array([[0.0, 0], [3, 0], [1, 1]]))
    assert found[0].tolist() == [0, 0, 0] and found[1, 2] == pytest.approx(math.sqrt(0.5))
    assert (found == found.T).all() and np.abs(found).max() <= 1


@pytest.mark.parametrize("superclasses", ["", "aab", "aaaa", "abcd"])
def test_superclasses_without_both_kinds_of_pairs_are_refused(superclasses):
    assert not scorable(superclasses)
    with pytest.raises(ValueError, match="pairs within and across"):
        alignment(np.eye(len(superclasses)), superclasses)


def test_superclasses_of_another_data_set_are_refused():
    with pytest.raises(ValueError, match="for 5 vectors"):
        alignment(np.eye(5), "aabb")
