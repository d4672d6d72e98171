"""A local database made anew, and the old one kept aside."""

import shutil
import sqlite3

import pandas as pd
import pytest

from benchmark.records import rebuild as module
from benchmark.records.ledger import Ledger, Unreachable
from benchmark.records.rebuild import rebuild, swap
from benchmark.records.record import records


@pytest.fixture
def prepared(tmp_path, migrated, monkeypatch):
    """New databases are copies of a migrated one: to migrate takes seconds."""
    monkeypatch.setattr(module.secrets, "token_hex", lambda count: "0")
    shutil.copy(migrated, tmp_path / ".mlflow.db.0.new")


def test_a_healthy_database_is_made_anew(ledger, cell, finished, tmp_path, prepared):
    found = [finished(cell(seed)) for seed in (0, 1)]
    ledger.deliver(found)
    before = ledger.read()
    count, aside = rebuild(ledger, found)
    assert count == 2 and aside == tmp_path / "mlflow.db.old"
    after = ledger.read()
    assert not set(after["run_id"]) & set(before["run_id"])
    pd.testing.assert_frame_equal(after.drop(columns="run_id"), before.drop(columns="run_id"))
    old = Ledger(f"sqlite:///{aside}", ledger.artifacts).read()
    pd.testing.assert_frame_equal(old, before)
    assert sorted(path.name for path in tmp_path.glob("*mlflow.db*")) == [
        *("mlflow.db", "mlflow.db.old"),
    ]
    assert ledger.deliver(found) == 0


def test_a_broken_one_too(ledger, cell, finished, tmp_path, prepared):
    broken = b"this is no database, but long enough to look like one" * 40
    (tmp_path / "mlflow.db").write_bytes(broken)
    count, aside = rebuild(ledger, [finished(cell())])
    assert count == 1 and aside.read_bytes() == broken
    assert ledger.check() is None and len(ledger.read()) == 1


def test_until_it_is_done_nothing_is_touched(
    ledger, cell, finished, tmp_path, prepared, monkeypatch
):
    record = finished(cell())
    ledger.deliver([record])
    content = (tmp_path / "mlflow.db").read_bytes()

    def fail(*of):
        raise RuntimeError("in the middle")

    monkeypatch.setattr("benchmark.records.delivery.files", fail)
    with pytest.raises(Unreachable, match="in the middle"):
        rebuild(ledger, [record])
    assert (tmp_path / "mlflow.db").read_bytes() == content
    assert [path.name for path in tmp_path.glob("*mlflow.db*")] == ["mlflow.db"]


def test_cells_without_a_record_here_are_not_dropped(ledger, cell, finished, tmp_path):
    here, elsewhere = finished(cell(0)), finished(cell(1))
    ledger.deliver([here, elsewhere])
    shutil.rmtree(elsewhere.folder)
    with pytest.raises(ValueError) as error:
        rebuild(ledger, records(tmp_path / "runs"))
    sentence = str(error.value)
    assert sentence.startswith("1 finished cells in ") and elsewhere.key in sentence
    assert "\n" not in sentence and len(ledger.read()) == 2


def test_a_server_is_refused(cell, finished, tmp_path):
    with pytest.raises(ValueError, match="http://127.0.0.1:1 is a server. Restore its database"):
        rebuild(Ledger("http://127.0.0.1:1", tmp_path), [finished(cell())])


def test_swap(tmp_path):
    path = tmp_path / "mlflow.db"

    def put(content):
        fresh = tmp_path / "fresh"
        fresh.write_text(content)
        return swap(fresh, path)

    assert put("first") is None and path.read_text() == "first"
    (tmp_path / "mlflow.db-journal").write_text("of the first")
    aside = put("second")
    assert path.read_text() == "second" and aside.read_text() == "first"
    assert (tmp_path / "mlflow.db.old-journal").read_text() == "of the first"
    assert not (tmp_path / "mlflow.db-journal").exists()  # SQLite would play it into the second
    assert put("third").name == "mlflow.db.old-2"
    assert (tmp_path / "mlflow.db.old").read_text() == "first"


def test_an_unfinished_transaction_does_not_leak_into_the_new_one(tmp_path):
    path, fresh = tmp_path / "mlflow.db", tmp_path / "fresh"
    for name, value in ((path, "old"), (fresh, "new")):
        with sqlite3.connect(name) as connection:
            connection.execute("create table t as select ? as value", (value,))
        connection.close()
    swap(fresh, path)
    connection = sqlite3.connect(path)
    assert connection.execute("select value from t").fetchall() == [("new",)]
    connection.close()
