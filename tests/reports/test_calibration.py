"""Reliability: bins by hand, and ECE as the frame has it."""

import io

import numpy as np
import pandas as pd
import pytest
from fake_evidence import FakeEvidence, evidence

from reports import style
from reports.exhibits.calibration import reliability
from reports.frames import tidy


def read(exhibit):
    return pd.read_csv(io.StringIO(exhibit.csv), dtype={"keys": str}).set_index("id")


def table(*rows):
    """(15, 3): rows of bin from 1, examples, sum of confidences, right answers."""
    found = np.zeros((15, 3))
    for nth, *values in rows:
        found[nth - 1] = values
    return {"reliability": found}


def test_bins_by_hand(make_runs):
    """Two seeds of 100 examples; in the last bin 60 + 40, confidences 57 + 39, right 50 + 20.

    Share 100/200 = 0.5, confidence 96/100 = 0.96, accuracy 70/100 = 0.7.
    """
    runs = make_runs(heads=["psc"], ratios=[100], seeds=2)
    runs = tidy(runs.assign(ece=[0.10, 0.14]))
    tables = {
        "0": table((15, 60, 57, 50), (8, 40, 20, 10)),
        "1": table((15, 40, 39, 20), (9, 60, 33, 30)),
    }
    (exhibit,) = reliability(runs, "x", evidence(runs, lambda row: tables[row["seed"]]))
    found = read(exhibit)
    assert [*found["bin"]] == [8, 9, 15] and [*found["examples"]] == [40, 60, 100]
    last = found.loc["psc-d128-1-100-bin-15"]
    assert last[["share", "confidence", "accuracy"]].tolist() == pytest.approx([0.5, 0.96, 0.7])
    assert last[["above", "up_to"]].tolist() == pytest.approx([14 / 15, 1])
    assert last["ece_mean"] == pytest.approx(0.12) and last["ece_sd"] == pytest.approx(
        0.02828, abs=1e-5
    )
    assert last["keys"] == " ".join(sorted(runs["key"]))
    (legend,) = exhibit.figure.axes[0].get_legend().get_texts()
    assert legend.get_text() == "psc, d = 128, ECE 12.0 ± 2.8"
    diagonal, curve = exhibit.figure.axes[0].get_lines()
    assert [*curve.get_xdata()] == pytest.approx([50, 55, 96])
    assert [*curve.get_ydata()] == pytest.approx([25, 50, 70])
    assert [*diagonal.get_ydata()] == [0, 100]
    assert style.pdf(exhibit.figure) == style.pdf(exhibit.figure)


def test_bins_of_few_examples_are_in_the_csv_only(make_runs):
    runs = tidy(make_runs(heads=["psc"], ratios=[1], seeds=1))
    rows = table((15, 71, 70, 70), (3, 29, 4, 2))
    (exhibit,) = reliability(runs, "x", evidence(runs, lambda row: rows))
    assert len(read(exhibit)) == 2 and read(exhibit)["ece_sd"].isna().all()
    assert len(exhibit.figure.axes[0].get_lines()[1].get_xdata()) == 1
    (legend,) = exhibit.figure.axes[0].get_legend().get_texts()
    assert legend.get_text() == "psc, d = 128, ECE 10.0" and "n = 1." in exhibit.caption


def test_a_row_of_panels_per_ratio_and_at_most_eight_curves(make_runs, lose_cells):
    heads = ["psc", "etf", *(f"hpn d={k}" for k in range(9))]
    runs = make_runs(heads=heads, ratios=[1, 10, 50, 100], seeds=2)
    runs = tidy(lose_cells(runs, (runs["head"] == "etf") & (runs["seed"] == "0")))
    made = evidence(runs, lambda row: table((15, 90, 85, 80), (9, 60, 33, 30)))
    (exhibit,) = reliability(runs, "x", made)
    tops = exhibit.figure.axes[::2]
    assert [axis.get_title(loc="left") for axis in tops] == ["balanced", "1:50", "1:100"]
    labels = [text.get_text() for text in tops[0].get_legend().get_texts()]
    assert len(labels) == 8 and labels[1] == "etf, d = 128 †, ECE 10.0"
    assert "hpn d=8, d = 128" in exhibit.caption and "of 4 ratios" in exhibit.caption
    found = read(exhibit)
    assert len(found) == 11 * 4 * 2 and set(found.loc[found["head"] == "etf", "n"]) == {1}


def test_older_records_have_no_exhibit(make_runs):
    runs = tidy(make_runs(heads=["psc"], ratios=[100]))
    older = evidence(runs, lambda row: {"per_class": np.ones(3)})
    assert reliability(runs, "x", older) == [] and reliability(runs, "x", FakeEvidence()) == []
    assert reliability(runs, "x", None) == []
