"""Max-norm against loops and against numbers worked by hand; the projection with it."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from heads.base import Clock, Needs, Problem
from heads.etf import ETF
from heads.geometry import project_l2_ball
from heads.max_norm import MaxNorm, _log_complement
from heads.psc import PSC

Build = Callable[..., Problem]
NOTHING = torch.zeros(0, 8), torch.zeros(0, dtype=torch.int64)
COUNTS = (500, 60, 7, 1)


def weights_by_hand(counts: tuple[int, ...], beta: float) -> list[float]:
    raw = [(1 - beta) / (1 - beta**n) for n in counts]
    return [len(counts) * w / sum(raw) for w in raw]


def loss_by_hand(scores: Tensor, labels: Tensor, weights: list[float]) -> float:
    """The displayed equation, one term at a time."""
    total = 0.0
    for row, y in zip(scores.tolist(), labels.tolist(), strict=True):
        exps = [math.exp(s) for s in row]
        for k in range(len(row)):
            p = exps[k] / sum(exps)
            total -= weights[y] * (math.log(p) if k == y else math.log(1 - p))
    return total / scores.numel()


@pytest.mark.parametrize("beta", [0.9999, 0.9, 0.0])
def test_naive_twin(problem: Build, beta: float) -> None:
    own = replace(problem(), counts=torch.tensor(COUNTS))
    head = MaxNorm(own, beta=beta).double()
    weights = weights_by_hand(COUNTS, beta)
    assert head.class_weights.tolist() == pytest.approx(weights, rel=1e-6)
    z = 3 * torch.randn(6, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 1, 2, 3, 3, 0])
    expected = loss_by_hand(head.score(z), labels, head.class_weights.tolist())
    assert head.loss(z, labels).item() == pytest.approx(expected)


def test_the_loss_by_hand(problem: Build) -> None:
    # Balanced counts weigh 1. Probabilities ½, ¼, ¼: −log ½ − 2 log ¾, over three classes.
    head = MaxNorm(problem(width=2, classes=3))
    with torch.no_grad():
        head.classifier.weight.zero_()
        head.classifier.bias.copy_(torch.tensor([2.0, 1.0, 1.0]).log())
    loss = head.loss(torch.ones(1, 2), torch.tensor([0]))
    assert loss.item() == pytest.approx((math.log(2) + 2 * math.log(4 / 3)) / 3)


def test_it_is_torchs_binary_cross_entropy_of_the_softmax(problem: Build) -> None:
    own = replace(problem(), counts=torch.tensor(COUNTS))
    head = MaxNorm(own)
    z = torch.randn(6, 8, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 1, 2, 3, 3, 0])
    expected = functional.binary_cross_entropy(
        head(z).softmax(1),
        functional.one_hot(labels, 4).float(),
        head.class_weights[labels][:, None].expand(-1, 4),
    )
    torch.testing.assert_close(head.loss(z, labels), expected)


def test_a_sure_mistake_still_has_its_gradient() -> None:
    # p of class 0 rounds to 1 in float32; log(1 − p₀) ≈ log(e^s₁ + e^s₂) − s₀
    scores = torch.tensor([[60.0, 0.0, 0.0]], requires_grad=True)
    complement = _log_complement(scores.log_softmax(1))
    assert complement[0, 0].item() == pytest.approx(math.log(2) - 60)
    complement[0, 0].backward()
    torch.testing.assert_close(scores.grad, torch.tensor([[-1.0, 0.5, 0.5]]))
    logs = torch.tensor([[-1e4, 0.0], [3.0, 3.0]]).log_softmax(1)
    assert torch.isfinite(_log_complement(logs)).all()


def test_the_radius_by_hand(problem: Build) -> None:
    own = problem(width=2, classes=3)
    previous = PSC(own)
    with torch.no_grad():
        previous.classifier.weight.copy_(torch.tensor([[3.0, 4.0], [0.0, 1.0], [2.0, 0.0]]))
        previous.classifier.bias.copy_(torch.tensor([7.0, 8.0, 9.0]))
    head = MaxNorm(own)
    head.prepare(*NOTHING, previous)
    assert head.radius.item() == pytest.approx(1 + 0.1 * (5 - 1))
    assert torch.equal(head.classifier.weight, previous.classifier.weight)
    assert head.classifier.bias.tolist() == [7.0, 8.0, 9.0]

    def step(number: int) -> Tensor:
        z, labels = torch.zeros(1, 2), torch.tensor([0])
        head.after_step(z, labels, Clock(number, number // 4, steps_per_epoch=4, epochs=2))
        return head.classifier.weight.detach()

    before = head.classifier.weight.detach().clone()
    for number in (0, 1, 2, 4, 5, 6):
        assert torch.equal(step(number), before)
    expected = torch.tensor([[0.84, 1.12], [0.0, 1.0], [1.4, 0.0]])
    torch.testing.assert_close(step(3), expected)
    with torch.no_grad():
        head.classifier.weight.mul_(10)
    torch.testing.assert_close(step(7), 1.4 * functional.normalize(expected, dim=1))
    assert head.classifier.bias.tolist() == [7.0, 8.0, 9.0]
    assert head.radius.item() == pytest.approx(1.4)  # measured once


def test_projection_on_a_ball() -> None:
    vectors = torch.tensor([[3.0, 4.0], [0.3, 0.4], [0.0, 0.0]])
    inside = project_l2_ball(vectors, torch.tensor(2.0))
    torch.testing.assert_close(inside, torch.tensor([[1.2, 1.6], [0.3, 0.4], [0.0, 0.0]]))
    torch.testing.assert_close(project_l2_ball(inside, torch.tensor(2.0)), inside)
    assert torch.equal(project_l2_ball(vectors, torch.tensor(torch.inf)), vectors)
    assert not project_l2_ball(vectors, torch.tensor(0.0)).any()
    # The nearest point of the ball: no other point of it is nearer.
    generator = torch.Generator().manual_seed(0)
    x = 5 * torch.randn(1, 3, generator=generator)
    others = project_l2_ball(torch.randn(2000, 3, generator=generator), torch.tensor(1.0))
    nearest = (project_l2_ball(x, torch.tensor(1.0)) - x).norm()
    assert bool(((others - x).norm(dim=1) >= nearest).all())


def test_a_class_without_examples(problem: Build) -> None:
    own = replace(problem(), counts=torch.tensor([5, 0, 3, 1]))
    head = MaxNorm(own)
    assert head.class_weights[1] == head.class_weights[3]
    assert head.loss(torch.ones(2, 8), torch.tensor([0, 2])).isfinite()


def test_declarations(problem: Build) -> None:
    assert MaxNorm.needs() == Needs(frozen=True)
    head = MaxNorm(problem())
    assert dict(head.named_parameters()).keys() == {"classifier.weight", "classifier.bias"}
    assert head.class_vectors() is head.classifier.weight is head.linear()[0]


def test_bad_values(problem: Build) -> None:
    with pytest.raises(ValueError, match=r"below 1, got 1. Set `beta: 0.9999`"):
        MaxNorm(problem(), beta=1)
    with pytest.raises(ValueError, match="from 0 to 1, got 1.5. Set `threshold: 0.1`"):
        MaxNorm(problem(), threshold=1.5)
    with pytest.raises(ValueError, match="ETF has none. Put `psc`"):
        MaxNorm(problem()).prepare(*NOTHING, ETF(problem()))


def test_scores_far_apart_are_as_exact_as_in_double() -> None:
    scores = 40 * torch.randn(64, 10, generator=torch.Generator().manual_seed(0))
    found = []
    for dtype in (torch.float32, torch.float64):
        own = scores.to(dtype, copy=True).requires_grad_()
        complement = _log_complement(own.log_softmax(1))
        complement.sum().backward()
        found.append((complement.double(), own.grad.double()))
    torch.testing.assert_close(*(each for each, _ in found), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(*(each for _, each in found), rtol=1e-5, atol=1e-5)
