"""What can be wrong beside the records: litter, notebook, data, disk; and how it is mended."""

import os
import shutil
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from benchmark.commands.examine import Finding, halves, is_old, removal
from benchmark.records.files import orphan
from benchmark.records.fresh import leftovers
from benchmark.records.record import Torn, records

ROOM = 512 << 20  # bytes that must be free in any case: database, findings; ours


def surroundings(runs: Path, data_root: Path, database: Path | None) -> Iterator[Finding]:
    """Everything that is wrong around these records.

    database  MLflow's, None where that is on a server
    """
    yield from _litter(runs, database)
    yield from _notebook(runs.resolve().parent / "notebook")
    yield from _data(runs, data_root)
    yield from _disk(runs, database)


def _litter(runs: Path, database: Path | None) -> Iterator[Finding]:
    """What was left where no record is."""
    left = [path for path in runs.glob(".*.tmp") if orphan(path) or is_old(path)]
    if database is not None:
        left += leftovers(database)
        left += [path for path in database.parent.glob(f".{database.name}.*.new*") if is_old(path)]
    for path in left:
        what = f"{path} was left by a process that is gone"
        yield Finding(what, "removes it", removal(path))


def _notebook(folder: Path) -> Iterator[Finding]:
    """Trials that Optuna believes to be running; nothing on a machine without it."""
    journals = sorted(folder.glob("*.journal"))
    if not journals:
        return
    try:
        from studies.search import Taken, left_open
    except ImportError:
        return

    for path in journals:

        def fail(path: Path = path) -> str:
            left_open(path, fail=True)
            return "failed"

        try:
            found = left_open(path)
        except Taken:  # its owner is alive
            continue
        except ValueError as error:
            yield Finding(*halves(error, ". ", "Move it away."))
            continue
        for trial in found:
            yield Finding(
                f"{path}: Optuna believes {trial} to be running, and nobody trains it",
                "fails it, and the study asks for it again",
                fail,
            )


def _data(runs: Path, root: Path) -> Iterator[Finding]:
    """Images that are not those that finished cells were trained on, or not where cells need them.

    Data of cells that were merged from another machine need not be here.
    """
    known: dict[tuple[str, str | None, int | None], list[str]] = defaultdict(list)
    here: set[tuple[str, str | None, int | None]] = set()
    for record in records(runs):
        try:
            options, result = dict(record.cell().data), record.result()
        except Torn:
            continue
        which = str(options["name"]), options.get("folder"), options.get("classes")
        known[which] += [result["digests"]["images"]] if result else []
        if result is None or (record.folder / "claim.json").is_file():
            here.add(which)
    if not known:
        return
    from datasets import DATASETS
    from datasets.base import MissingData

    for (name, folder, classes), digests in sorted(known.items(), key=repr):
        if name not in DATASETS:
            continue
        try:
            found = DATASETS[name].read(root, folder, classes).digest
        except MissingData as error:
            if (name, folder, classes) in here:
                yield Finding(*halves(error, ". ", "Put it back."))
            continue
        except (ValueError, OSError) as error:
            yield Finding(*halves(error, ". ", "Put it back as it was."))
            continue
        if others := [digest for digest in digests if digest != found]:
            yield Finding(
                f"the images of {name} are not those that {len(others)} finished cells were "
                "trained on",
                "Put those back, or train these cells again with `run --refresh`.",
            )


def _disk(runs: Path, database: Path | None) -> Iterator[Finding]:
    """Whether there is room for what is begun: its records, and checkpoints of those side by side.

    A database is written beside the old one where it is made anew.
    """
    if not runs.is_dir():
        return
    unfinished, largest = 0, 0
    for record in records(runs):
        if (record.folder / "result.json").is_file():
            largest = max(largest, sum(path.stat().st_size for path in record.folder.iterdir()))
        else:
            unfinished += 1
    needed = ROOM + largest * (unfinished + 3 * min(unfinished, os.cpu_count() or 1))
    if database is not None and database.is_file():
        needed += database.stat().st_size
    free = shutil.disk_usage(runs).free
    if free < needed:
        yield Finding(
            f"{free >> 20:,} MiB are free where {runs} lies, and {unfinished} unfinished cells "
            f"and the database may need {needed >> 20:,}",
            "Make room.",
        )
