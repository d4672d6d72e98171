"""A local database of MLflow made anew from the records, and put in the old one's place."""

import os
import secrets
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from benchmark.records.ledger import Ledger, deliverable
from benchmark.records.record import Record


def rebuild(ledger: Ledger, found: Iterable[Record]) -> tuple[int, Path | None]:
    """Deliver all records into a new database, then put it where the old one is.

    Gives how many were delivered, and where the old one is kept, if there was one: beside other
    experiments it may hold people's notes. Until the last moment nothing of it is touched.

    Raises ValueError for a server, and where finished cells have no record here; Unreachable.
    """
    path = ledger.file
    if path is None:
        raise ValueError(
            f"--rebuild replaces a local database file, and {ledger.uri} is a server. Restore its "
            "database from its own backup; `python -m benchmark doctor` delivers what it lacks."
        )
    whole = [record for record in found if deliverable(record)]
    if path.is_file() and ledger.check() is None:
        _demand(ledger, {record.key for record in whole})
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}.new")
    built = replace(ledger, uri=f"sqlite:///{fresh}")
    try:
        count = built.deliver(whole)
        for each in (built, ledger):
            each.release()
        aside = swap(fresh, path)
    finally:
        fresh.unlink(missing_ok=True)
    return count, aside


def _demand(ledger: Ledger, here: set[str]) -> None:
    """Raises ValueError where a rebuilt database would lack finished cells of this one."""
    frame = ledger.read()
    lost = frame[~frame["key"].isin(here)]
    if len(lost):
        raise ValueError(
            f"{len(lost)} finished cells in {ledger.file} have no whole record here, the first is "
            f"{lost['key'].iloc[0]} ({lost['label'].iloc[0]}): made anew, it would lack them. "
            "Bring their folders under runs/, or move the database away and call `doctor`."
        )


def swap(fresh: Path, path: Path) -> Path | None:
    """Put a file in the place of another, with no moment without one; where the old one is kept."""
    if not path.exists():
        os.replace(fresh, path)
        return None
    aside, number = path.with_name(f"{path.name}.old"), 1
    while aside.exists():
        number += 1
        aside = path.with_name(f"{path.name}.old-{number}")
    for rest in ("-journal", "-wal", "-shm"):  # else SQLite would play them into the new file
        if (left := path.with_name(path.name + rest)).exists():
            left.rename(aside.with_name(aside.name + rest))
    os.link(path, aside)
    os.replace(fresh, path)
    return aside
