"""run: train what is missing of a suite, and nothing else."""

from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

from rich.console import Console

from benchmark.commands.desk import Desk, Options
from benchmark.engines import torchrun
from benchmark.planning import suite

if TYPE_CHECKING:
    from benchmark.training.orders import Orders


def run(options: Options, console: Console) -> int:
    """Train what is missing; gives the exit code.

    0    every cell has its result, or is declined with a reason
    1    a cell failed; the others were trained all the same
    130  Ctrl-C; 143 SIGTERM; 138 SIGUSR1: everything is saved, and the same command goes on

    Raises ValueError, MissingData: one sentence, before anything is trained; exit code 2.
    """
    rank = torchrun.rank()
    if rank is None:
        return _run(options, console)
    from benchmark.commands import together

    def lead(own: Options, orders: "Orders") -> int:
        return _run(own, console, orders)

    return together.run(options, rank, console, lead)


def _run(options: Options, console: Console, orders: "Orders | None" = None) -> int:
    asked = suite.read(options.suite, options.changes)
    with closing(Desk(replace(options, suite=asked.name), console, orders)) as desk:
        work = desk.agenda(asked, load=True, skip_missing=options.skip_missing)
        desk.tracker.open()
        return desk.train(work)
