"""Closed-form separation: the matrix against its recursion, the loss against loops and by hand."""

import math

import pytest
import torch
from torch import Tensor

from heads.kasarla import Kasarla


def matrix_by_hand(k: int) -> Tensor:
    """The displayed recursion: k + 1 columns in k dimensions."""
    if k == 1:
        return torch.tensor([[1.0, -1.0]], dtype=torch.float64)
    below = matrix_by_hand(k - 1)
    matrix = torch.zeros(k, k + 1, dtype=torch.float64)
    matrix[0, 0] = 1
    for j in range(1, k + 1):
        matrix[0, j] = -1 / k
        for i in range(1, k):
            matrix[i, j] = math.sqrt(1 - 1 / k**2) * below[i - 1, j - 1]
    return matrix


@pytest.mark.parametrize("classes", [2, 3, 7, 30])
def test_the_matrix_is_the_recursion(problem, classes):
    head = Kasarla(problem(classes=classes))
    assert head.dim == classes - 1
    columns = matrix_by_hand(classes - 1).T
    torch.testing.assert_close(head.class_vectors(), columns.float(), atol=1e-6, rtol=0)


def test_thousands_of_classes_at_one_angle(problem):
    gram = Kasarla(problem(width=2, classes=2000)).prototypes.double()
    gram = gram @ gram.T
    expected = torch.full_like(gram, -1 / 1999).fill_diagonal_(1)
    torch.testing.assert_close(gram, expected, atol=1e-6, rtol=0)


def test_naive_twin(problem):
    head = Kasarla(problem(classes=5), radius=0.7).double()
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(6, 8, dtype=torch.float64, generator=generator)
    labels = torch.tensor([0, 4, 3, 3, 1, 0])
    columns = matrix_by_hand(4)
    total = 0.0
    for x, y in zip(features, labels.tolist(), strict=True):
        z = (head.projection.weight @ x + head.projection.bias).detach()
        logits = [0.7 * float(z @ columns[:, k]) for k in range(5)]
        total += math.log(sum(math.exp(s) for s in logits)) - logits[y]
    # The prototypes are kept in float32.
    assert head.loss(head.embed(features), labels).item() == pytest.approx(total / 6, abs=1e-6)


def test_three_classes_in_the_plane(problem):
    """Length counts: z is not put on the sphere."""
    head = Kasarla(problem(width=2, classes=3), projection="needed")
    half = math.sqrt(3) / 2
    expected = torch.tensor([[1.0, 0.0], [-0.5, half], [-0.5, -half]])
    torch.testing.assert_close(head.prototypes, expected)
    z = head.embed(torch.tensor([[10.0, 0.0]]))
    torch.testing.assert_close(head.score(z), torch.tensor([[1.0, -0.5, -0.5]]))
    expected_loss = math.log(math.e + 2 * math.exp(-0.5)) - 1
    assert head.loss(z, torch.tensor([0])).item() == pytest.approx(expected_loss)


def test_layers(problem):
    assert sum(p.numel() for p in Kasarla(problem(width=9, classes=10)).parameters()) == 90
    bare = Kasarla(problem(width=9, classes=10), projection="needed")
    assert not list(bare.parameters())


@pytest.mark.parametrize("radius", [0, -1, math.nan])
def test_bad_radius(problem, radius):
    with pytest.raises(ValueError, match="kasarla needs a positive radius"):
        Kasarla(problem(), radius=radius)
