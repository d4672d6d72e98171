"""Figures: points, bars, legends, and what is drawn when there is little to draw."""

import pytest
from matplotlib.figure import Figure

from reports import style
from reports.exhibits.curves import accuracy_against_dim, accuracy_against_ratio
from reports.frames import tidy


def lines(figure: Figure) -> list:
    return [line for axis in figure.axes for line in axis.get_lines() if len(line.get_xdata())]


def bars(figure: Figure) -> int:
    paths = [c.get_segments() for axis in figure.axes for c in axis.collections]
    return sum(abs(s[0] - s[1]).max() > 1e-9 for segments in paths for s in segments if len(s) == 2)


def test_ratio_curves_have_labels_bars_and_an_outside_legend(full):
    (exhibit,) = accuracy_against_ratio(tidy(full), "x")
    (axis,) = exhibit.figure.axes
    assert "%" in axis.get_ylabel() and "ratio" in axis.get_xlabel()
    assert axis.get_legend() is None and len(exhibit.figure.legends) == 1
    labels = [text.get_text() for text in exhibit.figure.legends[0].get_texts()]
    assert labels[:2] == ["psc, d = 128", "psc, d = 50"] and "my_head&50%#{}, d = 50" in labels
    assert bars(exhibit.figure) == 10 * 3
    assert [text.get_text() for text in axis.texts] == ["†"] and "†" in exhibit.caption
    style.png(exhibit.figure)


def test_one_seed_is_points_only(make_runs):
    (exhibit,) = accuracy_against_ratio(tidy(make_runs(seeds=1)), "x")
    assert bars(exhibit.figure) == 0 and "n = 1" in exhibit.caption
    assert {line.get_linestyle() for line in lines(exhibit.figure)} == {"None"}
    assert accuracy_against_dim(tidy(make_runs(seeds=1)), "x") == []


@pytest.mark.parametrize("ratio", [1, 100])
def test_one_ratio_puts_the_heads_in_rows(make_runs, ratio):
    (exhibit,) = accuracy_against_ratio(tidy(make_runs(ratios=[ratio])), "x")
    (axis,) = exhibit.figure.axes
    assert axis.get_yticklabels()[0].get_text() == "psc, d = 128"
    assert "Accuracy" in axis.get_xlabel() and bars(exhibit.figure) == 5
    style.pdf(exhibit.figure)


def test_dim_curves_have_a_panel_per_ratio(full):
    (exhibit,) = accuracy_against_dim(tidy(full), "x")
    titles = [axis.get_title(loc="left") for axis in exhibit.figure.axes]
    assert titles == ["balanced", "1:10", "1:100"]
    assert len(exhibit.figure.legends[0].get_texts()) == 5
    style.pdf(exhibit.figure)


def test_a_head_that_never_finished_is_named_not_drawn(make_runs, lose_cells):
    runs = make_runs()
    runs = tidy(lose_cells(runs, (runs["head"] == "etf") & (runs["ratio"] == 100)))
    (exhibit,) = accuracy_against_ratio(runs, "x")
    assert "without a point: etf, d = 128 at 1:100." in exhibit.caption


def test_nothing_finished_is_no_figure(make_runs, lose_cells):
    runs = make_runs(dims=(50, 128))
    runs = tidy(lose_cells(runs, runs["seed"] != ""))
    assert accuracy_against_ratio(runs, "x") == [] == accuracy_against_dim(runs, "x")


def test_names_that_matplotlib_would_read_are_drawn_as_they_are(make_runs):
    (exhibit,) = accuracy_against_ratio(tidy(make_runs(heads=["_hidden", "a$b$c"])), "x")
    labels = [text.get_text() for text in exhibit.figure.legends[0].get_texts()]
    assert labels == [" _hidden, d = 128", r"a\$b\$c, d = 128"]
    style.png(exhibit.figure)
