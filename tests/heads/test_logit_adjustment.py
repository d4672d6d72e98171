"""Logit adjustment in both forms against loops and against numbers worked by hand."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from benchmark.training.contract import failures
from heads.base import Needs, Problem
from heads.logit_adjustment import LogitAdjustment
from heads.ncm import NCM
from heads.psc import PSC

Build = Callable[..., Problem]
LABELS = torch.tensor([0, 1, 1, 3, 2, 0, 0])


def counted(build: Build, counts: list[int], width: int = 8) -> Problem:
    problem = build(width=width, classes=len(counts))
    return replace(problem, counts=torch.tensor(counts))


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def scores_by_hand(z: Tensor, w: Tensor, b: Tensor) -> list[list[float]]:
    z, w, b = z.detach(), w.detach(), b.detach()
    return [[float(row @ w[k]) + float(b[k]) for k in range(len(w))] for row in z]


def loss_by_hand(scores: list[list[float]], y: Tensor, n: list[int], tau: float) -> float:
    """Equation 10, one example at a time."""
    total = 0.0
    for row, label in zip(scores, y.tolist(), strict=True):
        shifted = [s + tau * math.log(count / sum(n)) for s, count in zip(row, n, strict=True)]
        total -= shifted[label] - math.log(sum(math.exp(s) for s in shifted))
    return total / len(scores)


def prepared(problem: Problem, previous: PSC, tau: float = 1.0) -> LogitAdjustment:
    head = LogitAdjustment(problem, form="post_hoc", tau=tau)
    with torch.no_grad():
        head.prepare(noise(4, 8).float(), torch.arange(4), previous)
    return head


@pytest.mark.parametrize("tau", [0.0, 0.5, 1.0, 2.0])
def test_naive_twin_of_the_loss(problem: Build, tau: float) -> None:
    n = [500, 120, 31, 5]
    head = LogitAdjustment(counted(problem, n), dim=5, tau=tau).double()
    features = noise(7, 8)
    scores = scores_by_hand(head.projection(features), head.weight, head.offset)
    torch.testing.assert_close(head(features).detach(), torch.tensor(scores, dtype=torch.float64))
    # The prior is kept in float32.
    expected = loss_by_hand(scores, LABELS, n, tau)
    assert head.loss(head.embed(features), LABELS).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("tau", [0.0, 0.5, 1.0, 2.0])
def test_naive_twin_post_hoc(problem: Build, tau: float) -> None:
    n = [500, 120, 31, 5]
    trained = PSC(counted(problem, n))
    head = prepared(counted(problem, n), trained, tau)
    features = noise(7, 8).float()
    scores = scores_by_hand(features, trained.classifier.weight, trained.classifier.bias)
    expected = [[row[k] - tau * math.log(n[k] / sum(n)) for k in range(4)] for row in scores]
    torch.testing.assert_close(head(features), torch.tensor(expected))
    # What it reports as its loss is the trained classifier's.
    torch.testing.assert_close(head.loss(features, LABELS), trained.loss(features, LABELS))


def test_three_to_one_in_the_loss(problem: Build) -> None:
    head = LogitAdjustment(counted(problem, [3, 1], width=2))
    state = {**head.state_dict(), "weight": torch.zeros(2, 2), "offset": torch.zeros(2)}
    head.load_state_dict(state)
    z = torch.zeros(1, 2)
    # Equal scores: in training the prior decides, 3/4 and 1/4, at prediction nothing does.
    assert head.loss(z, torch.tensor([0])).item() == pytest.approx(math.log(4 / 3))
    assert head.loss(z, torch.tensor([1])).item() == pytest.approx(math.log(4))
    assert head(z).tolist() == [[0, 0]]


def test_three_to_one_post_hoc(problem: Build) -> None:
    trained = PSC(counted(problem, [3, 1], width=2))
    weight = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    trained.load_state_dict({"classifier.weight": weight, "classifier.bias": torch.zeros(2)})
    head = prepared(counted(problem, [3, 1], width=2), trained)
    expected = torch.tensor([[1 + math.log(4 / 3), math.log(4)]])
    z = torch.tensor([[1.0, 0.0]])
    torch.testing.assert_close(head(z), expected)
    # 1.29 against 1.39: the rare class wins an image that the trained classifier gave the other.
    assert trained(z).argmax() == 0 and head(z).argmax() == 1


def test_prior_stays_out_of_scores_in_form_loss(problem: Build) -> None:
    features = noise(7, 8).float()
    expected = PSC(counted(problem, [7, 7, 7]))(features)
    head = LogitAdjustment(counted(problem, [5000, 50, 1]), tau=2.0)
    for mode in (True, False):
        assert torch.equal(head.train(mode)(features), expected)
    with torch.no_grad():  # nor is anything of it taken over from a classifier before
        head.prepare(features, LABELS, PSC(counted(problem, [1, 1, 1])))
    assert torch.equal(head(features), expected)


@pytest.mark.parametrize("form", ["loss", "post_hoc"])
def test_class_without_examples_is_as_the_rarest(problem: Build, form: str) -> None:
    head = LogitAdjustment(counted(problem, [96, 2, 0]), form=form)
    expected = torch.tensor([math.log(0.96), math.log(0.02), math.log(0.02)])
    torch.testing.assert_close(head.shift, expected)
    z = noise(3, 8).float().requires_grad_()
    loss = head.loss(z, torch.tensor([0, 1, 2]))
    loss.backward()
    assert bool(loss.isfinite()) and z.grad is not None and bool(z.grad.isfinite().all())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_others_start_from(problem: Build, dtype: torch.dtype) -> None:
    after = prepared(counted(problem, [500, 120, 31, 5]), PSC(problem()))
    for head in (LogitAdjustment(problem()), after):
        weight, bias = head.to(dtype).linear()
        z = noise(3, 8).to(dtype)
        assert torch.equal(functional.linear(z, weight, bias), head(z))
        assert torch.equal(head.class_vectors(), weight)


def test_declares_its_needs_by_form(problem: Build) -> None:
    assert LogitAdjustment.needs() == LogitAdjustment.needs(form="loss", tau=2.0) == Needs()
    assert LogitAdjustment.needs(form="post_hoc") == Needs(frozen=True, trains=False)
    assert list(LogitAdjustment(problem(), form="post_hoc").parameters()) == []


def test_contract_post_hoc() -> None:
    class PostHoc(LogitAdjustment):  # type: ignore[misc]
        """tau  1, the paper"""

        __module__ = "heads.logit_adjustment"

        def __init__(self, problem: Problem, *, tau: float = 1.0) -> None:
            super().__init__(problem, form="post_hoc", tau=tau)

        @classmethod
        def needs(cls, **hyper: object) -> Needs:
            return LogitAdjustment.needs(form="post_hoc")

    assert failures(PostHoc) == {}


def test_bad_values(problem: Build) -> None:
    with pytest.raises(ValueError, match="Did you mean 'post_hoc'"):
        LogitAdjustment(problem(), form="posthoc")
    with pytest.raises(ValueError, match="tau of 0 or more, got -1"):
        LogitAdjustment(problem(), tau=-1)
    with pytest.raises(ValueError, match="got dim 4 and projection 'needed'. Leave both out"):
        LogitAdjustment(problem(), form="post_hoc", dim=4)
    with pytest.raises(ValueError, match="and NCM has none. Put `psc` before '>'"):
        head = LogitAdjustment(problem(), form="post_hoc")
        head.prepare(noise(4, 8).float(), torch.arange(4), NCM(problem()))
