"""Distribution alignment against loops and against numbers worked by hand."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from heads.base import Needs, Problem
from heads.disalign import DisAlign
from heads.etf import ETF
from heads.psc import PSC

Build = Callable[..., Problem]
NOTHING = torch.zeros(0, 8), torch.zeros(0, dtype=torch.int64)
COUNTS = (500, 60, 7, 1)


@pytest.mark.parametrize("rho", [0.0, 0.5, 1.2])
def test_naive_twin(problem: Build, rho: float) -> None:
    own = replace(problem(), counts=torch.tensor(COUNTS))
    head = DisAlign(own, rho=rho).double()
    previous = PSC(own).double()
    head.prepare(*NOTHING, previous)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    z = torch.randn(6, 8, dtype=torch.float64, generator=generator)
    labels = torch.tensor([0, 1, 2, 3, 3, 0])

    raw = [(sum(COUNTS) / n) ** rho for n in COUNTS]
    omega = [4 * w / sum(raw) for w in raw]
    assert head.class_weights.tolist() == pytest.approx(omega, rel=1e-6)
    v, v0 = head.confidence.weight[0].tolist(), float(head.confidence.bias.detach())
    weight, bias = previous.classifier.weight.tolist(), previous.classifier.bias.tolist()
    total = spread = 0.0
    for row, y in zip(z.tolist(), labels.tolist(), strict=True):
        confidence = 1 / (1 + math.exp(-sum(a * b for a, b in zip(v, row, strict=True)) - v0))
        scores = []
        for k in range(4):
            logit = sum(a * b for a, b in zip(weight[k], row, strict=True)) + bias[k]
            a, t = head.scale.tolist()[k], head.shift.tolist()[k]
            scores.append((1 + confidence * a) * logit + confidence * t)
        total -= omega[y] * (scores[y] - math.log(sum(math.exp(s) for s in scores)))
        spread += omega[y]
        assert head(torch.tensor([row]).double())[0].tolist() == pytest.approx(scores)
    assert head.loss(z, labels).item() == pytest.approx(total / spread, rel=1e-6)


def test_two_classes_in_the_plane(problem: Build) -> None:
    own = replace(problem(width=2, classes=2), counts=torch.tensor([8, 1]))
    previous = PSC(own)
    with torch.no_grad():
        previous.classifier.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 2.0]]))
        previous.classifier.bias.copy_(torch.tensor([0.0, 1.0]))
    head = DisAlign(own, rho=1 / 3)
    head.prepare(*NOTHING, previous)
    # Inverse shares 9/8 and 9 to the power 1/3 are as 1 to 2.
    torch.testing.assert_close(head.class_weights, torch.tensor([2 / 3, 4 / 3]))
    with torch.no_grad():
        head.confidence.bias.zero_()
        head.shift.copy_(torch.tensor([0.0, 3.0]))
    # The features cancel in the confidence, which is a half: 1.5 · (4, −7) + ½ · (0, 3).
    z = torch.tensor([[4.0, -4.0]])
    torch.testing.assert_close(head(z), torch.tensor([[6.0, -9.0]]))


def test_start(problem: Build) -> None:
    head = DisAlign(problem())
    assert head.confidence.weight.tolist() == [[pytest.approx(0.1)] * 8]
    assert head.scale.tolist() == [1.0] * 4 and head.shift.tolist() == [0.0] * 4
    names = {name for name, _ in head.named_parameters()}
    assert names == {"confidence.weight", "confidence.bias", "scale", "shift"}
    head.prepare(*NOTHING, PSC(problem()))
    assert not head.weight.requires_grad  # the trained classifier is frozen
    assert torch.equal(head.class_vectors(), PSC(problem()).classifier.weight)
    assert head.linear() is None


def test_a_class_without_examples(problem: Build) -> None:
    own = replace(problem(), counts=torch.tensor([5, 0, 3, 1]))
    head = DisAlign(own)
    head.prepare(*NOTHING, PSC(own))
    assert head.class_weights[1] == head.class_weights[3]
    assert head.loss(torch.ones(2, 8), torch.tensor([0, 2])).isfinite()


def test_needs_and_bad_values(problem: Build) -> None:
    assert DisAlign.needs() == Needs(frozen=True)
    with pytest.raises(ValueError, match="got -1. Set `rho: 1.2`"):
        DisAlign(problem(), rho=-1)
    with pytest.raises(ValueError, match="ETF has none. Put `psc`"):
        DisAlign(problem()).prepare(*NOTHING, ETF(problem()))
