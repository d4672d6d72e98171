"""What goes wrong with MLflow's database loses nothing: it is whole or not there, or it is said."""

import multiprocessing
import resource
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from benchmark.records.ledger import EXPERIMENT, EXPERIMENT_TAGS, Ledger, Unreachable
from benchmark.records.rebuild import rebuild
from benchmark.records.record import Record
from benchmark.records.rows import COMMITTED

ROOT = Path(__file__).resolve().parents[3]
KILLED = """
import os, sys, threading
from contextlib import suppress
from pathlib import Path
from benchmark.records.ledger import Ledger

def kill():
    while True:
        with suppress(FileNotFoundError):
            if any(file.stat().st_size > 200_000 for file in Path(sys.argv[1]).iterdir()):
                os.kill(os.getpid(), 9)

threading.Thread(target=kill, daemon=True).start()
Ledger(sys.argv[2], Path("nowhere")).open()
"""


@pytest.fixture
def shown(ledger):
    """Give a function: what MLflow shows of each run, as key, status and whether committed."""

    def look(of: Ledger = ledger) -> list[tuple[str, str, bool]]:
        client = MlflowClient(tracking_uri=of.uri)
        found = client.search_runs([client.get_experiment_by_name(EXPERIMENT).experiment_id])
        tags = [run.data.tags for run in found]
        status = [run.info.status for run in found]
        return sorted(
            (t["benchmark.key"], s, COMMITTED in t) for t, s in zip(tags, status, strict=True)
        )

    return look


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """As on a disk that is full: no file grows beyond so many bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture
def patient(monkeypatch):
    """Wait for a locked database for a fifth of a second, where MLflow waits for twenty."""
    from mlflow.store.db import utils
    from sqlalchemy import text

    def short(statement):
        return text(statement.replace("busy_timeout = 20000", "busy_timeout = 200"))

    monkeypatch.setattr(utils.sql, "text", short)


# a database that is new


@pytest.fixture
def fresh(tmp_path):
    """A ledger without a database, which takes MLflow some seconds to make."""
    return Ledger(f"sqlite:///{tmp_path / 'fresh' / 'mlflow.db'}", tmp_path / "mlartifacts")


def first(ledger: Ledger, folder: Path, start: Barrier, told: SimpleQueue) -> None:
    """What a `run` does first, and last; in a process of its own."""
    start.wait(120)
    record = Record(folder)
    try:
        ledger.open()
        ledger.begin(record.cell(), ("quick",))
        told.put(ledger.deliver([record]))
    except Unreachable as error:
        told.put(str(error))


WRITES = {
    "a data set": ("log_inputs", lambda store, run: store.dataset(run, "digits", "0a", {})),
    "a tag of a run": ("log_batch", lambda store, run: store.log(run, tags={"seed": "0"})),
}


@pytest.mark.parametrize("what", WRITES)
def test_what_another_process_writes_at_the_same_moment(fresh, monkeypatch, what):
    fresh.open()
    call, write = WRITES[what]
    asked = []

    def race(self, run, **told):
        asked.append(run)
        if len(asked) < 2 or run == "broken":
            raise MlflowException("(sqlite3.IntegrityError) UNIQUE constraint failed: tags.key")
        if run == "other":
            raise MlflowException("(sqlite3.OperationalError) no such table: tags")

    monkeypatch.setattr(MlflowClient, call, race)
    with fresh._store() as store:
        write(store, "one")
        assert asked == ["one", "one"]
        with pytest.raises(MlflowException, match="UNIQUE"):
            write(store, "broken")
        with pytest.raises(MlflowException, match="no such table"):
            write(store, "other")
    assert asked == ["one", "one", "broken", "broken", "other"]


def test_an_experiment_that_another_process_describes_at_the_same_moment(fresh, monkeypatch):
    asked = []
    really = MlflowClient.set_experiment_tag

    def race(self, experiment, tag, value):
        asked.append(tag)
        if asked.count(tag) < 2:
            raise MlflowException(
                "(sqlite3.IntegrityError) UNIQUE constraint failed: "
                "experiment_tags.key, experiment_tags.experiment_id"
            )
        really(self, experiment, tag, value)

    monkeypatch.setattr(MlflowClient, "set_experiment_tag", race)
    fresh.open()
    assert asked == [tag for tag in EXPERIMENT_TAGS for _ in range(2)]
    fresh.open()
    assert len(asked) == 2 * len(EXPERIMENT_TAGS)


@pytest.mark.long
def test_eight_processes_on_a_database_that_is_not_there_yet(
    fresh, cell, finished, tmp_path, shown
):
    found = [finished(cell(seed)) for seed in range(8)]
    (tmp_path / "fresh").mkdir()
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["mlflow.tracking", __name__])  # to import it takes seconds
    start, told = context.Barrier(8), context.SimpleQueue()
    racers = [
        context.Process(target=first, args=(fresh, record.folder, start, told)) for record in found
    ]
    for racer in racers:
        racer.start()
    said = [told.get() for _ in racers]
    for racer in racers:
        racer.join(60)
    assert said == [1] * 8 and [racer.exitcode for racer in racers] == [0] * 8
    assert shown(fresh) == sorted((record.key, "FINISHED", True) for record in found)
    assert fresh.check() is None
    assert [path.name for path in (tmp_path / "fresh").iterdir()] == ["mlflow.db"]


@pytest.mark.long
def test_a_database_appears_whole_or_not_at_all(fresh, tmp_path):
    """A disk that is full, and a kill, in the middle of its making."""
    (tmp_path / "fresh").mkdir()
    with files_of_at_most(300_000), pytest.raises(Unreachable, match="records are safe"):
        fresh.open()
    assert list((tmp_path / "fresh").iterdir()) == []
    words = [sys.executable, "-c", KILLED, str(tmp_path / "fresh"), fresh.uri]
    assert subprocess.run(words, cwd=ROOT, check=False).returncode == -signal.SIGKILL
    assert not (tmp_path / "fresh" / "mlflow.db").exists()
    fresh.open()
    assert fresh.check() is None and fresh.read().empty
    assert [path.name for path in (tmp_path / "fresh").iterdir()] == ["mlflow.db"]


def test_an_experiment_that_another_process_makes_at_the_same_moment(ledger, monkeypatch):
    from mlflow.tracking import MlflowClient

    make = MlflowClient.create_experiment

    def slower(self, *words, **more):
        make(self, *words, **more)  # the other one, since this one looked
        return make(self, *words, **more)

    monkeypatch.setattr(MlflowClient, "create_experiment", slower)
    ledger.open()
    assert ledger.read().empty


# a database that is damaged, locked, gone


def test_a_half_made_database_is_named_and_made_anew(cell, finished, tmp_path):
    """As MLflow itself leaves it when it is killed."""
    path = tmp_path / "mlflow.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("create table spans (trace_id text)")
    half = Ledger(f"sqlite:///{path}", tmp_path / "mlartifacts")
    record = finished(cell())
    with pytest.raises(Unreachable):
        half.deliver([record])
    assert half.check().startswith(f"{path} is not a database that MLflow can use (")
    assert rebuild(half, [record])[0] == 1
    assert half.check() is None and list(half.read()["key"]) == [record.key]


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Another process has the database, as a copy of it takes it."""
    code = (
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "c.execute('begin exclusive'); print('locked', flush=True); sys.stdin.readline()"
    )
    words = [sys.executable, "-c", code, str(path)]
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout.readline() == "locked\n"
        yield
        holder.communicate("over\n")


