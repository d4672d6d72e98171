"""Nearest class mean against loops and against numbers worked by hand."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from heads.base import Needs, Problem
from heads.ncm import NCM
from heads.psc import PSC

Build = Callable[..., Problem]


def transformed_by_hand(x: Tensor, transform: str, centre: Tensor) -> Tensor:
    if transform == "none":
        return x
    rows = [row - centre if transform == "cl2n" else row for row in x]
    return torch.stack([row / row.square().sum().sqrt() for row in rows])


@pytest.mark.parametrize("transform", ["none", "l2n", "cl2n"])
def test_naive_twin(problem: Build, transform: str) -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(20, 8, dtype=torch.float64, generator=generator) + 1
    labels = torch.tensor([0] * 10 + [1] * 6 + [2] * 3 + [3])
    head = NCM(problem(), transform=transform).double()
    head.prepare(features, labels, PSC(problem()))

    centre = sum(features[i] for i in range(20)) / 20
    assert isinstance(centre, Tensor)
    t = transformed_by_hand(features, transform, centre)
    centroids = torch.stack([t[[i for i in range(20) if labels[i] == k]].mean(0) for k in range(4)])
    expected = torch.zeros(20, 4, dtype=torch.float64)
    for i in range(20):
        for k in range(4):
            expected[i, k] = -0.5 * (t[i] - centroids[k]).square().sum()
    torch.testing.assert_close(head(features), expected)
    torch.testing.assert_close(head.class_vectors(), centroids)
    log_p = expected.log_softmax(1)
    loss = -sum(float(log_p[i, int(labels[i])]) for i in range(20)) / 20
    assert head.loss(head.embed(features), labels).item() == pytest.approx(loss)


def test_two_classes_in_the_plane(problem: Build) -> None:
    head = NCM(problem(width=2, classes=2))
    features = torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 3.0]])
    head.prepare(features, torch.tensor([0, 0, 1]), PSC(problem(width=2, classes=2)))
    assert head.centroids.tolist() == [[1.0, 0.0], [0.0, 3.0]]
    torch.testing.assert_close(head(torch.tensor([[1.0, 1.0]])), torch.tensor([[-0.5, -2.5]]))


def test_centroids_of_normalised_features_are_not_normalised_again(problem: Build) -> None:
    head = NCM(problem(width=2, classes=2), transform="l2n")
    features = torch.tensor([[5.0, 0.0], [0.0, 7.0], [0.0, 3.0]])
    head.prepare(features, torch.tensor([0, 0, 1]), PSC(problem(width=2, classes=2)))
    torch.testing.assert_close(head.centroids, torch.tensor([[0.5, 0.5], [0.0, 1.0]]))


def test_declares_its_needs(problem: Build) -> None:
    assert NCM.needs(transform="cl2n") == Needs(frozen=True, trains=False)
    assert list(NCM(problem()).parameters()) == []


def test_state_round_trip(problem: Build) -> None:
    features = torch.randn(20, 8, generator=torch.Generator().manual_seed(0))
    head = NCM(problem(), transform="cl2n")
    head.prepare(features, torch.arange(20) % 4, PSC(problem()))
    other = NCM(problem(seed=9), transform="cl2n")
    other.load_state_dict(head.state_dict())
    assert torch.equal(head(features), other(features))


def test_bad_values(problem: Build) -> None:
    with pytest.raises(ValueError, match="Did you mean 'cl2n'"):
        NCM(problem(), transform="cl2")
