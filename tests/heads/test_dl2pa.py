"""Dynamic assignment: loss, means, matching and the times at which it happens."""

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from itertools import permutations

import pytest
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from heads import dl2pa, matching
from heads.base import Clock, Needs, Problem
from heads.dl2pa import DL2PA
from heads.geometry import blend_by_class, unit

Build = Callable[..., Problem]


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def loss_by_hand(z: Tensor, y: Tensor, w: Tensor, a: Tensor) -> float:
    """Equation 6 with the weights of the released code, one example at a time."""
    labels = y.tolist()
    total = 0.0
    for row, k in zip(z, labels, strict=True):
        weight = len(labels) / len(set(labels)) / labels.count(k)
        total += weight * 0.5 * (float(row @ w[int(a[k])]) - 1) ** 2
    return total / len(labels)


def test_naive_twin(problem: Build) -> None:
    head = DL2PA(problem(classes=6), dim=3).double()
    z = head.embed(noise(9, 8, seed=1).double()).detach()
    labels = torch.tensor([0, 0, 0, 0, 5, 5, 3, 0, 1])
    expected = loss_by_hand(z, labels, head.prototypes, head.assignment)
    assert head.loss(z, labels).item() == pytest.approx(expected, abs=1e-12)
    summed = DL2PA(problem(classes=6), dim=3, reduction="sum").double()
    assert summed.loss(z, labels).item() == pytest.approx(18 * expected, abs=1e-10)


def test_two_classes_in_the_plane(problem: Build) -> None:
    head = DL2PA(problem(width=2, classes=2), batch_norm=False)
    head.assignment.copy_(torch.tensor([1, 0]))
    assert head.class_vectors().tolist() == [[-1.0, 0.0], [1.0, 0.0]]
    z = head.embed(torch.tensor([[3.0, 4.0], [-3.0, 4.0]]))
    labels = torch.tensor([0, 1])
    torch.testing.assert_close(head.score(z), torch.tensor([[-0.6, 0.6], [0.6, -0.6]]))
    # Both are wrong by (1 + .6)² = 2.56, halved.
    assert head.loss(z, labels).item() == pytest.approx(1.28)
    # One step of two, then the epoch ends: the means say that the classes should change places.
    head.after_step(z, labels, Clock(step=0, epoch=0, steps_per_epoch=1, epochs=2))
    torch.testing.assert_close(head.means, torch.tensor([[0.6, 0.8], [-0.6, 0.8]]))
    assert head.assignment.tolist() == [1, 0]
    head.begin_epoch(Clock(step=1, epoch=1, steps_per_epoch=1, epochs=2))
    assert head.assignment.tolist() == [0, 1]
    assert head.loss(z, labels).item() == pytest.approx(0.08)
    found = dict(head.readings())
    assert found.pop("assignment_seconds") > 0
    assert found == pytest.approx({"moved": 1.0, "moves": 2.0, "agreement": 0.6})


def test_means_against_loops(problem: Build) -> None:
    head = DL2PA(problem(), momentum=0.8)
    means = [torch.zeros(8) for _ in range(4)]
    for step in range(6):
        z = unit(noise(5, 8, seed=step))
        labels = (noise(5, seed=step + 50).abs() * 1.5).long().clamp_max(2)
        head.after_step(z, labels, Clock(step, 0, steps_per_epoch=100, epochs=1))
        for k in set(labels.tolist()):
            mine = [z[i] for i in range(5) if labels[i] == k]
            mixed = 0.8 * means[k] + 0.2 * torch.stack(mine).sum(0) / len(mine)
            means[k] = mixed / mixed.square().sum().sqrt()
    torch.testing.assert_close(head.means, torch.stack(means))
    assert head.means[3].tolist() == [0.0] * 8


@pytest.mark.parametrize("form", ["paper", "released"])
def test_other_means_against_loops(problem: Build, form: str) -> None:
    head = DL2PA(problem(), momentum=0.8, means=form).double()
    means = [row.clone() for row in head.means]
    for step in range(6):
        z = unit(noise(7, 8, seed=step).double())
        labels = (noise(7, seed=step + 50).abs() * 1.5).long().clamp_max(2).tolist()
        head.after_step(z, torch.tensor(labels), Clock(step, 0, steps_per_epoch=100, epochs=1))
        if form == "paper":
            for row, k in zip(z, labels, strict=True):
                means[k] = 0.8 * means[k] + 0.2 * row
        else:
            # A dictionary keeps the last of equal keys.
            for k, row in dict(zip(labels, z, strict=True)).items():
                means[k] = 0.8 * means[k] + 0.2 * row
            means = [row / row.square().sum().sqrt() for row in means]
        torch.testing.assert_close(head.means, torch.stack(means), rtol=0, atol=1e-12)
    directions = [row / row.norm() if row.any() else row for row in means]
    pairs = zip(directions, head.class_vectors(), strict=True)
    cosines = [float(q @ w) for q, w in pairs]
    assert head.readings()["agreement"] == pytest.approx(sum(cosines) / 4, abs=1e-12)


