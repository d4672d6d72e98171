"""Equiangular basis vectors: known optima of the basis, and the loss against loops and by hand."""

import math

import pytest
import torch
from torch import Tensor

from heads.ebv import EBV


def largest_by_hand(basis: Tensor) -> float:
    return max(
        abs(float(basis[i] @ basis[j]))
        for i in range(len(basis))
        for j in range(len(basis))
        if i != j
    )


def loss_by_hand(x: Tensor, y: Tensor, v: Tensor, tau: float, smoothing: float) -> float:
    """The displayed equations, one example and one class at a time."""
    total = 0.0
    for row, label in zip(x, y.tolist(), strict=True):
        scores = [float(row @ b) / float(row.norm()) / tau for b in v]
        log_sum = math.log(sum(math.exp(s) for s in scores))
        for k, s in enumerate(scores):
            target = (1 - smoothing) * (k == label) + smoothing / len(v)
            total -= target * (s - log_sum)
    return total / len(y)


@pytest.mark.parametrize("hyper", [{}, {"temperature": 0.5, "smoothing": 0.0}])
def test_naive_twin(problem, hyper):
    head = EBV(problem(classes=5), dim=4, **hyper).double()
    features = torch.randn(6, 8, generator=torch.Generator().manual_seed(1)).double()
    labels = torch.tensor([0, 4, 3, 3, 1, 0])
    tau, smoothing = (0.5, 0.0) if hyper else (0.07, 0.1)
    z = head.projection(features).detach()
    expected = loss_by_hand(z, labels, head.basis, tau, smoothing)
    assert head.loss(head.embed(features), labels).item() == pytest.approx(expected, rel=1e-9)


def test_two_classes_in_the_plane(problem):
    head = EBV(problem(width=2, classes=2), projection="needed", temperature=0.2, smoothing=0.2)
    head.basis.copy_(torch.eye(2))
    h = head.embed(torch.tensor([[3.0, 4.0]]))
    torch.testing.assert_close(head.score(h), torch.tensor([[3.0, 4.0]]))
    # targets .9 and .1; −log softmax of 3 and of 4 is log(1 + e) and log(1 + 1/e)
    expected = 0.9 * math.log(1 + math.e) + 0.1 * math.log(1 + 1 / math.e)
    assert head.loss(h, torch.tensor([0])).item() == pytest.approx(expected)


# The largest |cos| between lines: the least that is possible, and how many lines in which space.
OPTIMA = [
    (3, 2, 1 / 2),
    (5, 2, math.cos(math.pi / 5)),
    (4, 3, 1 / 3),
    (6, 3, 1 / math.sqrt(5)),  # diagonals of the icosahedron
    (7, 3, 1 / math.sqrt(3)),
    (10, 5, 1 / 3),
]


@pytest.mark.parametrize("classes, dim, optimum", OPTIMA)
def test_known_optima_are_reached(problem, classes, dim, optimum):
    basis = EBV(problem(classes=classes), dim=dim).basis
    torch.testing.assert_close(basis.norm(dim=1), torch.ones(classes))
    assert optimum - 1e-5 < largest_by_hand(basis) < optimum + 2e-3


def test_right_angles_where_there_is_room(problem):
    for classes in (5, 8):
        basis = EBV(problem(classes=classes)).basis
        torch.testing.assert_close(basis @ basis.T, torch.eye(classes), atol=1e-6, rtol=0)


def test_a_hundred_classes(problem):
    """Welch's bound is 0.1005 in 50 dimensions; random vectors have 0.5, points on a sphere 1."""
    basis = EBV(problem(classes=100), dim=50).basis
    assert 0.1005 < float((basis @ basis.T).abs().fill_diagonal_(0).max()) < 0.112


def test_the_seed_decides(problem):
    def basis(seed: int) -> Tensor:
        return EBV(problem(classes=40, seed=seed), dim=6, alpha=0.9).basis

    assert torch.equal(basis(3), basis(3)) and not torch.allclose(basis(3), basis(4))


def test_alpha_that_is_given_is_kept(problem):
    """Where there is slack the excess vanishes, and no more is asked."""
    basis = EBV(problem(classes=20), dim=8, alpha=0.5).basis
    assert 0.4 < largest_by_hand(basis) <= 0.5 + 1e-4
    assert EBV(problem(), alpha=0.002).basis.shape == (4, 8)
    assert largest_by_hand(EBV(problem(classes=3), dim=2, alpha=0.5).basis) < 0.5 + 2e-4


def test_alpha_that_cannot_be_had(problem):
    with pytest.raises(ValueError, match=r"no 6 vectors in dim 3 .*alpha = 0.002. .*from 0.4473 "):
        EBV(problem(classes=6), dim=3, alpha=0.002)
    # Above Welch's bound, 0.4714, and below what seven lines in space allow.
    with pytest.raises(ValueError, match=r"found no 7 vectors in dim 3 .*0.5; the best have 0.57"):
        EBV(problem(classes=7), dim=3, alpha=0.5)


@pytest.mark.parametrize(
    "hyper, said",
    [
        ({"temperature": 0}, "ebv needs a positive temperature, got 0"),
        ({"smoothing": 1.0}, r"ebv needs smoothing in \[0, 1\), got 1.0"),
        ({"alpha": 1.0}, "alpha = 1"),
        ({"alpha": -0.1}, "alpha = -0.1"),
        ({"dim": 1}, "ebv needs dim >= 2"),
    ],
)
def test_bad_values(problem, hyper, said):
    with pytest.raises(ValueError, match=said):
        EBV(problem(), **hyper)
