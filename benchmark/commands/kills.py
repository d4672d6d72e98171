"""Whom `chaos` kills, and when: all of it follows from a seed and from how far the suite is."""

import random
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from benchmark.records.faults import POINTS

KINDS: Mapping[str, str] = {
    "worker": "of a worker",  # one that trains or waits
    "parent": "of the parent",  # its workers are left to themselves
    "point": "at named points",  # whoever passes one of benchmark/records/faults.py
    "start": "of the parent before it trained",  # it reads the suite, or makes MLflow's database
}

NEVER = "failure:"  # passed where a cell fails, which an undisturbed one does not
STEPS = 40  # passings of a point in a step, at most, before one kills; ours, as the next
FILES = 2  # of a point in the writing of a file, which most cells pass once


@dataclass(frozen=True, slots=True)
class Kill:
    """One SIGKILL to come.

    wait    in mean waiting times, exponential
    choice  in [0, 1): which of the workers, which passing, which share of the start
    point   the named point, of that kind alone
    """

    kind: str
    wait: float
    choice: float
    point: str = ""

    def passing(self, steps: int, cells: int) -> int:
        """At which passing of its point it kills, from 1.

        steps  of a cell; cells: how many are left to train
        """
        most = min(STEPS, steps) if self.point.startswith("step:") else min(FILES, cells)
        return 1 + int(self.choice * max(most, 1))


def schedule(kills: int, seed: int) -> tuple[Kill, ...]:
    """So many kills, as many of each kind, in an order of chance; each point before any again."""
    chance = random.Random(seed)
    kinds = [[*KINDS][i % len(KINDS)] for i in range(kills)]
    chance.shuffle(kinds)
    deck: list[str] = []
    plan = []
    for kind in kinds:
        if kind == "point" and not deck:
            deck = [name for name in POINTS if not name.startswith(NEVER)]
            chance.shuffle(deck)
        point = deck.pop() if kind == "point" else ""
        plan.append(Kill(kind, chance.expovariate(1.0), chance.random(), point))
    return tuple(plan)


@dataclass(frozen=True, slots=True)
class Pace:
    """How an undisturbed run went.

    seconds  wall time
    start    seconds until it trained
    spans    key -> seconds from the claim on the cell to its result
    busy     seconds in which at least one was trained
    steps    of the shortest cell that has any
    """

    seconds: float
    start: float
    spans: Mapping[str, float]
    busy: float
    steps: int

    def left(self, unfinished: Collection[str]) -> float:
        """Seconds of training that these cells take side by side, as they did undisturbed."""
        share = sum(self.spans[key] for key in unfinished) / (sum(self.spans.values()) or 1.0)
        return self.busy * share

    def room(self, unfinished: Collection[str]) -> float:
        """Seconds over which the kills to come are spread.

        They end before the last cell does, or the suite would often be over before the last kill.
        """
        return self.left(unfinished) * (1 - 0.75 / len(unfinished)) if unfinished else 0.0


@dataclass(slots=True)
class Queue:
    """The kills that are still to be made."""

    timed: deque[Kill] = field(default_factory=deque)
    starts: deque[Kill] = field(default_factory=deque)
    points: deque[Kill] = field(default_factory=deque)

    @classmethod
    def of(cls, plan: Sequence[Kill]) -> "Queue":
        """All of a plan."""
        return cls(
            deque(kill for kill in plan if kill.kind in ("worker", "parent")),
            deque(kill for kill in plan if kill.kind == "start"),
            deque(kill for kill in plan if kill.kind == "point"),
        )

    def __len__(self) -> int:
        """How many are left."""
        return len(self.timed) + len(self.starts) + len(self.points)

    def due(self, armed: Kill | None, lurks: bool) -> Kill | None:
        """The next by time; None where there is none now.

        armed  the point that the run of this moment would be killed at
        lurks  that is waited for, so this run keeps its parent

        Where only starts and points are left, one of them becomes a parent's: without it no other
        run may come in which they could be made.
        """
        for kill in self.timed:
            if kill.kind == "worker" or not lurks:
                return kill
        if self.timed or lurks:
            return None
        others = [*self.starts, *(kill for kill in self.points if kill is not armed)]
        others += [armed] if armed in self.points and armed else []
        return replace(others[0], kind="parent") if others else None

    def made(self, kill: Kill) -> None:
        """Take it away; also one that became a parent's."""
        for line in (self.timed, self.starts, self.points):
            for known in line:
                if known == kill or replace(known, kind=kill.kind) == kill:
                    line.remove(known)
                    return

    def mean(self, room: float) -> float:
        """Mean waiting time of the next by time, seconds: those left come uniformly in the room."""
        return room / max(len(self.timed) or len(self), 1)


def union(spans: Sequence[tuple[float, float]]) -> float:
    """Length of what intervals cover together."""
    covered, until = 0.0, float("-inf")
    for begin, end in sorted(spans):
        covered += max(0.0, end - max(begin, until))
        until = max(until, end)
    return covered
