"""Tables of seeds: pairs, numbers, and where the spread comes from."""

import io
import itertools

import numpy as np
import pandas as pd
import pytest
from pandas import DataFrame
from statsmodels.stats.power import TTestPower

from reports import power
from reports.exhibits.seeds import components, needed
from reports.frames import tidy
from reports.latex import contradictions
from reports.variance import components as parts_of


def data(exhibit) -> DataFrame:
    return pd.read_csv(io.StringIO(exhibit.csv)).set_index("id")


@pytest.fixture
def three(make_runs):
    """At 1:100 and three seeds, etf is 3, 4 and 5 points above psc, dl2pa 1, 1 and 4."""
    runs = make_runs(heads=["psc", "etf", "dl2pa"], ratios=[100])
    scores = {"psc": (0.40, 0.41, 0.45), "etf": (0.43, 0.45, 0.50), "dl2pa": (0.41, 0.42, 0.49)}
    runs["accuracy"] = [
        scores[head][int(seed)] for head, seed in zip(runs["head"], runs["seed"], strict=True)
    ]
    return runs


def test_a_pair_by_hand(three):
    """Of etf less psc: 3, 4, 5 points, mean 4, sd 1; the pooled sd of single runs 3.14 points."""
    (exhibit,) = needed(tidy(three), "here")
    row = data(exhibit).loc["etf-d128-psc-d128-1-100"]
    assert exhibit.name == "here-seeds-needed"
    assert (row["n"], row["mean"], row["sd"]) == pytest.approx((3, 0.04, 0.01))
    wanted = TTestPower().solve_power(1.0, alpha=0.05, power=0.8)
    assert row["one_point"] == np.ceil(wanted) == 10
    assert row["half_point"] == power.paired_seeds(2.0, 1.0)
    assert row["one_point_cautious"] == power.paired_seeds(power.cautious(1.0, 3), 1.0)
    pooled = np.sqrt((np.var([40, 41, 45], ddof=1) + np.var([43, 45, 50], ddof=1)) / 2)
    assert row["one_point_unpaired"] == power.unpaired_seeds(pooled, 1.0)
    mine = three[three["head"] != "dl2pa"]
    assert row["keys"] == " ".join(sorted(mine["key"]))


def test_pairs_are_baseline_and_neighbours(three):
    (exhibit,) = needed(tidy(three), "here")
    pairs = list(zip(exhibit.table["head"], exhibit.table["against"], strict=True))
    assert pairs == [
        ("etf, d = 128", "psc, d = 128"),
        ("dl2pa, d = 128", "psc, d = 128"),
        ("etf, d = 128", "dl2pa, d = 128"),
    ]
    assert exhibit.table["1 point"].iloc[0].startswith("10 – ")
    assert contradictions(exhibit) == []


def test_without_psc_the_first_of_print_is_the_baseline(three):
    (exhibit,) = needed(tidy(three[three["head"] != "psc"]), "here")
    assert list(exhibit.table["against"]) == ["etf, d = 128"]


def test_the_baseline_of_the_same_length(make_runs):
    (exhibit,) = needed(tidy(make_runs(heads=["psc", "etf"], dims=[16, 64], ratios=[1])), "here")
    table = exhibit.table[exhibit.table["head"].str.startswith("etf")]
    assert ("etf, d = 16", "psc, d = 16") in list(zip(table["head"], table["against"], strict=True))


def test_only_shared_finished_seeds_count(three, lose_cells):
    spot = (three["head"] == "etf") & (three["seed"] == "1")
    (exhibit,) = needed(tidy(lose_cells(three, spot)), "here")
    row = data(exhibit).loc["etf-d128-psc-d128-1-100"]
    assert (row["n"], row["lost"], row["mean"]) == pytest.approx((2, 1, 0.04))
    assert exhibit.table["seeds"].iloc[0] == "2 †" and "†" in exhibit.caption
    assert len(row["keys"].split()) == 4


