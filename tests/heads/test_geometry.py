"""Known optima, exactly; and where none is known, better than long gradient descent."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from heads.geometry import (
    blend_by_class,
    cosine,
    orthoplex,
    pairs_and_simplex,
    polygon,
    simplex,
    spread_points,
    squared_error,
    uniformity,
    unit,
)


def cosines(points: Tensor) -> Tensor:
    """Cosines of all pairs i < j, of the rows as float64."""
    points = points.double()
    above = torch.ones(len(points), len(points), dtype=torch.bool).triu(1)
    return (points @ points.T)[above]


def energy_by_hand(points: Tensor, t: float) -> float:
    terms = []
    for i in range(len(points)):
        for j in range(i + 1, len(points)):
            terms.append(math.exp(-t * float((points[i] - points[j]).square().sum())))
    return math.log(sum(terms) / len(terms))


def published(classes: int, dim: int, steps: int, lr: float, seed: int) -> Tensor:
    """Plain gradient descent on the energy from a random start, as the paper makes its points."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(classes, dim, dtype=torch.float64, generator=generator) * 2 - 1
    x.requires_grad_()
    for _ in range(steps):
        (gradient,) = torch.autograd.grad(uniformity(unit(x)), x)
        with torch.no_grad():
            x -= lr * gradient
    return unit(x.detach())


def test_unit_is_safe_at_zero() -> None:
    x = torch.tensor([[0.0, 0.0], [3.0, 4.0], [1e-20, 0.0]], requires_grad=True)
    out = unit(x)
    torch.testing.assert_close(out[1], torch.tensor([0.6, 0.8]))
    assert out[0].tolist() == [0.0, 0.0]
    out.sum().backward()
    assert x.grad is not None and x.grad.isfinite().all() and x.grad.abs().max() <= 1


def test_cosine_in_the_plane() -> None:
    a = torch.tensor([[2.0, 0.0]])
    b = torch.tensor([[0.0, 5.0], [1.0, 1.0], [-3.0, 0.0]])
    torch.testing.assert_close(cosine(a, b), torch.tensor([[0.0, 0.5**0.5, -1.0]]))


def test_simplex_of_three_in_the_plane_by_hand() -> None:
    half, side = 0.5, 3**0.5 / 2
    expected = torch.tensor([[1.0, 0.0], [-half, side], [-half, -side]], dtype=torch.float64)
    torch.testing.assert_close(simplex(3, 2), expected)


@given(st.integers(2, 60), st.integers(0, 5))
@settings(max_examples=30, deadline=None)
def test_simplex_is_regular(classes: int, spare: int) -> None:
    points = simplex(classes, classes - 1 + spare)
    torch.testing.assert_close(
        cosines(points), torch.full_like(cosines(points), -1 / (classes - 1)), atol=1e-13, rtol=0
    )
    torch.testing.assert_close(points.norm(dim=1), torch.ones(classes, dtype=torch.float64))
    assert points.sum(0).abs().max() < 1e-12


