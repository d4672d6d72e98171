"""Fixed prototypes with cross-entropy against loops and against numbers worked by hand."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from heads.base import Problem
from heads.fixed import Fixed
from heads.geometry import OBJECTIVES, spread_points

Build = Callable[..., Problem]


def cross_entropy_by_hand(x: Tensor, y: Tensor, w: Tensor, scale: float) -> float:
    """The displayed equations, one example at a time, on embeddings before the sphere."""
    total = 0.0
    for z, k in zip(x, y.tolist(), strict=True):
        scores = [scale * float(z @ each) / float(z.norm()) for each in w]
        total -= scores[k] - math.log(sum(math.exp(s) for s in scores))
    return total / len(x)


@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_naive_twin(problem: Build, scale: float) -> None:
    head = Fixed(problem(classes=6), dim=3, scale=scale).double()
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(7, 8, dtype=torch.float64, generator=generator)
    labels = torch.tensor([0, 1, 5, 3, 2, 0, 0])
    x = head.projection(features).detach()
    expected = cross_entropy_by_hand(x, labels, head.prototypes, scale)
    assert head.loss(head.embed(features), labels).item() == pytest.approx(expected, abs=1e-10)


def test_two_classes_in_the_plane(problem: Build) -> None:
    head = Fixed(problem(width=2, classes=2), scale=5.0)
    assert head.prototypes.tolist() == [[1.0, 0.0], [-1.0, 0.0]]
    z = torch.tensor([[3.0, 4.0]])
    torch.testing.assert_close(head(z), torch.tensor([[3.0, -3.0]]))
    loss = head.loss(head.embed(z), torch.tensor([0])).item()
    assert loss == pytest.approx(math.log(1 + math.exp(-6)), abs=1e-6)


def test_without_a_scale_cross_entropy_cannot_fall(problem: Build) -> None:
    """Every image on its own prototype, and the loss is 3.6: why the default is not 1."""
    losses = []
    for scale in (1.0, 30.0):
        head = Fixed(problem(width=100, classes=100), scale=scale)
        losses.append(head.loss(head.prototypes, torch.arange(100)).item())
    assert losses[0] == pytest.approx(math.log(1 + 99 * math.exp(-1 - 1 / 99)), abs=1e-4)
    assert losses[0] > 3.6 and losses[1] < 1e-6


def test_prototypes_never_move(problem: Build) -> None:
    head = Fixed(problem(), dim=3)
    assert "prototypes" in dict(head.named_buffers())
    assert [name for name, _ in head.named_parameters()] == ["projection.weight", "projection.bias"]
    torch.testing.assert_close(head.class_vectors(), spread_points(4, 3))


@pytest.mark.parametrize("points", OBJECTIVES)
def test_asks_for_its_points(problem: Build, points: str) -> None:
    torch.testing.assert_close(
        Fixed(problem(), dim=2, points=points).prototypes, spread_points(4, 2, points)
    )


def test_random_points_come_from_the_seed(problem: Build) -> None:
    def points(seed: int) -> Tensor:
        return Fixed(problem(classes=500, seed=seed), dim=3, points="random").prototypes

    torch.testing.assert_close(points(0).norm(dim=1), torch.ones(500))
    assert torch.equal(points(0), points(0)) and not torch.equal(points(0), points(1))
    assert points(0).mean(0).abs().max() < 0.1
    # Uniform on the sphere: each coordinate of three is uniform on ±1, of variance 1/3.
    assert points(0).square().mean(0).sub(1 / 3).abs().max() < 0.06


def test_batch_norm_is_a_choice(problem: Build) -> None:
    features = 5 + torch.randn(20, 8, generator=torch.Generator().manual_seed(0))
    plain, normed = Fixed(problem()), Fixed(problem(), batch_norm=True)
    assert plain.embed(features).mean(0).norm() > 0.8
    assert normed.embed(features).mean(0).norm() < 0.3
    assert normed.embed(features[:1]).isfinite().all()


def test_bad_values(problem: Build) -> None:
    with pytest.raises(ValueError, match="got dim 1. Set `dim: 2`"):
        Fixed(problem(), dim=1)
    with pytest.raises(ValueError, match="positive scale, got 0"):
        Fixed(problem(), scale=0)
    with pytest.raises(ValueError, match="Did you mean 'average_angle'"):
        Fixed(problem(), points="averageangle")
