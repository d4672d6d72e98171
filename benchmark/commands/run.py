"""run: train what is missing of a suite, and nothing else."""

from dataclasses import replace

from rich.console import Console

from benchmark.commands.desk import Desk, Options
from benchmark.planning import suite


def run(options: Options, console: Console) -> int:
    """Train what is missing; gives the exit code: 0, 1 (a cell failed), 130 or 143 (interrupted).

    Raises ValueError, MissingData: one sentence, before anything is trained.
    """
    asked = suite.read(options.suite, options.changes)
    desk = Desk(replace(options, suite=asked.name), console)
    work = desk.agenda(asked, load=True, skip_missing=options.skip_missing)
    desk.tracker.open()
    return desk.train(work)
