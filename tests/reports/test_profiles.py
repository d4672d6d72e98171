"""Exhibits across settings: which heads and settings, the numbers behind them, lost seeds."""

import io

import numpy as np
import pandas as pd
import pytest
from pandas import DataFrame

from reports import robust, style
from reports.exhibits.profiles import groups, profiles
from reports.frames import tidy
from reports.latex import contradictions


def data(exhibit) -> DataFrame:
    return pd.read_csv(io.StringIO(exhibit.csv)).set_index("id")


def together(*parts: DataFrame) -> DataFrame:
    return tidy(pd.concat(parts, ignore_index=True))


def test_numbers_are_those_of_robust(make_runs):
    runs = tidy(make_runs(heads=["psc", "etf"], ratios=[1, 100], seeds=4))
    curves, means, table = profiles(runs)
    assert [e.name for e in (curves, means, table)] == [
        *("profiles", "interquartile-means", "improvement"),
    ]
    strata = {
        head: [part["accuracy"].to_numpy() for _, part in own.groupby("ratio")]
        for head, own in runs.groupby("head")
    }
    for head, parts in strata.items():
        row = data(means).loc[head]
        drawn = robust.interquartile_mean(robust.resample(parts))
        assert row["iqm"] == pytest.approx(robust.interquartile_mean(parts), abs=1e-9)
        assert (row["low"], row["high"]) == pytest.approx(robust.percentiles(drawn), abs=1e-9)
        mine = data(curves)[data(curves)["head"] == head]
        wanted = robust.profile(parts, mine["threshold"].to_numpy())
        assert mine["share"].to_numpy() == pytest.approx(wanted, abs=1e-9)
        assert mine["share"].iloc[0] == 1 or head != min(strata, key=lambda h: strata[h][0].min())
        assert set(row["keys"].split()) >= set(runs.loc[runs["head"] == head, "key"])
    chance = robust.improvement(strata["etf"], strata["psc"])
    assert data(table).loc["etf", "improvement"] == pytest.approx(chance, abs=1e-9)
    assert np.isnan(data(table).loc["psc", "improvement"])
    assert set(data(table).loc["etf", "keys"].split()) == set(runs["key"])


def test_thresholds_span_all_runs_and_are_few(make_runs):
    (curves, *_) = profiles(tidy(make_runs(ratios=[1, 100])))
    for _, mine in data(curves).groupby("head"):
        assert mine["share"].iloc[-1] == 0 and len(mine) <= 41
        assert (np.diff(mine["share"]) <= 0).all()
    assert data(curves).groupby("threshold")["share"].max().iloc[0] == 1


def test_caption_states_settings_n_and_bootstrap(make_runs):
    for exhibit in profiles(tidy(make_runs(heads=["psc", "etf"], ratios=[1, 100]))):
        for words in ("cifar100 balanced", "cifar100 1:100", "n = 3", "2000 bootstrap", "seed 0"):
            assert words in exhibit.caption


def test_tables_say_what_their_data_say(make_runs):
    (*_, table) = profiles(tidy(make_runs(ratios=[1, 100])))
    assert contradictions(table) == [] and (table.ids.iloc[:, 1:] != "").all(axis=None)
    assert table.table["above psc [95 %]"].iloc[0] == "–"


def test_only_heads_of_all_settings_and_settings_once(make_runs):
    """Ratios 1 and 10 share three heads; 50 and 100 another two; svhn shares none."""
    runs = together(
        make_runs(heads=["psc", "etf", "dl2pa"], ratios=[1, 10]),
        make_runs(heads=["psc", "ldam"], ratios=[50, 100]),
        make_runs(heads=["ncm", "focal"], ratios=[1], data="svhn"),
    )
    first, second = groups(runs)
    assert first.heads == ("psc", "etf", "dl2pa") and len(first.settings) == 2
    assert second.heads == ("psc", "ldam") and "1:50" in second.settings[0]
    names = [exhibit.name for exhibit in profiles(runs)]
    assert names[3:] == ["profiles-2", "interquartile-means-2", "improvement-2"]


def test_two_protocols_of_one_data_set_are_two_settings(make_runs):
    runs = together(
        make_runs(heads=["psc", "etf"], ratios=[1]),
        make_runs(heads=["psc", "etf"], ratios=[1], recipe="other"),
    )
    (group,) = groups(runs)
    assert [text.split(", ")[-1] for text in group.settings] == ["long_tail_200", "other"]


def test_lengths_are_named_where_a_head_has_several(make_runs):
    runs = together(
        make_runs(heads=["psc"], ratios=[1, 100], dims=[64]),
        make_runs(heads=["hpn"], ratios=[1, 100], dims=[5, 16]),
    )
    (group,) = groups(runs)
    assert group.heads == ("psc", "hpn, d = 16", "hpn, d = 5")


def test_options_that_all_cells_share_are_stated_and_the_colour_stays(make_runs):
    runs = together(make_runs(heads=["psc", "hpn reduction=sum"], ratios=[1, 100]))
    (group,) = groups(runs)
    assert group.heads == ("psc", "hpn")
    assert "Stated for all cells: hpn reduction=sum." in profiles(runs)[0].caption


def test_nothing_to_show(make_runs):
    assert profiles(tidy(make_runs(ratios=[1]))) == []  # one setting
    assert profiles(tidy(make_runs(heads=["psc"]))) == []  # one head
    runs = tidy(make_runs(ratios=[1, 100]))
    runs["seed"] = "augment=0 backbone=1 head=1 order=" + runs["seed"]
    assert profiles(runs) == []  # seeds written apart are not independent


def test_a_lost_seed_counts_as_below_everything(make_runs, lose_cells):
    runs = make_runs(heads=["psc", "etf"], ratios=[1, 100], seeds=4)
    spot = (runs["head"] == "etf") & (runs["ratio"] == 100) & (runs["seed"] == "2")
    curves, means, table = profiles(tidy(lose_cells(runs, spot)))
    etf = data(curves)[data(curves)["head"] == "etf"]
    assert etf["share"].max() == pytest.approx(7 / 8)
    assert data(means).loc["etf", "lost"] == 1 and data(means).loc["etf", "iqm"] > 0
    assert table.table["head"].iloc[1] == "etf †" and "†" in table.caption
    most = (runs["head"] == "etf") & (runs["ratio"] == 100)
    *_, table = profiles(tidy(lose_cells(runs, most)))
    assert table.table.iloc[1, 2] == "–" and np.isnan(data(table).loc["etf", "high"])
    style.png(means.figure)


def test_the_same_frame_gives_the_same_bytes(make_runs):
    runs = make_runs(heads=["psc", "etf"], ratios=[1, 100])
    again = profiles(tidy(runs.sample(frac=1, random_state=1)))
    for one, other in zip(profiles(tidy(runs)), again, strict=True):
        assert one.csv == other.csv and one.latex == other.latex and one.caption == other.caption
        if one.figure is not None:
            assert style.png(one.figure) == style.png(other.figure)
