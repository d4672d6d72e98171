"""What goes wrong with MLflow while a suite runs: all is trained, it is said, and doctor mends it.

The run is a real one, with a worker of its own; what happens to MLflow happens right after the
first cell was begun, or was so from the start.
"""

import logging
import os
import resource
import sqlite3
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from importlib import import_module
from pathlib import Path

import pytest

from benchmark.records.ledger import Ledger, default_uri
from benchmark.records.record import records

pytestmark = pytest.mark.long

RUNS, DATABASE = Path("runs"), Path("mlflow.db")
LOCK = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("begin exclusive")
print("locked", flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def short(monkeypatch):
    """MLflow's patience in fractions of a second, where it waits for twenty."""
    from mlflow.store.db import utils
    from sqlalchemy import text

    def patient(statement):
        return text(statement.replace("busy_timeout = 20000", "busy_timeout = 200"))

    monkeypatch.setattr(utils.sql, "text", patient)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "60")


@pytest.fixture
def after_begin(monkeypatch) -> Callable[[Callable[[], object]], None]:
    """Give a function (harm): it is done once, right after the first cell was begun in MLflow."""

    def arm(harm: Callable[[], object]) -> None:
        begin, due = Ledger.begin, [harm]

        def begun(self, cell, suites):
            run = begin(self, cell, suites)
            while due:
                due.pop()()
            return run

        monkeypatch.setattr(Ledger, "begin", begun)

    return arm


@pytest.fixture
def finishes(call):
    """Give a function (*words, lost=True): the suite runs to its end, and says what it could not
    deliver in one sentence.
    """

    def run(*words: str, lost: bool = True) -> None:
        said = call("run", "--suite", "tiny.yaml", "--device", "cpu", "--jobs", "1", *words)
        assert said.code == 0 and "2 done" in said.out, said
        assert said.out.count("not delivered: ") == int(lost), said.out
        assert ("The records are safe" in " ".join(said.out.split())) == lost
        assert "Traceback" not in said.out + said.err
        found = list(records(RUNS))
        assert [record.result()["state"] for record in found] == ["done", "done"]
        assert all(record.weights() and not record.litter() for record in found)

    return run


@pytest.fixture
def mends(call):
    """Give a function (*words, code=0): doctor, and MLflow has all that the records have."""

    def heal(*words: str) -> None:
        said = call("doctor", *words)
        assert said.code == 0 and "View run" not in said.out, said
        where = words[words.index("--tracking-uri") + 1] if "--tracking-uri" in words else None
        ledger = Ledger(where or default_uri(Path()), Path("mlartifacts").resolve())
        frame = ledger.read("tiny").set_index("key")
        expected = {record.key: record.result()["metrics"]["accuracy"] for record in records(RUNS)}
        assert frame["accuracy"].to_dict() == expected and len(expected) == 2
        assert ledger.running() == {} and ledger.deliver(records(RUNS)) == 0
        stamps = {path: path.stat().st_mtime_ns for path in RUNS.glob("*/result.json")}
        again = call("run", "--suite", "tiny.yaml", "--device", "cpu", "--offline")
        assert again.code == 0 and "nothing to do" in again.out
        assert {path: path.stat().st_mtime_ns for path in stamps} == stamps

    return heal


# a local database


@contextmanager
def another_process_has(path: Path) -> Iterator[None]:
    with lock(path) as holder:
        yield
        holder.communicate("over\n")


def lock(path: Path) -> "subprocess.Popen[str]":
    words = [sys.executable, "-c", LOCK, str(path.resolve())]
    holder = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "locked\n"
    return holder


def test_a_database_that_is_locked_from_the_start(tracked, short, finishes, mends, call):
    with another_process_has(DATABASE):
        finishes()
        said = call("doctor")
        assert said.code == 2 and "database is locked" in said.err and "--rebuild" not in said.out
    mends()


