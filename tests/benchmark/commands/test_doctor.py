"""doctor: what it finds beside a suite, what it mends, and what it must leave alone."""

import os
import shutil
import subprocess
import sys
import time
from collections import namedtuple
from pathlib import Path

import pytest

from benchmark.commands import doctor as module
from benchmark.commands import examine, surroundings
from benchmark.planning.cell import Cell
from benchmark.records import lease
from benchmark.records.files import writer
from benchmark.records.record import Record, records

RUNS, DATABASE = Path("runs"), Path("mlflow.db")
DEAD = 4_000_000  # beyond what Linux gives out
HOLD = """
import sys
from pathlib import Path
from benchmark.records import claims
with claims.hold(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def both(place, tiny_runs):
    """Records of two finished cells."""
    shutil.copytree(tiny_runs, place / "runs")
    return list(records(RUNS))


class Content:
    """A ledger that has all there is, without the second that MLflow takes to say so."""

    uri, file = "nowhere", DATABASE

    def check(self) -> None:
        return None

    def deliver(self, found: list[Record]) -> int:
        return 0

    def running(self) -> dict[str, str]:
        return {}


@pytest.fixture
def asked(really, monkeypatch):
    """The same, where MLflow is not what is looked at."""
    monkeypatch.setattr(module.tracking, "ledger", lambda runs, uri: Content())
    return really


@pytest.fixture
def really(call):
    """Give a function (*words): the lines that `doctor` says, but for the last; its exit code."""

    def ask(*words: str) -> tuple[list[str], int]:
        said = call("doctor", *words)
        assert said.err == ""
        *lines, last = said.out.splitlines()
        assert " records, " in last and " delivered to " in last
        return lines, said.code

    return ask


@pytest.fixture
def hold():
    """Give a function (folder): another process works on that cell from now on."""
    holders = []

    def begin(folder: Path) -> None:
        root = Path(__file__).resolve().parents[3]
        holder = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(folder.resolve())],
            cwd=root,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        holders.append(holder)
        assert holder.stdout.readline() == "held\n"

    yield begin
    for holder in holders:
        holder.communicate("over\n")


def begun(cell: Cell) -> Record:
    """The record of a cell that was begun and is not finished."""
    record = Record(RUNS / cell.key)
    record.begin(cell)
    return record


def another(record: Record, **data: object) -> Cell:
    """The cell of a record, at another seed or with other data."""
    stated = record.cell().to_json()
    stated["seed"] = 7
    stated["data"].update(data)
    return Cell.from_json(stated)


def spoil(path: Path) -> bytes:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    return bytes(content)


def test_where_nothing_is_wrong_there_is_one_line(tracked, both, really, call):
    assert "2 records, 2 delivered" in call("doctor").out
    assert really() == really("--fix") == ([], 0)


def test_in_an_empty_folder(place, asked):
    assert asked() == ([], 0)


# records


@pytest.mark.parametrize("name", ["result.json", "weights.safetensors", "curves.json"])
def test_damaged_evidence_is_set_aside_and_never_deleted(both, asked, name):
    hurt, whole = both
    before = {path.name: path.read_bytes() for path in hurt.folder.iterdir()}
    before[name] = spoil(hurt.folder / name)
    kept = {path: path.read_bytes() for path in whole.folder.iterdir()}
    (line,), code = asked()
    assert code == 1 and str(hurt.folder / name) in line and "`doctor --fix` sets it aside" in line
    assert {path.name: path.read_bytes() for path in hurt.folder.iterdir()} == before
    (line,), code = asked("--fix")
    aside = RUNS / "aside" / f"{hurt.key}-1"
    assert code == 0 and line.endswith(f": set aside in {aside}")
    moved = {path.name: path.read_bytes() for path in aside.iterdir()}
    names = ("arrays.safetensors", "curves.json", "result.json", "weights.safetensors")
    assert moved == {each: before[each] for each in (*names, "cell.json", "claim.json")}
    assert hurt.result() is None and hurt.cell() and hurt.suites() == ()
    assert {path: path.read_bytes() for path in whole.folder.iterdir()} == kept
    assert [record.key for record in records(RUNS)] == [record.key for record in both]
    assert asked() == ([], 0)


def test_the_same_record_is_set_aside_twice(both, asked):
    record = both[0]
    content = {path.name: path.read_bytes() for path in record.folder.iterdir()}
    for number in (1, 2):
        for name, each in content.items():
            (record.folder / name).write_bytes(each)
        torn = spoil(record.folder / "arrays.safetensors")
        assert asked("--fix")[1] == 0
        aside = RUNS / "aside" / f"{record.key}-{number}"
        assert (aside / "arrays.safetensors").read_bytes() == torn


def test_what_is_no_evidence_takes_none_with_it(both, asked):
    """A finished cell is not trained again because of its tags."""
    first, second = both
    (first.folder / "suites.json").write_text("[")
    (second.folder / "failure.json").write_text("{")
    lines, code = asked("--fix")
    assert code == 0 and len(lines) == 2
    assert first.result() and second.result() and first.suites() == () and not second.failure()
    assert asked()[1] == 0


def test_a_statement_that_is_damaged(both, asked):
    record = both[0]
    (record.folder / "cell.json").write_text("{}")
    assert asked()[1] == 1 and record.result()
    assert asked("--fix")[1] == 0
    assert list(record.folder.glob("*.json")) == []
    assert (RUNS / "aside" / f"{record.key}-1" / "cell.json").read_text() == "{}"


def test_a_record_of_a_newer_version_is_left_alone_and_stops_nothing(both, asked):
    newer, torn = both
    result = newer.result()
    body = {**result, "schema": 99}
    from benchmark.records.record import _json, digest

    path = newer.folder / "result.json"
    path.write_bytes(_json({**body, "checksum": digest(_json(body))}))
    content = path.read_bytes()
    spoil(torn.folder / "weights.safetensors")
    lines, code = asked("--fix")
    assert code == 1 and len(lines) == 2
    assert "newer version" in lines[both.index(newer)] and path.read_bytes() == content
    assert torn.result() is None
    (newer.folder / "suites.json").write_text("[")
    asked("--fix")
    assert path.read_bytes() == content


def test_what_may_not_be_read_is_not_damaged(both, asked, monkeypatch):
    path = both[0].folder / "weights.safetensors"
    real = os.open

    def forbid(name, *more, **words):
        if str(name) == str(path):
            raise PermissionError(13, "Permission denied", str(path))
        return real(name, *more, **words)

    monkeypatch.setattr(os, "open", forbid)
    lines, code = asked("--fix")
    assert code == 1 and lines == [f"{path} cannot be read (Permission denied). Make it readable."]
    assert both[0].result() and not (RUNS / "aside").exists()


def test_what_a_process_works_on_is_left_alone(both, asked, hold):
    record = both[0]
    spoil(record.folder / "weights.safetensors")
    (record.folder / ".suites.json.0123abcd-1.beef.tmp").touch()
    os.utime(record.folder / ".suites.json.0123abcd-1.beef.tmp", (0, 0))
    (record.folder / "claim.json").write_text('{"pid": 1, "host": "here"}')
    hold(record.folder)
    before = {path.name: path.read_bytes() for path in record.folder.iterdir()}
    assert asked("--fix") == ([], 0)
    assert {path.name: path.read_bytes() for path in record.folder.iterdir()} == before


def test_what_is_taken_between_look_and_repair_is_left_alone(both, asked, hold, monkeypatch):
    record = both[0]
    spoil(record.folder / "weights.safetensors")
    look = examine._look

    def then_taken(each):
        try:
            look(each)
        finally:
            if each == record:
                monkeypatch.setattr(Record, "held", property(lambda self: False))
                hold(record.folder)

    monkeypatch.setattr(examine, "_look", then_taken)
    (line, *_), code = asked("--fix")
    assert code == 1 and line.endswith("a process works on it now, so it was left alone")
    assert (record.folder / "weights.safetensors").exists()


def test_what_another_process_has_mended_meanwhile_stays(both, asked, monkeypatch):
    record = both[0]
    path = record.folder / "weights.safetensors"
    whole = path.read_bytes()
    spoil(path)
    damaged = examine._damaged

    def mended(each):
        path.write_bytes(whole)
        return damaged(each)

    monkeypatch.setattr(examine, "_damaged", mended)
    (line,), code = asked("--fix")
    assert code == 0 and line.endswith("whole again, another process has mended it")
    assert record.weights() and not (RUNS / "aside").exists()


def test_what_cannot_be_mended_is_said(both, asked):
    spoil(both[0].folder / "weights.safetensors")
    (RUNS / "aside").write_text("in the way")
    (line,), code = asked("--fix")
    assert code == 1 and "that could not be mended (" in line and both[0].result()


# litter


def test_temporary_files_of_the_dead_go_and_those_of_the_living_stay(both, asked):
    record = begun(another(both[0]))
    machine = writer().partition("-")[0]
    gone = [
        record.folder / ".result.json.12.abc.tmp",  # only who holds the cell writes these
        record.folder / f".suites.json.{machine}-{DEAD}.abc.tmp",
        record.folder / f".failure.json.{machine}-{DEAD}.abc.tmp",
        record.folder / ".suites.json.0123abcd-5.old.tmp",
        RUNS / f".writable.{machine}-{DEAD}.abc.tmp",
        RUNS / ".writable.0123abcd-5.old.tmp",
        Path(f".mlflow.db.{machine}-{DEAD}.abc.tmp"),
        Path(f".mlflow.db.{machine}-{DEAD}.abc.tmp-journal"),
        Path(".mlflow.db.abcd.new"),
    ]
    stay = [
        record.folder / f".suites.json.{writer()}.abc.tmp",
        record.folder / ".suites.json.0123abcd-5.abc.tmp",  # of another machine, just now
        RUNS / f".writable.{writer()}.abc.tmp",
        Path(f".mlflow.db.{writer()}.abc.tmp"),
        Path(".mlflow.db.beef.new"),
    ]
    for path in gone + stay:
        path.write_bytes(b"half")
        if ".old." in path.name or "abcd.new" in path.name:
            os.utime(path, (time.time() - examine.OLD - 60,) * 2)
    lines, code = asked()
    assert code == 1 and len(lines) == len(gone)
    assert all(path.exists() for path in gone + stay)
    lines, code = asked("--fix")
    assert code == 0 and all(line.endswith(": removed") for line in lines)
    assert [path for path in gone if path.exists()] == []
    assert [path for path in stay if not path.exists()] == []
    assert asked()[1] == 0


def test_leftovers_of_a_finished_cell(both, asked):
    record = both[0]
    left = [record.folder / "checkpoint-000003.safetensors", record.folder / "failure.json"]
    left[0].write_bytes(b"weights")
    record.fail("RuntimeError: no", "…")
    going = begun(another(record))
    (going.folder / "checkpoint-000001.safetensors").write_bytes(b"weights")
    lines, code = asked("--fix")
    assert code == 0 and len(lines) == 2
    assert not any(path.exists() for path in left) and record.result()
    assert (going.folder / "checkpoint-000001.safetensors").exists()  # it goes on from there


# claims


def test_a_claim_whose_process_is_gone(both, asked, hold):
    record = begun(another(both[0]))
    record.note({"pid": DEAD, "host": "elsewhere", "since": 1.0})
    (line,), code = asked()
    assert code == 1 and f"claim.json: process {DEAD} on elsewhere worked on this cell" in line
    assert asked("--fix")[1] == 0 and not (record.folder / "claim.json").exists()
    assert record.cell() and asked() == ([], 0)
    (record.folder / "claim.json").write_text("no note")
    assert "claim.json: a process worked on this cell" in asked()[0][0]
    hold(record.folder)
    assert asked() == ([], 0)


def test_leases_of_the_dead_are_ended_and_those_of_the_living_stay(both, asked):
    dead, alive = (record.folder for record in both)
    for folder in (dead, alive):
        (folder / "claim-000004.lease").write_text("somewhere 12 abc")
    old = time.time() - lease.STALE - 60
    os.utime(dead / "claim-000004.lease", (old, old))
    (line,), code = asked("--fix")
    assert code == 0 and str(dead / "claim-000004.lease") in line and line.endswith(": ended")
    assert list(dead.glob("claim-*.lease")) == []
    assert [path.name for path in alive.glob("claim-*.lease")] == ["claim-000004.lease"]


# MLflow, Optuna


def ledger():
    from benchmark.records.ledger import Ledger, default_uri

    return Ledger(default_uri(Path()), Path("mlartifacts").resolve())


def shown() -> dict[str, str]:
    """Status of MLflow's runs by their keys."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=ledger().uri)
    found = client.search_runs([ledger().open()])
    return {run.data.tags["benchmark.key"]: run.info.status for run in found}


