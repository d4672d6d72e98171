"""run: train what is missing of a suite, and nothing else."""

from contextlib import closing
from dataclasses import replace

from rich.console import Console

from benchmark.commands.desk import Desk, Options
from benchmark.planning import suite


def run(options: Options, console: Console) -> int:
    """Train what is missing; gives the exit code.

    0    every cell has its result, or is declined with a reason
    1    a cell failed; the others were trained all the same
    130  Ctrl-C; 143 SIGTERM; 138 SIGUSR1: everything is saved, and the same command goes on

    Raises ValueError, MissingData: one sentence, before anything is trained; exit code 2.
    """
    asked = suite.read(options.suite, options.changes)
    with closing(Desk(replace(options, suite=asked.name), console)) as desk:
        work = desk.agenda(asked, load=True, skip_missing=options.skip_missing)
        desk.tracker.open()
        return desk.train(work)
