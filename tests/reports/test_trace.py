"""From a number back to its cells: ids that are unique, keys that are right, words that help."""

import io
import math

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pandas import DataFrame

from reports import style, trace
from reports.build import build
from reports.exhibits import Exhibit
from reports.exhibits.curves import accuracy_against_dim, accuracy_against_ratio
from reports.exhibits.table import accuracy_table, group_table
from reports.frames import tidy
from reports.trace import find, identified, keys_of, printed

MAKERS = [accuracy_table, group_table, accuracy_against_ratio, accuracy_against_dim]


def ids(by: list[str], **columns: list) -> list[str]:
    return identified(DataFrame(columns), by)["id"].tolist()


def test_ids_by_hand():
    rows = {
        "head": ["psc", "psc > ncm", "psc"],
        "dim": [64, 3, 64],
        "ratio": [20.0, 1.0, 100.0],
        "value": [0.01, math.nan, 10.0],
    }
    assert ids(["head", "dim", "ratio"], **rows) == [
        *("psc-d64-1-20", "psc-ncm-d3-balanced", "psc-d64-1-100"),
    ]
    assert ids(["head", "value"], **rows) == ["psc-0-01", "psc-ncm", "psc-10"]
    assert ids(["value"], **rows)[1] == "all"  # nothing to name it by
    missing = pd.array([1, None, 2], dtype="Int64")
    assert identified(DataFrame({"dim": missing}), ["dim"])["id"].tolist() == ["d1", "all", "d2"]


def test_a_repeated_id_gets_a_number_that_is_free():
    assert ids(["a"], a=["x", "x", "x"]) == ["x", "x-2", "x-3"]
    assert ids(["a"], a=["x-2", "x", "x"]) == ["x-2", "x", "x-3"]
    assert ids(["a"], a=["Ours", "Ours*"]) == ["ours", "ours-2"]


@given(st.lists(st.text(max_size=4), max_size=12))
def test_ids_are_unique_and_safe(words):
    found = ids(["a"], a=words)
    assert len(set(found)) == len(words)
    assert all(set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-") for name in found)


def test_identified_leaves_the_frame_as_it_is():
    frame = DataFrame({"head": ["psc"]}, index=[7])
    named = identified(identified(frame, ["head"]), ["head"])
    assert list(named.columns) == ["id", "head"] and named.index.tolist() == [7]
    assert list(frame.columns) == ["head"]


def test_keys_are_sorted_once_each_and_pairs_are_taken_apart():
    assert keys_of(DataFrame({"key": ["b", "a", "b"]})) == "a b"
    assert keys_of(DataFrame({"key": ["b a", "c b"]})) == "a b c"
    assert keys_of(DataFrame({"key": []})) == ""


@pytest.mark.parametrize("make", MAKERS)
def test_the_cells_of_a_row_make_its_numbers(full, make):
    """Every mean, from nothing but the keys that the row names."""
    runs = tidy(full)
    (exhibit,) = make(runs, "x")
    rows = pd.read_csv(io.StringIO(exhibit.csv), keep_default_na=False, na_values=[""])
    assert rows.columns[0] == "id" and rows.columns[-1] == "keys" and rows["id"].is_unique
    for row in rows.itertuples():
        cells = runs[runs["key"].isin(row.keys.split())]
        assert len(cells) == row.cells and cells[row.metric].mean() == pytest.approx(row.mean)
        assert {*cells["head"], *cells["dim"], *cells["ratio"]} == {row.head, row.dim, row.ratio}


def test_printed_numbers_are_per_cent_where_print_is():
    rows = ["id,n,mean,p,off,group,few,keys", "a,3,0.49349,0.0123456,True,many,,7"]
    csv = "\n".join([*rows, "b,2,0.5,1,False,few,,7", ""])
    exhibit = Exhibit("x", "t", "l", None, None, csv, None, percent={"mean": 1})
    assert printed(exhibit) == {
        **{"a.mean": "49.3", "a.n": "3", "a.p": "0.01235"},
        **{"b.mean": "50.0", "b.n": "2", "b.p": "1"},
    }


@pytest.fixture
def findings(full, tmp_path, monkeypatch):
    """A folder of findings, without ink."""
    for form in ("png", "pdf"):
        monkeypatch.setattr(style, form, lambda figure: b"")
    runs = full.assign(run_id=[f"run{nth}" for nth in range(len(full))])
    build(runs, tmp_path, {})
    return tmp_path, runs


NAME = "cifar100-resnet32-channels-32-long-tail-200-groups"


def test_find_names_the_cells_with_their_measure_and_run(findings):
    out, runs = findings
    found = find(out, f"{NAME}/etf-d128-1-100-few.mean")
    assert (found.column, found.metric) == ("mean", "few")
    assert found.title == "Test accuracy on cifar100 by class frequency"
    mine = runs[(runs["head"] == "etf") & (runs["dim"] == 128) & (runs["ratio"] == 100)]
    assert set(found.cells["key"]) == set(mine["key"]) and len(mine) == 3
    for cell in found.cells.itertuples():
        (own,) = mine[mine["key"] == cell.key].itertuples()
        assert (cell.label, cell.state, cell.run) == (own.label, own.state, own.run_id)
        assert cell.few == ("" if cell.state == "diverged" else repr(own.few))
    assert float(found.rows["mean"].item()) == pytest.approx(mine["few"].mean())


def test_less_of_an_id_leads_to_less(findings):
    out, _ = findings
    row = find(out, f"{NAME}/psc-d50-1-10-few")
    assert row.column == "" and len(row.rows) == 1 and len(row.cells) == 3
    whole = find(out, NAME)
    assert len(whole.rows) == 5 * 2 * 2 * 4 and whole.file.is_file()


@pytest.mark.parametrize(
    ("number", "told"),
    [
        (NAME.replace("groups", "group"), f"The nearest is '{NAME}'"),
        (f"{NAME}/psc-d50-1-10-fee.mean", "The nearest is 'psc-d50-1-10-few'"),
        (f"{NAME}/psc-d50-1-10-few.meen", "there is no column of .* The nearest is 'mean'"),
        ("", "there is no exhibit ''"),
    ],
)
def test_an_unknown_id_is_told_its_nearest(findings, number, told):
    with pytest.raises(ValueError, match=told):
        find(findings[0], number)


def test_no_findings_is_one_sentence(tmp_path):
    with pytest.raises(ValueError, match="there are no findings in .* writes them"):
        find(tmp_path, "x")
    (tmp_path / "manifest.json").write_text('{"files": {}, "schema": 1}')  # of an older version
    with pytest.raises(ValueError, match="there are no findings in .* writes them"):
        find(tmp_path, "x")


def test_csv_puts_keys_last_and_has_them_always():
    named = identified(DataFrame({"keys": ["k"], "n_failed": [1]}), ["n_failed"])
    assert trace.csv(named) == "id,failed,keys\n1,1,k\n"
    assert trace.csv(identified(DataFrame({"a": ["x"]}), ["a"])) == "id,a,keys\nx,x,\n"
