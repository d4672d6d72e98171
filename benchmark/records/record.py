"""A cell's own record on disk: the evidence that it is finished. No mlflow, no torch.

    runs/<key>/
        cell.json                what was to be done
        suites.json              the suites that asked for it: tags, not identity
        claim.lock, claim.json   who works on it; the kernel frees the lock when its holder dies
        claim-*.lease            the same where the file system has no locks: see lease.py
        curves.json              one row an epoch, written before the result
        checkpoint-*.safetensors only while training
        arrays.safetensors       class vectors, per-class accuracy, confusion, assignments, …
        weights.safetensors      backbone and heads
        result.json              written last, with schema version, checksum and file digests
        failure.json             instead of a result: the traceback

Every file appears whole or not at all: temporary file, fsync, rename, fsync of the folder.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from benchmark.planning.cell import Cell
from benchmark.records import claims
from benchmark.records.claims import Busy as Busy
from benchmark.records.claims import Claim
from benchmark.records.faults import point
from benchmark.records.files import digest as digest
from benchmark.records.files import orphan, remove
from benchmark.records.files import write_whole as write_whole

SCHEMA = 1
SHARED = ("suites", "failure")  # files that are written by whoever has to, not by the holder alone

Array = np.ndarray[Any, Any]


class Torn(ValueError):
    """A record that is damaged: the sentence names the file and what to do."""


class Newer(Torn):
    """A record that a newer version wrote: nothing may be cleared away."""


@dataclass(frozen=True, slots=True)
class Record:
    """The folder of one cell."""

    folder: Path

    @property
    def key(self) -> str:
        """The cell's key."""
        return self.folder.name

    def begin(self, cell: Cell) -> None:
        """Write what is to be done."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_whole(self.folder / "cell.json", _json(cell.to_json()))

    @property
    def begun(self) -> bool:
        """Whether there is a readable statement of the cell."""
        return (self.folder / "cell.json").is_file()

    def cell(self) -> Cell:
        """The cell as it was stated; Torn where that cannot be read."""
        try:
            return Cell.from_json(self._read("cell.json") or {})
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            if isinstance(error, Torn):
                raise
            raise Torn(f"{self.folder / 'cell.json'} states no cell: {REPAIR}") from None

    def tag(self, suite: str) -> None:
        """Note that a suite asks for this cell."""
        try:
            known = self.suites()
        except Torn:
            known = ()  # written anew: a tag is no evidence
        if suite not in known and self.folder.is_dir():
            try:
                write_whole(self.folder / "suites.json", _json(sorted({*known, suite})))
            except OSError:  # a full disk: the next run tags it, and this one goes on
                pass

    def suites(self) -> tuple[str, ...]:
        """The suites that asked for this cell."""
        return tuple(self._read("suites.json") or ())

    def curves(self) -> list[dict[str, Any]]:
        """One row an epoch; empty until the cell is finished. Torn where a result disowns them."""
        rows = self._read("curves.json")
        vouched = (self.result() or {"files": {}})["files"].get("curves.json")
        if vouched is not None and vouched != digest((self.folder / "curves.json").read_bytes()):
            raise Torn(f"{self.folder / 'curves.json'} does not match its result: {REPAIR}")
        return list(rows or [])

    def write_curves(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Keep the rows so far."""
        write_whole(self.folder / "curves.json", _json(list(rows)))

    def finish(
        self,
        result: Mapping[str, Any],
        arrays: Mapping[str, Array],
        weights: Mapping[str, Array],
        sure: Callable[[], None] = lambda: None,
    ) -> None:
        """Write arrays and weights, then the result that vouches for them and for the curves.

        sure  called before each file; may raise, as `Claim.sure` does
        """
        files = {}
        curves = self.folder / "curves.json"
        if curves.is_file():
            files[curves.name] = digest(curves.read_bytes())
        for name, content in (("arrays", arrays), ("weights", weights)):
            packed = save({key: np.asarray(value, order="C") for key, value in content.items()})
            sure()
            write_whole(self.folder / f"{name}.safetensors", packed)
            files[f"{name}.safetensors"] = digest(packed)
        body = {**result, "schema": SCHEMA, "key": self.key, "files": files}
        sealed = {**body, "checksum": digest(_json(body))}
        sure()
        (self.folder / "failure.json").unlink(missing_ok=True)  # first: never both
        write_whole(self.folder / "result.json", _json(sealed))

    def fail(self, reason: str, traceback: str) -> None:
        """Record why there is no result; the cell stays to be done.

        Where not even that can be written there is no note: it is none of the evidence.
        """
        note = _json({"reason": reason, "traceback": traceback})
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_whole(self.folder / "failure.json", note)
        except OSError:
            pass

    def failure(self) -> Mapping[str, str] | None:
        """Why there is no result, if it was tried: reason and traceback."""
        return dict(found) if (found := self._read("failure.json")) else None

    def result(self) -> dict[str, Any] | None:
        """The sealed result, None if there is none yet.

        Raises Torn where the file, or one that it vouches for, is damaged or of another cell, Newer
        where a newer version wrote it.
        """
        if not (self.folder / "result.json").is_file():
            return None
        body: dict[str, Any] = self._read("result.json", _intact)
        body.pop("checksum", None)
        schema = body.get("schema")
        if isinstance(schema, int) and schema > SCHEMA:
            raise Newer(
                f"{self.folder} was written by a newer version: it has schema {schema}, and this "
                f"one knows {SCHEMA}. Update this checkout, or choose another --runs."
            )
        if body.get("key", self.key) != self.key:
            raise Torn(f"{self.folder / 'result.json'} states the cell {body['key']}: {REPAIR}")
        if schema != SCHEMA:
            raise Torn(f"{self.folder} has schema {body.get('schema')}, not {SCHEMA}: {REPAIR}")
        if not _vouches(body.get("files")):
            raise Torn(f"{self.folder / 'result.json'} vouches for no files: {REPAIR}")
        for name in body["files"]:
            if not (self.folder / name).is_file():
                raise Torn(f"{self.folder / name} is missing: {REPAIR}")
        return body

    def arrays(self) -> dict[str, Array]:
        """Class vectors, per-class accuracy, confusion, and what else was kept, verified."""
        return self._verified("arrays.safetensors")

    def weights(self) -> dict[str, Array]:
        """Backbone and heads, verified."""
        return self._verified("weights.safetensors")

    def clear(self) -> None:
        """Forget the result, so that the cell is trained again.

        Raises Newer, and leaves everything as it is, where a newer version wrote it.
        """
        try:
            self.result()
        except Newer:
            raise
        except Torn:
            pass
        names = ("result.json", "failure.json", "arrays.safetensors", "weights.safetensors")
        for name in (*names, "curves.json"):  # the result first: without it nothing is vouched for
            (self.folder / name).unlink(missing_ok=True)
        for name, look in (("cell.json", self.cell), ("suites.json", self.suites)):
            try:
                look()
            except Torn:
                (self.folder / name).unlink(missing_ok=True)

    def litter(self) -> list[Path]:
        """What processes that died left here: temporary files; checkpoints beside a result."""
        found = self._temporary(holding=not self.held)
        try:
            finished = self.result() is not None
        except Torn:
            finished = False
        if finished:
            found += [*self.folder.glob("checkpoint-*"), *self.folder.glob("failure.json")]
        return found

    def tidy(self) -> None:
        """Remove the litter; what cannot be removed stays."""
        for path in self.litter():
            remove(path)

    def sweep(self) -> None:
        """Remove the litter where nobody works on the cell: of a finished one nobody ever will."""
        if self.litter():
            with suppress(Busy), claims.hold(self.folder):
                self.tidy()

    @contextmanager
    def claim(self, note: Mapping[str, Any]) -> Iterator[Claim]:
        """Hold the cell while working on it; Busy if another process does.

        The lock is the kernel's: it goes with the process, however that ends. Where the file system
        has no locks a lease stands for it, which goes some minutes after its process.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with claims.hold(self.folder) as claim:
            for path in self._temporary(holding=True):
                remove(path)
            point("cell: claimed")
            self.note(note)
            yield claim

    def note(self, note: Mapping[str, Any]) -> None:
        """Write who holds the cell, for people."""
        write_whole(self.folder / "claim.json", _json(note))

    @property
    def held(self) -> bool:
        """Whether a process works on this cell now."""
        return claims.held(self.folder)

    def _temporary(self, holding: bool) -> list[Path]:
        """Temporary files that nobody writes any more.

        holding  nobody else holds the cell: files that only the holder writes are orphans then
        """
        own = (*(f".{name}.json." for name in SHARED), ".clock.")  # and whoever looks at a lease
        return [
            path
            for path in self.folder.glob(".*.tmp")
            if (holding and not path.name.startswith(own)) or orphan(path)
        ]

    def _read(self, name: str, intact: Callable[[bytes], bool] | None = None) -> Any:
        """What a file says, None where there is no such file."""
        try:
            text = (self.folder / name).read_bytes()
            found = json.loads(text.decode())
        except FileNotFoundError:
            return None
        except (ValueError, OSError, RecursionError) as error:
            raise Torn(f"{self.folder / name} cannot be read ({error}): {REPAIR}") from None
        if not FORMS[name](found):
            raise Torn(f"{self.folder / name} is not what such a file says: {REPAIR}")
        if intact is not None and not intact(text):
            raise Torn(f"{self.folder / name} is damaged: {REPAIR}")
        return found

    def _verified(self, name: str) -> dict[str, Array]:
        result = self.result()
        if result is None:
            raise Torn(f"{self.folder} is not finished: run its suite first.")
        try:
            content = (self.folder / name).read_bytes()
            if digest(content) == result["files"].get(name):
                return dict(load(content))
        except (OSError, SafetensorError):  # sealed, and yet no safetensors
            pass
        raise Torn(f"{self.folder / name} does not match its result: {REPAIR}")


REPAIR = "`python -m benchmark doctor --fix` clears it, and the next run trains it again."


def _vouches(files: Any) -> bool:
    """Whether this is what a result says of its files: a digest under the name of each."""
    return isinstance(files, dict) and all(
        name in VOUCHED and isinstance(value, str) for name, value in files.items()
    )


def _list_of(kind: type) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and all(isinstance(each, kind) for each in value)


VOUCHED = ("curves.json", "arrays.safetensors", "weights.safetensors")
FORMS: Mapping[str, Callable[[Any], bool]] = {  # of what is read from each file
    "cell.json": lambda value: isinstance(value, dict),
    "suites.json": _list_of(str),
    "curves.json": _list_of(dict),
    "result.json": lambda value: isinstance(value, dict),
    "failure.json": lambda value: (
        isinstance(value, dict)
        and all(isinstance(value.get(name), str) for name in ("reason", "traceback"))
    ),
}


def records(runs: Path) -> Iterator[Record]:
    """All records under a folder, in order of their keys."""
    if runs.is_dir():
        for folder in sorted(runs.iterdir()):
            if (folder / "cell.json").is_file():
                yield Record(folder)


def _intact(text: bytes) -> bool:
    """Whether what `finish` wrote is as it was: all of it but the line of the seal has that digest.

    The text is taken as it stands: to write it again from what it says takes ten times as long.
    """
    seal = _SEAL.search(text)
    if seal is None or rb"\ud" in text.lower():  # half of a pair of surrogates: no text
        return False
    return digest(text[: seal.start()] + text[seal.end() :]).encode() == seal[1]


_SEAL = re.compile(rb'\n "checksum": "([0-9a-f]+)",')  # deeper ones stand further in


def _json(value: Any) -> bytes:
    return json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False).encode()
