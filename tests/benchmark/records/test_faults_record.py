"""Fault points: all of them are in one list, and each does what it says; and full disks."""

import ast
import errno
import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmark.planning.cell import Cell, Stage, freeze
from benchmark.records import faults
from benchmark.records.faults import FILES, MOMENTS, ONCE, POINTS, VARIABLE, point
from benchmark.records.files import writable, write_whole, writer
from benchmark.records.record import Record

ROOT = Path(__file__).resolve().parents[3]
CELL = Cell(freeze({"name": "digits"}), freeze({"name": "small_cnn"}), (Stage("psc"),), 0)


def calls() -> set[str]:
    """Names that `point` is called with, anywhere in the product."""
    found = set()
    for folder in ("benchmark", "datasets", "heads", "reports", "studies"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] == "point":
                    found |= names(node.args[0])
    return found


def names(node: ast.expr) -> set[str]:
    """A name as written, or one for every file where it begins with {what}."""
    if isinstance(node, ast.Constant):
        return {node.value}
    assert isinstance(node, ast.JoinedStr), "a point whose name is computed"
    start, rest = node.values
    assert ast.unparse(start.value) == "what" and isinstance(rest, ast.Constant)
    return {what + rest.value for what in FILES}


def test_the_points_are_those_of_the_list():
    assert calls() == set(POINTS)
    assert len(POINTS) == 5 + len(FILES) * len(MOMENTS)


def test_every_file_of_a_record_is_in_the_list(tmp_path, monkeypatch):
    """Whatever a record writes, it writes past points that can be armed."""
    passed = []
    for module in ("benchmark.records.files.point", "benchmark.records.record.point"):
        monkeypatch.setattr(module, lambda name, file=None: passed.append(name))
    record = Record(tmp_path / CELL.key)
    with record.claim({}):
        record.begin(CELL)
        record.write_curves([])
        record.fail("a", "b")
        record.finish({}, {}, {})
        record.tag("quick")
    assert set(passed) == {
        name
        for name in POINTS
        if not name.startswith(("checkpoint", "step"))  # those are the trainer's
    }


@pytest.fixture
def armed(monkeypatch):
    """Give a function that arms a fault in this process."""

    def arm(text: str) -> None:
        monkeypatch.setenv(VARIABLE, text)
        faults.arm()

    yield arm
    monkeypatch.undo()
    faults.arm()
    assert faults._armed is None


def test_the_third_passing_of_that_point_alone(armed, tmp_path):
    armed("full 3 curves: before rename")
    record = Record(tmp_path)
    for rows in ([{"epoch": 1}], [{"epoch": 2}]):
        record.write_curves(rows)
    record.begin(CELL)
    with pytest.raises(OSError, match="No space left") as caught:
        record.write_curves([{"epoch": 3}])
    assert caught.value.errno == errno.ENOSPC
    assert record.curves() == [{"epoch": 2}]
    record.write_curves([{"epoch": 4}])  # once is once
    assert record.curves() == [{"epoch": 4}]
    assert sorted(os.listdir(tmp_path)) == ["cell.json", "curves.json"]


def test_of_all_processes_the_first_alone(armed, tmp_path, monkeypatch):
    monkeypatch.setenv(ONCE, str(tmp_path / "token"))
    for first in (True, False):
        armed("full 1 cell: claimed")
        if first:
            with pytest.raises(OSError):
                point("cell: claimed")
        else:
            point("cell: claimed")
    assert (tmp_path / "token").is_file()


@pytest.mark.parametrize(
    "text",
    ["kill", "kill 1", "kill 1 nowhere", "kill 0 result: before", "die 1 result: before", "1 2 3"]
    + ["kill one result: before", "kill -1 result: before", "kill 1  result: before"],
)
def test_what_cannot_be_armed(armed, text):
    with pytest.raises(ValueError, match="BENCHMARK_FAULT needs an action .kill, full, truncate"):
        armed(text)


WRITER = """
import sys
from pathlib import Path
from benchmark.records.files import write_whole
write_whole(Path(sys.argv[1]), b"0123456789")
print("over")
"""


def write_in_another_process(path: Path, fault: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)],
        env={**os.environ, "PYTHONPATH": str(ROOT), VARIABLE: fault},
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize(
    "fault, sizes",
    [
        ("kill 1 result: before", {}),
        ("kill 1 result: half written", {"tmp": 5}),
        ("kill 1 result: before rename", {"tmp": 10}),
        ("truncate 1 result: before rename", {"tmp": 5}),
        ("kill 1 result: after rename", {"json": 10}),
        ("truncate 1 result: after rename", {"json": 5}),
        ("kill 1 result: after", {"json": 10}),
    ],
)
def test_what_a_dead_process_leaves(tmp_path, fault, sizes):
    """The variable alone arms it, in a process that knows of nothing."""
    with write_in_another_process(tmp_path / "result.json", fault) as process:
        assert process.stdout.read() == ""
    assert process.returncode == -signal.SIGKILL
    assert {path.suffix[1:]: path.stat().st_size for path in tmp_path.iterdir()} == sizes


def test_hanging_is_ended_by_a_signal_alone(tmp_path):
    fault = "hang 1 result: half written"
    with write_in_another_process(tmp_path / "result.json", fault) as process:
        while not list(tmp_path.glob(".*.tmp")):
            assert process.poll() is None
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.3)
        process.terminate()
    assert process.returncode == -signal.SIGTERM


