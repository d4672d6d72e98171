"""τ-normalisation against loops and against numbers worked by hand."""

import math
from collections.abc import Callable

import pytest
import torch

from heads.base import Head, Needs, Problem
from heads.etf import ETF
from heads.psc import PSC
from heads.tau_norm import TauNorm

Build = Callable[..., Problem]
NOTHING = torch.zeros(0, 8), torch.zeros(0, dtype=torch.int64)


def trained(problem: Problem, weight: list[list[float]], bias: list[float]) -> Head:
    head = PSC(problem)
    with torch.no_grad():
        head.classifier.weight.copy_(torch.tensor(weight))
        head.classifier.bias.copy_(torch.tensor(bias))
    return head


@pytest.mark.parametrize("tau", [0.0, 0.7, 1.0, 1.9])
@pytest.mark.parametrize("bias", [False, True])
def test_naive_twin(problem: Build, tau: float, bias: bool) -> None:
    previous = PSC(problem()).double()
    head = TauNorm(problem(), tau=tau, bias=bias).double()
    head.prepare(*NOTHING, previous)
    z = torch.randn(5, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    weight, offset = previous.classifier.weight.detach(), previous.classifier.bias.detach()
    for i in range(5):
        for k in range(4):
            length = math.sqrt(sum(float(w) ** 2 for w in weight[k]))
            score = sum(float(w * x) for w, x in zip(weight[k], z[i], strict=True)) / length**tau
            score += float(offset[k]) if bias else 0.0
            assert head(z)[i, k].item() == pytest.approx(score)


def test_two_classes_in_the_plane(problem: Build) -> None:
    own = problem(width=2, classes=2)
    previous = trained(own, [[3.0, 4.0], [0.0, 0.5]], [10.0, 20.0])
    z = torch.tensor([[1.0, 1.0]])
    for options, expected in [
        ({}, [[1.4, 1.0]]),
        ({"bias": True}, [[11.4, 21.0]]),
        ({"tau": 2.0}, [[0.28, 2.0]]),
        ({"tau": 0.0}, [[7.0, 0.5]]),
    ]:
        head = TauNorm(own, **options)
        head.prepare(*NOTHING, previous)
        torch.testing.assert_close(head(z), torch.tensor(expected))
    assert previous(z).tolist() == [[17.0, 20.5]]  # the trained one is as it was


def test_a_weight_of_no_length_stays(problem: Build) -> None:
    own = problem(width=2, classes=2)
    head = TauNorm(own)
    head.prepare(*NOTHING, trained(own, [[0.0, 0.0], [0.0, 2.0]], [0.0, 0.0]))
    assert head.class_vectors().tolist() == [[0.0, 0.0], [0.0, 1.0]]


def test_it_can_be_stood_on(problem: Build) -> None:
    head = TauNorm(problem(), bias=True)
    head.prepare(*NOTHING, PSC(problem()))
    weight, bias = head.linear()
    z = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(head(z), z @ weight.T + bias)


def test_declarations(problem: Build) -> None:
    assert TauNorm.needs(tau=1.9) == Needs(frozen=True, trains=False)
    assert list(TauNorm(problem()).parameters()) == []


def test_bad_values(problem: Build) -> None:
    with pytest.raises(ValueError, match="got -1. Set `tau: 1`"):
        TauNorm(problem(), tau=-1)
    for previous in (ETF(problem()), PSC(problem(), cosine=True)):
        with pytest.raises(ValueError, match=f"{type(previous).__name__} has none. Put `psc`"):
            TauNorm(problem()).prepare(*NOTHING, previous)
