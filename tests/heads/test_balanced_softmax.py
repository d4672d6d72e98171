"""Balanced softmax against loops, numbers worked by hand, and logit adjustment."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from heads.balanced_softmax import BalancedSoftmax
from heads.base import Problem
from heads.logit_adjustment import LogitAdjustment
from heads.psc import PSC

Build = Callable[..., Problem]
LABELS = torch.tensor([0, 1, 1, 3, 2, 0, 0])


def counted(build: Build, counts: list[int], width: int = 8) -> Problem:
    problem = build(width=width, classes=len(counts))
    return replace(problem, counts=torch.tensor(counts))


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def loss_by_hand(z: Tensor, y: Tensor, w: Tensor, b: Tensor, n: list[int]) -> float:
    """The displayed equations, one example at a time: counts as factors."""
    total = 0.0
    for row, label in zip(z, y.tolist(), strict=True):
        terms = [n[k] * math.exp(float(row @ w[k]) + float(b[k])) for k in range(len(w))]
        total -= math.log(terms[label] / sum(terms))
    return total / len(z)


def test_naive_twin(problem: Build) -> None:
    n = [500, 120, 31, 5]
    head = BalancedSoftmax(counted(problem, n), dim=5).double()
    features = noise(7, 8)
    z, weight, bias = (x.detach() for x in (head.projection(features), *head.linear()))
    expected = loss_by_hand(z, LABELS, weight, bias, n)
    # Logarithms of counts are kept in float32.
    assert head.loss(head.embed(features), LABELS).item() == pytest.approx(expected, rel=1e-6)


def test_three_to_one(problem: Build) -> None:
    head = BalancedSoftmax(counted(problem, [30, 10], width=2))
    weight = torch.tensor([[0.0, 0.0], [math.log(3), 0.0]])
    head.load_state_dict(
        {**head.state_dict(), "classifier.weight": weight, "classifier.bias": torch.zeros(2)}
    )
    z = torch.tensor([[1.0, 0.0]])
    # 30 · 1 against 10 · 3: even in training, 1 against 3 at prediction.
    for label in (0, 1):
        assert head.loss(z, torch.tensor([label])).item() == pytest.approx(math.log(2))
    torch.testing.assert_close(head(z).softmax(1), torch.tensor([[0.25, 0.75]]))


def test_it_is_logit_adjustment_with_tau_1_up_to_a_constant(problem: Build) -> None:
    n = [5000, 387, 50, 5]
    one, other = BalancedSoftmax(counted(problem, n)), LogitAdjustment(counted(problem, n))
    torch.testing.assert_close(
        one.log_counts - other.shift, torch.full((4,), math.log(sum(n))), rtol=1e-6, atol=0.0
    )
    gradients = []
    for head in (one, other):
        z = noise(7, 8).float().requires_grad_()
        loss = head.loss(head.embed(z), LABELS)
        loss.backward()
        gradients.append((loss.detach(), z.grad, head.linear()[0].grad, head.linear()[1].grad))
    for mine, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-6)
    assert torch.equal(one(noise(7, 8).float()), other(noise(7, 8).float()))
    half = LogitAdjustment(counted(problem, n), tau=0.5)
    assert abs(half.loss(noise(7, 8).float(), LABELS).item() - gradients[0][0].item()) > 0.1


def test_counts_stay_out_of_scores(problem: Build) -> None:
    features = noise(7, 8).float()
    expected = PSC(counted(problem, [7, 7, 7]))(features)
    head = BalancedSoftmax(counted(problem, [5000, 50, 1]))
    for mode in (True, False):
        assert torch.equal(head.train(mode)(features), expected)


def test_balanced_counts_give_cross_entropy(problem: Build) -> None:
    head, psc = BalancedSoftmax(problem()), PSC(problem())
    z = noise(7, 8).float()
    torch.testing.assert_close(head.loss(z, LABELS), psc.loss(z, LABELS))


def test_class_without_examples_is_as_the_rarest(problem: Build) -> None:
    head = BalancedSoftmax(counted(problem, [96, 2, 0]))
    torch.testing.assert_close(head.log_counts.exp(), torch.tensor([96.0, 2.0, 2.0]))
    z = noise(3, 8).float().requires_grad_()
    loss = head.loss(z, torch.tensor([0, 1, 2]))
    loss.backward()
    assert bool(loss.isfinite()) and z.grad is not None and bool(z.grad.isfinite().all())


def test_what_others_start_from(problem: Build) -> None:
    head = BalancedSoftmax(problem())
    weight, bias = head.linear()
    z = noise(3, 8).float()
    assert torch.equal(functional.linear(z, weight, bias), head(z))
    assert torch.equal(head.class_vectors(), weight)
