"""replay: the same cell again, to the last bit, or what differs."""

import json
import shutil

import numpy as np
import pytest

from benchmark.records.record import Record, records


@pytest.fixture
def trained(place, tiny_runs):
    """The records of the tiny suite, psc and psc > ncm, in the folder where commands are typed."""
    shutil.copytree(tiny_runs, place / "runs")
    cells = {record.cell().method: record for record in records(place / "runs")}
    return place, cells


def test_a_cell_is_identical(trained, call):
    place, cells = trained
    for method in ("psc", "psc > ncm"):
        before = (cells[method].folder / "result.json").read_bytes()
        said = call("replay", cells[method].key[:8])
        assert said.code == 0, said.out + said.err
        assert "identical: metrics, curves" in said.out
        assert (cells[method].folder / "result.json").read_bytes() == before
        assert not (place / "replays").exists()


def test_foundations_are_trained_again(trained, call):
    place, cells = trained
    shutil.rmtree(cells["psc"].folder)
    said = call("replay", cells["psc > ncm"].key)
    assert said.code == 2 and "Add --foundations" in said.err
    said = call("replay", cells["psc > ncm"].key, "--foundations")
    assert said.code == 0 and "identical" in said.out
    assert not cells["psc"].folder.exists()


def test_what_differs_is_named(trained, call):
    """A record with another accuracy, other weights and another version of torch, well sealed."""
    _, cells = trained
    record: Record = cells["psc"]
    result, arrays, weights = record.result(), record.arrays(), record.weights()
    result["metrics"]["accuracy"] += 0.25
    result["versions"]["torch"] = "0.0"
    weights["heads.0.classifier.weight"] = weights["heads.0.classifier.weight"] + np.float32(0.5)
    record.finish({k: v for k, v in result.items() if k != "files"}, arrays, weights)
    said = call("replay", record.key)
    assert said.code == 1 and "identical" not in said.out
    assert "metrics accuracy: " in said.out and "(-0.25)" in said.out
    assert "weights: 1 of " in said.out and "by 0.5 at most" in said.out
    assert "'torch': '0.0'" in said.out
    assert "arrays" not in said.out and "curves differ" not in said.out


def test_keys(trained, call):
    for key in ("", "nothing"):
        said = call("replay", key)
        assert said.code == 2 and "0 finished cells under runs" in said.err
    assert json.loads((trained[1]["psc"].folder / "result.json").read_text())["state"] == "done"
