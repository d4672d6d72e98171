"""How long cells will take: from finished cells like them, or from a pilot.

    seconds = (seconds of one pass) × passes        a pass: one image forward through the network

Where weights learn an image makes three passes, forward and twice as much backward; on a frozen
trunk, and where images are only judged, one. What a pass takes is the median of the last few cells
that are most like the one in question, on the same class of device and with as many threads.

Cells are alike in this order: the same images, network and precision, without which nothing is
taken from a cell at all; frozen or learning; what is done to each image and batch; as many jobs
side by side; the same execution; the same head. Compiled, a pass is COMPILED times as long, which
counts where only cells of the other kind are known; a pilot never compiles. Only a pilot is carried
over to other networks, by their operations.
"""

import heapq
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from benchmark.planning.cell import Cell
from heads.base import Needs

PASSES = 3  # of an image where weights learn: forward, and twice as much backward
RECENT = 5  # cells of which the median is taken: what the machine does of late; ours
COMPILED = 0.6  # of a pass: 0.49 to 0.66 of four networks on a core with matrix units; ours
START = 4.0  # seconds until a first worker trains: 2 to 5 on a laptop; ours
CLOSE = 0.2  # by which a prediction may be off and still be called good; the project's aim
FOLLOWED, SAMPLE = 10, 5000  # as training/runner.py: collapse along training, images of each look
LEARNED = 100_000  # as there: training images, at most, on which a finished cell is judged
TESTED = (
    50_000  # test images at most, as ImageNet has; fewer: a fifth of the training set, as CIFAR
)
TIMELESS = (
    *("epochs", "lr", "momentum", "nesterov", "weight_decay", "schedule", "milestones", "gamma"),
    *("warmup", "warmup_stairs", "sampler", "epoch_images", "drop_last", "oracle", "flip"),
    *("normalise", "hard_labels", "padding", "area", "second_view"),
)
"""Fields of a recipe that do not change what a pass takes; how many there are is counted."""

UNSEEN = frozenset(
    (
        *("optimizer", "lr", "momentum", "nesterov", "weight_decay", "schedule", "milestones"),
        *("gamma", "warmup", "warmup_stairs", "hard_labels", "oracle", "flip"),
    )
)
"""Fields of a recipe on which no image depends."""

HEAD, RECIPE, NETWORK, PILOT, OPERATIONS, READS = (
    *("same head", "same recipe", "same network"),
    *("pilot", "operations", "reads"),
)
"""What a prediction rests on, from near to far."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What cells are trained on.

    device  name of its class: 'x86_64', or a GPU's own; '', any
    threads of each cell; 0, any number
    jobs    cells side by side; 0, any number
    """

    device: str = ""
    threads: int = 0
    jobs: int = 0


@dataclass(frozen=True, slots=True)
class Job:
    """What there is to do for a cell, as far as it takes time.

    place     images, network and precision
    learns    'learns', 'frozen', or 'prepared': no loop at all
    handling  what is done to each image and batch
    head      the last one, with its options
    trained   passes of the images that are trained on
    judged    passes of those that are looked at within the loop: validation, oracle, collapse
    beside    passes before and after it: features that a head starts from, evaluation
    images    seen in training
    """

    place: tuple[str, ...]
    learns: str
    handling: tuple[tuple[str, object], ...]
    head: str
    trained: float
    judged: float
    beside: float
    images: int

    @property
    def loop(self) -> float:
        """Passes within the training loop."""
        return self.trained + self.judged


@dataclass(frozen=True, slots=True)
class Past:
    """What a finished cell, or a pilot, took.

    seconds     of the loop
    beside      seconds before and after it; None in records that do not tell
    operations  of one image forward; 0 where unknown
    finished    when, as text that sorts
    shown       what it was shown, as `shown` has it
    read        it read features that another cell had computed
    """

    job: Job
    machine: Machine
    seconds: float
    beside: float | None = None
    execution: str = ""
    operations: int = 0
    finished: str = ""
    pilot: bool = False
    shown: str = ""
    read: bool = False


