"""doctor: what is wrong with records and ledger, and the repair."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from benchmark.commands import tracking
from benchmark.records.ledger import undelivered
from benchmark.records.rebuild import rebuild as make_anew
from benchmark.records.record import Record, Torn, records


@dataclass(frozen=True, slots=True)
class Finding:
    """Something wrong: what, and the record that `--fix` clears, if that mends it."""

    what: str
    record: Record | None = None
    litter: Path | None = None


def doctor(
    runs: Path, tracking_uri: str | None, console: Console, *, fix: bool, rebuild: bool
) -> int:
    """Look, repair if asked to, deliver what is waiting; gives the exit code.

    rebuild  make a local database anew from the records, and set the old one aside

    Raises ValueError where there is nothing to rebuild from, or no local database; Unreachable
    where MLflow does not answer.
    """
    ledger = tracking.ledger(runs, tracking_uri)
    left = 0
    for finding in _look(runs):
        console.print(finding.what, markup=False)
        if fix and finding.record:
            finding.record.clear()
        elif fix and finding.litter:
            finding.litter.unlink(missing_ok=True)
        else:
            left += 1
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
    console.print(f"{len(waiting)} records, {count} delivered to {ledger.uri}", markup=False)
    return 1 if left else 0


def _look(runs: Path) -> Iterator[Finding]:
    for record in records(runs):
        try:
            record.cell(), record.suites(), record.curves(), record.failure()
            if record.result() is not None:
                record.weights()
                record.arrays()
        except Torn as error:
            yield Finding(str(error), record=record)
        for path in record.folder.glob(".*.tmp"):
            yield Finding(f"{path} was left by a process that was killed", litter=path)
