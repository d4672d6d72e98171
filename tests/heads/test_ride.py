"""Diverse experts: the loss against loops, numbers by hand, and the late switch."""

import math

import pytest
import torch
from torch import Tensor

from heads.base import Clock, Problem
from heads.ride import RIDE


def noise(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator)


def unequal(counts: list[int], width: int) -> Problem:
    def points(dim: int, objective: str = "energy") -> Tensor:
        raise AssertionError("asks for no points")

    return Problem(width=width, counts=torch.tensor(counts), seed=0, points=points)


def softmax(scores: list[float]) -> list[float]:
    exp = [math.exp(s) for s in scores]
    return [e / sum(exp) for e in exp]


def loss_by_hand(
    x: Tensor,
    y: list[int],
    weights: Tensor,
    counts: list[int],
    late: bool,
    *,
    scale: float,
    largest: float,
    diversity: float,
    spread: float,
) -> float:
    """The displayed equations, one expert and one image at a time."""
    classes, rarest = len(counts), min(counts)
    margins = [largest * (rarest / n) ** 0.25 for n in counts]
    inverse = [(1 - 0.9999) / (1 - 0.9999**n) for n in counts]
    class_weights = [classes * w / sum(inverse) if late else 1.0 for w in inverse]
    raw = [classes * n / sum(counts) * spread + 1 - spread for n in counts]
    temperatures = [t / max(raw) if late else 1.0 for t in raw]
    f = [
        [
            [scale * float(torch.cosine_similarity(u, w, 0)) for w in own]
            for u, own in zip(row, weights, strict=True)
        ]
        for row in x
    ]
    squared = (sum(temperatures) / classes) ** 2
    total = 0.0
    for e in range(len(weights)):
        top = bottom = divergence = 0.0
        for scores, label in zip(f, y, strict=True):
            own = list(scores[e])
            mean = [sum(each[k] for each in scores) / len(scores) for k in range(classes)]
            p = softmax([m / t for m, t in zip(mean, temperatures, strict=True)])
            q = softmax([o / t for o, t in zip(own, temperatures, strict=True)])
            divergence += sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
            own[label] -= scale * margins[label]
            top -= class_weights[label] * math.log(softmax(own)[label])
            bottom += class_weights[label]
        total += top / bottom - diversity * squared * divergence / len(y)
    return total


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("experts", [1, 3])
def test_naive_twin(late, experts):
    counts = [500, 60, 20, 5]
    hyper = {"scale": 5.0, "largest": 0.4, "diversity": 0.3, "spread": 0.2}
    head = RIDE(unequal(counts, 6), experts=experts, **hyper).double()
    head.late.fill_(late)
    x, y = noise(7, experts, 6), [0, 3, 3, 2, 1, 0, 0]
    expected = loss_by_hand(x, y, head.weights.detach(), counts, late, **hyper)
    assert head.loss(head.embed(x), torch.tensor(y)).item() == pytest.approx(expected, abs=1e-6)


def test_two_experts_in_the_plane():
    """One sees the label's direction, one the other's: cosines (1, 0) and (0, 1), mean (½, ½)."""
    head = RIDE(unequal([16, 1], 2), experts=2, scale=2.0, largest=0.5, diversity=0.25)
    with torch.no_grad():
        head.weights.copy_(torch.eye(2).expand(2, 2, 2))
    u = head.embed(torch.tensor([[[3.0, 0.0], [0.0, 7.0]]]))
    assert u.tolist() == [[1.0, 0.0, 0.0, 1.0]]
    assert head.score(u).tolist() == [[1.0, 1.0]]  # half of 2
    assert head.margins.tolist() == [0.25, 0.5]  # ½ · (1/16)^¼
    # label 0, scores (2 − 0.5, 0) and (−0.5, 2)
    cost = math.log1p(math.exp(-1.5)) + math.log1p(math.exp(2.5))
    # of (½, ½) from softmax(2, 0), twice: −log 2 − ½ (log p + log(1 − p))
    p = 1 / (1 + math.exp(-2))
    divergence = -math.log(2) - 0.5 * (math.log(p) + math.log(1 - p))
    loss = head.loss(u, torch.tensor([0]))
    assert loss.item() == pytest.approx(cost - 0.25 * 2 * divergence, abs=1e-6)


