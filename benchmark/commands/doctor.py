"""doctor: what is wrong with records, notebook, data, disk and ledger, and the repair."""

import os
import re
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from rich.console import Console

from benchmark.commands import tracking
from benchmark.commands.examine import Finding, examine
from benchmark.commands.surroundings import surroundings
from benchmark.records.claims import Busy
from benchmark.records.ledger import Ledger, undelivered
from benchmark.records.rebuild import rebuild as make_anew
from benchmark.records.record import Record

GONE = "its process is gone"


def doctor(
    runs: Path,
    tracking_uri: str | None,
    console: Console,
    *,
    fix: bool,
    rebuild: bool,
    data_root: Path | None = None,
) -> int:
    """Look, repair if asked to, deliver what is waiting; gives 1 where something is left, else 0.

    rebuild    make a local database anew from the records, and set the old one aside
    data_root  $BENCHMARK_DATA, else `data`, if not given

    Raises ValueError where there is nothing to rebuild from, or no local database; Unreachable
    where MLflow does not answer.
    """
    ledger = tracking.ledger(runs, tracking_uri)
    data_root = data_root or Path(os.environ.get("BENCHMARK_DATA") or "data")
    left = 0
    for finding in chain(examine(runs), surroundings(runs, data_root, ledger.file)):
        left += not _treat(finding, console, fix)
    broken = ledger.check()
    if broken:
        hint = "" if rebuild else ". `doctor --rebuild` makes a new one from the records."
        console.print(broken + hint, markup=False)
        if not rebuild:
            return 1
    waiting = undelivered(runs)
    if rebuild:
        count, aside = make_anew(ledger, waiting)
        if aside is not None:
            console.print(f"made anew; the old one is kept as {aside}", markup=False)
    else:
        count = ledger.deliver(waiting)
    for finding in _running(ledger, runs):
        left += not _treat(finding, console, fix)
    console.print(f"{len(waiting)} records, {count} delivered to {ledger.uri}", markup=False)
    return 1 if left else 0


def _treat(finding: Finding, console: Console, fix: bool) -> bool:
    """Say what is wrong, in one line, and mend it if asked to; whether it is mended."""
    cure, mended = finding.cure, False
    if finding.mend and not fix:
        cure = f"`doctor --fix` {cure}"
    elif finding.mend:
        try:
            cure, mended = finding.mend(), True
        except Busy:
            cure = "a process works on it now, so it was left alone"
        except OSError as error:
            cure = f"that could not be mended ({error.strerror})"
    between = ": " if finding.mend else ". "
    console.print(finding.what + between + cure, markup=False, highlight=False, soft_wrap=True)
    return mended


def _running(ledger: Ledger, runs: Path) -> Iterator[Finding]:
    """Cells that MLflow shows in training and nobody trains; what a delivery ends is ended."""
    for run, key in ledger.running().items():
        if not _is_trained(key, runs, ledger.file is not None):

            def end(run: str = run) -> str:
                ledger.leave(run, GONE)
                return "ended as KILLED"

            what = f"MLflow shows {key} in training, and nobody trains it"
            yield Finding(what, "ends that run as KILLED", end)


def _is_trained(key: str, runs: Path, alone: bool) -> bool:
    """Whether a cell is trained now, as far as can be seen from here.

    alone  MLflow's database lies beside these records: nobody on another machine writes there
    """
    folders = [runs / key] if re.fullmatch(r"\w+", key) else []
    if alone and folders:  # other folders of records share the database
        folders += runs.resolve().parent.glob(f"*/{key}")
    here = [folder for folder in folders if folder.is_dir()]
    return any(Record(folder).held for folder in here) or not (here or alone)
