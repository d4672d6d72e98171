"""doctor: what is wrong with records and ledger, and the repair."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from benchmark.records.ledger import Ledger, default_uri, undelivered
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

    rebuild  write everything to MLflow again, into a new database if the old one is broken

    Raises Unreachable where MLflow does not answer.
    """
    here = runs.resolve().parent
    ledger = Ledger(tracking_uri or default_uri(here), here / "mlartifacts")
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
    if broken and rebuild:
        path = Path(ledger.uri.removeprefix("sqlite:///"))
        path.rename(path.with_suffix(".broken"))
        console.print(f"{broken}: set aside, a new one is made", markup=False)
    elif broken:
        sentence = f"{broken}. `doctor --rebuild` makes a new one from the records."
        console.print(sentence, markup=False)
        return 1
    waiting = undelivered(runs)
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
