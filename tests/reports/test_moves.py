"""How assignments move: shares by hand, what is counted where nothing was kept, and the figures."""

import io
import math

import numpy as np
import pandas as pd
import pytest
from fake_evidence import evidence, result
from pandas import DataFrame

from reports import latex, style
from reports.exhibits.moves import moves
from reports.films import Film, counted
from reports.frames import tidy

FILM = np.array([[0, 1, 2, 3], [0, 1, 2, 3], [1, 0, 2, 3], [1, 2, 0, 3], [0, 2, 1, 3]])
EPOCHS = np.arange(5)
STAY = np.tile([2, 0, 1, 3], (5, 1))
NAMES = ["ant", "bee", "cod", "dab"]


def kept(row: pd.Series) -> dict[str, np.ndarray]:
    """dl2pa moves at seed 0 and, at seed 1, only back and forth; with a fixed one nothing moves."""
    if not row["head"].startswith("dl2pa"):
        return {"head.counts": np.arange(4)}
    if "fixed" in row["head"]:
        return {"head.assignment": FILM[0]}
    film = FILM if row["seed"] == "0" else FILM[[0, 0, 2, 0, 0]]
    return {"head.assignment": film[-1], "epochs.head.assignment": film, "epochs": EPOCHS}


def still(row: pd.Series) -> dict[str, list[tuple[int, float, float]]]:
    return {"head/moves": [(step, step / 10, 0.0) for step in range(0, 41, 5)]}


@pytest.fixture
def cells(make_runs):
    heads = ["psc", "dl2pa", "dl2pa assignment=fixed"]
    return tidy(make_runs(heads, (16,), (1, 100), 2, classes=4))


@pytest.fixture
def told(cells):
    return evidence(cells, kept, lambda _: result([9] * 4, NAMES), still)


def csv(exhibit) -> DataFrame:
    return pd.read_csv(io.StringIO(exhibit.csv))


def test_shares_by_hand(cells, told):
    shares, *_ = moves(cells, "x", told)
    data = csv(shares)
    assert (data.columns[0], data.columns[-1]) == ("id", "keys") and data["id"].is_unique
    mine = data[data["ratio"] == 100].set_index("epoch")
    assert set(data["head"]) == {"dl2pa"}  # the fixed one and psc have nothing that moves
    # seed 0: 0, 2, 2, 2 of four labels; seed 1: 0, 2, 2, 0
    assert mine["mean"].tolist() == [0, 0.5, 0.5, 0.25]
    assert mine["lowest"].tolist() == [0, 0.5, 0.5, 0]
    assert mine["highest"].tolist() == [0, 0.5, 0.5, 0.5]
    assert mine["sd"].tolist() == pytest.approx([0, 0, 0, math.sqrt(0.125)], abs=1e-9)
    keys = cells.loc[(cells["head"] == "dl2pa") & (cells["ratio"] == 100), "key"]
    assert set(mine["keys"]) == {" ".join(sorted(keys))}
    assert "than one epoch before" in shares.caption and "n = 2 seeds" in shares.caption


def test_curves_are_drawn_in_per_cent(cells, told):
    figure = moves(cells, "x", told)[0].figure
    assert [axis.get_title(loc="left") for axis in figure.axes] == ["balanced", "1:100"]
    (line,) = figure.axes[1].get_lines()
    assert line.get_ydata().tolist() == [0, 50, 50, 25]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["dl2pa, d = 16"]


def test_settling_by_hand(cells, told):
    table = moves(cells, "x", told)[1]
    assert latex.contradictions(table) == [] and table.ids.shape == table.table.shape
    row = csv(table).set_index("id").loc["dl2pa-d16-1-100"]
    # seed 0: 6 changes of 4 labels, last at 4; 0 and 3 are back, 3 never left. Seed 1: 4, at 3, all
    # are back, 2 and 3 never left.
    assert (row["changes"], row["last"]) == ((6 / 4 + 4 / 4) / 2, 3.5)
    assert (row["returned"], row["stayed"]) == ((2 / 4 + 1) / 2, (1 / 4 + 2 / 4) / 2)
    assert row["n"] == 2 and "random ending has 25.0" in table.caption
    assert table.table["returned"].tolist() == ["75.0 ± 35.4"] * 2


def test_ways_name_a_point_after_the_class_that_ends_there(cells, told):
    ways = moves(cells, "x", told)[2]
    data = csv(ways)
    # points 0, 1, 2, 3 end with classes 0, 2, 1, 3
    assert data["points_of"].tolist() == ["0 0 2 2 0", "2 2 0 1 1", "1 1 1 0 2", "3 3 3 3 3"]
    assert data["changes"].tolist() == [2, 2, 2, 0] and data["epochs"][0] == "0 1 2 3 4"
    (axis,) = ways.figure.axes
    labels = [text.get_text() for text in axis.get_yticklabels()]
    assert labels == [f"{k} {name}" for k, name in enumerate(NAMES)]
    assert axis.get_lines()[2].get_ydata().tolist() == [2, 2, 0, 1, 1]


