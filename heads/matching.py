"""Assignment of classes to places at the least total cost: exact, and quick for many classes.

    min over permutations A of  Σ_k cost[k, A(k)] − stay · #{k: A(k) = present[k]}

scipy's solver reads a row of the matrix, number by number, each time a path visits it. But the
optimum uses only pairs that are cheap in their row or in their column. So, as in the core approach
of Volgenant ("Linear and semi-assignment problems: a core oriented approach", Computers &
Operations Research 23, 1996):

    1  one pass over the matrix finds the cheapest place of each row. If no two rows share one,
       that is all
    2  if few do, the cheap pairs of those and of the places left over are added; else another pass
       finds the cheap pairs of each row and of each column. scipy's sparse solver
       matches on those alone, with the present pairs among them, so that a matching exists
    3  prices v of the places follow from the matching A by relaxation on these pairs, the
       greatest below a start with v[j] − v[A(i)] ≤ cost[i, j] − cost[i, A(i)]
    4  a pass over the matrix looks for pairs that break this, and they join the others. Prices
       fall until no pair breaks it: then no permutation costs less, and the prices prove it. Where
       they would fall for ever, A was not the best, and 2 comes again

The answer is that of `linear_sum_assignment`, whichever way it was found: a function of cost,
present and stay alone, and of no earlier call. Where several permutations are optimal, that solver
itself decides: the steps above answer only if each other permutation is proved to cost more, by
MARGIN times the largest number met. It is called as well for few classes, for rows of zeros
(classes not yet seen), for numbers that are not finite, and where the steps end without a proof.
Nothing but this call makes a float64 copy of the matrix; what is compared is compared in float64.
"""

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from heads.pairs import CROWDED, MARGIN, Pairs, rows_at_once

FEW = 800  # classes up to which scipy takes milliseconds; ours, measured
GROUPS = 128  # a row is searched group by group; ours, measured at 1,000 to 10,000 classes
CHEAP = 12  # groups of each row, and of each column, that give their cheap pairs; ours, measured
MANY = 64  # pairs of a row that must share its first choice, and of a place left over; ours
SETTLED = 0.05  # of the places may be nobody's first choice, for "few do" in step 2; ours


def match(cost: Tensor, present: Tensor, stay: float = 0.0) -> Tensor:
    """Give each class its place, (classes,), int64, on the CPU.

    cost     (classes, classes), of class k at place j; float32 or float64, on any device; it is
             left as it is
    present  where each class stands, (classes,), a permutation
    stay     advantage of the present place, which breaks ties; 0 for none

    Raises ValueError as `linear_sum_assignment` does, where a number is nan or -inf, and where inf
    leaves no matching.
    """
    cost, present = cost.contiguous(), present.cpu()
    if len(cost) > FEW:
        least = _least_of_rows(cost)
        finite = least.amin(1).isfinite().all()  # nan and -inf pass through, and all inf shows
        unseen = (least == 0).all(1).sum()  # two such rows may as well exchange places
        if bool(finite & (unseen < 2)):
            choice, clear = _first_choices(cost, least, stay)
            if clear:
                return choice
            place = _match_some(cost, least, present, stay, choice)
            if place is not None:
                return place
    return _match_whole(cost, present, stay)


def _match_whole(cost: Tensor, present: Tensor, stay: float) -> Tensor:
    """Match on the whole matrix by scipy, which takes it without a copy: float64, contiguous."""
    whole = cost.cpu().to(torch.float64, copy=True)
    whole[torch.arange(len(whole)), present] -= stay
    return torch.as_tensor(linear_sum_assignment(whole.numpy())[1], dtype=torch.int64)


def _first_choices(cost: Tensor, least: Tensor, stay: float) -> tuple[Tensor, bool]:
    """Each row's cheapest place, and whether no two rows share one and no second one comes near."""
    groups = least.shape[1]
    two, chosen = least.topk(2, 1, largest=False)
    value, beyond = _members(cost, chosen[:, :1])
    best, at = torch.cat([value[:, :, 0], beyond], 1).topk(2, 1, largest=False)
    turns = value.shape[1]
    at = at[:, 0]
    place = torch.where(at < turns, at * groups + chosen[:, 0], turns * groups + at - turns)
    second = torch.minimum(best[:, 1], two[:, 1]).double()
    gap = MARGIN * float(best[:, 0].abs().max()) + abs(stay)
    clear = bool((second > best[:, 0].double() + gap).all())
    return place.cpu(), clear and int(place.bincount().max()) == 1


