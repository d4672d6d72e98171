"""Tables and figures of differences, groups and ranks: numbers, marks, words, bytes."""

import io
import math
import re

import numpy as np
import pandas as pd
import pytest
from pandas import DataFrame

from reports import style
from reports.exhibits.comparison import differences, groups
from reports.exhibits.critical import critical_difference, unranked
from reports.exhibits.forest import forest
from reports.frames import tidy
from reports.paired import ABOVE, BELOW, against, every_pair
from reports.ranking import ranks


@pytest.fixture
def noisy(make_runs) -> DataFrame:
    """Three ratios and five seeds; etf and dl2pa are surely above psc, my_head surely below."""
    runs = make_runs(seeds=5)
    runs["accuracy"] += np.random.default_rng(1).normal(0, 0.002, len(runs))
    return runs


def plain(exhibit) -> DataFrame:
    return pd.read_csv(io.StringIO(exhibit.csv), dtype={"keys": str}, keep_default_na=True)


def numbers(text: str) -> list[str]:
    return re.findall(r"−?\d+\.?\d*", text)


def points(value: float) -> str:
    return f"{100 * value:.2f}".replace("-", "−")


def test_differences_are_those_of_the_pairs(noisy):
    runs = tidy(noisy)
    table, figure = differences(runs, "here")
    assert (table.name, figure.name) == ("here-differences", "here-forest")
    long = plain(table)
    assert list(long.columns)[0] == "id" and list(long.columns)[-1] == "keys"
    assert long["id"].is_unique and "psc-ncm-d128-1-100" in set(long["id"])
    assert figure.csv == table.csv and figure.table is None and figure.figure is not None
    for ratio, part in long.groupby("ratio"):
        here = runs[runs["ratio"] == ratio]
        told = against(here, ("psc", 128)).reset_index(drop=True)
        assert list(part["head"]) == style.order(set(here["head"]) - {"psc"})
        for name in ("difference", "sd", "low", "high", "p", "holm", "g", "wins", "n"):
            assert part[name].to_numpy() == pytest.approx(told[name].to_numpy(float), nan_ok=True)
        for row in part.to_dict("records"):
            both = here[here["head"].isin([row["head"], "psc"])]
            assert row["keys"].split() == sorted(both["key"])


def test_print_is_the_csv(noisy):
    (table, _) = differences(tidy(noisy), "here")
    long = plain(table).set_index("id")
    for (_, row), (_, ids) in zip(table.table.iterrows(), table.ids.iterrows(), strict=True):
        told = long.loc[ids["difference"]]
        assert numbers(row["difference"]) == [points(told["difference"]), points(told["sd"])]
        assert numbers(row["95 % interval"]) == [points(told["low"]), points(told["high"])]
        assert (row["pairs"], row["verdict"]) == ("5", told["verdict"])
        assert float(row["p (Holm)"].replace("−", "-")) == pytest.approx(told["holm"], rel=5e-4)
        assert (ids[["ratio", "head", "d"]] == "").all()
    assert table.percent["difference"] == 2 and table.latex.isascii()
    assert table.latex.count(r"\\") == len(table.table) + 1


def test_bold_is_only_what_holm_holds_above_the_baseline(noisy):
    (table, _) = differences(tidy(noisy), "here")
    bold = (table.marks == "bold").any(axis=1)
    assert (bold == (table.table["verdict"] == ABOVE)).all() and bold.any()
    assert (table.table["verdict"] == BELOW).any() and not table.marks.isin(["underline"]).any(
        axis=None
    )
    assert "Bold: above" in table.caption and r"\textbf" in table.latex


def test_a_p_that_holm_does_not_hold_is_not_bold(make_runs):
    """Four heads with p of 0.025 each: alone each would pass, in one family none does."""
    runs = make_runs(heads=["psc", "etf", "dl2pa", "hpn", "ldam"], ratios=[10], seeds=3)
    noise = {"0": 0.0, "1": 0.0028, "2": -0.0028}
    other = runs["head"] != "psc"
    runs["accuracy"] = 0.5 + other * (0.01 + runs["seed"].map(noise))
    (table, figure) = differences(tidy(runs), "here")
    long = plain(table)
    assert (long["p"] < 0.05).all() and (long["holm"] > 0.05).all()
    assert set(long["verdict"]) == {"no difference shown"}
    assert not table.marks.isin(["bold"]).any(axis=None) and "Nothing is bold" in table.caption
    faces = [line.get_markerfacecolor() for line in markers(figure.figure)]
    assert faces == ["white"] * 4


def markers(figure) -> list:
    """Lines that are one point of a head: neither zero lines, bars nor arrows."""
    lines = [line for axis in figure.axes for line in axis.get_lines()]
    return [
        one for one in lines if len(one.get_xdata()) == 1 and one.get_marker() not in ("<", ">")
    ]


