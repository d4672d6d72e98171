"""Orthonormal frames: shadows against loops, numbers by hand, and the way back after a step."""

import math

import pytest
import torch
from torch import Tensor

from heads.base import Clock
from heads.goto import Goto

NOW = Clock(0, 0, 5, 10)


def noise(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator)


def loss_by_hand(x: Tensor, y: Tensor, frames: Tensor, scale: float) -> float:
    """The displayed equations, one example, one class and one column at a time."""
    total = 0.0
    for row, label in zip(x, y.tolist(), strict=True):
        u = row / row.norm()
        scores = []
        for frame in frames:
            squares = [float(u @ frame[:, j]) ** 2 for j in range(frame.shape[1])]
            scores.append(scale * math.sqrt(sum(squares)))
        total += math.log(sum(math.exp(s) for s in scores)) - scores[label]
    return total / len(y)


@pytest.mark.parametrize("columns", [1, 3])
def test_naive_twin(problem, columns):
    head = Goto(problem(classes=5), dim=6, columns=columns, scale=4).double()
    features, labels = noise(7, 8), torch.tensor([0, 4, 4, 2, 1, 3, 0])
    expected = loss_by_hand(head.projection(features).detach(), labels, head.frames.detach(), 4)
    assert head.loss(head.embed(features), labels).item() == pytest.approx(expected, abs=1e-12)


def test_a_line_and_a_line_in_the_plane(problem):
    head = Goto(problem(width=2, classes=2), columns=1, scale=10)
    with torch.no_grad():
        head.frames.copy_(torch.tensor([[[1.0], [0.0]], [[0.6], [0.8]]]))
    h = head.embed(torch.tensor([[0.0, 5.0], [0.0, -5.0]]))
    torch.testing.assert_close(head.score(h), torch.tensor([[0.0, 8.0], [0.0, 8.0]]))
    # −log softmax: log(1 + e⁸) for the line across, log(1 + e⁻⁸) for the other
    expected = (math.log1p(math.exp(8)) + math.log1p(math.exp(-8))) / 2
    loss = head.loss(h.requires_grad_(), torch.tensor([0, 1]))
    assert loss.item() == pytest.approx(expected)
    loss.backward()
    assert head.frames.grad.isfinite().all()  # also where the shadow has no length


def test_frames_are_orthonormal_before_and_after_each_step(problem):
    head = Goto(problem(classes=5))
    identity = torch.eye(4).expand(5, 4, 4)
    torch.testing.assert_close(head.frames.mT @ head.frames, identity)
    with torch.no_grad():
        head.frames.add_(noise(5, 8, 4).float())
    moved = head.frames.detach().clone()
    head.after_step(torch.zeros(1, 8), torch.zeros(1).long(), NOW)
    torch.testing.assert_close(head.frames.mT @ head.frames, identity)
    assert head.frames.requires_grad and head.frames.is_leaf
    # Each spans what it spanned: the projection on the new frame leaves the moved columns alone.
    torch.testing.assert_close(head.frames @ (head.frames.mT @ moved), moved)


def test_the_way_back_follows_gram_and_schmidt(problem):
    head = Goto(problem(width=3, classes=2), columns=2)
    with torch.no_grad():
        head.frames.copy_(torch.tensor([[3.0, 1.0], [4.0, 2.0], [0.0, -2.0]]).expand(2, 3, 2))
    head.after_step(torch.zeros(1, 3), torch.zeros(1).long(), NOW)
    # (3, 4, 0) / 5; (1, 2, −2) less 2.2 of it is (−.32, .24, −2), of length 2.04
    first, second = head.frames[0].T
    torch.testing.assert_close(first, torch.tensor([0.6, 0.8, 0.0]))
    length = math.sqrt(0.32**2 + 0.24**2 + 4)
    torch.testing.assert_close(second, torch.tensor([-0.32, 0.24, -2.0]) / length)


def test_a_small_step_stays_small_under_sgd(problem):
    """No column turns round: the momentum of SGD still means what it meant."""
    head = Goto(problem(classes=3))
    sgd = torch.optim.SGD(head.parameters(), lr=0.01, momentum=0.9)
    features, labels = noise(9, 8).float(), torch.arange(9) % 3
    losses = []
    for _ in range(20):
        before = head.frames.detach().clone()
        loss = head.loss(head.embed(features), labels)
        sgd.zero_grad()
        loss.backward()
        sgd.step()
        stepped = head.frames.detach().clone()
        head.after_step(features, labels, NOW)
        assert (head.frames - before).norm() < 2 * (stepped - before).norm() + 1e-5
        losses.append(loss.item())
    assert losses[-1] < losses[0]


def test_only_the_span_counts(problem):
    head = Goto(problem(classes=3)).double()
    h = head.embed(noise(5, 8))
    before = head.score(h).detach()
    turn, _ = torch.linalg.qr(noise(3, 4, 4, seed=2))
    with torch.no_grad():
        head.frames.copy_(head.frames @ turn)
    torch.testing.assert_close(head.score(h), before)


def test_it_says_that_it_is_an_interpretation():
    assert "not published" in Goto.interpretation


def test_bad_values(problem):
    for columns in (0, 8):
        with pytest.raises(ValueError, match=f"got {columns} columns in dim 8"):
            Goto(problem(), columns=columns)
    with pytest.raises(ValueError, match="goto needs a positive scale, got 0"):
        Goto(problem(), scale=0)
