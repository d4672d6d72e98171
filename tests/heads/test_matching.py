"""Assignment: scipy's answer in every case, by whichever way."""

from itertools import permutations

import pytest
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from heads import matching, pairs
from heads.matching import match
from heads.pairs import Pairs, Prices

N = 240  # the least for which the cheap pairs are fewer than all


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=generator(seed))


def unit(x: Tensor) -> Tensor:
    return x / x.norm(dim=1, keepdim=True)


def cosines(size: int, dim: int, blur: float, seed: int = 0) -> Tensor:
    """Negative cosines of blurred points with the points."""
    points = unit(noise(size, dim, seed=seed))
    return unit(points + blur * noise(size, dim, seed=seed + 1000) / dim**0.5) @ -points.T


def shuffled(size: int, seed: int = 0) -> Tensor:
    return torch.randperm(size, generator=generator(seed))


def by_scipy(cost: Tensor, present: Tensor, stay: float = 0.0) -> Tensor:
    whole = cost.clone().double()
    whole[torch.arange(len(cost)), present] -= stay
    return torch.as_tensor(linear_sum_assignment(whole.numpy())[1])


@pytest.fixture
def ways(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Small matrices go the way of large ones; which ways were gone, in order."""
    gone: list[str] = []
    monkeypatch.setattr(matching, "FEW", 2)
    monkeypatch.setattr(matching, "CHEAP", 6)

    def watch(module: object, name: str) -> None:
        inner = getattr(module, name)

        def outer(*given: object, **named: object) -> object:
            gone.append(name.strip("_"))
            return inner(*given, **named)

        monkeypatch.setattr(module, name, outer)

    watch(matching, "_match_whole")
    watch(matching, "_unsettled")
    watch(matching, "_cheap")
    watch(Pairs, "match")
    return gone


@pytest.mark.parametrize("size", [1, 2, 3, 5, 100])
def test_few_classes_are_scipys(size: int) -> None:
    cost, present = noise(size, size), shuffled(size)
    assert torch.equal(match(cost, present), by_scipy(cost, present))


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("blur", [0.5, 2.0, 4.0, 9.0])
def test_equals_scipy_where_the_optimum_is_the_only_one(
    ways: list[str], blur: float, seed: int, kind: torch.dtype
) -> None:
    size = N + 37 * seed  # also where the groups do not divide a row
    cost = cosines(size, 24, blur, seed).to(kind)
    best = by_scipy(cost, shuffled(size))
    few = best.clone()
    few[:10] = best[:10].roll(1)
    for present in (best, few, shuffled(size, seed)):
        before = cost.clone()
        assert torch.equal(match(cost, present, 1e-9), by_scipy(cost, present, 1e-9))
        assert torch.equal(cost, before)
    assert "match_whole" not in ways


@pytest.mark.parametrize("seed", range(3))
def test_equals_scipy_on_numbers_of_other_kinds(ways: list[str], seed: int) -> None:
    present = shuffled(N, seed)
    kinds = {
        "normal": noise(N, N, seed=seed),
        "uniform": torch.rand(N, N, generator=generator(seed)),
        "large": 1e20 * noise(N, N, seed=seed),
        "small": 1e-20 * noise(N, N, seed=seed),
        "product": noise(N, 1, seed=seed) * noise(1, N, seed=seed + 1),  # the hardest known
        "skew": noise(N, N, seed=seed).exp().exp().double(),
        "some infinite": noise(N, N, seed=seed).masked_fill(noise(N, N, seed=9) > 1.5, torch.inf),
        "strided": noise(N, 2 * N, seed=seed)[:, ::2],
        "transposed": noise(N, N, seed=seed).T,
    }
    for name, cost in kinds.items():
        assert torch.equal(match(cost, present), by_scipy(cost, present)), name


def test_each_way_is_gone(ways: list[str]) -> None:
    own = torch.arange(N)
    cost = cosines(N, 24, 0.1)
    match(cost, own)
    assert ways == []
    cost[7, 30] = -2.0  # two want the same place, and one is left
    match(cost, own)
    assert ways == ["unsettled", "match"]
    ways.clear()
    match(cosines(N, 24, 9.0), own)
    assert ways[:2] == ["cheap", "match"]
    ways.clear()
    cost = torch.ones(N, N)
    match(cost, own)
    assert ways[-1] == "match_whole"
    ways.clear()
    cost = cosines(N, 24, 9.0)
    cost[[3, 8]] = 0.0  # classes not yet seen: no search where there is a tie
    match(cost, own)
    assert ways == ["match_whole"]


@pytest.mark.parametrize("seed", range(8))
def test_ties_are_scipys_to_break(ways: list[str], seed: int) -> None:
    present = shuffled(N, seed)
    tied = {
        "integers": torch.randint(0, 5, (N, N), generator=generator(seed)).float(),
        "many integers": torch.randint(0, 2000, (N, N), generator=generator(seed)).float(),
        "zero": torch.zeros(N, N),
        "two equal rows": cosines(N, 24, 2.0, seed),
        "two equal places": cosines(N, 24, 2.0, seed),
        "unseen classes": cosines(N, 24, 2.0, seed),
        "twice the same": cosines(N // 2, 24, 1.0, seed).repeat(2, 2),
    }
    tied["two equal rows"][7] = tied["two equal rows"][30]
    tied["two equal places"][:, 7] = tied["two equal places"][:, 30]
    tied["unseen classes"][::5] = 0
    for name, cost in tied.items():
        for stay in (0.0, 1e-9):
            assert torch.equal(match(cost, present, stay), by_scipy(cost, present, stay)), name
    assert "match_whole" in ways


@pytest.mark.parametrize("spread", [1.0, 1e-2, 1e-4])
def test_classes_that_look_alike(ways: list[str], spread: float) -> None:
    """Early in training: all want the same places."""
    points = unit(noise(N, 24))
    cost = unit(noise(1, 24, seed=1) + spread * noise(N, 24, seed=2)) @ -points.T
    for present in (by_scipy(cost, torch.arange(N)), shuffled(N)):
        assert torch.equal(match(cost, present, 1e-9), by_scipy(cost, present, 1e-9))
    assert "match" in ways


def test_scipys_sparse_solver_is_given_whole_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """On others it can go on for ever: 2⁻⁵³ is lost in lowering a price by it (scipy 1.17)."""
    seen: list[Tensor] = []
    solve = pairs.min_weight_full_bipartite_matching

    def watch(matrix: object) -> object:
        seen.append(torch.as_tensor(matrix.data))  # type: ignore[attr-defined]
        return solve(matrix)

    monkeypatch.setattr(pairs, "min_weight_full_bipartite_matching", watch)
    for cost in (noise(30, 30), 1e9 + noise(30, 30).double(), torch.zeros(30, 30)):
        everything(cost, torch.arange(30)).match()
        whole = seen[-1]
        assert torch.equal(whole, whole.round())
        assert 1 <= whole.min() and whole.max() <= pairs.STEPS + 1
    assert len(seen[0].unique()) > 500  # and not to too few of them


@pytest.mark.parametrize("gap", [1e-6, 1e-8, 1e-10, 1e-12, 1e-15])
@pytest.mark.parametrize("blur", [0.1, 2.0, 9.0])
def test_near_ties(ways: list[str], blur: float, gap: float) -> None:
    cost = cosines(N, 24, blur).double()
    cost[7] = cost[30]
    best = by_scipy(cost, torch.arange(N))
    # To exchange rows 7 and 30 is now better by the gap, or worse.
    for sign in (-1, 1):
        near = cost.clone()
        near[7, best[7]] += sign * gap
        for present in (best, shuffled(N)):
            assert torch.equal(match(near, present), by_scipy(near, present))


def test_the_present_place_breaks_a_tie(ways: list[str]) -> None:
    cost = cosines(N, 24, 2.0)
    cost[:, 7] = cost[:, 30]
    for present in (by_scipy(cost, torch.arange(N)), shuffled(N)):
        swapped = torch.where(present == 7, 30, torch.where(present == 30, 7, present))
        # Whoever of the two stands at one of the equal places stays there.
        for start in (present, swapped):
            found = match(cost, start, 1e-9)
            assert torch.equal(found, by_scipy(cost, start, 1e-9))


@pytest.mark.parametrize("blur", [0.1, 4.0])
def test_first_and_second_choices_that_come_near(ways: list[str], blur: float) -> None:
    """To exchange 7 and 30 costs 6e-10 more, or nothing; to leave present places costs 2e-9."""
    cost = cosines(N, 24, blur).double()
    own = by_scipy(cost, torch.arange(N))
    swapped = own.clone()
    swapped[[7, 30]] = own[[30, 7]]
    for gap in (0.0, 3e-10):
        for one, other in ((7, 30), (30, 7)):
            cost[one, own[one]] = -2.0
            cost[one, own[other]] = -2.0 + gap
        for present in (own, swapped):
            assert torch.equal(match(cost, present, 1e-9), present)
            assert torch.equal(match(cost, present), by_scipy(cost, present))


def test_the_answer_does_not_depend_on_where_classes_stood(ways: list[str]) -> None:
    cost = cosines(N, 24, 4.0)
    found = [match(cost, shuffled(N, seed)) for seed in range(6)]
    assert all(torch.equal(each, found[0]) for each in found)


@pytest.mark.parametrize("changes", [{"CHEAP": 2, "MANY": 1}, {"GROUPS": 8}, {"SETTLED": 1.0}])
def test_pairs_that_were_not_among_the_cheap_ones_are_found(
    ways: list[str], monkeypatch: pytest.MonkeyPatch, changes: dict[str, float]
) -> None:
    for name, value in changes.items():
        monkeypatch.setattr(matching, name, value)
    monkeypatch.setattr(matching, "CHEAP", 2)
    monkeypatch.setattr(pairs, "CHUNK", 5 * N)  # prices are looked at in many pieces
    monkeypatch.setattr(pairs, "ROUNDS", 50)
    for seed in range(4):
        cost, present = cosines(N, 12, 6.0, seed), shuffled(N, seed)
        assert torch.equal(match(cost, present), by_scipy(cost, present))
    assert ways.count("match") > 4
    assert "match_whole" not in ways


@pytest.mark.parametrize("bad", [torch.nan, -torch.inf])
@pytest.mark.parametrize("row", [0, 100, N - 1])
def test_what_is_not_finite_is_refused_as_by_scipy(ways: list[str], row: int, bad: float) -> None:
    cost = cosines(N, 24, 4.0)
    cost[row, N - 1 - row] = bad
    with pytest.raises(ValueError, match="matrix contains invalid numeric entries"):
        match(cost, torch.arange(N))
    with pytest.raises(ValueError, match="cost matrix is infeasible"):
        match(cosines(N, 24, 4.0).index_fill(1, torch.tensor(3), torch.inf), torch.arange(N))


def test_scipy_is_given_one_matrix_without_a_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not float64 or not contiguous would be copied within, 800 MB at 10,000 classes."""
    seen: list[bool] = []

    def solve(cost: object, maximize: bool = False) -> tuple[None, list[int]]:
        flags = cost.flags  # type: ignore[attr-defined]
        double = str(cost.dtype) == "float64"  # type: ignore[attr-defined]
        seen.append(double and flags.c_contiguous and not maximize)
        return None, [0, 1, 2]

    monkeypatch.setattr(matching, "linear_sum_assignment", solve)
    for cost in (torch.eye(3), torch.eye(3).double(), torch.eye(6)[::2, ::2], torch.rand(3, 3).T):
        match(cost, torch.arange(3))
    assert seen == [True] * 4


def test_no_copy_of_the_matrix_is_made_on_the_quick_ways(ways: list[str]) -> None:
    """Numbers at a time in float64: those of pairs, and no matrix."""
    size = 1200
    largest = 0
    cost = cosines(size, 64, 3.0)

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            nonlocal largest
            out = func(*args, **(kwargs or {}))
            if isinstance(out, Tensor) and out.dtype == torch.float64:
                largest = max(largest, out.numel())
            return out

    with Watch():
        match(cost, torch.arange(size))
    assert "match_whole" not in ways and "match" in ways
    assert 0 < largest < size * size / 8


def everything(cost: Tensor, present: Tensor, stay: float = 0.0) -> Pairs:
    """All pairs of a small matrix."""
    row, column = torch.cartesian_prod(torch.arange(len(cost)), torch.arange(len(cost))).T
    return Pairs(cost, present, stay, row, column)


@pytest.mark.parametrize("seed", range(30))
def test_prices_tell_the_best_from_the_others(seed: int) -> None:
    """Over all permutations of four: each leads to the least, and whether it is alone is told."""
    size = 4
    coarse = torch.randint(0, 6, (size, size), generator=generator(seed)).float()
    every = [torch.tensor(each) for each in permutations(range(size))]
    rows = torch.arange(size)
    costs = [float(coarse[rows, each].sum()) for each in every]
    for place, cost in zip(every, costs, strict=True):
        prices = Prices(everything(coarse, rows), place)
        assert prices.settle() and prices.prove(most=size**2)
        assert float(coarse[rows, prices.place].sum()) == min(costs)
        assert torch.equal(prices.place, place) or cost > min(costs)
        assert prices.alone() == (costs.count(min(costs)) == 1)
        slack = coarse.double() + prices.offer()[:, None] - prices.price
        assert float(slack.min()) >= -1e-12


def test_equal_numbers_are_a_tie_even_if_all_are_zero() -> None:
    prices = Prices(everything(torch.zeros(4, 4), torch.arange(4)), torch.arange(4))
    assert prices.settle() and prices.prove(most=16) and not prices.alone()


def test_prices_on_few_pairs_are_held_against_the_whole_matrix() -> None:
    """The best on the pairs at hand, which are all but the one that is needed."""
    cost = torch.tensor([[0.0, -5.0, 1.0], [1.0, 0.0, 1.0], [-5.0, 1.0, 0.0]])
    own = torch.arange(3)
    some = Pairs(cost, own, 0.0, torch.tensor([0, 1]), torch.tensor([1, 2]))
    assert some.match().tolist() == [0, 1, 2]
    prices = Prices(some, own)
    assert prices.settle() and not prices.prove(most=9)
    assert some.match().tolist() == [1, 2, 0]
    prices = Prices(some, some.match())
    assert prices.settle() and prices.prove(most=9) and prices.alone()


def test_more_missing_pairs_than_allowed_end_the_search() -> None:
    cost = cosines(50, 8, 9.0)
    some = Pairs(cost, torch.arange(50), 0.0, torch.arange(50), torch.arange(50))
    prices = Prices(some, torch.arange(50))
    assert prices.settle() and not prices.prove(most=3) and len(some.key) == 50
    assert prices.lost and some.solve(most=3) is None
