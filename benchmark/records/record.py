"""A cell's own record on disk: the evidence that it is finished. No mlflow, no torch.

    runs/<key>/
        cell.json                what was to be done
        suites.json              the suites that asked for it: tags, not identity
        claim.lock, claim.json   who works on it; the kernel frees the lock when its holder dies
        curves.json              one row an epoch, written before the result
        checkpoint-*.safetensors only while training
        arrays.safetensors       class vectors, per-class accuracy, confusion, assignments, …
        weights.safetensors      backbone and heads
        result.json              written last, with schema version, checksum and file digests
        failure.json             instead of a result: the traceback

Every file appears whole or not at all: temporary file, fsync, rename, fsync of the folder.
"""

import fcntl
import hashlib
import json
import os
import re
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save

from benchmark.planning.cell import Cell

SCHEMA = 1

Array = np.ndarray[Any, Any]


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that it is there whole or not at all, also after a power cut."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def digest(content: bytes) -> str:
    """Sha256, hexadecimal."""
    return hashlib.sha256(content).hexdigest()


class Torn(ValueError):
    """A record that is damaged: the sentence names the file and what to do."""


class Busy(RuntimeError):
    """Another process works on this cell."""


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
            write_whole(self.folder / "suites.json", _json(sorted({*known, suite})))

    def suites(self) -> tuple[str, ...]:
        """The suites that asked for this cell."""
        return tuple(self._read("suites.json") or ())

    def curves(self) -> list[dict[str, Any]]:
        """One row an epoch; empty until the cell is finished."""
        return list(self._read("curves.json") or [])

    def write_curves(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Keep the rows so far."""
        write_whole(self.folder / "curves.json", _json(list(rows)))

    def finish(
        self,
        result: Mapping[str, Any],
        arrays: Mapping[str, Array],
        weights: Mapping[str, Array],
    ) -> None:
        """Write arrays and weights, then the result that vouches for them."""
        files = {}
        for name, content in (("arrays", arrays), ("weights", weights)):
            packed = save({key: np.asarray(value, order="C") for key, value in content.items()})
            write_whole(self.folder / f"{name}.safetensors", packed)
            files[f"{name}.safetensors"] = digest(packed)
        body = {**result, "schema": SCHEMA, "files": files}
        sealed = {**body, "checksum": digest(_json(body))}
        write_whole(self.folder / "result.json", _json(sealed))
        (self.folder / "failure.json").unlink(missing_ok=True)

    def fail(self, reason: str, traceback: str) -> None:
        """Record why there is no result; the cell stays to be done."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_whole(self.folder / "failure.json", _json({"reason": reason, "traceback": traceback}))

    def failure(self) -> Mapping[str, str] | None:
        """Why there is no result, if it was tried: reason and traceback."""
        return dict(found) if (found := self._read("failure.json")) else None

    def result(self) -> dict[str, Any] | None:
        """The sealed result, None if there is none yet.

        Raises Torn where the file, or one that it vouches for, is damaged.
        """
        if not (self.folder / "result.json").is_file():
            return None
        body = self._read("result.json", _intact)
        if not isinstance(body, dict):
            raise Torn(f"{self.folder / 'result.json'} is no result: {REPAIR}")
        body.pop("checksum", None)
        if body.get("schema") != SCHEMA:
            raise Torn(f"{self.folder} has schema {body.get('schema')}, not {SCHEMA}: {REPAIR}")
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
        """Forget the result, so that the cell is trained again."""
        names = ("result.json", "failure.json", "arrays.safetensors", "weights.safetensors")
        for name in (*names, "curves.json"):  # the result first: without it nothing is vouched for
            (self.folder / name).unlink(missing_ok=True)
        for name, look in (("cell.json", self.cell), ("suites.json", self.suites)):
            try:
                look()
            except Torn:
                (self.folder / name).unlink(missing_ok=True)

    @contextmanager
    def claim(self, note: Mapping[str, Any]) -> Iterator[None]:
        """Hold the cell while working on it; Busy if another process does.

        The lock is the kernel's: it goes with the process, however that ends.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(self.folder / "claim.lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            for _ in range(10):  # whoever asks whether it is held, holds it for a moment
                if _locked(handle, fcntl.LOCK_EX):
                    break
                time.sleep(0.05)
            else:
                raise Busy(f"{self.folder} is being worked on by another process")
            write_whole(self.folder / "claim.json", _json(note))
            yield
        finally:
            os.close(handle)

    @property
    def held(self) -> bool:
        """Whether a process works on this cell now."""
        try:
            handle = os.open(self.folder / "claim.lock", os.O_RDONLY)
        except FileNotFoundError:
            return False
        try:
            return not _locked(handle, fcntl.LOCK_SH)
        finally:
            os.close(handle)

    def _read(self, name: str, intact: Callable[[bytes], bool] | None = None) -> Any:
        """What a file says, None where there is no such file."""
        try:
            text = (self.folder / name).read_bytes()
            if intact is not None and not intact(text):
                raise Torn(f"{self.folder / name} is damaged: {REPAIR}")
            return json.loads(text.decode())
        except FileNotFoundError:
            return None
        except (ValueError, OSError) as error:
            raise Torn(f"{self.folder / name} cannot be read ({error}): {REPAIR}") from None

    def _verified(self, name: str) -> dict[str, Array]:
        result = self.result()
        if result is None:
            raise Torn(f"{self.folder} is not finished: run its suite first.")
        path = self.folder / name
        if digest(path.read_bytes()) != result["files"][name]:
            raise Torn(f"{path} does not match its result: {REPAIR}")
        return dict(load_file(path))


REPAIR = "`python -m benchmark doctor --fix` clears it, and the next run trains it again."


def records(runs: Path) -> Iterator[Record]:
    """All records under a folder, in order of their keys."""
    if runs.is_dir():
        for folder in sorted(runs.iterdir()):
            if (folder / "cell.json").is_file():
                yield Record(folder)


def _locked(handle: int, kind: int) -> bool:
    """Take a lock without waiting; whether it was to be had."""
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _intact(text: bytes) -> bool:
    """Whether what `finish` wrote is as it was: all of it but the line of the seal has that digest.

    The text is taken as it stands: to write it again from what it says takes ten times as long.
    """
    seal = _SEAL.search(text)
    return (
        seal is not None and digest(text[: seal.start()] + text[seal.end() :]) == seal[1].decode()
    )


_SEAL = re.compile(rb'\n "checksum": "([0-9a-f]+)",')  # deeper ones stand further in


def _json(value: Any) -> bytes:
    return json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False).encode()