def _match_some(
    cost: Tensor, least: Tensor, present: Tensor, stay: float, choice: Tensor
) -> Tensor | None:
    """Match on some of the pairs; None where that proves nothing."""
    size = len(cost)
    wishes = choice.bincount(minlength=size)
    place = None
    if int((wishes == 0).sum()) <= SETTLED * size:
        row, column = _unsettled(cost, choice, wishes)
        if int((choice != present).sum()) > SETTLED * size:
            second = _cheapest_of_rows(cost, least)
            row, column = torch.cat([row, second[0]]), torch.cat([column, second[1]])
        place = Pairs(cost, present, stay, row, column).solve(most=size)
    if place is None:
        place = Pairs(cost, present, stay, *_cheap(cost, least)).solve(most=CROWDED * size)
    return place


def _least_of_rows(cost: Tensor) -> Tensor:
    """Least number of each group of each row, (classes, groups); see _groups."""
    groups = min(GROUPS, len(cost) // 16)
    step = rows_at_once(cost)
    starts = range(0, len(cost), step)
    return torch.cat([_groups(cost[first : first + step], groups) for first in starts])


def _cheap(cost: Tensor, least: Tensor) -> tuple[Tensor, Tensor]:
    """Pairs no dearer than the CHEAP-th cheapest group of their row, or else of their column."""
    size, groups = cost.shape[0], least.shape[1]
    row_bound = least.kthvalue(CHEAP, 1, keepdim=True).values
    run = -(-size // groups)
    starts = range(0, size, run)
    of_columns = torch.stack([cost[first : first + run].amin(0) for first in starts])
    column_bound = of_columns.kthvalue(min(CHEAP, len(of_columns)), 0).values
    rows, columns = [], []
    step = rows_at_once(cost)
    apart = -(-size // 8)
    member = torch.arange(0, size, apart, device=cost.device)
    for first in range(0, size, step):
        bound = torch.maximum(row_bound[first : first + step], column_bound)
        block = cost[first : first + step] - bound
        row, column = (_groups(block, apart) <= 0).nonzero(as_tuple=True)
        column = (column[:, None] + member).clamp_max_(size - 1)
        row = row[:, None].expand_as(column)
        wanted = block.view(-1).index_select(0, (row * size + column).view(-1)) <= 0
        rows.append(row.reshape(-1)[wanted] + first)
        columns.append(column.view(-1)[wanted])
    return torch.cat(rows).cpu(), torch.cat(columns).cpu()


def _cheapest_of_rows(cost: Tensor, least: Tensor) -> tuple[Tensor, Tensor]:
    """Pairs no dearer than the second cheapest group of their row."""
    groups = least.shape[1]
    bound, chosen = least.topk(2, 1, largest=False)
    value, beyond = _members(cost, chosen)
    row, turn, which = (value <= bound[:, -1:, None]).nonzero(as_tuple=True)
    last, more = (beyond <= bound[:, -1:]).nonzero(as_tuple=True)
    column = torch.cat([turn * groups + chosen[row, which], value.shape[1] * groups + more])
    return torch.cat([row, last]).cpu(), column.cpu()


def _unsettled(cost: Tensor, choice: Tensor, wishes: Tensor) -> tuple[Tensor, Tensor]:
    """First choices, and cheap pairs of the rows that must share theirs and of places left over."""
    count = min(MANY, len(cost))
    left = (wishes == 0).nonzero()[:, 0]
    of_left = cost.index_select(1, left.to(cost.device)).T.contiguous()
    shared = (wishes[choice] > 1).nonzero()[:, 0]
    of_shared = cost.index_select(0, shared.to(cost.device))
    rows = [torch.arange(len(cost)), shared.repeat_interleave(count)]
    columns = [choice, of_shared.topk(count, 1, largest=False).indices.flatten().cpu()]
    rows.append(of_left.topk(count, 1, largest=False).indices.flatten().cpu())
    columns.append(left.repeat_interleave(count))
    return torch.cat(rows), torch.cat(columns)


def _members(cost: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
    """Numbers of chosen groups of each row, and those beyond the last whole turn of groups.

    chosen (rows, count) -> (rows, turns, count), of column turn · groups + group, and (rows, rest)
    """
    groups = min(GROUPS, cost.shape[1] // 16)
    turns = cost.shape[1] // groups
    whole = cost[:, : turns * groups].view(len(cost), turns, groups)
    index = chosen[:, None, :].expand(-1, turns, -1)
    return whole.gather(2, index), cost[:, turns * groups :]


def _groups(block: Tensor, apart: int) -> Tensor:
    """Least number of each group, (rows, apart): of columns g, g + apart, g + 2 apart, …"""
    whole = block.shape[1] // apart * apart
    least = block[:, :whole].view(len(block), -1, apart).amin(1)
    rest = block.shape[1] - whole
    least[:, :rest] = torch.minimum(least[:, :rest], block[:, whole:])
    return least
