"""Classifier re-training: a softmax head that begins anew and stands still below."""

import math
from collections.abc import Callable

import torch

from heads.base import Needs, Problem
from heads.crt import CRT
from heads.psc import PSC

Build = Callable[..., Problem]


def test_naive_twin(problem: Build) -> None:
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(6, 8, dtype=torch.float64, generator=generator)
    labels = torch.tensor([0, 1, 2, 3, 3, 0])
    head = CRT(problem()).double()
    weight, bias = (part.detach() for part in head.linear())
    total = 0.0
    for i in range(6):
        logits = [
            sum(float(weight[k, j] * z[i, j]) for j in range(8)) + float(bias[k]) for k in range(4)
        ]
        total -= logits[labels[i]] - math.log(sum(math.exp(logit) for logit in logits))
    torch.testing.assert_close(head.loss(z, labels).item(), total / 6)


def test_two_classes_in_the_plane(problem: Build) -> None:
    head = CRT(problem(width=2, classes=2))
    with torch.no_grad():
        head.classifier.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 2.0]]))
        head.classifier.bias.copy_(torch.tensor([0.0, -1.0]))
    z = torch.tensor([[3.0, 1.0]])
    torch.testing.assert_close(head(z), torch.tensor([[3.0, 1.0]]))
    # log(1 + e^-2)
    torch.testing.assert_close(head.loss(z, torch.tensor([0])), torch.tensor(0.12692801))


def test_nothing_of_the_trained_classifier_is_kept(problem: Build) -> None:
    trained = PSC(problem())
    with torch.no_grad():
        trained.classifier.weight.fill_(9.0)
    head = CRT(problem())
    before = head.classifier.weight.detach().clone()
    head.prepare(torch.ones(4, 8), torch.arange(4), trained)
    assert torch.equal(head.classifier.weight, before)
    assert 0 < float(before.abs().max()) <= 8**-0.5


def test_the_seed_decides_the_start(problem: Build) -> None:
    one, same, other = (CRT(problem(seed=seed)).classifier.weight for seed in (0, 0, 1))
    assert torch.equal(one, same) and not torch.equal(one, other)


def test_declarations(problem: Build) -> None:
    assert CRT.needs() == Needs(frozen=True)
    head = CRT(problem())
    assert head.class_vectors() is head.classifier.weight and not head.rates()
