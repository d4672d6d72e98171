"""Focal loss against loops and against numbers worked by hand."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from heads.base import Problem
from heads.focal import Focal
from heads.psc import PSC

Build = Callable[..., Problem]


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def focal_by_hand(z: Tensor, y: Tensor, w: Tensor, b: Tensor, gamma: float) -> float:
    """The displayed equations, one example at a time."""
    total = 0.0
    for row, label in zip(z, y.tolist(), strict=True):
        powers = [math.exp(float(row @ w[k]) + float(b[k])) for k in range(len(w))]
        p = powers[label] / sum(powers)
        total -= (1 - p) ** gamma * math.log(p)
    return total / len(z)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
def test_naive_twin(problem: Build, gamma: float) -> None:
    head = Focal(problem(), dim=5, gamma=gamma).double()
    features, labels = noise(7, 8), torch.tensor([0, 1, 1, 3, 2, 0, 0])
    z, weight, bias = (x.detach() for x in (head.projection(features), *head.linear()))
    expected = focal_by_hand(z, labels, weight, bias, gamma)
    assert head.loss(head.embed(features), labels).item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("gamma", "factor"), [(0.0, 1.0), (1.0, 0.25), (2.0, 0.0625)])
def test_three_to_one(problem: Build, gamma: float, factor: float) -> None:
    head = Focal(problem(width=2, classes=2), gamma=gamma)
    weight = torch.tensor([[math.log(3), 0.0], [0.0, 0.0]])
    head.load_state_dict({"classifier.weight": weight, "classifier.bias": torch.zeros(2)})
    # The scores are log 3 and 0, so that p = 3/4.
    loss = head.loss(torch.tensor([[1.0, 0.0]]), torch.tensor([0]))
    assert loss.item() == pytest.approx(factor * math.log(4 / 3))


def test_gamma_0_is_cross_entropy_on_the_very_weights_of_psc(problem: Build) -> None:
    head, psc = Focal(problem(), gamma=0.0), PSC(problem())
    features, labels = noise(7, 8).float(), torch.tensor([0, 1, 1, 3, 2, 0, 0])
    assert torch.equal(head(features), psc(features))
    torch.testing.assert_close(head.loss(features, labels), psc.loss(features, labels))


@pytest.mark.parametrize("gamma", [0.0, 0.001, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("far", [-300.0, 300.0])
def test_gradient_is_finite_where_the_classifier_is_certain(
    problem: Build, gamma: float, far: float
) -> None:
    head = Focal(problem(width=2, classes=2), gamma=gamma)
    head.load_state_dict({"classifier.weight": torch.eye(2), "classifier.bias": torch.zeros(2)})
    z = torch.tensor([[far, 0.0]], requires_grad=True)
    loss = head.loss(z, torch.tensor([0]))
    loss.backward()
    assert z.grad is not None and bool(z.grad.isfinite().all())
    assert loss.item() == pytest.approx(max(0.0, -far))


def test_what_others_start_from(problem: Build) -> None:
    head = Focal(problem(width=64, classes=10))
    weight, bias = head.linear()
    features = noise(3, 64).float()
    assert torch.equal(functional.linear(features, weight, bias), head(features))
    assert torch.equal(head.class_vectors(), weight)
    assert sum(p.numel() for p in head.parameters()) == 650


def test_bad_values(problem: Build) -> None:
    with pytest.raises(ValueError, match="gamma of 0 or more, got -1"):
        Focal(problem(), gamma=-1)