@given(st.integers(2, 30), st.data())
@settings(max_examples=30, deadline=None)
def test_between_simplex_and_orthoplex(dim: int, data: st.DataObject) -> None:
    classes = data.draw(st.integers(dim + 2, 2 * dim))
    points = spread_points(classes, dim)
    pairs, rest = classes - dim - 1, 2 * dim - classes + 2
    found = cosines(points)
    expected = torch.cat(
        [
            torch.full((pairs,), -1.0),
            torch.full((rest * (rest - 1) // 2,), -1 / (rest - 1)),
            torch.zeros(len(found) - pairs - rest * (rest - 1) // 2),
        ]
    ).double()
    torch.testing.assert_close(found.sort().values, expected.sort().values, atol=1e-6, rtol=0)
    assert torch.equal(points, spread_points(classes, dim, "separation"))


def test_twice_the_dimension_is_the_orthoplex() -> None:
    for dim in (2, 3, 10, 50):
        assert torch.equal(spread_points(2 * dim, dim), orthoplex(dim).float())
    eye = torch.eye(3, dtype=torch.float64)
    expected = torch.stack([eye[0], -eye[0], eye[1], -eye[1], eye[2], -eye[2]])
    assert torch.equal(orthoplex(3).abs(), expected.abs())
    torch.testing.assert_close(orthoplex(3).sum(0), torch.zeros(3, dtype=torch.float64))


@pytest.mark.parametrize(("classes", "dim"), [(4, 3), (5, 3), (6, 3), (7, 4), (9, 6), (5, 2)])
def test_no_search_beats_the_closed_forms(classes: int, dim: int) -> None:
    best = float(uniformity(spread_points(classes, dim).double()))
    for seed in range(3):
        searched = float(uniformity(published(classes, dim, 1000, 3.0, seed)))
        assert best <= searched + 1e-6


def test_polygon_in_the_plane() -> None:
    points = spread_points(7, 2)
    assert torch.equal(points, polygon(7).float())
    assert float(cosines(points).max()) == pytest.approx(math.cos(2 * math.pi / 7), abs=1e-6)


def test_energy_below_long_gradient_descent() -> None:
    ours = float(uniformity(spread_points(20, 5).double()))
    for lr in (0.1, 10.0):
        assert ours <= float(uniformity(published(20, 5, 5000, lr, seed=0))) + 1e-9


@pytest.mark.long
@pytest.mark.parametrize("dim", [10, 32])
def test_energy_of_a_hundred_below_long_gradient_descent(dim: int) -> None:
    ours = float(uniformity(spread_points(100, dim).double()))
    assert ours < float(uniformity(published(100, dim, 3000, 10.0, seed=0)))


def test_separation_finds_the_known_best_ten_on_the_sphere() -> None:
    # Ten points on the ordinary sphere: 66.1468 degrees apart (Danzer 1963).
    largest = float(cosines(spread_points(10, 3, "separation")).max())
    assert math.degrees(math.acos(largest)) == pytest.approx(66.1468, abs=2e-3)


def test_each_objective_wins_at_its_own() -> None:
    energy, separation = spread_points(20, 5), spread_points(20, 5, "separation")
    assert uniformity(energy.double()) < uniformity(separation.double())
    assert cosines(separation).max() < cosines(energy).max()
    # Rankin: nothing is below zero beyond 2·dim points.
    assert cosines(separation).max() > 0


def test_points_are_unit_float32_and_addressed_by_the_generator() -> None:
    before = torch.get_rng_state()
    points = spread_points(14, 5, generator=torch.Generator().manual_seed(3))
    assert torch.equal(before, torch.get_rng_state())
    assert points.dtype == torch.float32 and points.shape == (14, 5)
    torch.testing.assert_close(points.norm(dim=1), torch.ones(14))
    again = spread_points(14, 5, generator=torch.Generator().manual_seed(3))
    assert torch.equal(points, again)


def test_uniformity_against_loops() -> None:
    points = unit(
        torch.randn(6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    )
    for t in (1.0, 2.0):
        assert float(uniformity(points, t)) == pytest.approx(energy_by_hand(points, t), abs=1e-12)
    # Two antipodes are 2 apart: log exp(−2·4) = −8.
    assert float(uniformity(torch.tensor([[1.0, 0.0], [-1.0, 0.0]]))) == pytest.approx(-8.0)


def test_uniformity_has_a_gradient() -> None:
    points = torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert torch.autograd.gradcheck(lambda x: uniformity(unit(x)), points.requires_grad_())


@pytest.mark.parametrize("reduction", ["half_mean", "sum"])
def test_class_weights_against_loops(reduction: str) -> None:
    generator = torch.Generator().manual_seed(0)
    embedding = unit(torch.randn(9, 4, dtype=torch.float64, generator=generator))
    targets = unit(torch.randn(9, 4, dtype=torch.float64, generator=generator))
    labels = torch.tensor([0, 0, 0, 0, 0, 2, 2, 3, 2])
    total, weights = 0.0, []
    for i in range(9):
        mates = sum(1 for other in labels.tolist() if other == labels[i])
        weights.append(9 / len(set(labels.tolist())) / mates)
        total += weights[-1] * (1 - float(embedding[i] @ targets[i])) ** 2
    assert sum(weights) / 9 == pytest.approx(1)
    expected = total if reduction == "sum" else 0.5 * total / 9
    found = squared_error(embedding, targets, labels, reduction=reduction, class_weights=True)
    assert float(found) == pytest.approx(expected, abs=1e-12)


def test_blend_by_class_leaves_the_absent_alone() -> None:
    means = unit(torch.randn(3, 4, generator=torch.Generator().manual_seed(0)))
    embedding = torch.tensor([[1.0, 0, 0, 0], [0, 1.0, 0, 0]])
    blended = blend_by_class(means, embedding, torch.tensor([1, 1]), 0.5)
    assert torch.equal(blended[[0, 2]], means[[0, 2]])
    expected = unit(0.5 * means[1] + torch.tensor([0.25, 0.25, 0, 0]))
    torch.testing.assert_close(blended[1], expected)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: spread_points(3, 1), "got 3 classes. Give dim 2"),
        (lambda: spread_points(1, 5), "got 1 classes"),
        (lambda: spread_points(3, 0), "dim 0"),
        (lambda: spread_points(3, 4, "seperation"), "Did you mean 'separation'?"),
        (lambda: simplex(5, 3), "got dim 3 for 5 classes. Give dim 4"),
        (lambda: pairs_and_simplex(9, 4), "got 9 classes in dim 4"),
    ],
)
def test_impossible_values_are_refused_in_a_sentence(call: object, words: str) -> None:
    with pytest.raises(ValueError, match=words.replace("?", r"\?")):
        call()  # type: ignore[operator]
