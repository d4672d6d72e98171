"""Prototypes against loops, numbers worked by hand, and the corrected theorem of the paper."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from heads.base import Needs, Problem, Rate
from heads.ncm import NCM
from heads.prototypes import Prototypes
from heads.psc import PSC

Build = Callable[..., Problem]
COUNTS = (500, 60, 7, 1)
KINDS = [
    (distance, temperatures, form)
    for distance in ("euclidean", "squared", "cosine")
    for temperatures, form in ((False, "released"), (True, "released"), (True, "paper"))
]


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def built(problem: Problem, **options: object) -> Prototypes:
    """A head in double precision, its prototypes and temperatures anywhere."""
    head = Prototypes(problem, **options).double()  # type: ignore[arg-type]
    with torch.no_grad():
        head.prototypes.copy_(draw(*head.prototypes.shape, seed=1))
        if head.temperatures is not None:
            head.temperatures.copy_(0.5 + draw(problem.width, seed=2).abs())
    return head


def distance_by_hand(z: Tensor, c: Tensor, head: Prototypes) -> float:
    """The displayed equations, one channel at a time."""
    square = dot = left = right = 0.0
    for j in range(len(z)):
        t = 1.0 if head.temperatures is None else float(head.temperatures[j].detach())
        weight = 1 / t if head.form == "paper" else 1 / t**2
        square += weight * float(z[j] - c[j]) ** 2
        dot += weight * float(z[j] * c[j])
        left += weight * float(z[j]) ** 2
        right += weight * float(c[j]) ** 2
    if head.distance == "cosine":
        return 1 - dot / math.sqrt(left * right)
    return math.sqrt(square) if head.distance == "euclidean" else square


@pytest.mark.parametrize(("distance", "temperatures", "form"), KINDS)
def test_naive_twin(problem: Build, distance: str, temperatures: bool, form: str) -> None:
    own = replace(problem(), counts=torch.tensor(COUNTS))
    head = built(own, distance=distance, temperatures=temperatures, form=form, adjust=0.3)
    z, labels = draw(6, 8), torch.tensor([0, 1, 2, 3, 3, 0])
    total = 0.0
    for i in range(6):
        row = [-0.5 * distance_by_hand(z[i], head.prototypes[k].detach(), head) for k in range(4)]
        # The prior belongs to training: it is in the loss and not in the score.
        assert head(z)[i].tolist() == pytest.approx(row)
        adjusted = [s + 0.3 * math.log(n) for s, n in zip(row, COUNTS, strict=True)]
        y = int(labels[i])
        total -= adjusted[y] - math.log(sum(math.exp(s) for s in adjusted))
    assert head.loss(z, labels).item() == pytest.approx(total / 6)


def test_two_classes_in_the_plane(problem: Build) -> None:
    own = replace(problem(width=2, classes=2), counts=torch.tensor([81, 1]))
    features = torch.tensor([[0.0, 0.0], [6.0, 0.0], [0.0, 8.0]])
    z = torch.tensor([[0.0, 4.0]])
    for options, expected in [
        ({"temperatures": False}, [[-2.5, -2.0]]),
        ({"distance": "squared"}, [[-12.5, -8.0]]),
        ({"distance": "cosine"}, [[-0.5, 0.0]]),
        ({"distance": "cosine", "scale": 16.0}, [[-16.0, 0.0]]),
        ({"adjust": 0.5}, [[-2.5, -2.0]]),
    ]:
        head = Prototypes(own, **options)  # type: ignore[arg-type]
        head.prepare(features, torch.tensor([0, 0, 1]), PSC(own))
        assert head.prototypes.tolist() == [[3.0, 0.0], [0.0, 8.0]]
        torch.testing.assert_close(head(z), torch.tensor(expected))
    # ½ log 81 = log 9 on class 0: −log softmax of (−2.5 + log 9, −2) at 1.
    loss = math.log(1 + 9 * math.exp(-0.5))
    assert head.loss(z, torch.tensor([1])).item() == pytest.approx(loss)


def test_temperatures_by_hand(problem: Build) -> None:
    own = problem(width=2, classes=2)
    for form, expected in (
        ("released", math.sqrt((3 / 2) ** 2 + (4 / 4) ** 2) / 2),
        ("paper", math.sqrt(9 / 2 + 16 / 4) / 2),
    ):
        head = Prototypes(own, form=form)
        assert head.temperatures is not None
        with torch.no_grad():
            head.temperatures.copy_(torch.tensor([2.0, 4.0]))
        assert head(torch.tensor([[3.0, 4.0]]))[0, 0].item() == pytest.approx(-expected)
        # Only the size of a temperature counts, and it never falls to 0.
        with torch.no_grad():
            positive = head(torch.ones(1, 2))
            head.temperatures.neg_()
            assert torch.equal(head(torch.ones(1, 2)), positive)
            head.temperatures.zero_()
        assert head(torch.ones(1, 2)).isfinite().all()


@pytest.mark.parametrize("far", [1.0, 1000.0])
def test_gradients_have_the_norms_of_the_corrected_theorem(problem: Build, far: float) -> None:
    head = built(problem(), temperatures=False, adjust=0.0)
    with torch.no_grad():
        head.prototypes.mul_(0.1)
    z, label = far * draw(1, 8), torch.tensor([2])
    head.loss(z, label).backward()
    p = head(z).softmax(1)[0].detach()
    gradient = head.prototypes.grad
    assert gradient is not None
    for k in range(4):
        norm = (1 - p[k]) / 2 if k == 2 else p[k] / 2
        towards = (z[0] - head.prototypes[k]).detach()
        towards = towards / towards.norm()
        # Descent goes to the sample for its own class, and away from it for the others.
        assert torch.allclose(-gradient[k], norm * towards * (1 if k == 2 else -1), rtol=1e-6)


def test_squared_gradients_grow_with_the_distance(problem: Build) -> None:
    head = built(problem(), distance="squared", temperatures=False, adjust=0.0)
    with torch.no_grad():
        head.prototypes.mul_(0.01)
    z = draw(1, 8)
    head.loss(z, torch.tensor([2])).backward()
    p = head(z).softmax(1)[0].detach()
    gradient = head.prototypes.grad
    assert gradient is not None
    torch.testing.assert_close(gradient[2], -(1 - p[2]) * (z[0] - head.prototypes[2].detach()))


def direct(z: Tensor, c: Tensor, stretch: Tensor) -> Tensor:
    """The definition, with (batch, classes, dim) laid out."""
    return -0.5 * ((z[:, None] - c[None]) * stretch).square().sum(-1).sqrt()


def test_lengths_and_products_give_the_distances(problem: Build) -> None:
    # In float32, and far from the origin, as features after a ReLU are.
    own = problem(width=64, classes=20)
    head = Prototypes(own)
    with torch.no_grad():
        head.prototypes.copy_(30 + draw(20, 64, seed=1).float())
    z, labels = 30 + draw(50, 64).float(), torch.arange(50) % 20
    assert head.temperatures is not None
    exact = direct(z.double(), head.prototypes.double(), 1 / head.temperatures.double())
    torch.testing.assert_close(head(z).double(), exact, rtol=3e-6, atol=0.0)
    head.loss(z, labels).backward()
    wanted = torch.autograd.grad(
        torch.nn.functional.cross_entropy(exact, labels), [head.prototypes, head.temperatures]
    )
    for own_gradient, gradient in zip(
        (head.prototypes.grad, head.temperatures.grad), wanted, strict=True
    ):
        torch.testing.assert_close(own_gradient, gradient, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("size", [1e-3, 1.0, 1e3])
def test_a_sample_at_its_prototype(problem: Build, size: float) -> None:
    """A class with one example starts there: distance 0, no NaN, and no gradient of its own."""
    own = problem()
    features = size * (5 + draw(4, 8)).float()
    head = Prototypes(own, adjust=0.0)
    head.prepare(features, torch.arange(4), PSC(own))
    assert torch.equal(head.prototypes, features)
    head.loss(features[:1], torch.tensor([0])).backward()
    gradient = head.prototypes.grad
    assert gradient is not None and gradient.isfinite().all()
    assert not gradient[0].any()
    assert all(float(row.norm()) <= 0.5 for row in gradient[1:])
    assert gradient[1:].any() == (size <= 1)  # far from all others nothing pushes
    assert bool((head(features).diagonal() > -1e-2 * size).all())
    assert all(p.grad.isfinite().all() for p in head.parameters() if p.grad is not None)


def test_starts_as_the_nearest_class_mean(problem: Build) -> None:
    own = problem()
    features, labels = draw(30, 8).float(), torch.arange(30) % 4
    ncm = NCM(own)
    ncm.prepare(features, labels, PSC(own))
    for distance in ("euclidean", "squared"):
        head = Prototypes(own, distance=distance)
        head.prepare(features, labels, PSC(own))
        torch.testing.assert_close(head.class_vectors(), ncm.centroids)
        z = draw(200, 8, seed=3).float()
        assert torch.equal(head(z).argmax(1), ncm(z).argmax(1))


def test_classes_without_examples(problem: Build) -> None:
    own = replace(problem(), counts=torch.tensor([5, 0, 1, 0]))
    features = (2 + draw(6, 8)).float()
    head = Prototypes(own)
    head.prepare(features, torch.tensor([0, 0, 0, 0, 0, 2]), PSC(own))
    assert not head.prototypes[1].any() and not head.prototypes[3].any()
    head.loss(features, torch.tensor([0, 0, 0, 0, 0, 2])).backward()
    assert all(p.grad.isfinite().all() for p in head.parameters() if p.grad is not None)
    assert all(math.isfinite(value) for value in head.readings().values())


def test_squared_distances_are_a_linear_classifier(problem: Build) -> None:
    head = built(problem(), distance="squared")
    found = head.linear()
    assert found is not None
    z = draw(5, 8)
    difference = z @ found[0].T + found[1] - head(z)
    torch.testing.assert_close(difference, difference[:, :1].expand(-1, 4))
    assert Prototypes(problem()).linear() is None
    assert Prototypes(problem(), distance="cosine").linear() is None


def test_rates(problem: Build) -> None:
    assert Prototypes(problem()).rates() == {
        "prototypes": Rate(4.0, 0.0),
        "temperatures": Rate(0.005, 2e-4),
    }
    plain = Prototypes(problem(), temperatures=False, prototype_lr=4.2)
    assert plain.rates() == {"prototypes": Rate(4.2, 0.0)}
    assert [name for name, _ in plain.named_parameters()] == ["prototypes"]
    assert Prototypes.needs() == Needs(frozen=True)


def test_readings_by_hand(problem: Build) -> None:
    own = replace(problem(width=2, classes=4), counts=torch.tensor([500, 101, 100, 19]))
    head = Prototypes(own)
    with torch.no_grad():
        head.prototypes.copy_(torch.tensor([[3.0, 0.0], [0.0, 4.0], [-3.0, 0.0], [0.0, -4.0]]))
    found = head.readings()
    assert found["distance_many_many"] == pytest.approx(5.0)
    assert found["cosine_many_many"] == pytest.approx(0.0)
    assert found["distance_many_few"] == pytest.approx((5 + 8) / 2)
    assert found["cosine_many_few"] == pytest.approx(-0.5)
    assert found["distance_all"] == pytest.approx((4 * 5 + 6 + 8) / 6)
    assert found["cosine_all"] == pytest.approx(-2 / 6)
    assert "distance_few_few" not in found  # one such class makes no pair
    assert found["temperature_min"] == found["temperature_max"] == 1.0


def test_bad_values(problem: Build) -> None:
    with pytest.raises(ValueError, match="Did you mean 'squared'"):
        Prototypes(problem(), distance="square")
    with pytest.raises(ValueError, match="unknown form 'code'"):
        Prototypes(problem(), form="code")
    with pytest.raises(ValueError, match="Set `distance: cosine`, or leave the scale out"):
        Prototypes(problem(), scale=16)
    with pytest.raises(ValueError, match="positive scale, got 0"):
        Prototypes(problem(), distance="cosine", scale=0)
    with pytest.raises(ValueError, match="no form without temperatures, got 'paper'"):
        Prototypes(problem(), temperatures=False, form="paper")
    with pytest.raises(ValueError, match="got -1. Set `adjust: 0.25`"):
        Prototypes(problem(), adjust=-1)
