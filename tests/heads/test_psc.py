"""Learned softmax against loops and against numbers worked by hand."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from heads.base import Problem
from heads.geometry import unit
from heads.psc import PSC

Build = Callable[..., Problem]


def cross_entropy_by_hand(z: Tensor, y: Tensor, w: Tensor, b: Tensor | None, scale: float) -> float:
    """The displayed equations, one example at a time; b None is the cosine variant."""
    total = 0.0
    for i in range(len(z)):
        scores = []
        for k in range(len(w)):
            product = float(z[i] @ w[k])
            if b is None:
                scores.append(scale * product / float(z[i].norm() * w[k].norm()))
            else:
                scores.append(product + float(b[k]))
        total -= scores[int(y[i])] - math.log(sum(math.exp(s) for s in scores))
    return total / len(z)


@pytest.mark.parametrize("cosine", [False, True])
def test_naive_twin(problem: Build, cosine: bool) -> None:
    head = PSC(problem(), dim=5, cosine=cosine).double()
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(7, 8, dtype=torch.float64, generator=generator)
    labels = torch.tensor([0, 1, 1, 3, 2, 0, 0])
    z = head.projection(features).detach()
    weight = head.classifier.weight.detach()
    bias = None if cosine else head.classifier.bias.detach()
    expected = cross_entropy_by_hand(z, labels, weight, bias, 30.0)
    assert head.loss(head.embed(features), labels).item() == pytest.approx(expected, abs=1e-10)


def test_two_classes_in_the_plane(problem: Build) -> None:
    head = PSC(problem(width=2, classes=2))
    head.load_state_dict(
        {
            "classifier.weight": torch.tensor([[1.0, 0.0], [0.0, 2.0]]),
            "classifier.bias": torch.tensor([0.5, -0.5]),
        }
    )
    z = torch.tensor([[1.0, 1.0]])
    torch.testing.assert_close(head(z), torch.tensor([[1.5, 1.5]]))
    assert head.loss(head.embed(z), torch.tensor([0])).item() == pytest.approx(math.log(2))


def test_two_classes_in_the_plane_by_cosine(problem: Build) -> None:
    head = PSC(problem(width=2, classes=2), cosine=True, scale=2.0)
    head.load_state_dict({"classifier.weight": torch.tensor([[9.0, 0.0], [0.0, 0.1]])})
    z = torch.tensor([[3.0, 4.0]])
    torch.testing.assert_close(head(z), torch.tensor([[1.2, 1.6]]))
    expected = math.log(1 + math.exp(0.4))
    assert head.loss(head.embed(z), torch.tensor([0])).item() == pytest.approx(expected)


@pytest.mark.parametrize("cosine", [False, True])
def test_uniformity_against_loops(problem: Build, cosine: bool) -> None:
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(7, 8, dtype=torch.float64, generator=generator)
    labels = torch.tensor([0, 1, 1, 3, 2, 0, 0])
    plain = PSC(problem(), dim=5, cosine=cosine).double()
    head = PSC(problem(), dim=5, cosine=cosine, uniformity=0.3).double()
    head.load_state_dict(plain.state_dict())
    w = [row / row.norm() for row in head.classifier.weight.detach()]
    pairs = [math.exp(-2 * float((w[i] - w[j]).square().sum())) for i in range(4) for j in range(i)]
    expected = 0.3 * math.log(sum(pairs) / len(pairs))
    costs = [each.loss(each.embed(features), labels).item() for each in (head, plain)]
    assert costs[0] - costs[1] == pytest.approx(expected, abs=1e-12)


def test_uniformity_of_two_in_the_plane(problem: Build) -> None:
    head = PSC(problem(width=2, classes=2), uniformity=0.01)
    head.load_state_dict(
        {
            "classifier.weight": torch.tensor([[3.0, 0.0], [0.0, 0.1]]),
            "classifier.bias": -torch.ones(2),
        }
    )
    # Orthogonal: the squared distance is 2, whatever the lengths; both scores are −1.
    z = torch.zeros(1, 2)
    assert head.loss(z, torch.tensor([0])).item() == pytest.approx(math.log(2) - 0.01 * 4)
    assert head.linear() is not None


def test_uniformity_drives_the_weights_apart(problem: Build) -> None:
    head = PSC(problem(), cosine=True, uniformity=1.0)
    head.loss(torch.zeros(1, 8), torch.tensor([0])).backward()
    weight = head.classifier.weight
    assert weight.grad is not None
    before = (unit(weight) @ unit(weight).T).sum()
    moved = unit(weight - 0.01 * weight.grad)
    assert (moved @ moved.T).sum() < before


def test_parameters_and_what_others_start_from(problem: Build) -> None:
    head = PSC(problem(width=64, classes=10))
    assert sum(p.numel() for p in head.parameters()) == 650
    start = head.linear()
    assert start is not None and start[0].shape == (10, 64) and start[1].shape == (10,)
    assert PSC(problem(), cosine=True).linear() is None
    always = PSC(problem(width=64, classes=10), projection="always")
    assert sum(p.numel() for p in always.parameters()) == 650 + 64 * 65
    assert PSC(problem(), dim=3).dim == 3


def test_initial_values_are_torchs_and_the_global_state_is_untouched(problem: Build) -> None:
    before = torch.get_rng_state()
    head = PSC(problem(width=100, classes=50))
    assert torch.equal(before, torch.get_rng_state())
    weight = head.classifier.weight.detach()
    assert weight.abs().max() <= 0.1 and float(weight.std()) == pytest.approx(
        0.1 / 3**0.5, rel=0.05
    )
    assert torch.equal(weight, PSC(problem(width=100, classes=50)).classifier.weight)
    assert not torch.equal(weight, PSC(problem(width=100, classes=50, seed=1)).classifier.weight)


def test_bad_values(problem: Build) -> None:
    with pytest.raises(ValueError, match="Did you mean 'always'"):
        PSC(problem(), projection="allways")
    with pytest.raises(ValueError, match="dim must be positive, got 0"):
        PSC(problem(), dim=0)
    with pytest.raises(ValueError, match="positive scale, got -1"):
        PSC(problem(), cosine=True, scale=-1)
    with pytest.raises(ValueError, match="got scale 16 without cosine"):
        PSC(problem(), scale=16)
    with pytest.raises(ValueError, match="uniformity of 0 or more, got -0.1"):
        PSC(problem(), uniformity=-0.1)