def test_runs_that_mlflow_believes_to_be_running(tracked, both, really, hold):
    dead, alive, never, beside = (another(both[0], largest=number) for number in (11, 12, 13, 14))
    for cell in (dead, alive, never, beside):
        ledger().begin(cell, ("tiny",))
    ledger().begin(both[0].cell(), ("tiny",))  # and killed after it had its result
    begun(dead)
    hold(begun(alive).folder)
    other = Path("runs2") / beside.key  # the same database, another --runs
    other.mkdir(parents=True)
    hold(other)
    lines, code = really()
    assert code == 1 and len(lines) == 2
    assert all("MLflow shows " in line and "nobody trains it" in line for line in lines)
    assert shown()[both[0].key] == "FINISHED"
    lines, code = really("--fix")
    assert code == 0 and all(line.endswith(": ended as KILLED") for line in lines)
    assert shown() == {
        **{record.key: "FINISHED" for record in both},
        **{dead.key: "KILLED", never.key: "KILLED", alive.key: "RUNNING", beside.key: "RUNNING"},
    }
    ledger().begin(dead, ("tiny",))  # the next run goes on with it
    assert shown()[dead.key] == "RUNNING"


def test_on_a_server_others_train_too(both):
    assert module._is_trained("0123456789abcdef", RUNS, alone=False)
    assert not module._is_trained("0123456789abcdef", RUNS, alone=True)
    assert not module._is_trained(both[0].key, RUNS, alone=False)
    assert module._is_trained("../runs/" + both[0].key, RUNS, alone=False)  # no key: not looked at


