"""Prototypes from word vectors: the reduction, the loss, and what cannot be reduced."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from heads.geometry import unit
from heads.word2vec import Word2Vec


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def named(problem):
    """Give a function (words, width=8): a problem with these word vectors."""
    return lambda words, width=8: replace(problem(width, len(words)), words=words)


def prototypes_by_hand(words: Tensor, dim: int) -> Tensor:
    """Eigenvectors of the covariance, one coordinate at a time; signs are left open."""
    x = words.double()
    centred = x - sum(x[k] for k in range(len(x))) / len(x)
    covariance = sum(torch.outer(v, v) for v in centred)
    _, axes = torch.linalg.eigh(covariance)  # ascending
    rows = []
    for v in centred:
        row = torch.stack([v @ axes[:, -1 - j] for j in range(dim)])
        rows.append(row / row.square().sum().sqrt())
    return torch.stack(rows)


@pytest.mark.parametrize("classes, length, dim", [(6, 9, 3), (7, 4, 4), (7, 4, 2)])
def test_naive_twin(named, classes, length, dim):
    words = noise(classes, length) + 5
    head = Word2Vec(named(words), dim=dim).double()
    expected = prototypes_by_hand(words, dim)
    signs = (head.prototypes[0] * expected[0]).sign()
    torch.testing.assert_close(head.prototypes, expected * signs, atol=1e-6, rtol=0)

    features, labels = noise(5, 8, seed=1).double(), torch.tensor([0, 5, 2, 2, 0])
    z = head.projection(features).detach()
    total = sum(
        (1 - float(x @ head.prototypes[k]) / float(x.norm() * head.prototypes[k].norm())) ** 2
        for x, k in zip(z, labels.tolist(), strict=True)
    )
    assert head.loss(head.embed(features), labels).item() == pytest.approx(total, rel=1e-7)
    halved = Word2Vec(named(words), dim=dim, reduction="half_mean").double()
    assert halved.loss(halved.embed(features), labels).item() == pytest.approx(total / 10)


def test_four_words_by_hand(named):
    """A cross around (10, 20, 0): its long arm is the first axis, its short arm the second."""
    words = torch.tensor(
        [[10.0, 23.0, 0.0], [10.0, 17.0, 0.0], [11.0, 20.0, 0.0], [9.0, 20.0, 0.0]]
    )
    head = Word2Vec(named(words, width=2))
    assert head.dim == 2 and not list(head.parameters())
    expected = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    torch.testing.assert_close(head.prototypes, expected)
    h = head.embed(torch.tensor([[3.0, 4.0]]))
    torch.testing.assert_close(head.score(h), torch.tensor([[0.6, -0.6, 0.8, -0.8]]))
    assert head.loss(h, torch.tensor([1])).item() == pytest.approx(1.6**2)


def test_by_default_no_angle_is_lost(named):
    words = noise(5, 40)
    head = Word2Vec(named(words))
    assert head.dim == 4
    centred = unit(words - words.mean(0))
    torch.testing.assert_close(head.prototypes @ head.prototypes.T, centred @ centred.T)
    assert torch.equal(head.prototypes, Word2Vec(named(words), dim=4).prototypes)
    assert torch.equal(head.prototypes[:, :2] != 0, torch.ones(5, 2, dtype=torch.bool))


def test_signs_do_not_hang_on_the_solver(named):
    """The same axes from words whose first sight is another: the coordinates turned round."""
    words = noise(6, 4)
    order = torch.tensor([3, 1, 0, 2])
    a, b = Word2Vec(named(words), dim=3), Word2Vec(named(words[:, order]), dim=3)
    torch.testing.assert_close(a.prototypes, b.prototypes)


def test_the_largest_dim_is_exact_and_said(named):
    flat = torch.cat([noise(6, 2), torch.zeros(6, 3)], dim=1)
    same = noise(2, 7)[torch.tensor([0, 1, 0, 1])]
    for words, largest in ((noise(6, 20), 5), (noise(9, 4), 4), (flat, 2)):
        assert Word2Vec(named(words), dim=largest).dim == Word2Vec(named(words)).dim == largest
        for dim in (1, largest + 1):
            said = f"a dim from 2 to {largest}, .*got dim {dim}. Set `dim: {largest}` or less"
            with pytest.raises(ValueError, match=said):
                Word2Vec(named(words), dim=dim)
    for words in (same, noise(2, 7)):
        with pytest.raises(ValueError, match="got dim 1. Take more classes"):
            Word2Vec(named(words))


def test_a_class_in_the_middle_has_no_place(named):
    words = torch.tensor([[2.0, 0.0], [-1.0, 1.0], [-1.0, -1.0], [0.0, 0.0]])
    with pytest.raises(ValueError, match="class 3 lies at the centre of all"):
        Word2Vec(named(words))


def test_words_are_needed_and_declared(problem):
    assert Word2Vec.needs().words
    with pytest.raises(ValueError, match="word2vec needs a word vector for each class name"):
        Word2Vec(problem())
