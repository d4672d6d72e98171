"""What the page tells of a cell: curves thinned but not flattened, values shared, cost apart."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pandas import DataFrame

from reports import dossier
from reports.exhibits import Exhibit
from reports.frames import tidy


class Evidence:
    """Evidence of one kind of cell, and what it was asked."""

    def __init__(self):
        self.asked = []

    def series(self, key, name):
        self.asked.append((key, name))
        rows = {"train/loss": [(1, 1.0, 2.0), (2, 2.0, 1.0)], "head/moved": [(7, math.nan, 0.5)]}
        return DataFrame(rows.get(name, []), columns=["step", "epoch", "value"])

    def arrays(self, key):
        return {"per_class": np.array([0.123456, np.nan])}


class Whole(Evidence):
    def histories(self, key):
        return {
            "train/loss": [(2, 1.0), (1, 2.0)],
            "head/assignment_seconds": [(1, 3.0)],
            "accuracy": [(2, 0.5)],
            "train/validation": [],
        }

    def facts(self, key):
        return {
            "cell": {
                "data": {"name": "digits", "lr": 0.123456789},
                "seed": 3,
                "label": "unsaid: it is the title",
                "stages": [{"head": "psc", "recipe": {"epochs": 2}}, {"head": "ncm"}],
            },
            "result": {
                "counts": [5, 1],
                "names": ["a", "b"],
                "groups": ["many", "few"],
                "metrics": {"train_accuracy": 0.98765, "accuracy": 0.5, "bad": math.nan},
                "digests": {"images": "abc"},
                "commit": "c0ffee",
                "versions": {"torch": "2"},
                "cost": {"seconds": 12.34567, "device": "cpu", "threads": 1},
            },
            "run": "r1",
        }


@pytest.fixture
def runs(make_runs):
    return tidy(make_runs(heads=["psc", "etf"], ratios=[1], seeds=2))


def test_a_curve_keeps_ends_peaks_and_troughs():
    values = [math.sin(i / 3) for i in range(1000)]
    values[617], values[123] = 9.0, -9.0
    xs, ys = dossier.thinned(list(enumerate(values, 1)))
    assert len(xs) == len(ys) <= 100 and xs == sorted(set(xs))
    assert xs[0] == 1 and xs[-1] == 1000
    assert ys[xs.index(618)] == 9 and ys[xs.index(124)] == -9


def test_a_short_curve_is_kept_in_order_and_holes_are_left_out():
    pairs = [(2, 0.123456), (1, 3.0), (3, math.nan), (math.nan, 1.0)]
    assert dossier.thinned(pairs) == ([1, 2], [3, 0.1235])
    assert dossier.thinned([]) == ([], [])


@given(
    st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=400),
    st.integers(4, 60),
)
def test_thinning_never_invents_and_never_loses_an_extreme(values, points):
    xs, ys = dossier.thinned(list(enumerate(values)), points)
    assert len(xs) <= points
    assert set(zip(xs, ys, strict=True)) <= {
        (i, dossier.rounded(value)) for i, value in enumerate(values)
    }
    assert min(ys) == dossier.rounded(min(values)) and max(ys) == dossier.rounded(max(values))


def test_numbers_have_four_significant_digits():
    assert [dossier.rounded(v) for v in (12345.6, 0.000123456, 2.0, -0.5)] == [
        12350,
        0.0001235,
        2,
        -0.5,
    ]
    assert json.dumps(dossier.rounded(200.0)) == "200"


def test_a_cell_tells_settings_curves_classes_and_digests(runs):
    found = dossier.known(runs, Whole()).measured
    json.dumps(found, allow_nan=False)
    cell, shared = found["cells"][0], found["shared"]
    assert cell["key"] == runs["key"][0] and cell["ratio"] == "balanced" and cell["epochs"] == 200
    assert {name: shared[place] for name, place in cell["settings"].items()} == {
        "cell": {"seed": 3},
        "data": {"name": "digits", "lr": 0.123456789},  # settings are exact
        "stage 1": {"head": "psc", "recipe": {"epochs": 2}},
        "stage 2": {"head": "ncm"},
    }
    assert list(cell["curves"]) == ["train/loss"]  # no cost, no final number, nothing empty
    places, values = cell["curves"]["train/loss"]
    assert shared[places] == [1, 2] and values == [2, 1]
    assert cell["accuracies"] == [0.1235, None]
    assert shared[cell["classes"]]["counts"] == [5, 1]
    assert cell["metrics"] == {"train_accuracy": 0.9877}
    assert shared[cell["digests"]] == {"images": "abc"}
    assert len(shared) == len({json.dumps(value) for value in shared})  # each once


def test_evidence_without_histories_is_asked_by_name(runs):
    cell, *_ = dossier.known(runs, Evidence()).measured["cells"]
    assert sorted(cell["curves"]) == ["head/moved", "train/loss"]
    shared = dossier.known(runs, Evidence()).measured["shared"]
    assert shared[cell["curves"]["head/moved"][0]] == [7]  # no epoch known: the step
    assert cell["settings"] == {} and cell["accuracies"] == [0.1235, None]


def test_evidence_with_histories_is_asked_once(runs):
    evidence = Whole()
    dossier.known(runs, evidence)
    assert evidence.asked == []


def test_without_evidence_a_cell_has_its_row_only(runs):
    cell, *_ = dossier.known(runs, None).measured["cells"]
    assert cell["curves"] == {} and cell["accuracies"] == [] and cell["settings"] == {}
    assert dossier.known(runs, None).cost["facts"] == [{}] * len(runs)


def test_what_a_machine_adds_is_apart(runs):
    found = dossier.known(runs, Whole()).cost
    assert found["headings"] == ["minutes", "images/s", "peak memory, MB", "finished"]
    assert found["rows"][0] == ["10.0", "3,600", "812", "2026-01-02T03:04:05"]
    assert found["facts"][0] == {
        "cost": {"seconds": 12.35, "device": "cpu", "threads": 1},
        "commit": "c0ffee",
        "versions": {"torch": "2"},
        "run": "r1",
    }
    told = json.dumps(dossier.known(runs, Whole()).measured)
    assert "c0ffee" not in told and "12.3" not in told and '"r1"' not in told


def test_rows_of_an_exhibit_lead_to_cells(runs):
    keys = list(runs["key"])
    csv = f"id,mean,keys\na-1,0.5,{keys[1]} {keys[0]}\nb,,\nc,0.1,{keys[3]} elsewhere\n"
    one = Exhibit("one", "", "", None, None, csv, None)
    old = Exhibit("old", "", "", None, None, "head,mean\npsc,0.5\n", None)
    found = dossier.rows([one, old], runs)
    assert found == {"one": [("a-1", [1, 0]), ("c", [3, "elsewhere"])]}
