"""One axis per class, against loops and against numbers worked by hand."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from heads.base import Problem
from heads.one_hot import OneHot

Build = Callable[..., Problem]


def loss_by_hand(x: Tensor, y: Tensor) -> float:
    """The displayed equation, one example at a time, on embeddings before the sphere."""
    total = 0.0
    for z, k in zip(x.tolist(), y.tolist(), strict=True):
        axis = [float(j == k) for j in range(len(z))]
        product = sum(a * b for a, b in zip(z, axis, strict=True))
        total += (1 - product / sum(a * a for a in z) ** 0.5) ** 2
    return total


def test_naive_twin(problem: Build) -> None:
    head = OneHot(problem(classes=6)).double()
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(7, 8, dtype=torch.float64, generator=generator)
    labels = torch.tensor([0, 1, 5, 3, 2, 0, 0])
    expected = loss_by_hand(head.projection(features).detach(), labels)
    assert head.loss(head.embed(features), labels).item() == pytest.approx(expected, abs=1e-12)
    halved = OneHot(problem(classes=6), reduction="half_mean").double()
    assert halved.loss(halved.embed(features), labels).item() == pytest.approx(expected / 14)


def test_two_classes_in_the_plane(problem: Build) -> None:
    head = OneHot(problem(width=2, classes=2))
    assert head.class_vectors().tolist() == [[1.0, 0.0], [0.0, 1.0]]
    z = head.embed(torch.tensor([[3.0, 4.0], [3.0, 4.0]]))
    torch.testing.assert_close(head.score(z), torch.tensor([[0.6, 0.8], [0.6, 0.8]]))
    # (1 − .6)² + (1 − .8)²
    assert head.loss(z, torch.tensor([0, 1])).item() == pytest.approx(0.16 + 0.04)


def test_scores_are_the_cosines_to_the_axes(problem: Build) -> None:
    head = OneHot(problem(classes=5))
    z = head.embed(torch.randn(3, 8, generator=torch.Generator().manual_seed(0)))
    torch.testing.assert_close(z.norm(dim=1), torch.ones(3))
    torch.testing.assert_close(head.score(z), z @ head.class_vectors().T)


def test_one_dimension_per_class(problem: Build) -> None:
    def count(classes: int, **hyper: str) -> int:
        head = OneHot(problem(width=64, classes=classes), **hyper)  # type: ignore[arg-type]
        assert head.dim == classes and head.class_vectors().shape == (classes, classes)
        return sum(p.numel() for p in head.parameters())

    assert count(10) == count(10, projection="always") == 650
    assert count(64) == 0
    assert count(64, projection="always") == 64 * 65


def test_bad_values(problem: Build) -> None:
    with pytest.raises(ValueError, match="Did you mean 'always'"):
        OneHot(problem(), projection="allways")
    with pytest.raises(ValueError, match="unknown reduction 'mean'"):
        OneHot(problem(), reduction="mean")