def test_paper_means_by_hand(problem: Build) -> None:
    head = DL2PA(problem(width=2, classes=2), momentum=0.5, means="paper")
    z = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    head.after_step(z, torch.tensor([0, 1, 0]), Clock(0, 0, 10, 1))
    # ½ · (½ · 0 + ½ · (1, 0)) + ½ · (0, −1), and ½ · (0, 1)
    assert head.means.tolist() == [[0.25, -0.5], [0.0, 0.5]]


def test_matching_looks_at_directions_not_at_lengths(problem: Build) -> None:
    heads = [DL2PA(problem(), dim=3, means="paper") for _ in range(2)]
    for head, lengths in zip(heads, ([1.0, 1.0, 1.0, 1.0], [9.0, 0.1, 1.0, 0.01]), strict=True):
        head.means.copy_(unit(noise(4, 3, seed=6)) * torch.tensor(lengths)[:, None])
        head.begin_epoch(Clock(step=5, epoch=1, steps_per_epoch=5, epochs=2))
    assert int(heads[0].moves) > 0
    assert torch.equal(heads[0].assignment, heads[1].assignment)


def test_released_rule_is_momentum_95_for_one_example(problem: Build) -> None:
    for form in ("batch", "released"):
        head = DL2PA(problem(), means=form)
        head.means.copy_(unit(noise(4, 8)))
        q, z = head.means[2].clone(), unit(noise(1, 8, seed=1))
        head.after_step(z, torch.tensor([2]), Clock(0, 0, 10, 1))
        torch.testing.assert_close(head.means[2], unit(1.9 * q + 0.1 * z[0]))


@pytest.mark.parametrize("seed", range(5))
def test_matching_is_the_best_of_all_permutations(problem: Build, seed: int) -> None:
    head = DL2PA(problem(seed=seed), dim=3)
    head.means.copy_(unit(noise(4, 3, seed=seed)))
    head.begin_epoch(Clock(step=5, epoch=1, steps_per_epoch=5, epochs=2))

    def gain(order: tuple[int, ...]) -> float:
        return sum(float(head.means[k] @ head.prototypes[order[k]]) for k in range(4))

    assert tuple(head.assignment.tolist()) == max(permutations(range(4)), key=gain)


def test_a_class_not_yet_seen_stays(problem: Build) -> None:
    head = DL2PA(problem(classes=8))
    head.assignment.copy_(torch.arange(8))
    head.means[0] = head.prototypes[1]
    head.means[1] = head.prototypes[0]
    head.begin_epoch(Clock(step=5, epoch=1, steps_per_epoch=5, epochs=2))
    assert head.assignment.tolist() == [1, 0, 2, 3, 4, 5, 6, 7]
    assert head.readings()["moved"] == 0.25


@pytest.mark.parametrize("seed", range(3))
def test_released_means_start_random_and_give_the_first_assignment(
    problem: Build, seed: int
) -> None:
    head = DL2PA(problem(seed=seed), dim=3, means="released")
    assert head.means.norm(dim=1).std() > 0.01  # not on the sphere before the first step

    def gain(order: tuple[int, ...]) -> float:
        return sum(float(unit(head.means[k]) @ head.prototypes[order[k]]) for k in range(4))

    assert tuple(head.assignment.tolist()) == max(permutations(range(4)), key=gain)
    # What has not been seen keeps its random direction, on the sphere with the others.
    before = unit(head.means)
    head.after_step(unit(noise(2, 3)), torch.tensor([1, 1]), Clock(0, 0, 10, 1))
    torch.testing.assert_close(head.means[[0, 2, 3]], before[[0, 2, 3]])
    torch.testing.assert_close(head.means.norm(dim=1), torch.ones(4))