def test_trials_that_optuna_believes_to_be_running(both, asked):
    from studies.holes import Range, Search
    from studies.search import Journal, Searching

    def searching(journal):
        return Searching(journal, "mine 1", Search(3), {"head.psc.dim": Range(2, 9)}, 5)

    path = Path("notebook/mine.journal").resolve()
    with Journal(path) as journal:
        study = searching(journal)
        study.complete(study.ask(), 0.5)
        lost = study.ask()
        assert asked("--fix") == ([], 0)  # its process is alive: this one
    (line,), code = asked()
    assert code == 1 and f"{path}: Optuna believes mine 1, trial 1 to be running" in line
    (line,), code = asked("--fix")
    assert code == 0 and line.endswith(": failed") and asked() == ([], 0)
    with Journal(path) as journal:
        study = searching(journal)
        assert study.ask().values == lost.values and study.ask() is not None
        assert study.ask() is None  # three in all


def test_a_notebook_that_cannot_be_read(both, asked):
    Path("notebook").mkdir()
    Path("notebook/torn.journal").write_text("no line of a journal\n" * 2)
    (line,), code = asked("--fix")
    assert code == 1 and "torn.journal cannot be read (" in line and "Move it away" in line


# data and disk


def test_changed_images(both, asked):
    result = both[0].result()
    result["digests"]["images"] = "0" * 64
    both[0].finish(result, both[0].arrays(), both[0].weights())
    (line,), code = asked("--fix")
    assert code == 1 and "the images of digits are not those that 1 finished cells" in line
    assert "--refresh" in line and both[0].result() == result


