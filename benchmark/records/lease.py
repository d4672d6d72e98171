"""A lease on a cell, where the file system has no locks: a file that its owner keeps fresh.

    claim-000003.lease   the highest number is the owner's; its time is that of the last heartbeat

To take a cell is to create the next number, which the file system gives to one process only. It may
be taken where there is no lease, or where the last heartbeat is older than `STALE`. Renaming a dead
owner's file away would be simpler and is not safe: of two processes that find it dead, the slower
would take away what the faster has just put there. Numbers only rise while a lease is held, so a
late owner that wakes up sees that there is a higher one than its own, or that its own is gone.

All times are the file system's own, read off a file that was touched this moment: clocks of
machines that share a folder may differ.
"""

import os
import platform
import re
import secrets
import threading
import time
from pathlib import Path

from benchmark.records.files import writer

STALE = 180.0  # seconds without a heartbeat, then the owner counts as dead; ours, twelve beats
RENEW = 15.0  # seconds between two heartbeats; ours


class Lease:
    """What a process holds; a thread of its own keeps it fresh, also while nothing is trained."""

    def __init__(self, path: Path, owner: str):
        """path: the file that this process created, with its name in it."""
        self.path, self.owner = path, owner
        self.lost = False
        self._over = threading.Event()

    @property
    def mine(self) -> bool:
        """Whether nobody has taken it over; asks the file system."""
        paths = _paths(self.path.parent)
        self.lost = self.lost or not paths or paths[-1] != self.path or not self._owned()
        return not self.lost

    def beat(self) -> None:
        """Say that the owner is alive, if it is the owner still."""
        if self.mine:
            os.utime(self.path)

    def keep(self) -> None:
        """Beat from now on, until it is released or lost."""
        threading.Thread(target=self._beat, name="lease", daemon=True).start()

    def release(self) -> None:
        """Give the cell back; what others hold is left alone."""
        self._over.set()
        if self._owned():
            self.path.unlink(missing_ok=True)

    def _beat(self) -> None:
        while not self.lost and not self._over.wait(RENEW):
            try:
                self.beat()
            except OSError:
                pass  # the file system does not answer just now: the next beat asks again

    def _owned(self) -> bool:
        try:
            return self.path.read_text(encoding="utf-8") == self.owner
        except FileNotFoundError:
            return False


def take(folder: Path) -> Lease | None:
    """Take the cell of a folder; None where another process has it."""
    before = _paths(folder)
    if before and not _stale(before[-1]):
        return None
    number = _number(before[-1]) + 1 if before else 1
    owner = f"{platform.node()} {os.getpid()} {secrets.token_hex(8)}"
    lease = Lease(folder / f"claim-{number:06d}.lease", owner)
    try:
        file = open(lease.path, "x", encoding="utf-8")
    except FileExistsError:
        return None
    try:
        with file:
            file.write(owner)
            file.flush()
            os.fsync(file.fileno())
    except OSError:  # a full disk: an empty lease would keep everybody away until it is stale
        lease.path.unlink(missing_ok=True)
        raise
    if not lease.mine:  # while this process was looking, others came and went
        lease.release()
        return None
    for path in before:
        path.unlink(missing_ok=True)
    lease.keep()
    return lease


def taken(folder: Path) -> bool:
    """Whether a process that is alive holds the cell of a folder."""
    paths = _paths(folder)
    return bool(paths) and not _stale(paths[-1])


def _stale(path: Path) -> bool:
    try:
        return _now(path.parent) - path.stat().st_mtime > STALE
    except FileNotFoundError:
        return True  # released this moment


def _now(folder: Path) -> float:
    """The file system's time, seconds; the machine's where nothing can be written."""
    clock = folder / f".clock.{writer()}.{secrets.token_hex(8)}.tmp"
    try:
        clock.touch(exist_ok=False)
        return clock.stat().st_mtime
    except OSError:
        return time.time()
    finally:
        try:
            clock.unlink(missing_ok=True)
        except OSError:
            pass


def _paths(folder: Path) -> list[Path]:
    found = [path for path in folder.glob("claim-*.lease") if re.fullmatch(_NAME, path.name)]
    return sorted(found, key=_number)


def _number(path: Path) -> int:
    return int(path.stem.removeprefix("claim-"))


_NAME = r"claim-\d{6,}\.lease"
