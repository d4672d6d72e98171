"""Collapse: the table's numbers, and curves where cells kept them."""

import io

import pandas as pd
import pytest
from fake_evidence import FakeEvidence, evidence
from pylatexenc.latexwalker import LatexWalker

from reports import latex, style
from reports.exhibits.collapse import collapse
from reports.frames import tidy


def read(exhibit):
    return pd.read_csv(io.StringIO(exhibit.csv), dtype={"keys": str}).set_index("id")


def falling(row):
    """NC1 from 8 to 4 to 2, higher by the seed; the others constant. None on a frozen backbone."""
    if ">" in row["head"]:
        return {}
    first = [(10 * e, e, 16 / 2**e + int(row["seed"])) for e in (1, 2, 3)]
    rest = {f"train/nc{k}": [(10 * e, e, 0.1 * k) for e in (1, 2, 3)] for k in (2, 3, 4)}
    return {"train/nc1": first} | rest


def test_the_table_by_hand(make_runs):
    runs = make_runs(heads=["psc", "psc > ncm"], ratios=[100], seeds=2)
    runs["nc1"] = [17.0, 19.0, 17.0, 19.0]
    runs["nc3"] = [0.0212, 0.0224, 1e-15, 3e-15]
    runs["nc4"] = [0.5, 0.5, float("nan"), float("nan")]
    (exhibit,) = collapse(tidy(runs), "x")
    assert exhibit.table.values.tolist() == [
        *(
            [
                "1:100",
                "psc",
                128,
                "18.0 ± 1.4",
                "0.200 ± 0.000",
                "0.0218 ± 0.0008",
                "0.500 ± 0.000",
            ],
        ),
        *(["1:100", "psc > ncm", 128, "18.0 ± 1.4", "0.200 ± 0.000", "0.0000 ± 0.0000", "–"],),
    ]
    found = read(exhibit)
    row = found.loc["psc-d128-1-100-nc1"]
    assert row["mean"] == 18 and row["sd"] == pytest.approx(2**0.5) and row["n"] == 2
    # t(0.975, 1) · √2 / √2
    assert row["high"] - row["mean"] == pytest.approx(12.7062, abs=1e-4)
    assert len(row["keys"].split()) == 2
    LatexWalker(exhibit.latex, tolerant_parsing=False).get_latex_nodes()
    assert latex.contradictions(exhibit) == []
    assert "per cent" not in exhibit.caption and "test set" not in exhibit.caption


def test_a_lost_seed_is_told_in_the_table(make_runs, lose_cells):
    runs = make_runs(heads=["psc"], ratios=[1], seeds=3)
    runs = tidy(lose_cells(runs, runs["seed"] == "2"))
    (exhibit,) = collapse(runs, "x", FakeEvidence())
    assert exhibit.table["NC1"].item() == "1.50 ± 0.00 (2/3†)" and "†" in exhibit.caption
    assert latex.contradictions(exhibit) == []
    gone = tidy(lose_cells(runs, runs["seed"] != ""))
    assert collapse(gone, "x", FakeEvidence()) == []


def test_curves_by_hand_and_heads_without_any(make_runs):
    runs = tidy(make_runs(heads=["psc", "psc > ncm", "etf"], ratios=[1, 10, 100], seeds=3))
    table, along = collapse(runs, "x", evidence(runs, histories=falling))
    assert (table.name, along.name) == ("x-collapse", "x-collapse-along")
    assert len(table.table) == 9
    found = read(along)
    row = found.loc["psc-d128-1-100-nc1-2"]
    # 16 / 4, plus seeds 0, 1 and 2
    assert (row["n"], row["mean"], row["sd"]) == (3, pytest.approx(5), pytest.approx(1))
    assert len(found) == 2 * 3 * 4 * 3 and set(found["head"]) == {"psc", "etf"}
    assert "Without curves, as on a frozen backbone: psc > ncm, d = 128." in along.caption
    axes = along.figure.axes
    assert len(axes) == 8 and axes[0].get_title(loc="left") == "balanced"
    assert axes[1].get_title(loc="left") == "1:100" and "of 3 ratios" in along.caption
    assert [*axes[0].get_lines()[0].get_ydata()] == pytest.approx([9, 5, 3])


def test_one_seed_and_one_ratio(make_runs):
    runs = tidy(make_runs(heads=["psc"], ratios=[100], seeds=1))
    _, along = collapse(runs, "x", evidence(runs, histories=falling))
    assert len(along.figure.axes) == 4 and "n = 1" in along.caption
    assert not along.figure.axes[0].collections and read(along)["low"].isna().all()


def test_decades_get_a_logarithmic_axis(make_runs):
    runs = tidy(make_runs(heads=["psc"], ratios=[100], seeds=2))

    def steep(row):
        return {
            "train/nc1": [(1, 1, 100.0), (2, 2, 1.0)],
            "train/nc2": [(1, 1, 0.4), (2, 2, 0.3)],
            "train/nc4": [(1, 1, 0.2), (2, 2, 0.0)],  # zero has no logarithm
        }

    _, along = collapse(runs, "x", evidence(runs, histories=steep))
    scales = [axis.get_yscale() for axis in along.figure.axes]
    assert scales == ["log", "linear", "linear", "log"]
    assert read(along).loc["psc-d128-1-100-nc4-2", "mean"] == 0
    assert style.pdf(along.figure) == style.pdf(along.figure)


def test_longer_and_shorter_histories_count_the_seeds_that_have_them(make_runs):
    runs = tidy(make_runs(heads=["psc"], ratios=[100], seeds=2))
    made = evidence(runs, histories=falling)
    short = runs["key"].iloc[0]
    made.followed[short]["train/nc1"] = made.followed[short]["train/nc1"][:2]
    found = read(collapse(runs, "x", made)[1])
    assert found.loc["psc-d128-1-100-nc1-3", "n"] == 1
    assert found.loc["psc-d128-1-100-nc1-3", "keys"] == runs["key"].iloc[1]
    assert found.loc["psc-d128-1-100-nc1-2", "n"] == 2
