"""Claims: by the kernel's locks, and where there are none by a lease with a heartbeat."""

import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmark.records import claims, lease
from benchmark.records.lease import STALE
from benchmark.records.record import Busy, Record

ROOT = Path(__file__).resolve().parents[3]

# a process, on a file system without locks if told so: how its claim ended, what it heard later
CLAIMANT = """
import errno, fcntl, sys
from pathlib import Path

from benchmark.records import claims
from benchmark.records.record import Busy, Record

def none(handle, kind):
    raise OSError(errno.ENOLCK, "No locks available")

if sys.argv[2] == "lease":
    claims.fcntl.flock = none
sys.stdin.readline()
try:
    with Record(Path(sys.argv[1])).claim({}) as claim:
        print("held", flush=True)
        for line in sys.stdin:
            claim.sure()
            print("mine", flush=True)
except Busy as error:
    print(type(error).__name__, flush=True)
"""


@pytest.fixture(params=[errno.ENOLCK, errno.ENOTSUP, errno.EINVAL], ids=errno.errorcode.get)
def lockless(request, monkeypatch):
    """A file system that knows no flock."""

    def none(handle, kind):
        raise OSError(request.param, os.strerror(request.param))

    monkeypatch.setattr(claims.fcntl, "flock", none)


@pytest.fixture
def unlocked(monkeypatch):
    """The same, by one of its names."""

    def none(handle, kind):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(claims.fcntl, "flock", none)


@pytest.fixture
def record(tmp_path) -> Record:
    return Record(tmp_path / "a")


