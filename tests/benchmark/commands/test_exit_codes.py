"""Exit codes are true, whatever goes wrong, and what is finished stays as it is."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmark.commands.desk import Desk, Tracker
from benchmark.engines.local import Event
from benchmark.records import claims
from benchmark.records.files import writer
from benchmark.records.record import Record, records

RUN = ("run", "--suite", "tiny.yaml", "--device", "cpu", "--jobs", "1", "--offline")


@pytest.fixture
def trained(place, tiny_runs):
    """A folder in which the tiny suite is done; gives what lies there, file by file."""
    shutil.copytree(tiny_runs, place / "runs")

    def files():
        return {path: path.read_bytes() for path in Path("runs").rglob("*") if path.is_file()}

    return files


@pytest.fixture
def locked(place):
    """A folder in which nobody may write, not even root."""
    folder = place / "locked"
    if os.geteuid():
        folder.mkdir(mode=0o500)
        return folder
    if not Path("/proc/self/fdinfo").is_dir():
        pytest.skip("root may write everywhere")
    return Path("/proc/self/fdinfo")


def test_a_folder_that_cannot_be_written_to(call, locked):
    said = call(*RUN, "--runs", locked)
    assert said.code == 2 and said.out == "" and said.err.count("\n") == 1, said
    assert f"cannot write to {locked}" in said.err and "choose another --runs" in said.err


def test_a_head_file_that_does_not_import_touches_nothing(trained, call):
    before = trained()
    Path("mine.py").write_text("import nowhere\n")
    said = call(*RUN, "--with", "mine.py")
    assert said.code == 2 and said.err.count("\n") == 1 and "does not import" in said.err
    assert trained() == before


def test_what_the_dead_left_beside_a_result_goes_with_the_next_run(trained, call):
    assert call(*RUN).code == 0
    before = trained()
    one, other = list(records(Path("runs")))[:2]
    ended = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], stdout=-1)
    machine = writer().partition("-")[0]
    names = ("checkpoint-000007.safetensors", f".suites.json.{machine}-{int(ended.stdout)}.ab.tmp")
    left = [record.folder / name for record in (one, other) for name in names]
    for path in left:
        path.write_bytes(b"half")
    with claims.hold(other.folder):  # whoever works on a cell sees to it
        assert call(*RUN).code == 0
    assert [path.exists() for path in left] == [False, False, True, True]
    assert call(*RUN).code == 0 and trained() == before


def test_a_cell_that_fails_beside_finished_ones(trained, call, monkeypatch):
    before = trained()
    pair = next(each for each in records(Path("runs")) if "ncm" in each.cell().label)
    pair.clear()

    def run(self, cells, more=tuple):
        for cell in cells:
            Record(self.settings.runs / cell.key).fail("RuntimeError: no", "…")
            self.tell(Event(cell, "failed", {"reason": "RuntimeError: no"}))
        return {cell.key: "failed" for cell in cells}

    monkeypatch.setattr("benchmark.engines.local.Local.run", run)
    said = call(*RUN)
    assert said.code == 1 and f"({pair.key})" in said.out and "1 failed" in said.out
    for path, content in before.items():
        assert path.parent.name == pair.key or path.read_bytes() == content


@pytest.mark.parametrize(
    "where", ["commands.agenda.of", "records.ledger.Ledger.open", "records.ledger.Ledger.deliver"]
)
def test_a_signal_while_nothing_is_trained(tracked, trained, call, monkeypatch, where):
    """Suites are read, images decoded, databases made, records delivered: minutes, at times."""

    def unheard(number, frame):
        raise AssertionError("nobody listens")

    before = signal.signal(signal.SIGUSR1, unheard)
    monkeypatch.setattr(f"benchmark.{where}", lambda *a, **k: os.kill(os.getpid(), signal.SIGUSR1))
    try:
        said = call(*RUN[:-1])
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert said.code == 138 and said.err == ""
    assert said.out.count("interrupted; the same command goes on where this one stopped") == 1


@pytest.mark.parametrize("number, code, times", [(0, 1, 1), (signal.SIGINT, 130, 0)])
def test_who_is_to_stop_waits_for_no_tracker(trained, call, monkeypatch, number, code, times):
    next(records(Path("runs"))).clear()
    delivered = []
    stopped = SimpleNamespace(run=lambda cells: {}, interrupted=number)
    monkeypatch.setattr(Desk, "engine", lambda self, jobs, tell: stopped)
    monkeypatch.setattr(Desk, "deliver", lambda self, work: delivered.append(work))
    said = call(*RUN)
    assert said.code == code and len(delivered) == times


def test_what_others_trained_is_delivered_by_them(trained):
    """Two that deliver one result at the same moment make two runs of it in MLflow."""
    record = next(records(Path("runs")))
    delivered = []
    tracker = Tracker.__new__(Tracker)
    tracker.options, tracker.suite, tracker.rows = SimpleNamespace(runs=Path("runs")), "mine", {}
    tracker.ledger = SimpleNamespace(deliver=delivered.extend)
    tracker.hear(Event(record.cell(), "done", {"elsewhere": True}))
    assert delivered == [] and "mine" in record.suites()
    tracker.hear(Event(record.cell(), "done", {}))
    assert delivered == [record]
