"""Matching on some pairs of a class and a place, and the proof that no other pair would do better.

For `heads.matching`, which says why. A matching A is the best if there are prices v of the places
with

    v[j] − v[A(i)] ≤ cost[i, j] − cost[i, A(i)]     for all i, j

for the sum of this over any other permutation says that it costs no less; and it is the only best
one, if the pairs for which both sides are equal, walked from A(i) to j, make no circle.
"""

import torch
from scipy.sparse import csr_array
from scipy.sparse.csgraph import min_weight_full_bipartite_matching
from torch import Tensor

CROWDED = 100  # pairs per class, above which there are too many ties to be worth it; ours
ROUNDS = 4  # matchings on cheap pairs; one or two are usual; ours
STEPS = 2**16  # of cost in the sparse solver; what it errs by is mended by Prices.settle; ours
MENDED = 40  # times that circles are moved along in settle, before it is given up; ours
CHECKED = 8  # rounds of relaxation between looks for a circle; ours
CHUNK = 2**19  # numbers looked at in one go: within the cache of a core; ours, measured

TIGHT = 2.0**-51  # of the largest number met: what is less by this is no less, but rounding
MARGIN = 2.0**-35  # of the same: permutations this near each other are a tie, 3e-11 for cosines


def rows_at_once(matrix: Tensor) -> int:
    """How many rows to look at in one go; an accelerator wants more than the cache of a core."""
    return max(1, (CHUNK if matrix.device.type == "cpu" else 32 * CHUNK) // matrix.shape[1])


class Pairs:
    """Pairs of a class and a place that a matching may choose from; the present ones are in.

    row, column  of each pair, (pairs,), int64; sorted by row, then column
    cost         of each, (pairs,), float64, less `stay` for a present one
    first        where each row begins, (classes + 1,)
    """

    def __init__(
        self, whole: Tensor, present: Tensor, stay: float, row: Tensor, column: Tensor
    ) -> None:
        self.whole, self.present, self.stay = whole, present, stay
        self.size = len(whole)
        self.key = torch.arange(self.size) * self.size + present
        self.add(row, column)

    def solve(self, most: int) -> Tensor | None:
        """Best place of each class, (classes,), where these and few others prove that it is.

        None after more than `most` pairs that were missing in one look at the matrix, too many
        pairs, or ROUNDS, and where it is not the only one.
        """
        for _ in range(ROUNDS):
            if not self.sound():
                return None
            prices = Prices(self, self.match())
            if prices.settle() and prices.prove(most):
                return prices.place if prices.alone() else None
            if prices.lost:
                return None
        return None

    def add(self, row: Tensor, column: Tensor) -> None:
        """Take in pairs, known or not."""
        self.key = torch.unique(torch.cat([self.key, row * self.size + column]))
        self.row, self.column = self.key // self.size, self.key % self.size
        self.cost = self.exact(self.row, self.column)
        self.first = torch.searchsorted(self.row, torch.arange(self.size + 1))

    def exact(self, row: Tensor, column: Tensor) -> Tensor:
        """Cost of pairs, (pairs,), float64."""
        place = (row * self.size + column).to(self.whole.device)
        cost = self.whole.view(-1).index_select(0, place).cpu().double()
        return cost.sub_(self.stay * (column == self.present.index_select(0, row)))

    def sound(self) -> bool:
        """Whether they are fit to be matched on: finite, and not too many."""
        return len(self.key) <= CROWDED * self.size and bool(self.cost.isfinite().all())

    def of(self, rows: Tensor) -> Tensor:
        """Give the indices of all pairs of some rows."""
        first = self.first.index_select(0, rows)
        count = self.first.index_select(0, rows + 1) - first
        skipped = first - count.cumsum(0) + count
        return torch.arange(int(count.sum())) + skipped.repeat_interleave(count)

    def match(self) -> Tensor:
        """Nearly the best matching on these pairs, by scipy's sparse solver: (classes,).

        On costs rounded to STEPS whole numbers: on others the solver may lower a price by less
        than its last bit, for ever (scipy 1.17), and the fewer the steps the fewer its rounds.
        """
        cost = self.cost
        for line in (self.column, self.row):  # what a whole line costs more decides nothing
            least = torch.full((self.size,), torch.inf, dtype=torch.float64)
            cost = cost - least.scatter_reduce(0, line, cost, "amin").index_select(0, line)
        whole = (cost * (STEPS / (float(cost.max()) or 1.0))).round_().add_(1.0)
        table = (whole.numpy(), self.column.numpy(), self.first.numpy())  # 0 would be no pair
        matrix = csr_array(table, shape=(self.size, self.size))
        return torch.as_tensor(min_weight_full_bipartite_matching(matrix)[1], dtype=torch.int64)


class Prices:
    """Prices of the places, to prove that a matching is the best, and the only best.

    place  of each class, (classes,); owner, the class at each place
    own    cost of each class at its place, (classes,), float64
    price  of each place, (classes,), float64: they start at half of what their class costs there
    seen   the offer of each class when its row was last looked at; a higher one breaks nothing new
    by     the class that last lowered the price of each place, or -1
    lost   whether more pairs broke them than was allowed
    """

    def __init__(self, pairs: Pairs, place: Tensor) -> None:
        self.pairs, self.place, self.owner = pairs, place.clone(), place.argsort()
        self.everyone = torch.arange(pairs.size)
        self.own = pairs.exact(self.everyone, place)
        self.price = self.own[self.owner] / 2
        self.seen = torch.full((pairs.size,), torch.inf, dtype=torch.float64)
        self.close = torch.empty(2, 0, dtype=torch.int64)
        self.lost = False
        self.by = torch.full((pairs.size,), -1)

    def offer(self) -> Tensor:
        """What each class brings along to a place: its price there is offer + cost, (classes,)."""
        return self.price.index_select(0, self.place) - self.own

    def largest(self) -> float:
        """The largest number that is met in comparing."""
        return float(self.price.abs().max() + self.own.abs().max())

    def settle(self) -> bool:
        """Let prices fall until no pair of `pairs` breaks them; mend the matching where they can't.

        False if it is not the best on these pairs after being mended MENDED times.
        """
        rows = self.everyone
        for _ in range(MENDED):
            circles = self._relax(rows)
            if circles is None:
                return True
            classes = self.by[circles]
            self.place[classes], self.owner[circles] = circles, classes
            self.own[classes] = self.pairs.exact(classes, circles)
            rows = self.everyone
        return False

    def prove(self, most: int) -> bool:
        """Let prices fall until no pair of the matrix breaks them; after settle().

        False if they fall for ever, or if more than `most` pairs break them in one look.
        """
        while True:
            look = (self.offer() < self.seen).nonzero()[:, 0]
            if not len(look):
                return True
            self.seen[look] = self.offer()[look]
            row, column = self._look(look, most)
            self.lost = len(row) > most
            if self.lost:
                return False
            self.pairs.add(row, column)
            if self._relax(row.unique()) is not None:
                return False

    def alone(self) -> bool:
        """Whether every other matching costs more by a margin; after prove().

        Another one moves classes round in circles, and in each circle some pair costs more.
        """
        row, column = self.close
        asked = self.offer().index_select(0, row) + self.pairs.exact(row, column)
        near = asked <= self.price.index_select(0, column) + MARGIN * self.largest()
        return _is_forest(self.place[row[near]], column[near], self.pairs.size)

    def _relax(self, rows: Tensor) -> Tensor | None:
        """Let prices fall until no pair of `pairs` breaks them; rows are those that may.

        None where that ends. Else the places on circles: the price of each was last lowered by the
        class at another, that one's by the class at a third, and so round. If each class takes the
        place whose price it lowered, all of them together cost less.
        """
        limit, size = TIGHT * self.largest(), self.pairs.size
        after = torch.full((size + 1,), size)  # the place from which each was lowered, or none
        self.by = torch.full((size,), -1)
        for count in range(1, size + CHECKED):
            if not len(rows):
                return None
            pair = self.pairs.of(rows)
            row = self.pairs.row.index_select(0, pair)
            column = self.pairs.column.index_select(0, pair)
            asked = self.offer().index_select(0, row) + self.pairs.cost.index_select(0, pair)
            lower = self.price.scatter_reduce(0, column, asked, "amin")
            fell = lower < self.price - limit
            lowered = (asked == lower.index_select(0, column)) & fell.index_select(0, column)
            self.by[column[lowered]] = row[lowered]
            after[column[lowered]] = self.place[row[lowered]]
            self.price = torch.where(fell, lower, self.price)
            rows = self.owner[fell]
            if count % CHECKED == 0:
                circles = _circles(after)
                if len(circles):
                    return circles
        return self.everyone[:0]

    def _look(self, rows: Tensor, most: int) -> Tensor:
        """Pairs of the matrix that break the prices, (2, pairs), the worst by column and chunk.

        No further ones are looked for after `most`. The matrix is looked at in its own precision;
        what that leaves open, in float64. Pairs that come near are kept for alone(): while prices
        only fall, a row whose offer stays gets no more of them.
        """
        whole = self.pairs.whole
        largest, offer = self.largest(), self.offer()
        blur = (8 * torch.finfo(whole.dtype).eps + MARGIN) * largest + abs(self.pairs.stay)
        bound = (self.price + blur).to(whole)
        close, found = [self.close], 0
        breaks = [torch.empty(2, 0, dtype=torch.int64)]
        step = rows_at_once(whole)
        for start in range(0, len(rows), step):
            part = rows[start : start + step]
            first, last = int(part[0]), int(part[-1]) + 1
            run = last - first == len(part)
            block = whole[first:last] if run else whole.index_select(0, part.to(whole.device))
            block = block + offer.index_select(0, part).to(whole)[:, None]
            block.scatter_(1, self.place[part, None].to(whole.device), torch.inf)
            column = (~(block.amin(0) > bound)).nonzero()[:, 0]
            open_ = block.index_select(1, column) <= bound.index_select(0, column)
            at, to = (each.cpu() for each in open_.nonzero(as_tuple=True))
            row, column = part.index_select(0, at), column.cpu().index_select(0, to)
            asked = offer.index_select(0, row) + self.pairs.exact(row, column)
            price = self.price.index_select(0, column)
            near = asked <= price + MARGIN * largest
            close.append(torch.stack([row[near], column[near]]))
            lower = asked < price - TIGHT * largest
            if bool(lower.any()):
                row, column, asked = row[lower], column[lower], asked[lower]
                lowest = self.price.scatter_reduce(0, column, asked, "amin")
                worst = asked == lowest.index_select(0, column)
                breaks.append(torch.stack([row[worst], column[worst]]))
                found += len(breaks[-1][0])
                if found > most:
                    break
        self.close = torch.cat(close, 1)
        return torch.cat(breaks, 1)


def _is_forest(tail: Tensor, head: Tensor, size: int) -> bool:
    """Whether no circle can be walked along edges from tail to head."""
    while len(tail):
        entered = torch.zeros(size, dtype=torch.bool)
        entered[head] = True
        stays = entered[tail]  # an edge from where none leads is on no circle
        if bool(stays.all()):
            return False
        tail, head = tail[stays], head[stays]
    return True


def _circles(after: Tensor) -> Tensor:
    """Give all that lie on circles of a walk; the last, which follows itself, is its end."""
    end = len(after) - 1
    far = after
    for _ in range(end.bit_length()):
        far = far.index_select(0, far)  # twice as far
    # Walks as long as that which have not ended are on a circle now, each at some place of it.
    on = torch.zeros(end + 1, dtype=torch.bool)
    reached = torch.unique(far)
    while len(reached):
        reached = reached[~on[reached]]
        on[reached] = True
        reached = after[reached]
    on[end] = False
    return on.nonzero()[:, 0]
