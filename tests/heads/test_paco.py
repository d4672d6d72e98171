"""Contrast with centres: the loss against loops, numbers by hand, queue and momentum copy."""

import math

import pytest
import torch
from torch import Tensor

from benchmark.training import train
from heads import paco
from heads.base import Clock, Problem
from heads.paco import PaCo

NOW = Clock(0, 0, 5, 10)


def noise(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator)


def unequal(counts: list[int], width: int) -> Problem:
    def points(dim: int, objective: str = "energy") -> Tensor:
        raise AssertionError("asks for no points")

    return Problem(width=width, counts=torch.tensor(counts), seed=0, points=points)


def dot(a: Tensor, b: Tensor) -> float:
    return sum(float(x) * float(y) for x, y in zip(a, b, strict=True))


@torch.no_grad()
def loss_by_hand(head: PaCo, embedding: Tensor, y: list[int], counts: list[int]) -> float:
    """The displayed equations, one query at a time."""
    width, total = head.dim, 0.0
    q, k = embedding[0, :, width:], embedding[1, :, width:]
    everyone = [
        *zip(q, y, strict=True),
        *zip(k, y, strict=True),
        *zip(head.keys, head.owners.tolist(), strict=True),
    ]
    for i, label in enumerate(y):
        h = embedding[0, i, :width]
        e = [
            dot(w, h) + float(b) + math.log(counts[c] / sum(counts))
            for c, (w, b) in enumerate(
                zip(head.classifier.weight, head.classifier.bias, strict=True)
            )
        ]
        others = [other for j, other in enumerate(everyone) if j != i]
        alike = [dot(q[i], a) / head.temperature for a, _ in others]
        bottom = math.log(sum(math.exp(each) for each in [*e, *alike]))
        partners = [
            a - bottom for a, (_, owner) in zip(alike, others, strict=True) if owner == label
        ]
        top = (e[label] - bottom) + head.alpha * sum(partners)
        total -= top / (1 + head.alpha * len(partners))
    return total / len(y)


@pytest.mark.parametrize("alpha", [0.01, 0.7])
def test_naive_twin(alpha):
    counts = [40, 20, 10]
    head = PaCo(unequal(counts, 6), alpha=alpha, temperature=0.2, contrast=4, queue=5).double()
    y = torch.tensor([0, 1, 1, 2])
    head.owners.copy_(torch.tensor([0, 2, 1, -1, -1]))
    head.train()
    embedding = head.embed(noise(2, 4, 6))
    expected = loss_by_hand(head, embedding.detach(), y.tolist(), counts)
    assert head.loss(embedding, y).item() == pytest.approx(expected, abs=1e-6)


def test_one_image_by_hand():
    """Query (1, 0), key (0.6, 0.8), one old key (0, 1) of the other class; centres score 0."""
    head = PaCo(unequal([10, 10], 2), alpha=0.5, temperature=1.0, contrast=2, queue=1)
    with torch.no_grad():
        head.classifier.weight.zero_()
        head.classifier.bias.zero_()
    head.keys.copy_(torch.tensor([[0.0, 1.0]]))
    head.owners.fill_(1)
    embedding = torch.tensor([[[5.0, 7.0, 1.0, 0.0]], [[5.0, 7.0, 0.6, 0.8]]])
    # what it is compared with: two centres at log ½, its key at 0.6, the old key at 0
    bottom = math.log(0.5 + 0.5 + math.exp(0.6) + 1)
    expected = -((math.log(0.5) - bottom) + 0.5 * (0.6 - bottom)) / 1.5
    loss = head.loss(embedding, torch.tensor([0]))
    assert loss.item() == pytest.approx(expected, abs=1e-6)


def test_an_empty_slot_is_nobodys_partner():
    head = PaCo(unequal([10, 10], 6), contrast=4, queue=3, alpha=1.0)
    assert head.owners.tolist() == [-1, -1, -1]
    head.owners[0] = 1
    embedding = head.embed(noise(2, 2, 6).float())
    one = head.loss(embedding, torch.tensor([0, 1]))
    head.owners[0] = -1
    assert not torch.isclose(head.loss(embedding, torch.tensor([0, 1])), one)


def test_the_oldest_keys_make_room(problem):
    head = PaCo(problem(), contrast=3, queue=5)
    first = head.keys.clone()
    batches = [head.embed(noise(2, 2, 8, seed=seed).float()).detach() for seed in range(3)]
    for number, embedding in enumerate(batches):
        head.after_step(embedding, torch.tensor([number, number]), NOW)
    # two, two, and two of which the second takes the first slot again
    assert head.owners.tolist() == [2, 0, 1, 1, 2] and int(head.place) == 1
    newest = {tuple(key) for key in batches[2][1, :, 8:].tolist()}
    assert {tuple(head.keys[4].tolist()), tuple(head.keys[0].tolist())} == newest
    assert not torch.isin(first, head.keys).any()


def test_a_batch_larger_than_the_queue(problem):
    head = PaCo(problem(), contrast=3, queue=2)
    embedding = head.embed(noise(2, 6, 8).float()).detach()
    head.after_step(embedding, torch.arange(6) % 4, NOW)
    known = {tuple(key) for key in embedding[1, :, 8:].tolist()}
    assert len({tuple(key) for key in head.keys.tolist()} & known) == 2


def test_the_keys_projection_follows_by_a_thousandth(problem):
    head = PaCo(problem())
    names = [name for name, _ in head.query.named_parameters()]
    assert not any(name.startswith("key.") for name, _ in head.named_parameters())
    for name in names:
        assert torch.equal(head.key.get_buffer(name), head.query.get_parameter(name))
        with torch.no_grad():
            head.query.get_parameter(name).add_(1.0)
    before = {name: head.key.get_buffer(name).clone() for name in names}
    embedding = head.embed(noise(2, 4, 8).float())
    head.loss(embedding, torch.arange(4)).backward()
    head.after_step(embedding.detach(), torch.arange(4), NOW)
    for name in names:
        torch.testing.assert_close(head.key.get_buffer(name), before[name] + 0.001)
        assert not head.key.get_buffer(name).requires_grad
        assert head.query.get_parameter(name).grad is not None
    assert paco.MOMENTUM == train.MOMENTUM  # one moving average, in two places


def test_no_gradient_through_the_keys(problem):
    head = PaCo(problem())
    features = noise(2, 4, 8).float().requires_grad_()
    head.loss(head.embed(features), torch.arange(4)).backward()
    assert features.grad[0].any() and not features.grad[1].any()


def test_in_evaluation_it_is_linear_and_without_prior():
    head = PaCo(unequal([90, 10], 6)).eval()
    features = noise(5, 6).float()
    weight, bias = head.linear()
    assert torch.equal(head.embed(features), features)
    torch.testing.assert_close(head(features), features @ weight.T + bias)
    assert torch.equal(head.class_vectors(), weight)
    # in training too, of the first view
    views = torch.stack([features, features.flip(0)])
    torch.testing.assert_close(head.train().score(head.embed(views)), features @ weight.T + bias)


def test_needs():
    needs = PaCo.needs()
    assert (needs.views, needs.teacher, needs.mixup) == (2, True, False)


@pytest.mark.parametrize(
    "hyper, sentence",
    [
        ({"alpha": -1.0}, "alpha of 0 or more"),
        ({"temperature": 0.0}, "positive temperature"),
        ({"contrast": 0}, "room for keys"),
        ({"queue": 0}, "room for keys"),
    ],
)
def test_bad_values(problem, hyper, sentence):
    with pytest.raises(ValueError, match=sentence):
        PaCo(problem(), **hyper)