def test_nothing_armed_is_nothing_done(tmp_path):
    with write_in_another_process(tmp_path / "result.json", "") as process:
        assert process.stdout.read() == "over\n"


# full disks, and what cannot be written to


@pytest.fixture
def full(monkeypatch):
    """Give a function: no file may grow beyond so many bytes, as a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize("name", ["arrays", "weights", "result", "curves"])
def test_a_full_disk_leaves_no_half_record(tmp_path, full, name):
    big = {"x": np.zeros(10_000)}
    parts = {"arrays": {}, "weights": {}, "result": {}, "curves": []}
    grown = {"arrays": big, "weights": big, "result": {"x": "y" * 9000}, "curves": ["y" * 9000]}
    record = Record(tmp_path / CELL.key)
    record.begin(CELL)
    before = sorted(os.listdir(record.folder))
    parts[name] = grown[name]
    full(4000)
    with pytest.raises(OSError, match=rf"{name}\S* cannot be written \(.*\)\. Make room") as caught:
        record.write_curves(parts["curves"])
        record.finish(parts["result"], parts["arrays"], parts["weights"])
    assert caught.value.errno == errno.EFBIG
    assert record.result() is None
    assert not list(record.folder.glob(".*.tmp"))
    assert set(os.listdir(record.folder)) - set(before) <= {"curves.json", "arrays.safetensors"} | {
        "weights.safetensors"
    }
    full(resource.RLIM_INFINITY)
    record.write_curves(parts["curves"])
    record.finish(parts["result"], parts["arrays"], parts["weights"])
    assert record.result() is not None and record.weights().keys() == parts["weights"].keys()


def test_notes_are_no_evidence(tmp_path, armed):
    """Where a failure or a tag cannot be noted, nothing else is lost for it."""
    record = Record(tmp_path / CELL.key)
    record.begin(CELL)
    armed("full 1 failure: half written")
    record.fail("OSError: No space left on device", "…")
    assert record.failure() is None
    armed("full 1 suites: half written")
    record.tag("quick")
    assert record.suites() == ()
    record.tag("quick")
    assert record.suites() == ("quick",)


def test_never_a_result_and_a_failure(tmp_path, armed):
    """At no moment: whoever dies right after the result leaves no older failure beside it."""
    record = Record(tmp_path / CELL.key)
    record.begin(CELL)
    record.fail("RuntimeError: no", "…")
    armed("full 1 result: after rename")
    with pytest.raises(OSError):
        record.finish({}, {}, {})
    assert record.result() is not None and record.failure() is None


def test_a_folder_that_cannot_be_written_to(tmp_path, monkeypatch):
    writable(tmp_path / "new" / "runs")
    assert os.listdir(tmp_path / "new" / "runs") == []
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"cannot write to .*file \(.*\): records go there\. "):
        writable(tmp_path / "file")

    def read_only(*values, **options):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr("benchmark.records.files.open", read_only, raising=False)
    with pytest.raises(ValueError, match=r"\(Read-only file system\).*choose another --runs"):
        writable(tmp_path / "new")


# what dead processes leave


def dead() -> int:
    """The number of a process that is no more."""
    child = os.fork()
    if not child:
        os._exit(0)
    os.waitpid(child, 0)
    return child


def left(folder: Path, name: str, process: int, machine: str = "") -> Path:
    own = machine or writer().partition("-")[0]
    path = folder / f".{name}.{own}-{process}.0123abcd.tmp"
    path.write_bytes(b"half")
    return path


def test_the_holder_clears_what_others_left(tmp_path):
    """Its own files' always; notes, which others write too, only where the writer is gone."""
    gone, mine = dead(), os.getpid()
    orphans = [left(tmp_path, "result.json", gone), left(tmp_path, "suites.json", gone)]
    orphans += [left(tmp_path, "checkpoint-000003.safetensors", mine, "00000000")]
    orphans.append(left(tmp_path, "clock", gone))
    living = [left(tmp_path, "suites.json", mine), left(tmp_path, "failure.json", gone, "00000000")]
    living.append(left(tmp_path, "clock", mine))  # of one that only asks how old a lease is
    record = Record(tmp_path)
    assert set(record.litter()) == set(orphans)
    with record.claim({}):
        assert not any(path.exists() for path in orphans)
        assert all(path.exists() for path in living)


def test_a_cell_that_is_held_keeps_what_is_being_written(tmp_path):
    record = Record(tmp_path)
    with record.claim({}):
        being = left(tmp_path, "weights.safetensors", os.getpid())
        orphan = left(tmp_path, "arrays.safetensors", dead())
        assert record.litter() == [orphan]
        record.tidy()
        assert being.exists() and not orphan.exists()


def test_checkpoints_beside_a_result_are_litter(tmp_path):
    record = Record(tmp_path / CELL.key)
    record.begin(CELL)
    names = ["checkpoint-000001.safetensors", "checkpoint-000002.safetensors", "failure.json"]
    for name in names[:2]:
        (record.folder / name).write_bytes(b"")
    assert record.litter() == []  # there is no result yet: they are needed
    record.finish({}, {}, {})
    write_whole(record.folder / "failure.json", json.dumps({"reason": "older"}).encode())
    assert sorted(path.name for path in record.litter()) == names
    record.tidy()
    assert record.litter() == [] and record.result() is not None
