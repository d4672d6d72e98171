"""Hyperspherical prototypes against loops and against numbers worked by hand."""

import dataclasses
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from heads.base import Needs, Problem
from heads.geometry import unit
from heads.hpn import HPN, TRIPLETS, _semantic, _semantic_cost, _triplets

Build = Callable[..., Problem]


def hpn_loss_by_hand(x: Tensor, y: Tensor, p: Tensor) -> float:
    """The displayed equation, one example at a time, on embeddings before the sphere."""
    total = 0.0
    for z, k in zip(x, y.tolist(), strict=True):
        total += (1 - float(z @ p[k]) / float(z.norm() * p[k].norm())) ** 2
    return total


def test_naive_twin(problem: Build) -> None:
    head = HPN(problem(classes=6), dim=3).double()
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(7, 8, dtype=torch.float64, generator=generator)
    labels = torch.tensor([0, 1, 5, 3, 2, 0, 0])
    expected = hpn_loss_by_hand(head.projection(features).detach(), labels, head.prototypes)
    assert head.loss(head.embed(features), labels).item() == pytest.approx(expected, abs=1e-12)
    halved = HPN(problem(classes=6), dim=3, reduction="half_mean").double()
    assert halved.loss(halved.embed(features), labels).item() == pytest.approx(expected / 14)


def test_two_classes_in_the_plane(problem: Build) -> None:
    head = HPN(problem(width=2, classes=2))
    assert head.prototypes.tolist() == [[1.0, 0.0], [-1.0, 0.0]]
    h = head.embed(torch.tensor([[3.0, 4.0], [3.0, 4.0]]))
    torch.testing.assert_close(head.score(h), torch.tensor([[0.6, -0.6], [0.6, -0.6]]))
    # (1 − .6)² + (1 + .6)²
    assert head.loss(h, torch.tensor([0, 1])).item() == pytest.approx(0.16 + 2.56)


def test_asks_for_separation_and_keeps_its_own_copy() -> None:
    asked: list[tuple[int, str]] = []
    kept = torch.eye(4)[:, :3].contiguous()

    def points(dim: int, objective: str = "energy") -> Tensor:
        asked.append((dim, objective))
        return kept

    problem = Problem(width=8, counts=torch.ones(4).long(), seed=0, points=points)
    for placement in ("printed", "released"):
        HPN(problem, dim=3, placement=placement)
    head = HPN(problem, dim=3)
    assert asked == [(3, "separation_printed"), (3, "separation_released"), (3, "separation")]
    head.prototypes.zero_()
    assert kept.sum() == 3


def named(problem: Problem, words: Tensor) -> Problem:
    return dataclasses.replace(problem, words=words)


def pairs_of_names(classes: int, generator: torch.Generator) -> Tensor:
    """Word vectors, (classes, 20), that come in pairs of like ones: 0 and 1, 2 and 3, …"""
    common = torch.randn(classes // 2, 20, generator=generator).repeat_interleave(2, 0)
    return common + 0.3 * torch.randn(classes, 20, generator=generator)


def test_semantic_cost_against_loops() -> None:
    generator = torch.Generator().manual_seed(0)
    words = torch.randn(5, 6, generator=generator)
    p = unit(torch.randn(5, 3, dtype=torch.float64, generator=generator))
    w = unit(words.double())
    separation, order, count = 0.0, 0.0, 0
    for i in range(5):
        separation += max(float(p[i] @ p[j]) for j in range(5) if j != i) / 5
        for j in range(5):
            for k in range(5):
                if len({i, j, k}) == 3:
                    s = 1 / (1 + math.exp(-float(p[i] @ p[j] - p[i] @ p[k])))
                    true = float(w[i] @ w[j] >= w[i] @ w[k])
                    order -= true * math.log(s) + (1 - true) * math.log(1 - s)
                    count += 1
    triplets = _triplets(words, generator)
    assert triplets.shape == (3, 5 * 4 * 3 // 2)  # each unordered pair j, k once: the same mean
    found = float(_semantic_cost(p @ p.T, triplets, 1e6))  # so sharp that smoothing is nothing
    assert found == pytest.approx(separation + order / count, abs=1e-5)


def test_triplets_by_hand() -> None:
    # Names in the plane at 0°, 10° and 90°: seen from each, the nearer of the other two first.
    angle = torch.deg2rad(torch.tensor([0.0, 10.0, 90.0]))
    words = 5 * torch.stack([angle.cos(), angle.sin()], dim=1)
    found = _triplets(words, torch.Generator())
    assert sorted(found.T.tolist()) == [[0, 1, 2], [1, 0, 2], [2, 1, 0]]


def test_many_triplets_are_drawn() -> None:
    words = torch.randn(150, 4, generator=torch.Generator().manual_seed(0))
    i, j, k = _triplets(words, torch.Generator().manual_seed(0))
    assert len(i) == TRIPLETS
    assert not ((i == j) | (i == k) | (j == k)).any()
    near = unit(words.double()) @ unit(words.double()).T
    assert (near[i, j] >= near[i, k]).all()
    assert i.bincount(minlength=150).min() > 0.9 * TRIPLETS / 150


def test_semantic_placement_keeps_the_order_of_the_names(problem: Build) -> None:
    words = pairs_of_names(12, torch.Generator().manual_seed(3))
    head = HPN(named(problem(classes=12), words), dim=5, placement="semantic")
    plain = HPN(problem(classes=12), dim=5)
    triplets = i, j, k = _triplets(words, torch.Generator())
    order, cost = [], []
    for own in (head, plain):
        cosines = own.prototypes @ own.prototypes.T
        order.append(float((cosines[i, j] > cosines[i, k]).double().mean()))
        cost.append(float(_semantic_cost(cosines, triplets, 1e4)))
    assert order[0] > 0.75 and order[1] < 0.6
    assert cost[0] < cost[1] - 0.03
    torch.testing.assert_close(head.prototypes.norm(dim=1), torch.ones(12))
    # Drawn from the head's own seed.
    again = HPN(named(problem(classes=12), words), dim=5, placement="semantic")
    assert torch.equal(head.prototypes, again.prototypes)
    other = HPN(named(problem(classes=12, seed=1), words), dim=5, placement="semantic")
    assert not torch.equal(head.prototypes, other.prototypes)


def test_two_names_are_opposite() -> None:
    points = _semantic(torch.randn(2, 4, generator=torch.Generator()), 3, torch.Generator())
    assert float(points[0] @ points[1]) == pytest.approx(-1)


def test_only_the_semantic_placement_needs_words(problem: Build) -> None:
    assert HPN.needs() == HPN.needs(placement="released") == Needs()
    assert HPN.needs(dim=3, placement="semantic") == Needs(words=True)
    with pytest.raises(ValueError, match="needs one word vector per class, got none"):
        HPN(problem(), placement="semantic")


def test_parameter_count(problem: Build) -> None:
    def count(**hyper: object) -> int:
        head = HPN(problem(width=64, classes=10), **hyper)  # type: ignore[arg-type]
        return sum(p.numel() for p in head.parameters())

    assert count(dim=10) == 650
    assert count() == count(dim=64) == 0
    assert count(dim=64, projection="always") == count(projection="always") == 64 * 65


def test_bad_values(problem: Build) -> None:
    with pytest.raises(ValueError, match="got dim 1. Set `dim: 2`"):
        HPN(problem(), dim=1)
    with pytest.raises(ValueError, match="unknown reduction 'mean'"):
        HPN(problem(), reduction="mean")
    with pytest.raises(ValueError, match="Did you mean 'semantic'"):
        HPN(problem(), placement="semantics")
