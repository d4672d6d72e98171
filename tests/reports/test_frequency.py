"""Accuracy by class from frequent to rare: ranks, tenths, intervals, and what is drawn."""

import io

import numpy as np
import pandas as pd
import pytest
from fake_evidence import FakeEvidence, evidence, result

from reports import style
from reports.exhibits.frequency import per_class
from reports.frames import tidy


def read(exhibit):
    return pd.read_csv(io.StringIO(exhibit.csv), dtype={"keys": str, "class": str}).set_index("id")


def test_numbers_by_hand(make_runs):
    """Three classes, of which the second label is the most frequent; two seeds.

    Label 0 has 0.2 and 0.4: mean 0.3, sd √(2 · 0.1²) = 0.1414, and t(0.975, 1) = 12.706 gives
    0.3 ± 12.706 · 0.1414 / √2 = 0.3 ± 1.2706.
    """
    runs = tidy(make_runs(heads=["psc"], ratios=[25], seeds=2))
    values = {"0": [0.2, 0.9, 0.5], "1": [0.4, 0.9, np.nan]}
    made = evidence(
        runs,
        arrays=lambda row: {"per_class": np.array(values[row["seed"]])},
        facts=lambda row: result([40, 500, 15], ["cat", "dog", "owl"]),
    )
    (exhibit,) = per_class(runs, "x", made)
    assert exhibit.name == "x-per-class"
    assert exhibit.csv.startswith("id,") and exhibit.csv.splitlines()[0].endswith(",keys")
    found = read(exhibit)
    assert [*found["name"]] == ["dog", "cat", "owl"] and [*found["count"]] == [500, 40, 15]
    assert [*found["group"]] == ["many", "medium", "few"] and [*found["ranks"]] == [1, 2, 3]
    cat = found.loc["psc-d128-1-25-class-0"]
    assert cat["mean"] == pytest.approx(0.3) and cat["sd"] == pytest.approx(0.1414, abs=1e-4)
    assert cat["high"] == pytest.approx(1.5706, abs=1e-4) and cat["n"] == 2
    assert cat["keys"] == " ".join(sorted(runs["key"]))
    owl = found.loc["psc-d128-1-25-class-2"]
    assert (owl["n"], owl["mean"]) == (1, 0.5) and np.isnan(owl["sd"])


def many(row, classes=1000):
    """Accuracy falls with the label as the counts do; seeds differ by a point."""
    return {"per_class": np.linspace(0.9, 0.1, classes) + 0.01 * int(row["seed"])}


def test_a_thousand_classes_are_drawn_as_tenths(make_runs):
    runs = tidy(make_runs(heads=["psc", "etf"], ratios=[1, 100], seeds=2))
    counts = np.linspace(1000, 10, 1000).astype(int)
    (exhibit,) = per_class(runs, "x", evidence(runs, many, lambda row: result(counts)))
    found = read(exhibit)
    tenths = found[found["class"].isna()]
    assert len(found) == 2 * 2 * 1010 and len(tenths) == 2 * 2 * 10
    first = found.loc["psc-d128-1-100-ranks-1-100"]
    want = np.linspace(0.9, 0.1, 1000)[:100].mean() + 0.005
    assert first["mean"] == pytest.approx(want) and first["count"] == pytest.approx(
        counts[:100].mean()
    )
    assert "tenth of the 1000 classes" in exhibit.caption
    tops = exhibit.figure.axes[:2]
    assert [axis.get_title(loc="left") for axis in tops] == ["balanced", "1:100"]
    assert all(len(line.get_xdata()) == 10 for line in tops[0].get_lines()[:2])


def test_one_order_of_print_groups_and_bytes(make_runs):
    runs = tidy(make_runs(heads=["psc", "etf"], ratios=[20], seeds=3))
    made = evidence(runs, lambda row: many(row, 10), lambda row: result(range(200, 0, -20)))
    (exhibit,), (again,) = (per_class(runs, "x", made) for _ in range(2))
    labels = [text.get_text() for text in exhibit.figure.legends[0].get_texts()]
    assert labels == ["psc, d = 128", "etf, d = 128"]
    words = [text.get_text() for text in exhibit.figure.axes[0].texts]
    assert words == ["many", "medium"]
    assert exhibit.csv == again.csv
    style.pdf(exhibit.figure)  # a print before this one changes nothing
    assert style.png(exhibit.figure) == style.png(again.figure)


def test_one_seed_has_no_bars(make_runs):
    runs = tidy(make_runs(heads=["psc"], ratios=[1], seeds=1))
    made = evidence(runs, lambda row: many(row, 10), lambda row: result([50] * 10))
    (exhibit,) = per_class(runs, "x", made)
    assert "n = 1" in exhibit.caption and read(exhibit)["low"].isna().all()
    assert not exhibit.figure.axes[0].collections


def test_a_lost_seed_is_marked_and_a_missing_array_only_counts(make_runs, lose_cells):
    runs = make_runs(heads=["psc", "etf"], ratios=[100], seeds=3)
    runs = tidy(lose_cells(runs, (runs["head"] == "etf") & (runs["seed"] == "1")))
    made = evidence(runs, lambda row: many(row, 10), lambda row: result(range(200, 0, -20)))
    older = runs.loc[(runs["head"] == "psc") & (runs["seed"] == "0"), "key"].item()
    del made.kept[older]
    (exhibit,) = per_class(runs, "x", made)
    labels = [text.get_text() for text in exhibit.figure.legends[0].get_texts()]
    assert labels == ["psc, d = 128", "etf, d = 128 †"] and "†" in exhibit.caption
    found = read(exhibit)
    assert set(found["n"]) == {2} and not found["keys"].str.contains(older).any()


def test_nothing_kept_is_no_exhibit(make_runs, lose_cells):
    runs = make_runs(heads=["psc"], ratios=[100])
    assert per_class(tidy(runs), "x", None) == []
    assert per_class(tidy(runs), "x", FakeEvidence()) == []
    gone = tidy(lose_cells(runs, runs["seed"] != ""))
    assert per_class(gone, "x", evidence(gone, many, lambda row: result([1] * 1000))) == []