def test_a_database_that_is_locked_in_mid_run(tracked, short, after_begin, finishes, mends):
    holders = []
    after_begin(lambda: holders.append(lock(DATABASE)))
    finishes()
    holders[0].communicate("over\n")
    mends()


def test_a_database_that_is_deleted_in_mid_run(tracked, after_begin, finishes, mends):
    after_begin(DATABASE.unlink)
    finishes(lost=False)  # the next delivery makes a new one
    mends()


def test_a_database_that_is_damaged_in_mid_run(tracked, after_begin, finishes, mends, call):
    def damage():
        with open(DATABASE, "r+b") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(0)
            file.write(b"\xff" * size)

    after_begin(damage)
    finishes()
    said = call("doctor")
    assert said.code == 1 and "--rebuild" in said.out
    mends("--rebuild")
    assert Path("mlflow.db.old").read_bytes().startswith(b"\xff")


def test_a_disk_without_room_for_the_database(tracked, finishes, mends):
    with closing(sqlite3.connect(DATABASE)) as connection:
        connection.execute("vacuum")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (DATABASE.stat().st_size // 2, before[1]))
    try:
        finishes()  # workers inherit the limit; their files are smaller
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    mends()


# a server


class Server:
    """MLflow's own server, in a thread, with a word to say before each answer."""

    def __init__(self, before: Callable[[], object] = lambda: None, port: int = 0):
        """before: called in the thread that answers, with each request."""
        from werkzeug.serving import make_server

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of its own imports, some at the first request
            import_module("mlflow.server.fastapi_app")
            from mlflow.server import app

        def answer(environment, start):
            before()
            return app(environment, start)

        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        self.server = make_server("127.0.0.1", port, answer, threaded=True)
        self.uri = f"http://127.0.0.1:{self.server.port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def die(self) -> None:
        """Nobody listens any more."""
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def serve(tracked, short, monkeypatch):
    """Give a function (before, port): a server on a database of its own."""
    from mlflow.server import handlers
    from mlflow.tracking._tracking_service import utils

    monkeypatch.setattr(handlers, "_tracking_store", None)
    # a server names its own database to the whole process, and to those that this one starts
    monkeypatch.setattr(utils, "_tracking_uri", None)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    monkeypatch.setenv("_MLFLOW_SERVER_FILE_STORE", f"sqlite:///{DATABASE.resolve()}")
    monkeypatch.setenv("_MLFLOW_SERVER_ARTIFACT_ROOT", str(Path("served").resolve()))
    monkeypatch.setenv("_MLFLOW_SERVER_SERVE_ARTIFACTS", "false")
    started = []

    def start(*words) -> Server:
        started.append(Server(*words))
        return started[-1]

    yield start
    for server in started:
        server.die()


def test_a_server_that_is_down_at_the_start(serve, finishes, mends):
    server = serve()
    server.die()
    finishes("--tracking-uri", server.uri)
    serve(lambda: None, server.server.port)
    mends("--tracking-uri", server.uri)


def test_a_server_that_dies_in_between(serve, after_begin, finishes, mends):
    server = serve()
    after_begin(server.die)
    finishes("--tracking-uri", server.uri)
    serve(lambda: None, server.server.port)
    mends("--tracking-uri", server.uri)


def test_a_server_that_answers_slowly(serve, finishes, mends):
    server = serve(lambda: time.sleep(0.1))
    finishes("--tracking-uri", server.uri, lost=False)
    mends("--tracking-uri", server.uri)


def test_a_server_that_answers_no_more(serve, after_begin, finishes, mends, monkeypatch):
    """It takes each request, and answers when all is trained."""
    silent = threading.Event()

    def fall_silent():
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
        silent.set()

    def wait():
        until = time.monotonic() + 120
        while silent.is_set() and time.monotonic() < until:
            time.sleep(0.02)
            if len(list(RUNS.glob("*/result.json"))) == 2:
                silent.clear()

    server = serve(wait)
    after_begin(fall_silent)
    finishes("--tracking-uri", server.uri)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "60")
    mends("--tracking-uri", server.uri)
