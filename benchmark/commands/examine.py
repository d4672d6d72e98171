"""What can be wrong with records, and how it is mended: nothing is ever deleted that was evidence.

What a process works on at this moment is left alone.
"""

import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmark.records import claims, lease
from benchmark.records.files import remove
from benchmark.records.record import REPAIR, Newer, Record, Torn

ASIDE = "aside"  # folder beside the records for what was damaged
EVIDENCE = ("result", "failure", "arrays", "weights", "curves")  # the result, which vouches, first
OLD = 3600.0  # seconds without a change after which a stranger's temporary file is litter; ours


@dataclass(frozen=True, slots=True)
class Finding:
    """Something wrong.

    what  the first half of a sentence
    cure  what to do, where nothing here mends it; else what `--fix` does, as in 'removes it'
    mend  does that, and gives what was done, as in 'removed'; raises Busy, OSError
    """

    what: str
    cure: str
    mend: Callable[[], str] | None = None


def examine(runs: Path) -> Iterator[Finding]:
    """Everything that is wrong with records; what is mended meanwhile is not found again."""
    for folder in sorted(runs.iterdir()) if runs.is_dir() else ():
        if folder.is_dir() and folder.name != ASIDE:
            record = Record(folder)
            yield from _claims(record)
            yield from _evidence(record)
            yield from _litter(record)


def _evidence(record: Record) -> Iterator[Finding]:
    try:
        _look(record)
    except Newer as error:
        yield Finding(*halves(error, ". ", "Update this checkout."))
    except Torn as error:
        if not record.held:
            cure = "sets it aside; what is missing then is trained again by the next run"
            what, _ = halves(error, f": {REPAIR}", "")
            yield Finding(what, cure, lambda: _set_aside(record))
    except OSError as error:
        yield Finding(f"{error.filename} cannot be read ({error.strerror})", "Make it readable.")


def _look(record: Record) -> None:
    """Read all that there is; raises Torn, OSError."""
    for path in _evident(record):
        os.close(os.open(path, os.O_RDONLY))  # what may not be read is not damaged
    if record.begun or _evident(record):
        record.suites(), record.failure()
        _vouched(record)


def _vouched(record: Record) -> None:
    record.cell(), record.curves()
    if record.result() is not None:
        record.weights(), record.arrays()


def _evident(record: Record) -> list[Path]:
    return [path for name in EVIDENCE for path in record.folder.glob(f"{name}.*")]


def _damaged(record: Record) -> list[Path]:
    """What has to go so that the rest can be read. Tags and failures are no evidence."""
    alone = {"suites.json": record.suites, "failure.json": record.failure}
    gone = [record.folder / name for name, look in alone.items() if _is_torn(look)]
    if _is_torn(lambda: _vouched(record)):
        gone += [path for path in _evident(record) if path not in gone]
        gone += [record.folder / "cell.json"] if _is_torn(record.cell) else []
        gone.append(record.folder / "claim.json")  # of who wrote what goes
    return [path for path in gone if path.exists()]


def _is_torn(look: Callable[[], object]) -> bool:
    try:
        look()
    except Newer:
        return False
    except Torn:
        return True
    return False


def _set_aside(record: Record) -> str:
    with claims.hold(record.folder):
        damaged = _damaged(record)
        if not damaged:
            return "whole again, another process has mended it"
        number = 1
        while (aside := record.folder.parent / ASIDE / f"{record.key}-{number}").exists():
            number += 1
        aside.mkdir(parents=True)
        for path in damaged:
            path.rename(aside / path.name)
        stated = record.folder / "cell.json"
        if stated.is_file():  # so that people know what it was
            shutil.copy(stated, aside)
    return f"set aside in {aside}"


def _litter(record: Record) -> Iterator[Finding]:
    held = record.held
    left = record.litter()
    others = [path for path in record.folder.glob(".*.tmp") if path not in left]
    for path in left + [path for path in others if not held and is_old(path)]:
        whose = "was left by a process that is gone"
        if path.name.startswith("checkpoint-"):
            whose = "is of a cell that is finished"
        elif path.name == "failure.json":
            whose = "is of an earlier try, and the cell has its result"
        yield Finding(f"{path} {whose}", "removes it", removal(path, record.folder))


def _claims(record: Record) -> Iterator[Finding]:
    """Claims whose owners are gone; the kernel's locks went with them."""
    for path in sorted(record.folder.glob("claim-*.lease")):
        if not lease.taken(record.folder):
            yield Finding(f"{path} is of a process that is gone", "ends it", lambda: _end(record))
            break
    path = record.folder / "claim.json"
    over = any((record.folder / name).is_file() for name in ("result.json", "failure.json"))
    if path.is_file() and not over and not record.held:
        try:
            note = json.loads(path.read_text(encoding="utf-8"))
            who = f"process {note['pid']} on {note['host']}"
        except (ValueError, TypeError, KeyError, OSError):
            who = "a process"
        yield Finding(
            f"{path}: {who} worked on this cell, and is gone; the next run goes on with it",
            "removes the claim",
            removal(path, record.folder),
        )


def _end(record: Record) -> str:
    """Take the lease over and give it back: nobody who takes it at this moment is disturbed."""
    own = lease.take(record.folder)
    if own is None:
        raise claims.Busy(f"{record.folder} is being worked on by another process")
    own.release()
    return "ended"


def removal(path: Path, held: Path | None = None) -> Callable[[], str]:
    """Give what removes a file; held: a record's folder, that nobody else may hold meanwhile."""

    def mend() -> str:
        if held is None:
            remove(path)
        else:
            with claims.hold(held):
                remove(path)
        return "removed"

    return mend


def is_old(path: Path) -> bool:
    """Whether a file is older than any write takes."""
    try:
        return time.time() - path.stat().st_mtime > OLD
    except FileNotFoundError:
        return False


def halves(error: Exception, mark: str, otherwise: str) -> tuple[str, str]:
    """What is wrong and what to do, of an error's sentences; `mark` is between them."""
    text = re.sub(r"\s+", " ", str(error)).strip()
    what, found, cure = text.partition(mark)
    return what.removesuffix("."), cure if found and cure else otherwise
