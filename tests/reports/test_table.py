"""Tables: rows, marks, blocks; LaTeX that parses, with the numbers of the CSV."""

import io
import math
import re

import pandas as pd
import pytest
from pylatexenc.latexwalker import LatexEnvironmentNode, LatexWalker

from reports.exhibits.table import CSV, accuracy_table, group_table
from reports.frames import tidy


def rows_of(latex: str) -> list[list[str]]:
    """The rows between toprule and bottomrule, split at unescaped ampersands."""
    inner = latex.split(r"\toprule")[1].split(r"\bottomrule")[0].replace(r"\midrule", "")
    lines = [line.strip() for line in re.split(r"(?<!\\)\\\\(?![a-z])", inner)]
    return [[c.strip() for c in re.split(r"(?<!\\)&", line)] for line in lines if line]


def parse(latex: str) -> list:
    return LatexWalker(latex, tolerant_parsing=False).get_latex_nodes()[0]


def numbers(text: str) -> list[str]:
    return re.findall(r"\d+\.\d", text)


@pytest.mark.parametrize("make", [accuracy_table, group_table])
def test_fragments_parse_and_every_row_has_every_column(full, make):
    (exhibit,) = make(tidy(full), "x")
    nodes = parse(exhibit.latex)
    floats = [n for n in nodes if isinstance(n, LatexEnvironmentNode)]
    assert [n.environmentname for n in floats] == ["table"]
    columns = re.search(r"\\begin\{tabular\}\{([lrc]+)\}", exhibit.latex)[1]
    rows = rows_of(exhibit.latex)
    assert {len(row) for row in rows} == {len(columns)} == {len(exhibit.table.columns)}
    assert len(rows) == len(exhibit.table) + 1
    assert exhibit.latex.isascii()


@pytest.mark.parametrize("make", [accuracy_table, group_table])
def test_numbers_in_print_are_the_numbers_of_the_csv(full, make):
    (exhibit,) = make(tidy(full), "x")
    plain = pd.read_csv(io.StringIO(exhibit.csv))
    assert list(plain.columns) == [name.removeprefix("n_") for name in CSV]
    assert plain.columns[0] == "id" and plain.columns[-1] == "keys"
    printed = []
    for row in rows_of(exhibit.latex)[1:]:
        start = 3 if make is group_table else 2
        printed += [numbers(cell) for cell in row[start:]]
    told = [
        [f"{100 * row['mean']:.1f}", f"{100 * row['sd']:.1f}"]
        for _, row in _in_order_of_print(plain, make).iterrows()
    ]
    assert printed == told


def _in_order_of_print(plain: pd.DataFrame, make: object) -> pd.DataFrame:
    if make is group_table:
        return plain
    heads = list(dict.fromkeys(plain["head"]))
    places = plain.assign(place=plain["head"].map(heads.index))
    return places.sort_values(["place", "dim", "ratio"])


def test_lost_seeds_show_and_never_win(make_runs, lose_cells):
    runs = make_runs(heads=["psc", "dl2pa"], ratios=[100], seeds=5)
    runs["accuracy"] = [0.40, 0.401, 0.402, 0.403, 0.404, 0.6, 0.601, 0.602, 0.603, 0.604]
    (exhibit,) = accuracy_table(tidy(runs), "x")
    assert list(exhibit.marks["1:100"]) == ["", "bold"]
    assert r"\textbf{60.2} $\pm$ 0.2 \\" in exhibit.latex
    assert "†" not in exhibit.caption and "n = 5." in exhibit.caption
    lost = lose_cells(runs, (runs["head"] == "dl2pa") & (runs["seed"] == "0"))
    (exhibit,) = accuracy_table(tidy(lost), "x")
    assert list(exhibit.table["1:100"]) == ["40.2 ± 0.2", "60.2 ± 0.1 (4/5†)"]
    assert list(exhibit.marks["1:100"]) == ["", ""] and "textbf" not in exhibit.latex
    assert "† finished/planned" in exhibit.caption
    row = pd.read_csv(io.StringIO(exhibit.csv)).iloc[1]
    assert (row["n"], row["diverged"], row["failed"]) == (4, 1, 0)
    bound = (0.601 + 0.602 + 0.603 + 0.604) / 5
    assert row["bound"] == pytest.approx(bound) and row["mean"] == pytest.approx(0.6025)
    told = "With the lost seeds at zero it is at least 48.2 (dl2pa, d = 128, 1:100)."
    assert exhibit.caption.endswith(told)


def test_n_stands_in_each_cell_where_it_differs(make_runs):
    runs = make_runs(heads=["psc", "etf"], ratios=[100], seeds=3)
    (exhibit,) = accuracy_table(tidy(runs.drop(index=0)), "x")
    assert [text.split()[-1] for text in exhibit.table["1:100"]] == ["(2)", "(3)"]
    assert "n in brackets" in exhibit.caption


def test_one_seed_has_no_spread_and_no_winner(make_runs):
    (exhibit,) = accuracy_table(tidy(make_runs(seeds=1)), "x")
    assert "±" not in exhibit.table.to_string() and not exhibit.marks.isin(["bold"]).any(axis=None)
    assert "n = 1 seed" in exhibit.caption and "Nothing is marked" in exhibit.caption


def test_a_cell_that_was_not_run_stays_empty(make_runs):
    runs = make_runs(heads=["psc", "etf"], ratios=[10, 100])
    runs = runs[(runs["head"] == "psc") | (runs["ratio"] == 10)]
    (exhibit,) = accuracy_table(tidy(runs), "x")
    assert exhibit.table.set_index("head").loc["etf", "1:100"] == ""


def test_groups_leave_balanced_out_and_show_an_empty_group(make_runs):
    (exhibit,) = group_table(tidy(make_runs(few=math.nan)), "x")
    assert list(exhibit.table.columns) == ["ratio", "head", "d", "all", "many", "medium", "few"]
    assert set(exhibit.table["ratio"]) == {"1:10", "1:100"} and set(exhibit.table["few"]) == {"–"}
    assert group_table(tidy(make_runs(ratios=[1])), "x") == []


def test_a_table_never_mixes_settings(make_runs):
    runs = tidy(pd.concat([make_runs(), make_runs(epochs=30)], ignore_index=True))
    for make in (accuracy_table, group_table):
        with pytest.raises(ValueError, match="one table holds one setting"):
            make(runs, "x")
