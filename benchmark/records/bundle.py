"""Records in one file, to be carried to another machine: a tar, checked before it is taken in.

    manifest.json            schema, protocol, and the checksum of each cell's result
    <key>/cell.json …        the files of each finished record, weights included

Nothing of such a file is trusted: names are held against the files that a record has, sizes are
bounded, each record is verified as on disk, and a cell must hash to the key that it is under.
"""

import io
import json
import os
import re
import shutil
import tarfile
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from benchmark.planning.cell import PROTOCOL
from benchmark.records.record import Busy, Record, Torn, records

SCHEMA = 1
MANIFEST = "manifest.json"
FILES = ("cell.json", "suites.json", "curves.json", "arrays.safetensors", "weights.safetensors")
_DAMAGED = (tarfile.TarError, EOFError, UnicodeError, json.JSONDecodeError, RecursionError)
RESULT = "result.json"  # put in place last: it vouches for the others
LARGEST = {".json": 256 << 20, ".safetensors": 16 << 30}
"""Bytes of one file, at most; ours: the longest curves have 1 MB, a Swin-T's weights 110 MB."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of a cell of a bundle.

    fate    taken · here: with the same numbers · refused
    reason  why it was refused
    """

    key: str
    label: str
    fate: str
    reason: str = ""


def pack(found: Iterable[Record], target: Path) -> int:
    """Write finished records to a file, whole or not at all; gives how many.

    The same records give the same bytes. Raises Torn for a damaged record, ValueError where none is
    finished, OSError where the file cannot be written.
    """
    chosen = sorted((each for each in found if each.result()), key=lambda record: record.key)
    if not chosen:
        raise ValueError("there is no finished cell to bundle. Run a suite first.")
    for record in chosen:
        record.arrays(), record.weights()  # what is damaged is not carried on
    manifest = {"schema": SCHEMA, "protocol": PROTOCOL, "cells": [each.key for each in chosen]}
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as sink:
            with tarfile.open(fileobj=sink, mode="w", format=tarfile.PAX_FORMAT) as tar:
                text = json.dumps(manifest, indent=1).encode()
                _add(tar, MANIFEST, len(text), io.BytesIO(text))
                for record in chosen:
                    for part in (*FILES, RESULT):
                        path = record.folder / part
                        if path.is_file():
                            with open(path, "rb") as source:
                                _add(tar, f"{record.key}/{part}", path.stat().st_size, source)
            sink.flush()
            os.fsync(sink.fileno())
        os.chmod(name, 0o644)
        os.replace(name, target)
    finally:
        Path(name).unlink(missing_ok=True)
    return len(chosen)


def take(file: Path, runs: Path) -> Iterator[Taken]:
    """Take the cells of a bundle into a folder of records, one after the other.

    A cell is refused if its record is damaged or states another cell than its key, if it was
    trained on other images than cells here with the same data, or if it is finished here with other
    numbers. Nothing that is here is changed, but for suites, which are tags.

    Raises ValueError, before anything is taken, if the file is no bundle, or one of another schema
    or protocol; OSError where it cannot be read, or the records not be written.
    """
    runs.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=runs, prefix=".merge-") as folder:
        unpacked = Path(folder)
        _unpack(file, unpacked)
        known = _images(runs)
        for place in sorted(unpacked.iterdir()):
            yield _one(Record(place), Record(runs / place.name), known)


def _one(theirs: Record, mine: Record, known: dict[str, str]) -> Taken:
    label = ""
    try:
        cell, result = theirs.cell(), theirs.result()
        label = cell.label
        theirs.arrays(), theirs.weights(), theirs.curves()
        if result is None:
            return Taken(mine.key, label, "refused", "it has no result")
        if cell.key != mine.key:
            return Taken(mine.key, label, "refused", f"it states the cell {cell.key}")
        images = result["digests"]["images"]
        if known.get(cell.material, images) != images:
            return Taken(
                mine.key, label, "refused", "it was trained on other images than cells here"
            )
        own = mine.result()
        if own is not None:
            if repr(own["metrics"]) != repr(result["metrics"]):
                reason = "it is finished here with other numbers; `replay` tells who is right"
                return Taken(mine.key, label, "refused", reason)
            fate = "here"
        else:
            with mine.claim({"pid": os.getpid(), "merge": True}):
                for name in (*FILES[:1], *FILES[2:], RESULT):
                    os.replace(theirs.folder / name, mine.folder / name)
            known[cell.material] = images
            fate = "taken"
        for suite in theirs.suites():
            mine.tag(suite)
        return Taken(mine.key, label, fate)
    except (Torn, Busy, KeyError, TypeError) as error:
        return Taken(
            mine.key, label, "refused", str(error).replace(str(theirs.folder), "its record")
        )


def _images(runs: Path) -> dict[str, str]:
    """The digest of the images of each data setting that was trained on here."""
    found = {}
    for record in records(runs):
        try:
            result = record.result()
            if result is not None:
                found[record.cell().material] = str(result["digests"]["images"])
        except Torn:
            continue  # `doctor` names it
    return found


def _unpack(file: Path, folder: Path) -> None:
    try:
        with tarfile.open(file, "r:") as tar:
            first = tar.next()
            if first is None or first.name != MANIFEST:
                raise ValueError(f"{file} is no bundle: it does not begin with {MANIFEST}.")
            _check(json.loads(_part(tar, first).read()), file)
            for member in tar:
                if member.name != MANIFEST:
                    key, name = _names(member, file)
                    (folder / key).mkdir(exist_ok=True)
                    with open(folder / key / name, "xb") as sink:
                        shutil.copyfileobj(_part(tar, member), sink)
    except _DAMAGED as error:
        raise ValueError(f"{file} is no bundle, or a damaged one ({error}).") from None
    except FileExistsError as error:
        raise ValueError(f"{file} has {Path(error.filename).name} of a cell twice.") from None


def _check(manifest: Any, file: Path) -> None:
    if not isinstance(manifest, dict) or manifest.get("schema") != SCHEMA:
        raise ValueError(f"{file} has no schema that is known here ({SCHEMA}). Update one of both.")
    if manifest.get("protocol") != PROTOCOL:
        raise ValueError(
            f"{file} has protocol {manifest.get('protocol')}, and this benchmark has {PROTOCOL}: "
            "equal cells mean different numbers. Train them again with one version."
        )


def _names(member: tarfile.TarInfo, file: Path) -> tuple[str, str]:
    """Key and file name of a member; ValueError unless it is a file that a record has."""
    key, _, name = member.name.partition("/")
    if not (member.isreg() and re.fullmatch("[0-9a-f]{16}", key) and name in (*FILES, RESULT)):
        raise ValueError(f"{file} has a member {member.name!r}, which no record has.")
    return key, name


def _part(tar: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    most = LARGEST[Path(member.name).suffix]
    source = tar.extractfile(member) if member.isreg() and member.size <= most else None
    if source is None:
        raise ValueError(f"{member.name!r} in a bundle is no file of at most {most:,} bytes.")
    return source


def _add(tar: tarfile.TarFile, name: str, size: int, source: IO[bytes]) -> None:
    info = tarfile.TarInfo(name)  # no date, owner or mode of this machine
    info.size = size
    tar.addfile(info, source)