@pytest.mark.parametrize("form", ["batch", "released", "paper"])
def test_start_identity(problem: Build, form: str) -> None:
    head = DL2PA(problem(classes=8), means=form, start="identity")
    assert head.assignment.tolist() == list(range(8))
    assert torch.equal(head.class_vectors(), head.prototypes)
    assert DL2PA(problem(classes=8), means=form).assignment.tolist() != list(range(8))


def test_options_at_one_seed_share_what_they_have_in_common(problem: Build) -> None:
    plain = DL2PA(problem(), dim=3)
    for hyper in ({"prototypes": "random"}, {"means": "paper"}, {"start": "identity"}):
        other = DL2PA(problem(), dim=3, **hyper)  # type: ignore[arg-type]
        assert torch.equal(other.projection.weight, plain.projection.weight)
        assert torch.equal(other.assignment, plain.assignment) == ("start" not in hyper)
    random = DL2PA(problem(), dim=3, prototypes="random", means="released")
    assert torch.equal(random.prototypes, DL2PA(problem(), dim=3, prototypes="random").prototypes)


def test_each_kind_of_prototypes() -> None:
    asked: list[tuple[int, str]] = []
    kept = unit(noise(4, 3))

    def points(dim: int, objective: str = "energy") -> Tensor:
        asked.append((dim, objective))
        return kept

    source = 5 * noise(4, 3, seed=2)
    given = Problem(
        width=8, counts=torch.ones(4).long(), seed=0, points=points, source=source.clone()
    )
    heads = {
        kind: DL2PA(given, dim=3, prototypes=kind)
        for kind in ("spread", "released", "etf", "random", "psc")
    }
    assert asked == [(3, "energy"), (3, "energy_released")]
    for head in heads.values():
        assert head.prototypes.dtype == torch.float32
        torch.testing.assert_close(head.prototypes.norm(dim=1), torch.ones(4))
    heads["spread"].prototypes.zero_()
    assert kept.any()
    cosines = heads["etf"].prototypes @ heads["etf"].prototypes.T
    torch.testing.assert_close(cosines, 4 / 3 * torch.eye(4) - 1 / 3)
    by_hand = [[x / sum(v * v for v in row) ** 0.5 for x in row] for row in source.tolist()]
    torch.testing.assert_close(heads["psc"].prototypes, torch.tensor(by_hand))
    heads["psc"].prototypes.zero_()
    assert given.source is not None and torch.equal(given.source, source)
    elsewhere = DL2PA(replace(given, seed=1), dim=3, prototypes="random")
    assert not torch.equal(elsewhere.prototypes, heads["random"].prototypes)


def test_random_prototypes_favour_no_direction(problem: Build) -> None:
    places = DL2PA(problem(classes=4000), prototypes="random").prototypes
    # Uniform on the sphere of 8 dimensions: mean 0, second moments 1/8.
    assert places.mean(0).abs().max() < 0.03
    torch.testing.assert_close(places.T @ places / 4000, torch.eye(8) / 8, atol=0.01, rtol=0)


def test_needs_a_psc_only_for_its_class_vectors() -> None:
    assert DL2PA.needs() == DL2PA.needs(prototypes="etf", dim=3) == Needs()
    assert DL2PA.needs(prototypes="psc").source == ("psc", {})
    hyper = {"prototypes": "psc", "dim": 3, "projection": "always", "momentum": 0.9}
    assert DL2PA.needs(**hyper).source == ("psc", {"dim": 3, "projection": "always"})
    assert DL2PA.needs(**hyper) == Needs(source=DL2PA.needs(**hyper).source)


def test_bad_prototypes(problem: Build) -> None:
    with pytest.raises(ValueError, match="got dim 2 for 4 classes. Set `dim: 3`"):
        DL2PA(problem(), dim=2, prototypes="etf")
    with pytest.raises(ValueError, match=r"psc', \(4, 8\), got None. Train that psc first"):
        DL2PA(problem(), prototypes="psc")
    other = replace(problem(), source=torch.ones(4, 5))
    with pytest.raises(ValueError, match=r"\(4, 8\), got \(4, 5\)"):
        DL2PA(other, prototypes="psc")