def test_lost_seeds_are_counted_and_never_bold(noisy, lose_cells):
    spot = (noisy["head"] == "etf") & (noisy["ratio"] == 100) & (noisy["seed"] == "1")
    runs = tidy(lose_cells(noisy, spot))
    (table, _) = differences(runs, "here")
    rows = table.table[(table.table["head"] == "etf")].set_index("ratio")
    assert rows.loc["1:100", "pairs"] == "4/5†" and rows.loc["1:10", "pairs"] == "5"
    assert rows.loc["1:100", "verdict"] == ABOVE
    marks = table.marks.loc[table.table["head"] == "etf", "difference"].tolist()
    assert marks == ["bold", "bold", ""]
    assert "†" in table.caption


def test_one_seed_is_no_verdict(make_runs):
    runs = tidy(make_runs(seeds=1))
    table, figure = differences(runs, "here")
    assert set(table.table["verdict"]) == {"one seed: no verdict"}
    assert set(table.table["95 % interval"]) == set(table.table["p (Holm)"]) == {"–"}
    assert not any("±" in text for text in table.table["difference"])
    assert len(markers(figure.figure)) == 12 and "without a bar" in figure.caption
    assert groups(runs, "here") == []


def test_the_forest_draws_points_where_the_differences_are(noisy):
    _, figure = differences(tidy(noisy), "here")
    long = plain(figure)
    assert [axis.get_title(loc="left") for axis in figure.figure.axes] == [
        *("balanced", "1:10", "1:100"),
    ]
    drawn = sorted(float(line.get_xdata()[0]) for line in markers(figure.figure))
    assert drawn == pytest.approx(sorted(100 * long["difference"]))
    for line in markers(figure.figure):
        told = long.iloc[(100 * long["difference"] - line.get_xdata()[0]).abs().argmin()]
        held = told["verdict"] in (ABOVE, BELOW)
        assert (line.get_markerfacecolor() != "white") == held
        assert line.get_color() == style.look(told["head"]).colour
    style.pdf(figure.figure)


def test_long_intervals_end_in_arrows(make_runs):
    runs = make_runs(heads=["psc", "etf"], ratios=[10], seeds=2)
    runs["accuracy"] = [0.5, 0.5, 0.51, 0.53]
    long = against(tidy(runs), ("psc", 128)).assign(ratio=10.0)
    figure, beyond = forest(long, "title")
    arrows = [line for line in figure.axes[0].get_lines() if line.get_marker() in ("<", ">")]
    assert beyond and len(arrows) == 2
    assert [float(line.get_xdata()[0]) for line in arrows] == pytest.approx([-5, 5])  # 2.5 times 2


def test_another_baseline_and_nothing_to_compare(noisy, make_runs):
    runs = tidy(noisy)
    (table, _) = differences(runs, "here", against=("etf", 128))
    assert "psc" in set(table.table["head"]) and "etf" not in set(table.table["head"])
    assert differences(runs, "here", against=("etf", 3)) == []
    alone = tidy(make_runs(heads=["psc"]))
    assert differences(alone, "here") == [] and groups(alone, "here") == []


def test_a_ratio_without_the_baseline_is_named(noisy):
    runs = tidy(noisy[(noisy["head"] != "psc") | (noisy["ratio"] != 10)])
    (table, _) = differences(runs, "here")
    assert set(table.table["ratio"]) == {"balanced", "1:100"}
    assert "Nothing to compare at 1:10." in table.caption


def test_no_pair_is_told(make_runs, lose_cells):
    runs = make_runs(heads=["psc", "etf", "hpn"], ratios=[10])
    runs = tidy(lose_cells(runs, runs["head"] == "etf"))
    table, figure = differences(runs, "here")
    assert table.table["verdict"].tolist()[0] == "no pair: no verdict"
    assert table.table["pairs"].tolist() == ["0/3†", "3"]
    assert "without a point: etf, d = 128." in figure.caption
    (ranked,) = groups(runs, "here")
    assert ranked.table["head"].tolist()[-1] == "etf"
    assert "told apart from none" in ranked.caption


def test_groups_are_ordered_and_say_what_the_pairs_say(noisy):
    runs = tidy(noisy)
    (exhibit,) = groups(runs, "here")
    assert exhibit.name == "here-ranks"
    long = plain(exhibit)
    for ratio, part in long.groupby("ratio"):
        part = part.reset_index(drop=True)
        assert part["mean"].is_monotonic_decreasing
        here = runs[runs["ratio"] == ratio]
        assert set(part["keys"]) == {" ".join(sorted(here["key"]))}
        spot = part.set_index("head")
        for row in every_pair(here).to_dict("records"):
            one, other = spot.loc[row["head"]], spot.loc[row["other"]]
            share = bool(set(one["letters"]) & set(other["letters"]))
            assert share == (row["verdict"] not in (ABOVE, BELOW))
        shown = every_pair(here)
        for head, row in spot.iterrows():
            up = (shown["head"] == head) & (shown["verdict"] == BELOW)
            up |= (shown["other"] == head) & (shown["verdict"] == ABOVE)
            assert row["rank_low"] == 1 + up.sum()
    assert exhibit.table["rank [95 %]"].tolist() == [
        f"[{row['rank_low']}, {row['rank_high']}]" for row in long.to_dict("records")
    ]
    assert "tests in a family: 10" in exhibit.caption and exhibit.latex.isascii()


