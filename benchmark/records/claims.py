"""Who works on a cell: one process, by a lock that the kernel frees when it dies.

Where the file system has no locks, a lease with a heartbeat stands for it: see lease.py.
"""

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmark.records import lease
from benchmark.records.lease import Lease

_ours: set[int] = set()  # handles of the locks that this process holds

LOCKLESS = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS}


class Busy(RuntimeError):
    """Another process works on this cell."""


class Lost(Busy):
    """Another process has taken this cell over, for this one was silent too long."""


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to write a cell's record.

    lease  None where the kernel's lock holds it, which cannot be lost
    """

    folder: Path
    lease: Lease | None = None

    def pulse(self) -> None:
        """Raise Lost if the heartbeat found that the cell was taken over; costs nothing."""
        if self.lease is not None and self.lease.lost:
            self._raise()

    def sure(self) -> None:
        """Raise Lost if the cell was taken over; to be called right before evidence is written."""
        if self.lease is not None and not self.lease.mine:
            self._raise()

    def _raise(self) -> None:
        raise Lost(f"{self.folder} was taken over by another process: this one was silent too long")


@contextmanager
def hold(folder: Path) -> Iterator[Claim]:
    """Hold a cell; Busy if another process does."""
    handle = os.open(folder / "claim.lock", os.O_RDWR | os.O_CREAT, 0o644)
    _ours.add(handle)
    own = None
    try:
        try:
            locked = _patiently(handle)
        except OSError as error:
            if error.errno not in LOCKLESS:
                raise
            own = lease.take(folder)
            locked = own is not None
        if not locked:
            raise Busy(f"{folder} is being worked on by another process")
        yield Claim(folder, own)
    finally:
        if handle in _ours:  # a forked child has closed its own
            _ours.remove(handle)
            os.close(handle)
            if own is not None:
                own.release()


def held(folder: Path) -> bool:
    """Whether a process holds a cell now."""
    try:
        handle = os.open(folder / "claim.lock", os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        return not _locked(handle, fcntl.LOCK_SH)
    except OSError as error:
        if error.errno not in LOCKLESS:
            raise
        return lease.taken(folder)
    finally:
        os.close(handle)


def _let_go() -> None:
    """Close what a child was born with: a reader of images would hold its dead parent's cell."""
    while _ours:
        os.close(_ours.pop())


os.register_at_fork(after_in_child=_let_go)


def _patiently(handle: int) -> bool:
    """Take the lock; whoever only asks whether it is held, holds it for a moment."""
    for _ in range(10):
        if _locked(handle, fcntl.LOCK_EX):
            return True
        time.sleep(0.05)
    return False


def _locked(handle: int, kind: int) -> bool:
    """Take a lock without waiting; whether it was to be had."""
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
