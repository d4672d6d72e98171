"""The files of a run: from a record, and back."""

import csv
import math

import numpy as np
import pytest
import synthetic

from benchmark.records import evidence
from benchmark.records.record import Torn


def kept(record, folder):
    """The files of a record, in a folder."""
    folder.mkdir(exist_ok=True)
    for name, content in evidence.files(record, record.cell(), record.result()).items():
        (folder / name).write_bytes(content)
    return folder


def drawn_anew(record, rows):
    """The same record, finished with other rows."""
    kept = record.result(), record.arrays(), record.weights()
    record.write_curves(rows)
    record.finish(*kept)


def test_histories_are_the_records_to_the_last_bit(tmp_path, cell, finished):
    record = finished(cell())
    found = evidence.histories(kept(record, tmp_path / "kept"))
    for name in ("loss", "lr"):
        assert found[f"train/{name}"] == [
            (row["epoch"], row["epoch"], row[name]) for row in record.curves()
        ]
    # the last stage trains nothing: its one epoch is as long as all its steps, 60
    assert found["head/moved"] == [(0, 0, 0.0), (30, 0.5, 30 / 7), (60, 1, 60 / 7)]
    assert "head/recall_1 f_r k" in found and "head/epoch" not in found  # MLflow's alphabet


def test_epochs_of_a_stage():
    assert evidence.epochs_of(30, 60, 4) == 2.0
    assert evidence.epochs_of(30, 60, 0) == 0.5  # nobody said how many: all of it is one
    assert math.isnan(evidence.epochs_of(0, 0, 4))


def test_rows_may_measure_different_things(tmp_path, cell, finished):
    record = finished(cell())
    rows = record.curves()
    rows[1] = {**rows[1], "nc1": 0.1 + 0.2, "oracle": float("nan")}
    drawn_anew(record, rows)
    found = evidence.histories(kept(record, tmp_path / "kept"))
    assert found["train/nc1"] == [(2, 2, 0.1 + 0.2)]
    assert [point.epoch for point in found["train/loss"]] == [1, 2, 3]
    ((_, _, value),) = found["train/oracle"]
    assert math.isnan(value)


def test_nothing_was_drawn(tmp_path, cell, finished):
    record = finished(cell(), readings=[])
    drawn_anew(record, [])
    assert evidence.histories(kept(record, tmp_path / "kept")) == {}


def test_what_older_runs_lack(tmp_path):
    assert evidence.histories(tmp_path) is None
    assert evidence.arrays(tmp_path) == {}
    assert evidence.facts(tmp_path) == {"cell": {}, "result": {}}


def test_facts_arrays_and_the_table_of_classes(tmp_path):
    cell = next(synthetic.cells())
    record = synthetic.write(cell, tmp_path / "runs", epochs=20)
    folder = kept(record, tmp_path / "kept")
    facts = evidence.facts(folder)
    assert facts["cell"] == cell.to_json()
    result = record.result()
    assert facts["result"] == {name: v for name, v in result.items() if name != "readings"}
    for name, value in record.arrays().items():
        assert (evidence.arrays(folder)[name] == value).all()
    with open(folder / "per_class.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    right = record.arrays()["per_class"]
    assert [float(row["accuracy"]) for row in rows] == list(right)
    assert [int(row["images"]) for row in rows] == result["counts"]
    assert rows[7]["name"] == "class 7" and rows[7]["superclass"] == "group 1"
    assert {row["group"] for row in rows} == set(result["groups"])


def test_a_table_of_classes_without_names(tmp_path, cell, finished):
    record = finished(cell())
    record.finish(record.result(), {"per_class": np.array([0.5, math.nan])}, {})
    text = evidence.files(record, cell(), record.result())["per_class.csv"].decode()
    assert text == "label,accuracy\n0,0.5\n1,nan\n"


def test_damaged_arrays_are_not_handed_on(cell, finished):
    record = finished(cell())
    (record.folder / "arrays.safetensors").write_bytes(b"torn")
    with pytest.raises(Torn, match="does not match its result"):
        evidence.files(record, cell(), record.result())
