"""Deep nearest centroids: scores and clustering against loops, numbers by hand, and the times."""

import math

import pytest
import torch
from torch import Tensor

from heads.base import Clock, Sweep
from heads.dnc import DNC, sinkhorn


def noise(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator)


def later(steps: int = 5) -> Clock:
    return Clock(step=steps, epoch=1, steps_per_epoch=steps, epochs=10)


def normed_by_hand(row: list[float]) -> list[float]:
    mean = sum(row) / len(row)
    variance = sum((x - mean) ** 2 for x in row) / len(row)
    return [(x - mean) / math.sqrt(variance + 1e-5) for x in row]


def unit_by_hand(row: list[float]) -> list[float]:
    length = math.sqrt(sum(x * x for x in row))
    return [x / length for x in row]


def dot(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def scores_by_hand(u: list[float], centroids: list[list[list[float]]]) -> list[float]:
    return normed_by_hand([max(dot(u, p) for p in own) for own in centroids])


def sinkhorn_by_hand(cosines: list[list[float]]) -> list[list[float]]:
    """Three rounds: each cluster the same mass, then each example mass 1."""
    q = [[math.exp(c / 0.05) for c in row] for row in cosines]
    for _ in range(3):
        masses = [sum(row[j] for row in q) for j in range(len(q[0]))]
        q = [[x / m for x, m in zip(row, masses, strict=True)] for row in q]
        q = [[x / sum(row) for x in row] for row in q]
    return q


def clustered_by_hand(
    embedding: list[list[float]],
    labels: list[int],
    centroids: list[list[list[float]]],
    share: float,
) -> list[list[list[float]]]:
    """The displayed equations, one class, one sub-centroid and one example at a time."""
    after = []
    for k, own in enumerate(centroids):
        members = [u for u, y in zip(embedding, labels, strict=True) if y == k]
        plan = sinkhorn_by_hand([[dot(u, p) for p in own] for u in members])
        moved = []
        for j, p in enumerate(own):
            total = [0.0] * len(p)
            for u, row in zip(members, plan, strict=True):
                scores = scores_by_hand(u, centroids)
                if scores.index(max(scores)) == k and row.index(max(row)) == j:
                    total = [a + b for a, b in zip(total, u, strict=True)]
            if any(total):
                f = unit_by_hand(total)
                p = unit_by_hand([share * a + (1 - share) * b for a, b in zip(p, f, strict=True)])
            moved.append(p)
        after.append(moved)
    return after


def test_naive_twin_of_the_loss(problem):
    head = DNC(problem(classes=5), dim=6, subcentroids=3).double()
    features, labels = noise(7, 8), torch.tensor([0, 4, 4, 2, 1, 3, 0])
    total = 0.0
    for x, y in zip(head.projection(features).tolist(), labels.tolist(), strict=True):
        scores = scores_by_hand(unit_by_hand(normed_by_hand(x)), head.subcentroids.tolist())
        total += math.log(sum(math.exp(s) for s in scores)) - scores[y]
    assert head.loss(head.embed(features), labels).item() == pytest.approx(total / 7, abs=1e-7)


def test_naive_twin_of_the_clustering(problem):
    head = DNC(problem(classes=4), subcentroids=3, momentum=0.9).double()
    features, labels = noise(60, 8), torch.arange(60) % 4
    labels[:8] = 0  # classes of several sizes
    u = head.embed(features).detach()
    scores = head.score(u).detach()
    assert 5 < int((scores.argmax(1) == labels).sum()) < 55  # some right, some wrong
    expected = clustered_by_hand(u.tolist(), labels.tolist(), head.subcentroids.tolist(), 0.9**5)
    before = head.subcentroids.clone()
    head.begin_epoch(later(5), Sweep(features, labels))
    torch.testing.assert_close(head.subcentroids, torch.tensor(expected, dtype=torch.float64))
    assert not torch.allclose(head.subcentroids, before)
    assert not head.subcentroids.requires_grad


def test_shared_out_equally_though_all_are_near_one_centroid():
    cosines = torch.tensor([[0.9, 0.1], [0.8, 0.1], [0.7, 0.1], [0.6, 0.1]])
    assert cosines.argmax(1).tolist() == [0, 0, 0, 0]
    plan = sinkhorn(cosines)
    torch.testing.assert_close(plan, torch.tensor(sinkhorn_by_hand(cosines.tolist())))
    assert plan.argmax(1).tolist() == [0, 0, 1, 1]
    torch.testing.assert_close(plan.sum(1), torch.ones(4))


def test_two_classes_in_the_plane(problem):
    """Scores are normalised over two classes; the nearest of two centroids counts."""
    head = DNC(problem(width=2, classes=2), subcentroids=2, momentum=0.5)
    other = [[-0.6, -0.8], [-0.8, -0.6]]
    head.subcentroids.copy_(torch.tensor([[[1.0, 0.0], [0.0, 1.0]], other]))
    u = torch.tensor([[0.6, 0.8], [0.6, -0.8]])
    scores = head.score(u)  # of the cosines (.8, −.96) and (.6, .28)
    torch.testing.assert_close(scores[0], torch.tensor([1.0, -1.0]), atol=1e-4, rtol=0)
    gap = 0.16 / math.sqrt(0.16**2 + 1e-5)
    torch.testing.assert_close(scores[1], torch.tensor([gap, -gap]))
    loss = head.loss(u[1:], torch.tensor([1])).item()
    assert loss == pytest.approx(math.log1p(math.exp(2 * gap)))

    # LayerNorm and the sphere leave (1, −1)/√2 or (−1, 1)/√2 of any two numbers.
    features = torch.tensor([[5.0, 1.0], [4.0, 9.0]])
    half = math.sqrt(0.5) * torch.tensor([[1.0, -1.0], [-1.0, 1.0]])
    torch.testing.assert_close(head.embed(features), half)
    # Both are of class 0, one for each of its centroids, 45 degrees off; half way they meet.
    head.begin_epoch(Clock(1, 1, 1, 2), Sweep(features, torch.tensor([0, 0])))
    c, s = math.cos(math.pi / 8), math.sin(math.pi / 8)
    expected = torch.tensor([[[c, -s], [-s, c]], other])
    torch.testing.assert_close(head.subcentroids, expected, atol=1e-5, rtol=0)


def test_only_the_rightly_classified_count(problem):
    head = DNC(problem(classes=2), subcentroids=1).double()
    features = noise(40, 8)
    wrong = 1 - head(features).argmax(1)
    before = head.subcentroids.clone()
    head.begin_epoch(later(), Sweep(features, wrong))
    assert torch.equal(head.subcentroids, before)
    head.begin_epoch(later(), Sweep(features, 1 - wrong))
    assert not torch.allclose(head.subcentroids, before)


def test_blends_for_the_steps_of_the_epoch_and_not_before_the_first(problem):
    sweep = Sweep(noise(40, 8), torch.arange(40) % 2)

    def moved(clock: Clock, momentum: float = 0.999) -> float:
        head = DNC(problem(classes=2), momentum=momentum).double()
        before = head.subcentroids.clone()
        head.begin_epoch(clock, sweep)
        return float((head.subcentroids - before).norm())

    assert moved(Clock(0, 0, 100, 10)) == 0
    assert 0 < moved(later(1)) < 0.01 < moved(later(1000))
    assert moved(later(500), 0.999) == pytest.approx(moved(later(1), 0.999**500))


def test_a_class_without_images_stays(problem):
    head = DNC(problem(classes=3))
    before = head.subcentroids.clone()
    head.begin_epoch(later(), Sweep(noise(20, 8).float(), torch.arange(20) % 2))
    assert torch.equal(head.subcentroids[2], before[2]) and head.subcentroids.isfinite().all()


def test_it_finds_the_heaps_of_a_class(problem):
    """Two classes of two far heaps each: every heap gets a sub-centroid of its own."""
    centres = torch.tensor([[1.0, 1, 0, 0], [0, 0, 1, 1], [1, 0, 1, 0], [0, 1, 0, 1]]) - 0.5
    features = (4 * centres).repeat_interleave(20, 0) + 0.1 * noise(80, 4).float()
    labels = torch.arange(2).repeat_interleave(40)
    head = DNC(problem(width=4, classes=2), subcentroids=2, momentum=0.5)
    head.subcentroids.copy_(torch.nn.functional.normalize(centres.view(2, 2, 4) + 0.3, dim=2))
    for _ in range(20):
        head.begin_epoch(later(), Sweep(features, labels))
    torch.testing.assert_close(head.subcentroids, centres.view(2, 2, 4), atol=0.05, rtol=0)


def test_readings(problem):
    head = DNC(problem(classes=2), dim=2, subcentroids=2)
    assert DNC(problem(), subcentroids=1).readings() == {}
    head.subcentroids.copy_(torch.tensor([[[1.0, 0.0], [0.6, 0.8]], [[0.0, 1.0], [0.8, 0.6]]]))
    assert head.readings() == {"siblings": pytest.approx(0.6)}


def test_it_asks_for_a_sweep_and_bears_mixup():
    assert DNC.needs().sweep and DNC.needs().mixup


def test_bad_values(problem):
    with pytest.raises(ValueError, match="at least 1 sub-centroid per class, got 0"):
        DNC(problem(), subcentroids=0)
    for momentum in (-0.1, 1.0):
        with pytest.raises(ValueError, match=r"dnc needs momentum in \[0, 1\)"):
            DNC(problem(), momentum=momentum)
