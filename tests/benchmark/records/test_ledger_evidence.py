"""What reports are told of finished cells: from files, by download, or from the store alone."""

import gc
import math
import os
import pickle
import shutil
import time

import pytest
import synthetic

from benchmark.commands.evidence import LedgerEvidence
from benchmark.records.ledger import Ledger
from benchmark.records.record import Record, records


def of(ledger) -> LedgerEvidence:
    frame = ledger.read()
    return LedgerEvidence(ledger, dict(zip(frame["key"], frame["run_id"], strict=True)))


@pytest.fixture
def record(ledger, cell, finished) -> Record:
    """A delivered one."""
    record = finished(cell(), names=["a", "b"])
    ledger.deliver([record])
    return record


def check(evidence: LedgerEvidence, record: Record) -> None:
    """Everything that a record has to say is told."""
    facts = evidence.facts(record.key)
    assert facts["cell"] == record.cell().to_json()
    assert facts["run"] == evidence.runs[record.key]
    assert facts["result"]["superclasses"] == [] and facts["result"]["names"] == ["a", "b"]
    for name, value in record.result()["metrics"].items():
        told = facts["result"]["metrics"][name]
        assert told == value or (math.isnan(told) and math.isnan(value))
    drawn(evidence, record)
    assert dict(evidence.arrays(record.key)) == record.arrays()


def drawn(evidence: LedgerEvidence, record: Record) -> None:
    """Curves and readings, bulk and single."""
    histories = evidence.histories(record.key)
    losses = [(row["epoch"], row["loss"]) for row in record.curves()]
    assert histories["train/loss"] == losses
    # the last stage has nothing to train: all its steps are taken for one epoch
    assert histories["head/moved"] == [(0, 0.0), (0.5, 30 / 7), (1, 60 / 7)]
    assert set(histories) == {"train/loss", "train/lr", "head/moved", "head/recall_1 f_r k"}
    series = evidence.series(record.key, "head/moved")
    assert list(series.columns) == ["step", "epoch", "value"]
    assert list(series["step"]) == [0, 30, 60] and list(series["epoch"]) == [0, 0.5, 1]
    assert evidence.series(record.key, "head/nothing").empty


def test_another_process_reads_what_lies_here(ledger, record, monkeypatch):
    evidence = of(ledger)
    copied = pickle.dumps(evidence)
    for asked in ("places", "fetch", "histories"):  # the store is not asked again
        monkeypatch.setattr(Ledger, asked, None)
    check(pickle.loads(copied), record)


def test_what_lies_on_a_server_is_fetched_by_one_process(ledger, record, monkeypatch):
    monkeypatch.setattr(Ledger, "places", lambda _: ())
    with pytest.raises(TypeError, match="lie on a server"):
        pickle.dumps(of(ledger))


def test_files_are_read_where_they_lie(ledger, record, monkeypatch):
    evidence = of(ledger)
    monkeypatch.setattr(Ledger, "fetch", None)
    monkeypatch.setattr(Ledger, "histories", None)
    check(evidence, record)


def test_a_database_that_was_moved_with_its_artifacts(ledger, record, tmp_path, monkeypatch):
    (tmp_path / "new").mkdir()
    shutil.copy(tmp_path / "mlflow.db", tmp_path / "new" / "mlflow.db")
    shutil.move(ledger.artifacts, tmp_path / "new" / "mlartifacts")
    moved = Ledger(f"sqlite:///{tmp_path / 'new' / 'mlflow.db'}", tmp_path / "new" / "mlartifacts")
    monkeypatch.setattr(Ledger, "fetch", None)
    check(of(moved), record)


def test_a_server_keeps_files_elsewhere(ledger, record, monkeypatch):
    fetched = []
    monkeypatch.setattr(Ledger, "places", lambda self: ())
    fetch = Ledger.fetch
    monkeypatch.setattr(
        Ledger, "fetch", lambda self, run, into: (fetched.append(into), fetch(self, run, into))
    )
    evidence = of(ledger)
    check(evidence, record)
    assert len(fetched) == 1 and fetched[0].is_dir()  # once a cell
    del evidence
    gc.collect()
    assert not fetched[0].exists()


def test_what_was_never_kept_is_empty(ledger, record):
    evidence = of(ledger)
    kept = ledger.artifacts / evidence.runs[record.key] / "artifacts"
    for name in ("curves.csv", "readings.csv"):  # as older versions left it
        (kept / name).unlink()
    check(evidence, record)
    shutil.rmtree(kept)
    evidence = of(ledger)
    drawn(evidence, record)
    assert evidence.arrays(record.key) == {}
    assert evidence.facts(record.key) == {
        "cell": {},
        "result": {},
        "run": evidence.runs[record.key],
    }


@pytest.mark.long
def test_hundreds_of_cells(ledger, tmp_path, monkeypatch):
    """Delivered, read, and all their evidence told; shows how long each took (pytest -s)."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)  # of records that are thrown away
    for cell in synthetic.cells(seeds=1):
        synthetic.write(cell, tmp_path / "runs")
    took = {}

    def timed(name, ask):
        began = time.process_time()  # of this process: others may keep the machine busy
        found = ask()
        took[name] = time.process_time() - began
        return found

    assert timed("deliver", lambda: ledger.deliver(records(tmp_path / "runs"))) == 200
    assert timed("again", lambda: ledger.deliver(records(tmp_path / "runs"))) == 0
    frame = timed("read", ledger.read)
    assert len(frame) == 200
    evidence = of(ledger)
    for ask in (evidence.facts, evidence.histories, evidence.arrays):
        found = timed(ask.__name__, lambda ask=ask: [len(ask(key)) for key in frame["key"]])
        assert min(found) > 0
    print({name: round(seconds, 2) for name, seconds in took.items()})
    assert took["read"] + took["facts"] + took["histories"] + took["arrays"] < 12