@pytest.fixture
def claimant(record):
    """Give a function: another process that waits for a line, and then claims the cell."""
    started = []

    def start(how: str = "lease") -> subprocess.Popen:
        process = subprocess.Popen(
            [sys.executable, "-c", CLAIMANT, str(record.folder), how],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.send_signal(signal.SIGCONT)
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


def ask(process: subprocess.Popen) -> str:
    process.stdin.write("go\n")
    return process.stdout.readline().strip()


def leases(record: Record) -> list[str]:
    return sorted(path.name for path in record.folder.glob("*.lease"))


def age(record: Record, seconds: float) -> None:
    """Let the newest heartbeat lie so long in the past, by the file system's clock."""
    path = record.folder / leases(record)[-1]
    then = lease._now(record.folder) - seconds
    os.utime(path, (then, then))


def test_a_lease_stands_for_the_lock(lockless, record):
    assert not record.held
    with record.claim({"pid": 1}):
        assert record.held and leases(record) == ["claim-000001.lease"]
        with pytest.raises(Busy, match="another process"):
            with record.claim({"pid": 2}):
                pytest.fail("one cell was held twice")
        assert json.loads((record.folder / "claim.json").read_text()) == {"pid": 1}
    assert not record.held and leases(record) == []
    assert sorted(os.listdir(record.folder)) == ["claim.json", "claim.lock"]


def test_locks_are_taken_where_there_are_some(record):
    with record.claim({}) as claim:
        assert claim.lease is None and leases(record) == []
        claim.sure()


def test_another_error_is_none_of_this(record, monkeypatch):
    def broken(handle, kind):
        raise OSError(errno.EIO, "input/output error")

    monkeypatch.setattr(claims.fcntl, "flock", broken)
    with pytest.raises(OSError, match="input/output"):
        with record.claim({}):
            pass
    assert leases(record) == []


def test_a_live_owner_is_never_robbed(unlocked, record):
    with record.claim({}) as claim:
        age(record, STALE - 30)
        with pytest.raises(Busy):
            with record.claim({}):
                pass
        age(record, STALE + 30)  # would be dead,
        claim.lease.beat()  # but says that it is not
        with pytest.raises(Busy):
            with record.claim({}):
                pass
        assert record.held
        claim.sure()


def test_it_beats_by_itself(unlocked, record, monkeypatch):
    """Also while nothing is trained: evaluation of many images takes longer than a lease."""
    monkeypatch.setattr(lease, "RENEW", 0.01)
    with record.claim({}) as claim:
        for _ in range(3):
            age(record, STALE + 30)
            until = time.monotonic() + 60
            while lease._stale(claim.lease.path):
                assert time.monotonic() < until
        claim.sure()


def test_a_dead_owner_is_followed(unlocked, record, claimant):
    owner = claimant()
    assert ask(owner) == "held"
    owner.kill()
    owner.wait()
    with pytest.raises(Busy):  # nobody can know yet
        with record.claim({}):
            pass
    age(record, STALE + 1)
    assert not record.held
    with record.claim({}) as claim:
        assert leases(record) == ["claim-000002.lease"]
        claim.sure()
    assert leases(record) == []


def test_a_late_owner_notices_and_stops(unlocked, record, claimant):
    """It slept through its lease: whether the next one is at work, is over, or has a next one."""
    owner = claimant()
    assert ask(owner) == "held" and ask(owner) == "mine"
    owner.send_signal(signal.SIGSTOP)
    age(record, STALE + 1)
    with record.claim({}):
        owner.send_signal(signal.SIGCONT)
        assert ask(owner) == "Lost"
        assert owner.wait(60) == 0
        assert leases(record) == ["claim-000002.lease"]  # it gave back nothing that is another's
    assert leases(record) == []


@pytest.mark.parametrize("after", ["released", "next of the same number"])
def test_a_late_owner_notices_afterwards_too(unlocked, record, after):
    late = lease.take(_made(record))
    age(record, STALE + 1)
    lease.take(record.folder).release()
    assert leases(record) == []
    again = lease.take(record.folder) if after != "released" else None
    assert not late.mine and late.lost
    late.beat()
    late.release()
    assert again is None or (again.mine and again.path == late.path)
    if again:
        again.release()


def test_who_only_asks_keeps_nobody_away(record, monkeypatch):
    """To ask is to hold the lock for a moment, together with others who ask."""
    handle = os.open(_made(record) / "claim.lock", os.O_RDONLY | os.O_CREAT)
    fcntl.flock(handle, fcntl.LOCK_SH)
    asked = [handle]
    monkeypatch.setattr(claims.time, "sleep", lambda seconds: os.close(asked.pop()))
    with record.claim({}):
        assert asked == []


def _made(record: Record) -> Path:
    record.folder.mkdir(parents=True)
    return record.folder


def test_who_saw_a_dead_lease_and_came_late(unlocked, record, monkeypatch):
    """Two find it dead; the faster takes it, dies and is followed, and then the slower acts."""
    dead = lease.take(_made(record))
    age(record, STALE + 1)
    stale = lease._stale

    def slow(path):
        found = stale(path)
        monkeypatch.setattr(lease, "_stale", stale)
        assert lease.take(record.folder) is not None  # number 2
        age(record, STALE + 1)
        third.append(lease.take(record.folder))  # number 3; clears the others away
        return found

    third = []
    monkeypatch.setattr(lease, "_stale", slow)
    assert lease.take(record.folder) is None
    assert third[0].mine and not dead.mine
    assert leases(record) == ["claim-000003.lease"]
    third[0].release()


def test_of_two_who_find_a_dead_lease_at_once_one_gets_it(unlocked, record, monkeypatch):
    lease.take(_made(record))
    age(record, STALE + 1)
    stale, faster = lease._stale, []

    def slow(path):
        found = stale(path)
        monkeypatch.setattr(lease, "_stale", stale)
        faster.append(lease.take(record.folder))
        return found

    monkeypatch.setattr(lease, "_stale", slow)
    assert lease.take(record.folder) is None
    assert faster[0].mine and leases(record) == ["claim-000002.lease"]
    faster[0].release()


@pytest.mark.long
@pytest.mark.parametrize("processes", [2, 8])
@pytest.mark.parametrize("how, before", [("lock", ""), ("lease", ""), ("lease", "a dead owner")])
def test_of_racing_processes_one_gets_it(record, claimant, how, before, processes):
    racing = [claimant(how) for _ in range(processes)]
    if before:
        lease.take(_made(record))
        age(record, STALE + 1)
    for process in racing:
        process.stdin.write("go\n")
    said = sorted(process.stdout.readline().strip() for process in racing)
    assert said == ["Busy"] * (processes - 1) + ["held"]
    assert len(leases(record)) == (how == "lease")


def test_a_child_does_not_keep_its_parents_claim(record):
    """A reader of images outlives its killed parent by some seconds, with a copy of the lock."""
    (reading, writing), (hearing, saying) = os.pipe(), os.pipe()
    with record.claim({}):
        child = os.fork()
        if not child:
            os.close(writing)
            os.write(saying, b".")
            os.read(reading, 1)
            os._exit(0)
        os.read(hearing, 1)
        assert record.held  # the parent's own is as it was
    try:
        assert not record.held
        with record.claim({}):
            pass
    finally:
        for pipe in (writing, reading, hearing, saying):
            os.close(pipe)
        os.waitpid(child, 0)


def test_a_full_disk_leaves_no_lease(unlocked, record, monkeypatch):
    def full(handle):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(lease.os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            with record.claim({}):
                pass
    assert leases(record) == [] and not record.held


def test_the_clock_is_the_file_systems(unlocked, record, monkeypatch):
    """A machine whose clock is hours off neither robs nor is robbed."""
    now = time.time()
    for skew in (-10_000, 10_000):
        monkeypatch.setattr(lease.time, "time", lambda skew=skew: now + skew)
        with record.claim({}):
            assert record.held
            with pytest.raises(Busy):
                with record.claim({}):
                    pass
            age(record, STALE + 1)
            assert not record.held
    assert not list(record.folder.glob(".clock*"))