@dataclass(frozen=True, slots=True)
class Forecast:
    """seconds of a cell from its beginning to its record, what that rests on, and on how many."""

    seconds: float
    basis: str
    cells: int


def job(cell: Cell, needs: Needs, *, images: int, train: int, largest: int, classes: int) -> Job:
    """What there is to do.

    images   seen in training, over all epochs
    train    training images
    largest  images of the largest class before any profile
    """
    last = cell.stages[-1]
    recipe = dict(last.recipe)
    ruling = next((dict(stage.recipe) for stage in reversed(cell.stages) if stage.recipe), {})
    whole = largest * classes
    test = min(whole // 5, TESTED)
    carved = int(whole * float(dict(cell.data).get("validation") or 0))
    epochs = int(recipe.get("epochs", 0))
    learns = "prepared" if not epochs else "frozen" if last.frozen else "learns"
    judged = epochs * train if needs.sweep else 0
    if carved:
        judged += epochs * carved
    elif every := int(ruling.get("oracle", 0)):
        judged += -(-epochs // every) * test
    if learns == "learns":
        judged += min(epochs, FOLLOWED) * min(train, max(SAMPLE // classes, 2) * classes)
    beside = carved or test * (2 if ruling.get("flip") else 1)
    beside += min(train, LEARNED) + (train if len(cell.stages) > 1 else 0)
    data = dict(cell.data)
    return Job(
        place=(
            *(str(data[name]) for name in ("name", "folder", "classes") if data.get(name)),
            *(cell.network, str(ruling.get("precision", "")), str(ruling.get("size", ""))),
        ),
        learns=learns,
        handling=tuple((n, v) for n, v in last.recipe if n not in TIMELESS),
        head=last.label,
        trained=float(images * _looks(needs, learns)),
        judged=float(judged),
        beside=float(beside),
        images=images,
    )


def shown(cell: Cell) -> str:
    """What a frozen trunk is shown, step by step; empty where it is not frozen, or moves.

    Of cells with the same, the first computes features and the others read them, see
    training/still.py. A cell without a loop reads what any other on its trunk has computed.
    """
    last, below = cell.stages[-1], cell.trunk
    recipe = dict(last.recipe)
    if below is None or not last.frozen or recipe.get("batch_norm") == "released":
        return ""
    looks = {name: value for name, value in recipe.items() if name not in UNSEEN}
    seen = json.dumps(looks, sort_keys=True, default=str)
    return f"{below.key} {seen}" if recipe else below.key


def _looks(needs: Needs, learns: str) -> int:
    """Passes of one training image, all its views together; the teacher's has no backward."""
    own = needs.views - needs.teacher
    return own * (PASSES if learns == "learns" else 1) + needs.teacher


def predict(
    asked: Job,
    past: Sequence[Past],
    machine: Machine,
    *,
    execution: Callable[[int], str] = lambda operations: "",
    operations: Callable[[], int] = lambda: 0,
) -> Forecast | None:
    """What a cell will take; None while nothing tells.

    execution   how the cell would be executed, by the operations of one image forward
    operations  these of the cell; asked for only where a pilot of another network has to do
    """
    here = [each for each in past if _same(each.machine, machine)]
    near = [each for each in here if each.job.place == asked.place]
    near = [each for each in near if each.job.loop or (each.beside and not asked.loop)]
    if not near:
        return _carried(asked, here, operations(), execution)
    ranks = [(_rank(asked, each, machine, execution), each) for each in near]
    best = max(rank for rank, _ in ranks)
    used = sorted((each for rank, each in ranks if rank == best), key=lambda each: each.finished)
    used = used[-RECENT:]
    loop, beside = _pass(used, execution), _pass_beside(used) or _pass_beside(near)
    seconds = asked.loop * loop + asked.beside * (loop if beside is None else beside)
    return Forecast(seconds, _basis(asked, used[-1]), len(used))


def _same(known: Machine, machine: Machine) -> bool:
    return (not machine.device or known.device == machine.device) and (
        not machine.threads or known.threads == machine.threads
    )


def _rank(
    asked: Job, known: Past, machine: Machine, execution: Callable[[int], str]
) -> tuple[bool, ...]:
    """How like the cell is: compared from the left."""
    kind = known.job
    alike = asked.learns == kind.learns
    handled = alike and asked.handling == kind.handling
    jobs = not machine.jobs or known.machine.jobs == machine.jobs
    executed = execution(known.operations) in ("", known.execution)
    return alike, handled, jobs, executed, kind.head == asked.head, not known.pilot


def _basis(asked: Job, known: Past) -> str:
    if known.pilot:
        return PILOT
    if asked.learns == known.job.learns and asked.handling == known.job.handling:
        return HEAD if asked.head == known.job.head else RECIPE
    return NETWORK


def _pass(used: Sequence[Past], execution: Callable[[int], str]) -> float:
    """Seconds of one pass in the loop; of cells without one, of what they did beside it."""
    rates = [
        each.seconds / each.job.loop * _pace(each.execution, execution(each.operations))
        for each in used
        if each.job.loop
    ]
    return median(rates) if rates else _pass_beside(used) or 0.0


def _pass_beside(used: Sequence[Past]) -> float | None:
    rates = [
        each.beside / each.job.beside
        for each in used
        if each.beside is not None and each.job.beside
    ]
    return median(rates) if rates else None


def _pace(known: str, asked: str) -> float:
    """How much longer a pass is, executed in another way; '' is any."""
    if known == asked or not (known and asked):
        return 1.0
    return COMPILED if asked == "compiled" else 1 / COMPILED


def _carried(
    asked: Job, past: Sequence[Past], operations: int, execution: Callable[[int], str]
) -> Forecast | None:
    """From pilots of other networks: as long as their operations say."""
    rates = [
        each.seconds / each.job.loop / each.operations
        for each in past
        if each.pilot and each.job.loop and each.operations
    ]
    if not rates or not operations:
        return None
    loop = asked.loop * _pace("eager", execution(operations))
    return Forecast((loop + asked.beside) * median(rates) * operations, OPERATIONS, len(rates))


def span(cells: Sequence[tuple[Cell, float]], jobs: int) -> float:
    """Seconds until all are over, handed out as the engine does it.

    cells  in their order, with their seconds; what one stands on comes before it, if it is here

    The next worker that is free takes the first cell of which everything before it is done.
    """
    ends: dict[str, float] = {}
    mine = {cell.key for cell, _ in cells}
    waiting = [
        (cell.key, [f.key for f in cell.foundations if f.key in mine], seconds)
        for cell, seconds in cells
    ]
    free = [0.0] * max(jobs, 1)
    heapq.heapify(free)
    while waiting:
        now = heapq.heappop(free)
        ready = (each for each in waiting if all(ends.get(key, math.inf) <= now for key in each[1]))
        chosen = next(ready, None)
        if chosen is None:  # until the next cell ends
            heapq.heappush(free, min(end for end in ends.values() if end > now))
            continue
        waiting.remove(chosen)
        ends[chosen[0]] = now + chosen[2]
        heapq.heappush(free, ends[chosen[0]])
    return max(ends.values(), default=0.0)


def resting(found: Mapping[str, int]) -> str:
    """For people, from near to far: '12 from cells with the same head, 3 from a pilot'."""
    words = {
        HEAD: "from cells with the same head",
        RECIPE: "from cells with another head",
        NETWORK: "from cells on the same network",
        PILOT: "from the pilot",
        OPERATIONS: "from the pilot, by operations of another network",
        READS: "that read features of another cell",
    }
    told = [f"{found[basis]} {text}" for basis, text in words.items() if found.get(basis)]
    return ", ".join(told)