def test_missing_images_are_missed_where_cells_need_them(both, asked):
    record = begun(another(both[0], name="cifar10"))
    (line,), code = asked("--fix")
    assert code == 1 and "cifar" in line and "data" in line
    both[0].begin(record.cell())  # in its place a finished one: of this machine, or merged
    shutil.rmtree(record.folder)
    both[0].note({"pid": 1, "host": "here"})
    assert asked()[1] == 1
    (both[0].folder / "claim.json").unlink()
    assert asked() == ([], 0)


def test_images_that_cannot_be_read(both, asked, monkeypatch):
    from datasets import DATASETS

    def torn(self, *words, **more):
        raise ValueError("digits.npz is torn. Download it again.")

    monkeypatch.setattr(type(DATASETS["digits"]), "read", torn)
    assert asked("--fix") == (["digits.npz is torn. Download it again."], 1)


def test_a_disk_that_is_nearly_full(both, asked, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(surroundings.shutil, "disk_usage", lambda path: usage(10**12, 0, free))
    size = max(sum(p.stat().st_size for p in each.folder.iterdir()) for each in both)
    cell = another(both[0])
    begun(cell)
    monkeypatch.setattr(surroundings.os, "cpu_count", lambda: 2)
    DATABASE.write_bytes(bytes(1000))
    free = surroundings.ROOM + 4 * size + 1000
    assert asked() == ([], 0)
    free -= 1
    (line,), code = asked("--fix")
    assert code == 1 and "1 unfinished cells" in line and line.endswith("Make room.")