def test_nothing_to_show(three, make_runs):
    assert needed(tidy(make_runs(seeds=1, ratios=[1])), "here") == []
    assert needed(tidy(make_runs(heads=["psc"], ratios=[1])), "here") == []
    apart = tidy(three).assign(seed="augment=0 backbone=1 head=1 order=" + tidy(three)["seed"])
    assert needed(apart, "here") == []
    with pytest.raises(ValueError, match="one setting"):
        needed(tidy(pd.concat([three, make_runs(data="svhn")])), "here")


def test_a_single_shared_seed_shows_no_number(three, lose_cells):
    spot = (three["head"] == "etf") & (three["seed"] != "0")
    (exhibit,) = needed(tidy(lose_cells(three, spot)), "here")
    assert list(exhibit.table.iloc[0, 5:]) == ["–"] * 4


@pytest.fixture
def crossing(make_runs):
    """Two heads, 2 subsets x 3 initialisations x 2 orders; psc's spread comes from the subset."""
    generator, parts = np.random.default_rng(0), []
    for subset, first, order in itertools.product((0, 1), (0, 1, 2), (0, 1)):
        named = f"digits subset_seed={subset}" if subset else "digits"
        part = make_runs(heads=["psc", "etf"], ratios=[20], seeds=1, data=named)
        part["seed"] = f"augment={order} backbone={first} head={first} order={order}"
        part["key"] = [f"{head}{subset}{first}{order}" for head in part["head"]]
        part["accuracy"] = 0.5 + 0.05 * subset + 0.001 * generator.normal(size=2)
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


def test_where_the_spread_comes_from(crossing):
    (exhibit,) = components(tidy(crossing))
    rows = data(exhibit)
    assert list(rows["source"][:4]) == ["subset", "initialisation", "order", "residual"]
    assert rows.loc["psc-d128-1-20-subset", "share"] > 0.95
    assert rows.loc["etf-d128-psc-d128-1-20-subset", "variance_points2"] < 0.1
    psc = crossing[crossing["head"] == "psc"].sort_values("key")
    values = 100 * psc["accuracy"].to_numpy().reshape(2, 3, 2)
    for one in parts_of(values, ["subset", "initialisation", "order"]):
        row = rows.loc[f"psc-d128-1-20-{one.source}"]
        assert row["variance_points2"] == pytest.approx(one.variance, abs=1e-8)
        assert row["estimate_points2"] == pytest.approx(one.estimate, abs=1e-8)
        assert row["sd"] == pytest.approx(np.sqrt(one.variance) / 100, abs=1e-8)
        assert set(row["keys"].split()) == set(psc["key"])
    assert len(rows.loc["etf-d128-psc-d128-1-20-order", "keys"].split()) == 24
    assert contradictions(exhibit) == []


def test_negative_estimates_are_zero_and_said_to_be(crossing):
    place = crossing["key"].str[3:].map(lambda digits: sum(map(int, digits)))
    crossing["accuracy"] = 0.5 + 0.01 * (-1.0) ** place
    (exhibit,) = components(tidy(crossing))
    below = data(exhibit)["estimate_points2"] < 0
    assert below.any() and (data(exhibit).loc[below, ["share", "sd"]] == 0).all(axis=None)
    shown = exhibit.table.loc[below.to_numpy(), "variance [95 %]"]
    assert shown.str.startswith("0.00 (−").all() and "below zero" in exhibit.caption
    assert contradictions(exhibit) == []


def test_what_is_not_fully_crossed_is_named(crossing):
    (exhibit,) = components(tidy(crossing.drop(index=crossing.index[crossing["head"] == "etf"][0])))
    assert set(data(exhibit)["head"]) == {"psc"}
    assert "Not fully crossed, hence left out: etf, d = 128 at 1:20." in exhibit.caption


def test_ordinary_seeds_make_no_design(three):
    assert components(tidy(three)) == []


def test_the_same_frame_gives_the_same_bytes(three, crossing):
    for make, runs in ((lambda f: needed(f, "here"), three), (components, crossing)):
        (one,), (other,) = make(tidy(runs)), make(tidy(runs.sample(frac=1, random_state=2)))
        assert (one.csv, one.latex) == (other.csv, other.latex)
