"""Predicted against measured: by kind, with the share that came out within 20 %."""

import io

import numpy as np
import pandas as pd
import pytest

from reports import latex
from reports.exhibits.prediction import predictions
from reports.frames import tidy


@pytest.fixture
def foretold(make_runs):
    """Give a function (ratios by head): three seeds each, with predictions off by these factors."""

    def build(off):
        runs = make_runs(heads=tuple(off), ratios=(100,))
        runs["seconds"], runs["beside_seconds"], runs["jobs"] = 90.0, 10.0, 2
        factors = [factor for head in off for factor in off[head]]
        runs["predicted_seconds"] = 100.0 * np.array(factors)
        known = runs["predicted_seconds"].notna()
        runs["predicted_from"] = np.where(known, "same head", None)
        return tidy(runs)

    return build


def data(exhibit):
    return pd.read_csv(io.StringIO(exhibit.csv)).set_index("id")


def test_by_kind_against_the_whole_of_a_cell(foretold):
    runs = foretold({"psc": (1.1, 0.9, 1.3), "psc > ncm": (2.0, 2.0, np.nan)})
    (exhibit,) = predictions(runs, None)
    assert exhibit.cost and latex.contradictions(exhibit) == []
    found = data(exhibit).set_index(["kind", "rests on"])
    trained = found.loc["trained", "same head"]
    assert trained["measured"] == 100 and trained["ratio"] == pytest.approx(1.1)
    assert trained["within"] == pytest.approx(2 / 3, abs=1e-6) and trained["cells"] == 3
    assert len(trained["keys"].split()) == 3
    assert found.loc[("on a frozen trunk", "same head"), ["cells", "within"]].tolist() == [2, 0]
    unknown = found.loc["on a frozen trunk", "no prediction"]
    assert unknown["cells"] == 1 and np.isnan(unknown["ratio"])
    assert "Of all 5 cells with a prediction 40% are within 20 %" in exhibit.caption


def test_what_is_lost_or_does_not_tell_counts_nowhere(foretold, lose_cells):
    runs = foretold({"psc": (1.0, 1.0, 1.0), "etf": (1.0, 1.0, 1.0)})
    runs = lose_cells(runs, (runs["head"] == "etf") & (runs["seed"] == "1"))
    spot = (runs["head"] == "psc") & (runs["seed"] == "0")
    runs.loc[spot, "beside_seconds"] = np.nan  # a record that does not tell the whole
    runs.loc[runs["head"] == "psc", "images_per_second"] = 0.0
    found = data(predictions(runs, None)[0])
    assert found["cells"].sum() == 5
    assert set(found["kind"]) == {"trained", "nothing to train"}
    rests = found.groupby("kind")["rests on"].unique()
    assert sorted(rests["nothing to train"]) == ["no prediction", "same head"]


def test_older_frames_have_no_prediction_and_the_exhibit_all_the_same(make_runs):
    (exhibit,) = predictions(tidy(make_runs(heads=("psc",))), None)
    assert "No cell had a prediction" in exhibit.caption
    assert data(exhibit)["rests on"].unique().tolist() == ["no prediction"]