def test_places_of_points_that_nobody_has_at_the_end():
    points = np.array([[7, 2], [2, 4]])
    film = Film(np.arange(2), np.array([1.0]), points)
    assert film.places().tolist() == [[2, 0], [0, 1]]
    with pytest.raises(ValueError, match="no points"):
        Film(np.arange(2), np.array([1.0]), None).places()


def test_counts_of_changes_by_hand():
    history = DataFrame(
        {"step": range(7), "epoch": [0, 0.6, 1.0, 1.2, 2, 2.5, 3.4], "value": [0, 0, 0, 3, 3, 5, 6]}
    )
    epochs, shares = counted(history, 10)
    assert epochs.tolist() == [0, 1, 2, 3, 4]
    np.testing.assert_allclose(shares, [0, 0.3, 0.2, 0.1])


def test_counts_that_are_no_shares_are_not_used():
    history = DataFrame({"step": [0, 1], "epoch": [0.0, 1.0], "value": [0.0, 11.0]})
    assert counted(history, 10) is None
    assert counted(history[:1], 10) is None and counted(history[:0], 10) is None


def test_older_records_are_counted(cells):
    def older(row):
        found = kept(row)
        return {"head.assignment": found["head.assignment"]} if "epochs" in found else {}

    def readings(row):
        return {"head/moves": [(10 * e, float(e), moved) for e, moved in enumerate([0, 0, 3, 4])]}

    told = evidence(cells, older, None, readings)
    (shares,) = moves(cells, "x", told)  # which labels changed is not known
    mine = csv(shares).query("ratio == 100")
    assert mine["epoch"].tolist() == [1, 2, 3] and mine["mean"].tolist() == [0, 0.75, 0.25]


def test_a_seed_where_nothing_moved_counts(make_runs):
    runs = tidy(make_runs(["dl2pa"], (16,), (1,), 2, classes=4))

    def one_moves(row):
        return kept(row) if row["seed"] == "0" else {"head.assignment": FILM[0]}

    def by_epoch(row):
        return {"head/moves": [(e, float(e), 0.0) for e in range(5)]}

    shares, table, _ = moves(runs, "x", evidence(runs, one_moves, None, by_epoch))
    assert csv(shares)["mean"].tolist() == [0, 0.25, 0.25, 0.25]
    row = csv(table).iloc[0]
    assert (row["n"], row["last"], row["stayed"]) == (2, 2.0, (1 / 4 + 1) / 2)


def test_snapshots_further_apart_are_said_to_be(cells):
    def thinned(row):
        found = kept(row)
        return found | ({"epochs": EPOCHS * 3} if "epochs" in found else {})

    shares, *_ = moves(cells, "x", evidence(cells, thinned, None, still))
    assert "up to 3 epochs before" in shares.caption
    assert csv(shares)["epoch"].tolist()[:4] == [3, 6, 9, 12]


def test_a_lost_seed_is_told(cells, lose_cells):
    lost = (cells["head"] == "dl2pa") & (cells["seed"] == "1") & (cells["ratio"] == 100)
    runs = tidy(lose_cells(cells, lost))
    found = moves(runs, "x", evidence(runs, kept, None, still))
    assert found[1].table["n"].tolist() == ["2", "1/2†"]
    assert all("†" in exhibit.caption for exhibit in found[:2])
    assert latex.contradictions(found[1]) == []


def test_many_classes_have_no_ways(make_runs):
    runs = tidy(make_runs(["dl2pa"], (16,), (1,), 1, classes=21))
    film = np.stack([np.arange(21), np.roll(np.arange(21), 1)])
    arrays = {"head.assignment": film[1], "epochs.head.assignment": film, "epochs": np.arange(2)}
    found = moves(runs, "x", evidence(runs, lambda _: arrays))
    assert [exhibit.name for exhibit in found] == ["x-moves", "x-settling"]
    assert "Single seeds" in found[0].caption and "±" not in found[1].table["changes"][0]


def test_nothing_to_show(cells):
    assert moves(cells, "x", None) == []
    assert moves(cells, "x", evidence(cells)) == []
    fixed = cells[cells["head"].str.contains("fixed")]
    assert moves(fixed, "x", evidence(cells, kept, None, still)) == []


def test_the_same_frame_gives_the_same_bytes(cells, told):
    first, again = (moves(cells, "x", told) for _ in range(2))
    assert [each.csv for each in first] == [each.csv for each in again]
    assert style.png(first[2].figure) == style.png(again[2].figure)


def test_ratios_without_a_panel_are_in_the_csv(make_runs):
    runs = tidy(make_runs(["dl2pa"], (16,), (1, 10, 50, 100), 1, classes=4))
    shares, *_ = moves(runs, "x", evidence(runs, kept))
    assert len(shares.figure.axes) == 3 and "3 ratios" in shares.caption
    assert sorted(csv(shares)["ratio"].unique()) == [1, 10, 50, 100]