def test_a_locked_database_is_not_called_a_broken_one(
    ledger, cell, finished, tmp_path, patient, capfd
):
    record = finished(cell())
    ledger.open()
    content = (tmp_path / "mlflow.db").read_bytes()
    with locked(tmp_path / "mlflow.db"):
        assert ledger.check() is None
        with pytest.raises(Unreachable, match="database is locked") as caught:
            ledger.deliver([record])
        assert "\n" not in str(caught.value)
        with pytest.raises(Unreachable, match="database is locked"):
            rebuild(ledger, [record])
    assert (tmp_path / "mlflow.db").read_bytes() == content
    assert capfd.readouterr() == ("", "")  # MLflow prints a traceback of its own
    assert ledger.deliver([record]) == 1


@pytest.mark.parametrize("times", range(1, 9))
def test_a_delivery_that_breaks_off_anywhere_is_completed(
    ledger, cell, finished, shown, monkeypatch, times
):
    """The tracker dies after so many writes; what it has of a run is not read until it is whole."""
    from mlflow.tracking import MlflowClient

    record = finished(cell())
    calls = []
    names = ("create_run", "log_batch", "log_inputs", "log_artifacts", "set_terminated")

    def breaking(name, call):
        def wrapped(self, *words, **more):
            calls.append(name)
            if len(calls) > times:
                raise ConnectionError("gone")
            return call(self, *words, **more)

        return wrapped

    with monkeypatch.context() as patch:
        for name in names:
            patch.setattr(MlflowClient, name, breaking(name, getattr(MlflowClient, name)))
        try:
            begun = ledger.begin(cell(), ("quick",))
            ledger.follow(begun, record.curves()[:1])
            assert ledger.deliver([record]) == 1
        except Unreachable:
            assert ledger.read().empty
    ledger.deliver([record])
    assert shown() == [(record.key, "FINISHED", True)]
    assert list(ledger.read()["accuracy"]) == [record.result()["metrics"]["accuracy"]]
    assert ledger.deliver([record]) == 0


