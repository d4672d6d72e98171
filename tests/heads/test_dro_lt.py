"""Balls around class means: the loss against loops, numbers by hand, and what moves when."""

import math

import pytest
import torch
from torch import Tensor

from heads.base import Clock, Problem, Sweep
from heads.dro_lt import DROLT
from heads.psc import PSC

NOW = Clock(0, 0, 5, 10)


def noise(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator)


def unequal(counts: list[int], width: int) -> Problem:
    def points(dim: int, objective: str = "energy") -> Tensor:
        raise AssertionError("asks for no points")

    return Problem(width=width, counts=torch.tensor(counts), seed=0, points=points)


def robust_by_hand(
    z: Tensor, y: list[int], centroids: Tensor, epsilon: list[float], temperature: float
) -> float:
    """The displayed equations, one class and one image at a time."""
    total, present = 0.0, sorted(set(y))
    for c in present:
        lengths = []
        for row, label in zip(z, y, strict=True):
            distance = math.sqrt(
                sum(float(m - x) ** 2 for m, x in zip(centroids[c], row, strict=True))
            )
            lengths.append(-(distance + (epsilon[c] if label == c else 0)) / temperature)
        bottom = sum(math.exp(each) for each in lengths)
        own = [
            math.log(math.exp(e) / bottom)
            for e, label in zip(lengths, y, strict=True)
            if label == c
        ]
        total -= sum(own) / len(own)
    return total / len(present)


def weighted_by_hand(scores: Tensor, y: list[int], counts: list[int]) -> float:
    top = bottom = 0.0
    for row, label in zip(scores.tolist(), y, strict=True):
        weight = counts[label] / max(counts)
        top += weight * (math.log(sum(math.exp(s) for s in row)) - row[label])
        bottom += weight
    return top / bottom


@pytest.mark.parametrize("temperature", [1.0, 0.3])
def test_naive_twin(temperature):
    counts = [40, 20, 10, 5]
    head = DROLT(unequal(counts, 6), temperature=temperature).double()
    head.centroids.copy_(noise(4, 6, seed=1))
    with torch.no_grad():
        head.epsilon.copy_(torch.tensor([0.5, 1.0, -0.2, 2.0]))
    z, y = noise(7, 6), [0, 2, 2, 1, 0, 0, 1]  # class 3 is not in the batch
    epsilon = head.epsilon.tolist()
    expected = robust_by_hand(z, y, head.centroids, epsilon, temperature)
    expected += weighted_by_hand(z @ head.weight.T + head.bias, y, counts)
    assert head.loss(z, torch.tensor(y)).item() == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("epsilon, gap", [(1.0, -1.0), (3.0, 1.0)])
def test_two_classes_on_a_line(epsilon, gap):
    """Means 0 and 4, images at 1 and 3: own length 1 + ε, the other's 3."""
    head = DROLT(unequal([10, 10], 1), epsilon=epsilon)
    head.weight.zero_()
    head.bias.zero_()
    head.begin_epoch(NOW, Sweep(torch.tensor([[-1.0], [1.0], [4.0]]), torch.tensor([0, 0, 1])))
    assert head.centroids.tolist() == [[0.0], [4.0]]
    loss = head.loss(torch.tensor([[1.0], [3.0]]), torch.tensor([0, 1]))
    # cross-entropy of two equal scores, and −log p = log(1 + e^(1 + ε − 3)) for either class
    assert loss.item() == pytest.approx(math.log(2) + math.log1p(math.exp(gap)))
    loss.backward()
    share = 1 / (1 + math.exp(-gap))
    torch.testing.assert_close(head.epsilon.grad, torch.full((2,), share / 2))


def test_nothing_holds_epsilon_up(problem):
    head = DROLT(problem()).double()
    head.centroids.copy_(noise(4, 8, seed=1))
    for epsilon in (-2.0, 0.0, 3.0):
        with torch.no_grad():
            head.epsilon.fill_(epsilon)
        head.epsilon.grad = None
        head.loss(noise(12, 8), torch.arange(12) % 4).backward()
        assert (head.epsilon.grad > 0).all()


def test_weights_favour_the_frequent():
    """Counts 10 and 5 weigh 1 and ½: (1 · log 2 + ½ · log(1 + e)) / 1.5."""
    head = DROLT(unequal([10, 5], 1))
    head.weight.copy_(torch.tensor([[1.0], [0.0]]))
    head.bias.zero_()
    z, y = torch.tensor([[0.0], [1.0]]), torch.tensor([0, 1])
    robust = robust_by_hand(z, [0, 1], head.centroids, [1.0, 1.0], 1.0)
    expected = (math.log(2) + 0.5 * math.log(1 + math.e)) / 1.5
    assert head.loss(z, y).item() - robust == pytest.approx(expected, abs=1e-6)


def test_starts_from_the_classifier_before_and_leaves_it(problem):
    before = PSC(problem())
    head = DROLT(problem(seed=5))
    features, labels = noise(12, 8).float(), torch.arange(12) % 4
    head.prepare(features, labels, before)
    assert torch.equal(head(features), before(features))
    assert head.linear()[0].shape == (4, 8) and torch.equal(head.class_vectors(), head.linear()[0])
    assert [name for name, _ in head.named_parameters()] == ["epsilon"]
    with torch.no_grad():
        before.classifier.weight.zero_()
    assert head.weight.any()  # a copy


def test_without_weight_and_bias_it_starts_from_the_nearest_mean(problem):
    before = PSC(problem(), cosine=True)
    assert before.linear() is None
    features, labels = 3 * noise(40, 8).float(), torch.arange(40) % 4
    head = DROLT(problem())
    head.prepare(features, labels, before)
    means = torch.stack([features[labels == k].mean(0) for k in range(4)])
    torch.testing.assert_close(head.weight, means)
    assert torch.equal(head(features).argmax(1), torch.cdist(features, means).argmin(1))


def test_centroids_are_taken_anew_each_epoch(problem):
    head = DROLT(problem())
    features, labels = noise(30, 8).float(), torch.arange(30) % 3  # class 3 has no image
    weight = head.weight.clone()
    for shift in (0.0, 2.0):
        head.begin_epoch(NOW, Sweep(features + shift, labels))
        for k in range(3):
            torch.testing.assert_close(head.centroids[k], features[labels == k].mean(0) + shift)
        assert not head.centroids[3].any()
    assert torch.equal(head.weight, weight) and not head.centroids.requires_grad


def test_an_image_on_its_mean_has_a_finite_gradient(problem):
    head = DROLT(problem())
    z = noise(3, 8).float()
    head.begin_epoch(NOW, Sweep(z, torch.tensor([0, 1, 2])))
    z.requires_grad_()
    head.loss(z, torch.tensor([0, 1, 2])).backward()
    assert z.grad.isfinite().all() and z.grad.any()


def test_needs_and_readings(problem):
    assert DROLT.needs().sweep and not DROLT.needs().mixup and not DROLT.needs().frozen
    head = DROLT(problem(), epsilon=2)
    with torch.no_grad():
        head.epsilon[0] = -2.0
    assert head.readings() == {"epsilon_min": -2.0, "epsilon_mean": 1.0, "epsilon_max": 2.0}


def test_bad_values(problem):
    with pytest.raises(ValueError, match="dro_lt needs a positive temperature, got 0"):
        DROLT(problem(), temperature=0)
