"""Margins and deferred weights against loops and against numbers worked by hand."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from benchmark.training.contract import failures
from heads.base import Clock, Problem
from heads.ldam import LDAM

Build = Callable[..., Problem]
LATE = Clock(step=8 * 5, epoch=8, steps_per_epoch=5, epochs=10)


def counted(build: Build, counts: list[int], width: int = 8) -> Problem:
    problem = build(width=width, classes=len(counts))
    return replace(problem, counts=torch.tensor(counts))


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def ldam_by_hand(
    z: Tensor, y: Tensor, w: Tensor, n: list[int], largest: float, s: float, beta: float
) -> float:
    """The displayed equations, one example at a time; β = 0 weighs all classes the same."""
    rarest = max(count**-0.25 for count in n)
    margin = [largest * count**-0.25 / rarest for count in n]
    inverse = [(1 - beta) / (1 - beta**count) for count in n]
    total, weights = 0.0, 0.0
    for row, label in zip(z, y.tolist(), strict=True):
        cosines = [float(row @ w[k]) / float(row.norm() * w[k].norm()) for k in range(len(w))]
        right = math.exp(s * (cosines[label] - margin[label]))
        wrong = sum(math.exp(s * cosines[k]) for k in range(len(w)) if k != label)
        weight = inverse[label] * len(n) / sum(inverse)
        total -= weight * math.log(right / (right + wrong))
        weights += weight
    return total / weights


@pytest.mark.parametrize("deferred", [False, True])
def test_naive_twin(problem: Build, deferred: bool) -> None:
    n = [500, 120, 31, 5]
    options = {"deferred": True, "beta": 0.99} if deferred else {}
    head = LDAM(counted(problem, n), dim=5, largest=0.4, scale=10, **options).double()
    head.begin_epoch(LATE)
    features, labels = noise(7, 8), torch.tensor([0, 1, 1, 3, 2, 0, 0])
    z, w = head.projection(features).detach(), head.weight.detach()
    expected = ldam_by_hand(z, labels, w, n, 0.4, 10, 0.99 if deferred else 0.0)
    # Margins and weights are kept in float32.
    assert head.loss(head.embed(features), labels).item() == pytest.approx(expected, rel=1e-6)


def test_margins_are_the_fourth_root(problem: Build) -> None:
    head = LDAM(counted(problem, [10_000, 625, 16, 1]))
    torch.testing.assert_close(head.margins, torch.tensor([0.05, 0.1, 0.25, 0.5]))


def test_two_classes_in_the_plane(problem: Build) -> None:
    head = LDAM(counted(problem, [16, 1], width=2), scale=10)
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[9.0, 0.0], [0.0, 0.1]]))
    z = head.embed(torch.tensor([[3.0, 4.0]]))
    # Cosines 0.6 and 0.8, margins 0.25 and 0.5: 3.5 against 8, and 3 against 6.
    torch.testing.assert_close(head.score(z), torch.tensor([[6.0, 8.0]]))
    for label, behind in ((0, 4.5), (1, 3.0)):
        expected = math.log1p(math.exp(behind))
        assert head.loss(z, torch.tensor([label])).item() == pytest.approx(expected)
    both = (math.log1p(math.exp(4.5)) + math.log1p(math.exp(3.0))) / 2
    assert head.loss(z.repeat(2, 1), torch.tensor([0, 1])).item() == pytest.approx(both)


def test_weights_by_hand(problem: Build) -> None:
    head = LDAM(counted(problem, [2, 1], width=2), deferred=True, beta=0.5)
    assert head.class_weights.tolist() == [1, 1]
    head.begin_epoch(LATE)
    # Effective numbers 1.5 and 1; inverses 2/3 and 1, whose mean is 5/6.
    torch.testing.assert_close(head.class_weights, torch.tensor([0.8, 1.2]))


@pytest.mark.parametrize(("epochs", "first"), [(200, 160), (30, 24), (10, 8), (7, 6), (5, 4)])
def test_switch_is_a_share_of_the_run(problem: Build, epochs: int, first: int) -> None:
    head = LDAM(counted(problem, [500, 5]), deferred=True)
    plain = LDAM(counted(problem, [500, 5]))
    for epoch in range(epochs):
        clock = Clock(step=epoch * 85, epoch=epoch, steps_per_epoch=85, epochs=epochs)
        head.begin_epoch(clock)
        plain.begin_epoch(clock)
        assert bool((head.class_weights != 1).all()) == (epoch >= first)
    assert plain.class_weights.tolist() == [1, 1]


def test_margins_and_weights_stay_out_of_scores(problem: Build) -> None:
    head = LDAM(counted(problem, [500, 5, 5]), deferred=True)
    other = LDAM(counted(problem, [7, 7, 7]), deferred=True)
    features = noise(7, 8).float()
    before = head(features)
    head.begin_epoch(LATE)
    for mode in (True, False):
        assert torch.equal(head.train(mode)(features), before)
        assert torch.equal(other(features), before)


def test_class_without_examples_is_as_the_rarest(problem: Build) -> None:
    head = LDAM(counted(problem, [10_000, 16, 0]), deferred=True)
    head.begin_epoch(LATE)
    torch.testing.assert_close(head.margins, torch.tensor([0.1, 0.5, 0.5]))
    assert head.class_weights[1] == head.class_weights[2]
    assert head.class_weights.mean().item() == pytest.approx(1)
    features = noise(3, 8).float().requires_grad_()
    loss = head.loss(head.embed(features), torch.tensor([0, 1, 2]))
    loss.backward()
    assert bool(loss.isfinite()) and features.grad is not None
    assert bool(features.grad.isfinite().all())


def test_weights_start_on_the_sphere_and_only_their_direction_counts(problem: Build) -> None:
    before = torch.get_rng_state()
    head = LDAM(problem(width=100, classes=50))
    assert torch.equal(before, torch.get_rng_state())
    torch.testing.assert_close(head.weight.norm(dim=1), torch.ones(50))
    assert abs(float(head.weight.detach().mean())) < 0.005
    assert not torch.equal(head.weight, LDAM(problem(width=100, classes=50, seed=1)).weight)
    features = noise(3, 100).float()
    scores = head(features)
    with torch.no_grad():
        head.weight.mul_(torch.linspace(0.1, 9, 50)[:, None])
    torch.testing.assert_close(head(3 * features), scores)


def test_what_others_start_from(problem: Build) -> None:
    head = LDAM(problem(), dim=5)
    weight, bias = head.linear()
    embedding = head.embed(noise(3, 8).float())
    torch.testing.assert_close(functional.linear(embedding, weight, bias), head.score(embedding))
    assert bias.tolist() == [0] * 4 and torch.equal(head.class_vectors(), head.weight)


def test_contract_when_deferred() -> None:
    class Deferred(LDAM):  # type: ignore[misc]
        """switch  0.8, released code"""

        __module__ = "heads.ldam"

        def __init__(self, problem: Problem, *, switch: float = 0.8) -> None:
            super().__init__(problem, deferred=True, switch=switch)

    assert failures(Deferred) == {}


def test_bad_values(problem: Build) -> None:
    with pytest.raises(ValueError, match="margin of 0 or more, got -1"):
        LDAM(problem(), largest=-1)
    with pytest.raises(ValueError, match="positive scale, got 0"):
        LDAM(problem(), scale=0)
    with pytest.raises(ValueError, match=r"only when deferred, got switch 0.5 and beta 0.9999"):
        LDAM(problem(), switch=0.5)
    with pytest.raises(ValueError, match="from 0 to below 1, got 1.5"):
        LDAM(problem(), deferred=True, switch=1.5)
    with pytest.raises(ValueError, match="beta from 0 to below 1, got 1.0"):
        LDAM(problem(), deferred=True, beta=1.0)
