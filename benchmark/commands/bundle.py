"""bundle and merge: finished cells in one file, from one machine to another."""

from collections import Counter
from pathlib import Path

from rich.console import Console

from benchmark.records.bundle import pack, take
from benchmark.records.record import records


def bundle(suite: str | None, out: Path, runs: Path, console: Console) -> None:
    """Write the finished cells of a suite, or all, to a file.

    Raises ValueError where there is none, Torn where one is damaged.
    """
    chosen = [each for each in records(runs) if suite is None or suite in each.suites()]
    count = pack(chosen, out)
    size = out.stat().st_size / 1e6
    console.print(f"{count} cells, {size:.1f} MB: {out}", markup=False, highlight=False)


def merge(
    files: list[Path], runs: Path, tracking_uri: str | None, console: Console, *, offline: bool
) -> int:
    """Take the cells of bundles into the records and bring them to MLflow; gives the exit code.

    0 where all are here now, 1 where some were refused, each with its reason. Raises ValueError for
    a file that is no bundle or has another protocol, Unreachable where MLflow does not answer.
    """
    fates: Counter[str] = Counter()
    for file in files:
        for each in take(file, runs):
            fates[each.fate] += 1
            if each.fate == "refused":
                told = f"refused {each.key} {each.label}: {each.reason}"
                console.print(told, markup=False, highlight=False)
    told = ", ".join(f"{fates[fate]} {fate}" for fate in ("taken", "here", "refused"))
    console.print(told, markup=False, highlight=False)
    if not offline:
        from benchmark.records.ledger import Ledger, default_uri

        here = runs.resolve().parent
        Ledger(tracking_uri or default_uri(here), here / "mlartifacts").deliver(records(runs))
    return 1 if fates["refused"] else 0
