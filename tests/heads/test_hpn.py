"""Hyperspherical prototypes against loops and against numbers worked by hand."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from heads.base import Problem
from heads.hpn import HPN

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

    head = HPN(Problem(width=8, counts=torch.ones(4).long(), seed=0, points=points), dim=3)
    assert asked == [(3, "separation")]
    head.prototypes.zero_()
    assert kept.sum() == 3


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
