"""Dot regression against loops and against numbers worked by hand."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from heads.base import Problem
from heads.etf import ETF

Build = Callable[..., Problem]


def etf_loss_by_hand(h: Tensor, y: Tensor, m: Tensor, weighted: bool) -> float:
    """The displayed equations, one example at a time."""
    labels = y.tolist()
    total = 0.0
    for z, k in zip(h, labels, strict=True):
        weight = len(h) / len(set(labels)) / labels.count(k) if weighted else 1.0
        total += weight * 0.5 * (float(m[k] @ z) - 1) ** 2
    return total / len(h)


@pytest.mark.parametrize("weighted", [False, True])
def test_naive_twin(problem: Build, weighted: bool) -> None:
    head = ETF(problem(classes=6), class_weights=weighted).double()
    generator = torch.Generator().manual_seed(1)
    h = head.embed(torch.randn(9, 8, dtype=torch.float64, generator=generator)).detach()
    labels = torch.tensor([0, 0, 0, 0, 5, 5, 3, 0, 1])
    expected = etf_loss_by_hand(h, labels, head.vertices, weighted)
    assert head.loss(h, labels).item() == pytest.approx(expected, abs=1e-12)
    summed = ETF(problem(classes=6), class_weights=weighted, reduction="sum").double()
    assert summed.loss(h, labels).item() == pytest.approx(2 * 9 * expected, abs=1e-10)


def test_two_classes_in_the_plane(problem: Build) -> None:
    head = ETF(problem(width=2, classes=2), batch_norm=False)
    head.load_state_dict({"vertices": torch.tensor([[1.0, 0.0], [-1.0, 0.0]])})
    h = head.embed(torch.tensor([[3.0, 4.0], [0.0, 2.0], [5.0, 0.0], [-2.0, 0.0]]))
    torch.testing.assert_close(
        head.score(h), torch.tensor([[0.6, -0.6], [0.0, 0.0], [1.0, -1.0], [-1.0, 1.0]])
    )
    labels = torch.tensor([0, 0, 0, 1])
    # (1−cos)² = .16, 1, 0, 0; class 0 has weight (4/2)/3 = 2/3: ½ · ¼ · ⅔ · 1.16
    assert head.loss(h, labels).item() == pytest.approx(1.16 / 12)


@pytest.mark.parametrize(("classes", "width"), [(2, 1), (2, 8), (9, 8), (10, 64)])
def test_vertices_are_a_turned_simplex(problem: Build, classes: int, width: int) -> None:
    vertices = ETF(problem(width=width, classes=classes)).vertices
    expected = torch.full((classes, classes), -1 / (classes - 1)).fill_diagonal_(1)
    torch.testing.assert_close(vertices @ vertices.T, expected, atol=1e-6, rtol=0)
    other = ETF(problem(width=width, classes=classes, seed=5)).vertices
    assert width == 1 or not torch.allclose(vertices, other)


def test_batch_norm_lets_one_sided_features_reach_the_whole_sphere(problem: Build) -> None:
    features = torch.rand(64, 8, generator=torch.Generator().manual_seed(0))
    h = ETF(problem()).embed(features)
    assert (h < 0).any(0).all()
    torch.testing.assert_close(h.norm(dim=1), torch.ones(64))


def test_a_batch_of_one_uses_the_running_statistics(problem: Build) -> None:
    head = ETF(problem())
    features = torch.randn(1, 8, generator=torch.Generator().manual_seed(0))
    before = {name: value.clone() for name, value in head.state_dict().items()}
    trained = head.embed(features)
    assert all(torch.equal(before[name], value) for name, value in head.state_dict().items())
    torch.testing.assert_close(trained, head.eval().embed(features))
    assert head.loss(trained, torch.tensor([2])).isfinite()


def test_equal_examples_give_no_nan(problem: Build) -> None:
    features = torch.ones(4, 8, requires_grad=True)
    head = ETF(problem())
    head.loss(head.embed(features), torch.tensor([1, 1, 1, 1])).backward()
    assert features.grad is not None and features.grad.isfinite().all()


def test_too_few_dimensions(problem: Build) -> None:
    with pytest.raises(ValueError, match="got dim 64 for 100 classes. Set `dim: 128` on the head"):
        ETF(problem(width=64, classes=100))
    assert ETF(problem(width=64, classes=100), dim=99).dim == 99
    with pytest.raises(ValueError, match="Did you mean 'half_mean'"):
        ETF(problem(), reduction="halfmean")
