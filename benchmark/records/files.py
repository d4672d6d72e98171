"""Files that are there whole or not at all, also after a power cut; and what such writes leave.

Temporary files bear the machine and the process that writes them: `.result.json.1f3a…-4711.….tmp`.
"""

import hashlib
import os
import platform
import secrets
import shutil
from pathlib import Path

from benchmark.records.faults import point


class Unwritten(OSError):
    """A file that could not be written: the system's number and words, said as a sentence."""

    def __str__(self) -> str:
        """What is wrong, and what to do."""
        return (
            f"{self.filename} cannot be written ({self.strerror}). Make room, or make the folder "
            "writable, and give the same command again: it goes on where this one stopped."
        )


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that it is there whole or not at all; Unwritten leaves what was there."""
    try:
        _write(path, content)
    except OSError as error:
        raise Unwritten(error.errno, error.strerror or str(error), str(path)) from error


def _write(path: Path, content: bytes) -> None:
    what = path.name.partition(".")[0].partition("-")[0]
    point(f"{what}: before")
    temporary = path.with_name(f".{path.name}.{writer()}.{secrets.token_hex(4)}.tmp")
    half = len(content) // 2
    try:
        with open(temporary, "wb") as file:
            file.write(memoryview(content)[:half])
            file.flush()
            point(f"{what}: half written", temporary)
            file.write(memoryview(content)[half:])
            file.flush()
            os.fsync(file.fileno())
        point(f"{what}: before rename", temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    point(f"{what}: after rename", path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    point(f"{what}: after", path)


def digest(content: bytes) -> str:
    """Sha256, hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def writable(runs: Path) -> None:
    """Try whether records can be written under a folder; ValueError with a sentence if not."""
    try:
        runs.mkdir(parents=True, exist_ok=True)
        write_whole(runs / "writable", b"")
        (runs / "writable").unlink(missing_ok=True)
    except OSError as error:
        raise ValueError(
            f"cannot write to {runs} ({error.strerror}): records go there. "
            "Make it writable, make room, or choose another --runs."
        ) from None


def remove(path: Path) -> None:
    """Remove a file, or a folder that lies in its place, if that can be done."""
    try:
        path.unlink(missing_ok=True)
    except OSError:
        shutil.rmtree(path, ignore_errors=True)


def writer() -> str:
    """Machine and process, as the names of its temporary files have it."""
    return f"{digest(platform.node().encode())[:8]}-{os.getpid()}"


def orphan(path: Path) -> bool:
    """Whether the process that wrote a temporary file was one of this machine, and is gone."""
    machine, _, process = path.name.split(".")[-3].partition("-")
    if machine != writer().partition("-")[0] or not process.isdecimal():
        return False
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False