def several(make_runs) -> DataFrame:
    """Two data sets at three ratios; the heads keep their order nearly everywhere."""
    frames = [make_runs(data=data, seeds=2) for data in ("cifar10", "cifar100")]
    runs = pd.concat(frames, ignore_index=True)
    runs["accuracy"] += np.random.default_rng(2).normal(0, 0.003, len(runs))
    return runs


def test_critical_difference_across_settings(make_runs):
    runs = tidy(several(make_runs))
    figure, table = critical_difference(runs)
    assert (figure.name, table.name) == ("critical-difference", "mean-ranks")
    assert unranked(runs) == ""
    long = plain(table).set_index("head")
    means = runs.groupby(["data", "ratio", "head"])["accuracy"].mean().unstack("head")
    told = dict(zip(means.columns, ranks(means.to_numpy()).mean(axis=0), strict=True))
    for head, rank in told.items():
        assert long["mean_rank"][head] == pytest.approx(rank)
    assert long["mean_rank"].is_monotonic_increasing
    assert long["keys"].iloc[0].split() == sorted(runs["key"])
    texts = [text.get_text() for text in figure.figure.axes[0].texts]
    assert any("psc > ncm" in text for text in texts) and any("CD = 2.49" in one for one in texts)
    for words in ("5 heads over 6 settings", "Friedman", "CD = 2.49", "not independent"):
        assert words in figure.caption and words in table.caption
    # five heads on six settings: 2.728 √(5 · 6 / 36), worked by hand
    assert 2.728 * math.sqrt(30 / 36) == pytest.approx(2.49, abs=0.001)
    gaps = {
        (one, other): abs(long["mean_rank"][one] - long["mean_rank"][other])
        for one in long.index
        for other in long.index
        if one != other
    }
    assert max(gaps.values()) > 2.49
    for (one, other), gap in gaps.items():
        share = bool(set(long["letters"][one]) & set(long["letters"][other]))
        assert share == (gap <= long["cd"].iloc[0])


def test_no_post_hoc_test_without_a_difference(make_runs):
    """Alike heads: Friedman shows nothing, so that all share the letter a and one bar."""
    runs = several(make_runs)
    runs["accuracy"] = np.random.default_rng(3).normal(0.5, 0.01, len(runs))
    figure, table = critical_difference(tidy(runs))
    assert plain(table)["p"].iloc[0] > 0.05 and set(plain(table)["letters"]) == {"a"}
    assert "Friedman shows no difference" in table.caption


def test_a_head_that_never_finished_is_last(make_runs, lose_cells):
    runs = several(make_runs)
    spot = (runs["head"] == "dl2pa") & (runs["data"] == "cifar10")
    figure, table = critical_difference(tidy(lose_cells(runs, spot)))
    assert "ranked last" in table.caption
    assert plain(table).set_index("head")["mean_rank"]["dl2pa"] >= 3  # last in three of six


@pytest.mark.parametrize(
    "heads, ratios, said",
    [(["psc", "etf"], (1, 10), "2 sharing 2"), (["psc"], (1,), "1 sharing 1")],
)
def test_too_little_for_ranks(make_runs, heads, ratios, said):
    runs = tidy(make_runs(heads=heads, ratios=ratios))
    assert critical_difference(runs) == [] and said in unranked(runs)


def test_the_same_frame_gives_the_same_bytes(make_runs):
    runs = several(make_runs)
    one, other = (
        [
            *differences(frame[frame["data"] == "cifar10"], "a"),
            *groups(frame[frame["data"] == "cifar10"], "a"),
            *critical_difference(frame),
        ]
        for frame in (tidy(runs), tidy(runs.sample(frac=1, random_state=1)))
    )
    for left, right in zip(one, other, strict=True):
        assert (left.csv, left.latex, left.caption) == (right.csv, right.latex, right.caption)
        if left.figure is not None:
            assert style.png(left.figure) == style.png(right.figure)


def test_names_that_matplotlib_or_latex_would_read(make_runs):
    runs = tidy(make_runs(heads=["psc", "_hidden", "a$b$c", "my_head&50%#{}"], ratios=(1, 10)))
    for exhibit in [*differences(runs, "a"), *groups(runs, "a"), *critical_difference(runs)]:
        if exhibit.figure is not None:
            style.png(exhibit.figure)
        else:
            assert r"my\_head\&50\%\#\{\}" in exhibit.latex
