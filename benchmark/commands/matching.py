"""speed --matching: the assignment of labels to points, scipy's solver and ours in one run.

The cost matrix is given: float64 for scipy, float32, as the head has it, for ours. Three kinds,
negative cosines of class means with random points in DIM dimensions:

    settled   means around their points, as late in training: each is nearest to its own
    crowded   means further away, so that some points are the nearest of two and some of none
    alike     means all around one direction, as early in training; to CROWD classes only, for
              beyond scipy takes minutes

The classes stand where they were best placed before; then so many of them exchange their means,
which is how many labels move. Both ways take turns, and both must give the same answer.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from statistics import median
from time import perf_counter

import torch
from rich.console import Console
from rich.table import Table
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from heads.geometry import unit
from heads.matching import match

DIM = 512  # of the points; ours, as in the largest experiment of arXiv:2403.16937
BLUR = {"settled": 2.0, "crowded": 4.0}  # length of the noise around a point; ours
SPREAD = 0.1  # length of the noise around the one direction of "alike"; ours
CROWD = 2_000  # classes up to which "alike" is measured; ours
STAY = 1e-9  # as in heads/dl2pa.py


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds of one matching by both ways, in the order measured.

    kind, classes  of the matrix; moved, labels that the matching moves
    """

    kind: str
    classes: int
    moved: int
    scipy: tuple[float, ...]
    ours: tuple[float, ...]

    @property
    def ratios(self) -> list[float]:
        """Time of scipy over ours, of each pair."""
        return [theirs / own for theirs, own in zip(self.scipy, self.ours, strict=True)]


def matching(classes: Iterable[int], repeats: int, console: Console) -> list[Timing]:
    """Measure, print a line for each row as it comes and the table, and give its rows.

    repeats  pairs of timings of each row, at least 1

    Raises RuntimeError where the two ways disagree.
    """
    asked = sorted(set(classes))
    found: list[Timing] = []
    for size in asked:
        for each in timings(size, repeats):
            found.append(each)
            console.print(
                f"{each.classes:,} classes, {each.kind}, {each.moved:,} moved: "
                f"{median(each.ratios):.1f} times as fast as scipy",
                highlight=False,
            )
    table = Table(title=f"seconds of one assignment, median of n = {repeats}")
    for title in ("classes", "means", "moved", "scipy s", "ours s", "ratio", "least to most"):
        table.add_column(title, justify="left" if title == "means" else "right")
    for each in found:
        ratios = each.ratios
        table.add_row(
            f"{each.classes:,}",
            each.kind,
            f"{each.moved:,}",
            f"{median(each.scipy):.4f}",
            f"{median(each.ours):.4f}",
            f"{median(ratios):.1f}",
            f"{min(ratios):.1f} to {max(ratios):.1f}",
        )
    console.print(table)
    return found


def timings(size: int, repeats: int) -> Iterator[Timing]:
    """Time each kind with no label moved, 10, 100 and all."""
    for kind in (*BLUR, "alike"):
        if kind == "alike" and size > CROWD:
            continue
        draw = torch.Generator().manual_seed(size)
        points, means = _scene(kind, size, draw)
        stood = match(means @ -points.T, torch.arange(size), STAY)
        for count in (0, 10, 100, size):
            movers = torch.randperm(size, generator=draw)[:count]
            now = means.clone()
            now[movers] = means[movers.roll(1)]
            yield _timing(kind, now @ -points.T, stood, repeats)


def _scene(kind: str, size: int, draw: torch.Generator) -> tuple[Tensor, Tensor]:
    """Points and class means, (classes, DIM)."""
    points = unit(torch.randn(size, DIM, generator=draw))
    noise = torch.randn(size, DIM, generator=draw) / DIM**0.5
    if kind == "alike":
        return points, unit(unit(torch.randn(1, DIM, generator=draw)) + SPREAD * noise)
    return points, unit(points + BLUR[kind] * noise)


def _timing(kind: str, cost: Tensor, stood: Tensor, repeats: int) -> Timing:
    whole = cost.double()
    whole[torch.arange(len(cost)), stood] -= STAY
    given = whole.numpy()
    scipy, ours = [], []
    moved = 0
    for _ in range(repeats):
        started = perf_counter()
        theirs = linear_sum_assignment(given)[1]
        between = perf_counter()
        own = match(cost, stood, STAY)
        scipy.append(between - started)
        ours.append(perf_counter() - between)
        if not torch.equal(own, torch.as_tensor(theirs)):
            raise RuntimeError(
                f"matching {len(cost)} classes ({kind}) gave another answer than scipy's. Report "
                "this with the version of scipy."
            )
        moved = int((own != stood).sum())
    return Timing(kind, len(cost), moved, tuple(scipy), tuple(ours))