def test_seconds_cover_the_matching_and_are_no_state(
    problem: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = DL2PA(problem())
    assert "assignment_seconds" not in head.readings()
    now = [0.0]
    match = dl2pa.match

    def slow(cost: Tensor, present: Tensor, stay: float) -> Tensor:
        now[0] += 2.0 * (1 + len(head.seconds))
        return match(cost, present, stay)

    monkeypatch.setattr(dl2pa, "perf_counter", lambda: now[0])
    monkeypatch.setattr(dl2pa, "match", slow)
    before = set(head.state_dict())
    for epoch in (1, 2):
        now[0] += 100.0
        head.begin_epoch(Clock(epoch * 5, epoch, 5, 3))
    assert head.readings()["assignment_seconds"] == 3.0  # 2 and 4
    assert set(head.state_dict()) == before
    resumed = DL2PA(problem())
    resumed.load_state_dict(head.state_dict())
    assert "assignment_seconds" not in resumed.readings()


@pytest.mark.parametrize("classes", [2, 10, 100, 1000])
@pytest.mark.parametrize("batch", [1, 7, 128])
def test_batch_means_are_those_of_all_classes_to_the_last_bit(classes: int, batch: int) -> None:
    for dim in (2, 10, 64):
        z = unit(noise(batch, dim, seed=dim))
        labels = (noise(batch, seed=batch).abs() * classes / 3).long().clamp_max(classes - 1)
        means = unit(noise(classes, dim, seed=1))
        means[::3] = 0
        expected = blend_by_class(means, z, labels, 0.95)
        dl2pa._blend_batch(means, z, labels, 0.95)
        assert torch.equal(means, expected)


def test_a_step_touches_no_more_numbers_with_more_classes(problem: Build) -> None:
    """Numbers that come out of loss and after_step; the buffers themselves are written in place."""

    class Count(TorchDispatchMode):
        numbers = 0

        def __torch_dispatch__(  # type: ignore[no-untyped-def]
            self, func, types, args=(), kwargs=None
        ):
            out = func(*args, **(kwargs or {}))
            if isinstance(out, Tensor) and not func.__name__.startswith("index_copy_"):
                self.numbers += out.numel()
            return out

    counts = []
    for classes in (20, 2000):
        head = DL2PA(problem(classes=classes), dim=8, prototypes="random")
        z, labels = unit(noise(16, 8)), torch.arange(16) % 5
        with Count() as count:
            head.loss(z, labels)
            head.after_step(z, labels, Clock(0, 0, 100, 1))
        counts.append(count.numbers)
    assert counts[0] == counts[1]


def test_the_assignment_after_many_steps_is_scipys(
    problem: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the classes are many enough for other ways than scipy's."""
    monkeypatch.setattr(matching, "FEW", 2)
    head = DL2PA(problem(classes=300), dim=16, prototypes="random", momentum=0.5)
    for epoch in range(1, 5):
        labels = torch.randperm(300, generator=torch.Generator().manual_seed(epoch))
        z = unit(head.class_vectors()[labels] + noise(300, 16, seed=epoch))
        head.after_step(z, labels, Clock(epoch - 1, epoch - 1, 1, 9))
        gains = (unit(head.means) @ head.prototypes.T).double()
        gains[torch.arange(300), head.assignment] += dl2pa.STAY
        best = torch.as_tensor(linear_sum_assignment(gains.numpy(), maximize=True)[1])
        head.begin_epoch(Clock(epoch, epoch, 1, 9))
        assert torch.equal(head.assignment, best)
    assert int(head.moves) > 300


@pytest.mark.parametrize("steps_per_epoch", [1, 3, 7, 10, 391])
@pytest.mark.parametrize("rate", [0.1, 0.5, 1, 3, 10, 0.29, 1 / 3])
def test_refresh_times_over_a_whole_run(
    problem: Build, monkeypatch: pytest.MonkeyPatch, rate: float, steps_per_epoch: int
) -> None:
    epochs = 31
    head = DL2PA(problem(), updates_per_epoch=rate)
    refreshed: list[tuple[str, int]] = []
    where = ("", 0)
    monkeypatch.setattr(head, "_refresh", lambda: refreshed.append(where))
    z, labels = unit(noise(2, 8)), torch.tensor([0, 1])
    for epoch in range(epochs):
        where = ("begin", epoch * steps_per_epoch)
        head.begin_epoch(Clock(epoch * steps_per_epoch, epoch, steps_per_epoch, epochs))
        for step in range(epoch * steps_per_epoch, (epoch + 1) * steps_per_epoch):
            where = ("after", step)
            head.after_step(z, labels, Clock(step, epoch, steps_per_epoch, epochs))

    exact = Fraction(1, 3) if rate == 1 / 3 else Fraction(str(rate))
    expected = []
    for step in range(epochs * steps_per_epoch - 1):  # the last step has no next epoch
        due = [int(exact * s / steps_per_epoch) for s in (step, step + 1)]
        if due[1] > due[0]:
            at_end = (step + 1) % steps_per_epoch == 0
            expected.append(("begin", step + 1) if at_end else ("after", step))
    assert refreshed == expected
    if rate <= steps_per_epoch and exact.denominator == 1:
        assert len(refreshed) == epochs * exact - 1


def test_evaluation_sees_the_assignment_that_was_trained_on(problem: Build) -> None:
    head = DL2PA(problem())
    for epoch in range(3):
        head.begin_epoch(Clock(epoch * 4, epoch, 4, 3))
        trained_on = head.assignment.clone()
        for step in range(epoch * 4, epoch * 4 + 4):
            z = unit(noise(8, 8, seed=step))
            head.after_step(z, torch.arange(8) % 4, Clock(step, epoch, 4, 3))
            assert torch.equal(head.assignment, trained_on)
    assert int(head.moves) > 0


def test_fixed_never_moves_and_starts_like_dynamic(problem: Build) -> None:
    fixed, dynamic = DL2PA(problem(), assignment="fixed"), DL2PA(problem())
    assert torch.equal(fixed.assignment, dynamic.assignment)
    before = fixed.assignment.clone()
    for step in range(10):
        fixed.begin_epoch(Clock(step, step, 1, 10))
        fixed.after_step(
            unit(noise(8, 8, seed=step)), torch.arange(8) % 4, Clock(step, step, 1, 10)
        )
    assert torch.equal(fixed.assignment, before) and int(fixed.moves) == 0
    assert fixed.means.abs().sum() > 0


def test_order_within_a_batch_is_of_no_account(problem: Build) -> None:
    z, labels = unit(noise(16, 8)), torch.arange(16) % 3
    order = torch.randperm(16, generator=torch.Generator().manual_seed(0))
    heads = [DL2PA(problem(), updates_per_epoch=10) for _ in range(2)]
    for head, index in zip(heads, (torch.arange(16), order), strict=True):
        head.after_step(z[index], labels[index], Clock(0, 0, 2, 1))
    torch.testing.assert_close(heads[0].means, heads[1].means)
    assert torch.equal(heads[0].assignment, heads[1].assignment)


@pytest.mark.parametrize("form", ["released", "paper"])
def test_the_other_means_follow_the_order(problem: Build, form: str) -> None:
    z, labels = unit(noise(16, 8)), torch.arange(16) % 3
    heads = [DL2PA(problem(), means=form) for _ in range(2)]
    for head, index in zip(heads, (torch.arange(16), torch.arange(15, -1, -1)), strict=True):
        head.after_step(z[index], labels[index], Clock(0, 0, 2, 1))
    assert (heads[0].means - heads[1].means).abs().max() > 1e-3


@pytest.mark.parametrize("form", ["batch", "released", "paper"])
def test_state_round_trip_into_another_seed(problem: Build, form: str) -> None:
    head = DL2PA(problem(), dim=3, means=form)
    head.train()
    z = head.embed(noise(16, 8))
    head.after_step(z.detach(), torch.arange(16) % 4, Clock(0, 0, 2, 1))
    other = DL2PA(problem(seed=4), dim=3, means=form)
    other.load_state_dict(head.state_dict())
    features = noise(5, 8, seed=3)
    assert torch.equal(head.eval()(features), other.eval()(features))
    assert head.readings() == other.readings()
    assert head.assignment.dtype == head.double().assignment.dtype == torch.int64


@pytest.mark.parametrize(
    ("hyper", "words"),
    [
        ({"momentum": 1.0}, "momentum in .0, 1., got 1.0"),
        ({"updates_per_epoch": 0.05}, "got 0.05. For no update at all set `assignment: fixed`"),
        ({"updates_per_epoch": 11}, "from 0.1 to 10, got 11"),
        ({"assignment": "dynamc"}, "Did you mean 'dynamic'"),
        ({"reduction": "mean"}, "unknown reduction 'mean'"),
        ({"prototypes": "spred"}, "Did you mean 'spread'"),
        ({"means": "release"}, "Did you mean 'released'"),
        ({"start": "hungarian"}, "Choose one of: random, identity"),
    ],
)
def test_bad_values(problem: Build, hyper: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        DL2PA(problem(), **hyper)  # type: ignore[arg-type]