def test_the_files_of_a_run_on_a_full_disk(ledger, cell, finished, shown):
    record = finished(cell())
    ledger.open()
    ledger.artifacts.write_text("in the way")  # no folder can be made there
    with pytest.raises(Unreachable):
        ledger.deliver([record])
    assert ledger.read().empty and [committed for *_, committed in shown()] == [False]
    ledger.artifacts.unlink()
    assert ledger.deliver([record]) == 1
    assert shown() == [(record.key, "FINISHED", True)]


def test_a_database_that_cannot_grow(ledger, cell, finished, tmp_path, shown):
    found = [finished(cell(seed)) for seed in range(3)]
    ledger.deliver(found[:1])
    size = (tmp_path / "mlflow.db").stat().st_size
    with files_of_at_most(size), pytest.raises(Unreachable, match="records are safe"):
        ledger.deliver(found)
    assert ledger.check() is None
    assert found[0].key in set(ledger.read()["key"])
    ledger.deliver(found)
    assert shown() == sorted((record.key, "FINISHED", True) for record in found)


# what MLflow says of cells


def test_a_finished_cell_is_not_shown_in_training(ledger, cell, finished, shown):
    """Two run the same suite: one begins a cell that the other has just finished and delivered."""
    done, diverged = finished(cell(0)), finished(cell(1), "diverged", diverged_step=3)
    both = [done, diverged]
    ledger.deliver(both)
    for record in both:
        ledger.begin(record.cell(), ("quick",))
    assert {status for _, status, _ in shown()} == {"RUNNING"}
    ledger.deliver(both)
    assert shown() == sorted([(done.key, "FINISHED", True), (diverged.key, "FAILED", True)])


def test_which_runs_are_shown_in_training(ledger, cell, finished):
    ledger.deliver([finished(cell(0))])
    begun = {ledger.begin(cell(seed), ()): cell(seed).key for seed in (1, 2)}
    assert ledger.running() == begun
    ledger.leave(next(iter(begun)), "its process is gone")
    assert len(ledger.running()) == 1
