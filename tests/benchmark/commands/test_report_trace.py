"""From a number of the findings back to its cells, as a user asks for it."""

import math
from pathlib import Path

import pytest
from pandas import DataFrame

from reports import style
from reports.build import build

EXHIBIT = "digits-small-cnn-quick-accuracy"


@pytest.fixture
def findings(place, monkeypatch):
    """Findings over two seeds of one head, the second of which diverged; the first is here."""
    for form in ("png", "pdf"):
        monkeypatch.setattr(style, form, lambda figure: b"")
    unknown = ["many", "medium", "few", "top5", "ece", "nc1", "nc2", "nc3", "nc4", "oracle", "flip"]
    unknown += ["parameters", "flops", "width", "seconds", "images_per_second", "peak_memory_mb"]
    facts = {
        **{"suites": "quick", "data": "digits", "ratio": 20.0, "profile": "", "largest": 0},
        **{"backbone": "small_cnn", "head": "psc", "dim": 64, "recipe": "quick", "epochs": 6},
        **{"classes": 10, "train_images": 500, "group_rule": "", "finished": ""},
        **dict.fromkeys([*unknown, "diverged_step"], math.nan),
    }
    seeds = [
        {"key": "aaaa", "seed": "0", "label": "cell zero", "state": "done", "accuracy": 0.5},
        {
            "key": "bbbb",
            "seed": "1",
            "label": "cell one",
            "state": "diverged",
            "accuracy": math.nan,
        },
    ]
    rows = [facts | each | {"run_id": f"run of {each['key']}"} for each in seeds]
    build(DataFrame(rows), Path("findings"), {})
    Path("runs/aaaa").mkdir(parents=True)
    return place


def test_a_number_names_its_cells(findings, call):
    before = sorted(Path().rglob("*"))
    said = call("report", "--trace", f"{EXHIBIT}/psc-d64-1-20.mean")
    assert said.code == 0, said
    assert f"number   {EXHIBIT}/psc-d64-1-20.mean = 0.5\n" in said.out
    assert f"Test accuracy on digits, findings/tables/{EXHIBIT}.csv" in said.out
    (first,) = [line for line in said.out.splitlines() if line.startswith("aaaa")]
    (second,) = [line for line in said.out.splitlines() if line.startswith("bbbb")]
    assert first.split() == [
        "aaaa",
        "cell",
        "zero",
        "done",
        "0.5",
        "run",
        "of",
        "aaaa",
        "runs/aaaa",
    ]
    assert "diverged" in second and second.rstrip().endswith("not here")
    assert "python -m benchmark replay aaaa" in said.out
    assert sorted(Path().rglob("*")) == before  # it only reads: no database, no folder


def test_less_of_an_id_lists_what_it_holds(findings, call):
    said = call("report", "--trace", f"{EXHIBIT}/psc-d64-1-20")
    assert f"{EXHIBIT}/psc-d64-1-20.bound = 0.25" in said.out and "aaaa" in said.out
    said = call("report", "--trace", EXHIBIT)
    assert said.out.splitlines()[1:] == [f"         {EXHIBIT}/psc-d64-1-20"]


@pytest.mark.parametrize("number", ["digits", f"{EXHIBIT}/psc", f"{EXHIBIT}/psc-d64-1-20.men"])
def test_an_unknown_id_is_one_sentence_with_the_nearest(findings, call, number):
    said = call("report", "--trace", number)
    assert said.code == 2 and said.err.count("\n") == 1 and "The nearest is '" in said.err


def test_no_findings_yet(place, call):
    said = call("report", "--trace", "x", "--out", "elsewhere")
    assert said.code == 2 and said.err.count("\n") == 1
    assert "python -m benchmark report --out elsewhere writes them" in said.err