def test_late_weights_and_temperatures_by_hand():
    head = RIDE(unequal([30, 10], 2), spread=0.5)
    # shares ¾ and ¼ of two classes: 1.5 · ½ + ½ = 1.25 and 0.5 · ½ + ½ = 0.75
    torch.testing.assert_close(head.temperatures, torch.tensor([1.0, 0.6]))
    a, b = 1 / (1 - 0.9999**30), 1 / (1 - 0.9999**10)
    torch.testing.assert_close(head.class_weights, torch.tensor([a, b]).float() * 2 / (a + b))


def test_weights_begin_after_four_fifths(problem):
    head = RIDE(problem())
    states = []
    for epoch in range(200):
        head.begin_epoch(Clock(7 * epoch, epoch, 7, 200))
        states.append(bool(head.late))
    assert states == [False] * 160 + [True] * 40
    never = RIDE(problem(), deferred=1.0)
    never.begin_epoch(Clock(9, 9, 1, 10))
    assert not never.late


def test_the_mean_is_held_fixed(problem):
    """The divergence has no gradient through the mean: only experts move away from it."""
    head = RIDE(problem(), experts=2, largest=0.0, scale=2.0).double()
    x = noise(1, 2, 8)
    u = head.embed(x).detach().requires_grad_()
    head.loss(u, torch.tensor([0])).backward()
    each = head._each(u.detach())[0].detach()
    p, q = each.mean(0).softmax(0), each.softmax(1)
    # d/df_e of CE − λ KL(p ‖ q_e) is (q_e − 1_y) − λ (q_e − p)
    slope = (q - torch.eye(4, dtype=torch.float64)[0]) - 0.45 * (q - p)
    unit = torch.nn.functional.normalize(head.weights.detach(), dim=2)
    expected = 2.0 * torch.einsum("ek,ekw->ew", slope, unit).flatten()
    torch.testing.assert_close(u.grad[0], expected)


def test_the_ensemble_is_one_linear_classifier(problem):
    head = RIDE(problem(), experts=3)
    u = head.embed(noise(5, 3, 8).float())
    weight, bias = head.linear()
    assert head.dim == u.shape[1] == 24 and weight.shape == (4, 24)
    torch.testing.assert_close(head.score(u), u @ weight.T + bias)
    torch.testing.assert_close(head.class_vectors().norm(dim=1), torch.full((4,), 3**0.5))
    torch.testing.assert_close(head.weights.norm(dim=2), torch.ones(3, 4))
    assert not torch.equal(head.weights[0], head.weights[1])


def test_needs_as_many_as_it_has():
    assert RIDE.needs().experts == 3 and RIDE.needs(experts=4).experts == 4
    assert "distillation" in RIDE.published


def test_a_class_without_images_counts_as_the_rarest():
    head = RIDE(unequal([40, 5, 0], 2))
    assert head.margins[1] == head.margins[2] and head.class_weights.isfinite().all()


@pytest.mark.parametrize(
    "hyper, sentence",
    [
        ({"experts": 0}, "at least 1 expert, got 0"),
        ({"scale": 0.0}, "positive scale"),
        ({"largest": -0.1}, "margin and diversity of 0 or more"),
        ({"diversity": -0.45}, "margin and diversity of 0 or more"),
        ({"spread": 1.0}, r"spread in \[0, 1\)"),
        ({"deferred": 1.5}, "deferred"),
    ],
)
def test_bad_values(problem, hyper, sentence):
    with pytest.raises(ValueError, match=sentence):
        RIDE(problem(), **hyper)
