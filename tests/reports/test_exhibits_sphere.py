"""Maps, ways between points, and the figures of circle and sphere."""

import io
import math

import numpy as np
import pandas as pd
import pytest
from fake_evidence import evidence, result

from reports import style
from reports.exhibits.sphere import POINTS, sphere
from reports.frames import tidy
from reports.maps import arc, hammer, stations, unit

FILM = np.array([[0, 1, 2, 3], [1, 0, 2, 3], [1, 0, 2, 3], [1, 2, 0, 3]])
"""Four labels that change points: labels 0 and 1 swap, then 1 and 2."""


def kept(row: pd.Series) -> dict[str, np.ndarray]:
    """Four classes, 600 images about their vectors; dl2pa has moved."""
    chance = np.random.default_rng(0)
    dim = row["dim"]
    vectors = unit(chance.normal(size=(row["classes"], dim)))
    labels = np.arange(600) % row["classes"]
    found = {"class_vectors": 5 * vectors, "labels": labels}
    if dim <= 3:
        found["embedding"] = 2 * vectors[labels] + 0.1 * chance.normal(size=(600, dim))
    if row["head"] == "dl2pa":
        found |= {"head.assignment": FILM[-1], "epochs.head.assignment": FILM}
    return found


@pytest.fixture
def cells(make_runs):
    return tidy(make_runs(["psc", "dl2pa"], (2, 3, 16), (1, 100), 2, classes=4))


@pytest.fixture
def told(cells):
    return evidence(cells, kept, lambda _: result([9] * 4, ["ant", "bee", "cod", "dab"]))


def csv(exhibit) -> pd.DataFrame:
    return pd.read_csv(io.StringIO(exhibit.csv))


def test_hammer_at_the_points_that_are_known():
    points = np.array([[1.0, 0, 0], [0, 0, 1], [0, 0, -1], [-1, 1e-12, 0], [0, 1, 0]])
    expected = [[0, 0], [0, math.sqrt(2)], [0, -math.sqrt(2)], [2 * math.sqrt(2), 0]]
    # a quarter of the equator: 2√2 sin 45° / √(1 + cos 45°)
    expected.append([2 / math.sqrt(1 + math.sqrt(0.5)), 0])
    np.testing.assert_allclose(hammer(points), expected, atol=1e-9)


def test_hammer_keeps_areas():
    # |∂(x, y)/∂(λ, sin φ)| is 1 everywhere: λ and sin φ measure area on the unit sphere
    chance = np.random.default_rng(2)
    longitude, height = chance.uniform(-3, 3, 50), chance.uniform(-0.95, 0.95, 50)

    def at(longitude, height):
        girth = np.sqrt(1 - height**2)
        return hammer(
            np.column_stack([girth * np.cos(longitude), girth * np.sin(longitude), height])
        )

    step = 1e-6
    along = (at(longitude + step, height) - at(longitude - step, height)) / (2 * step)
    up = (at(longitude, height + step) - at(longitude, height - step)) / (2 * step)
    area = along[:, 0] * up[:, 1] - along[:, 1] * up[:, 0]
    np.testing.assert_allclose(area, 1, rtol=1e-6)


@pytest.mark.parametrize("end", [[0, 1, 0], [0.6, 0, 0.8], [-1, 0, 0], [1, 0, 0]])
def test_an_arc_is_the_shortest_way(end):
    start, end = np.array([1.0, 0, 0]), np.array(end, dtype=float)
    way = arc(start, end, 200)
    np.testing.assert_allclose(way[[0, -1]], [start, end], atol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(way, axis=1), 1)
    length = np.linalg.norm(np.diff(way, axis=0), axis=1).sum()
    assert length == pytest.approx(math.acos(start @ end), rel=1e-4, abs=1e-12)


def test_stations_by_hand():
    vectors = np.array([[1.0, 0], [0, 1], [-1, 0], [0, -1]])  # at the end, by label
    place = {1: vectors[0], 2: vectors[1], 0: vectors[2], 3: vectors[3]}
    ways = stations(FILM, vectors)
    assert [way.tolist() for way in ways] == [
        [place[p].tolist() for p in held] for held in ([0, 1], [1, 0, 2], [2, 0], [3])
    ]


def test_a_point_that_nobody_has_at_the_end_is_left_out():
    (way,) = stations(np.array([[7], [2], [4], [2]]), np.array([[1.0, 0]]))
    assert way.tolist() == [[1, 0], [1, 0]]


def test_unit_leaves_zero_alone():
    assert unit(np.array([[3.0, 4], [0, 0]])).tolist() == [[0.6, 0.8], [0, 0]]


def test_circle_and_sphere_have_a_panel_for_each_head_and_one_for_moves(cells, told):
    circle, globe = sphere(cells, "x", told)
    assert [circle.name, globe.name] == ["x-sphere-d2", "x-sphere-d3"]
    titles = [axis.get_title(loc="left") for axis in circle.figure.axes]
    assert titles == ["psc\nd = 2", "dl2pa\nd = 2", "dl2pa\nd = 2, moves of labels"]
    labels = [text.get_text() for text in circle.figure.legends[0].get_texts()]
    assert labels == ["0 ant", "1 bee", "2 cod", "3 dab"]
    assert f"{POINTS} images" in globe.caption and "1:100, seed 0" in globe.caption


@pytest.mark.parametrize("nth, dim", [(0, 2), (1, 3)])
def test_rows_are_what_was_kept(cells, told, nth, dim):
    data = csv(sphere(cells, "x", told)[nth])
    assert (data.columns[0], data.columns[-1]) == ("id", "keys") and data["id"].is_unique
    mine = data[data["head"] == "dl2pa"].reset_index(drop=True)
    (key,) = mine["keys"].unique()
    arrays = told.arrays(key)
    vectors = unit(arrays["class_vectors"])
    np.testing.assert_allclose(mine[[*"xyz"[:dim]]], vectors, atol=1e-6)
    # label 0 started at point 0, where label 2 ends; label 1 at point 1, where label 0 ends
    starts = mine[[f"start_{axis}" for axis in "xyz"[:dim]]]
    np.testing.assert_allclose(starts, vectors[[2, 0, 1, 3]], atol=1e-6)
    assert mine["stations"].tolist() == [2, 3, 2, 1] and mine["images"].sum() == POINTS
    shown = np.array([f.split() for f in mine["features"][1].split("; ")], dtype=float)
    every = unit(arrays["embedding"][arrays["labels"] == 1])
    assert np.abs(shown[:, None] - every).max(axis=2).min(axis=1).max() < 1e-3
    assert len(shown) == mine["images"][1]


def test_features_stand_on_the_ring_of_their_class(cells, told):
    figure = sphere(cells, "x", told)[0].figure
    clouds = [
        line for line in figure.axes[0].get_lines() if len(line.get_xdata()) in range(90, 111)
    ]
    radii = [np.hypot(*line.get_data()) for line in clouds]
    assert [radius.mean() for radius in radii] == pytest.approx([0.3, 0.5, 0.7, 0.9])
    assert max(np.ptp(radius) for radius in radii) < 1e-9


def test_records_without_a_film_have_no_panel_of_moves(cells):
    def older(row):
        return {k: v for k, v in kept(row).items() if not k.startswith("epochs")}

    circle = sphere(cells, "x", evidence(cells, older))[0]
    assert len(circle.figure.axes) == 2 and "Moves" not in circle.caption
    assert set(csv(circle)["stations"]) == {1}


def test_a_film_that_ends_elsewhere_is_not_believed(cells):
    def torn(row):
        return kept(row) | ({"head.assignment": np.arange(4)} if row["head"] == "dl2pa" else {})

    assert len(sphere(cells, "x", evidence(cells, torn))[0].figure.axes) == 2


def test_a_hundred_classes_are_coloured_by_their_number(make_runs):
    runs = tidy(make_runs(["dl2pa"], (3,), (1,), 1, classes=100))
    film = np.stack([np.roll(np.arange(100), 1), np.arange(100)])
    moved = {"head.assignment": film[-1], "epochs.head.assignment": film}
    (globe,) = sphere(runs, "x", evidence(runs, lambda row: kept(row) | moved))
    assert globe.figure.legends == [] and "dark to light" in globe.caption
    assert len(csv(globe)) == 100
    assert len(globe.figure.axes) == 1 and globe.figure.axes[0].texts[:] == []
    style.png(globe.figure)


def test_nothing_to_show(cells, make_runs):
    assert sphere(cells, "x", None) == []
    assert sphere(cells, "x", evidence(cells)) == []
    long = tidy(make_runs(["psc"], (16,), (1,), 1, classes=4))
    assert sphere(long, "x", evidence(long, kept)) == []


def test_the_same_frame_gives_the_same_bytes(cells, told):
    first, again = (sphere(cells, "x", told)[1] for _ in range(2))
    assert first.csv == again.csv and style.png(first.figure) == style.png(again.figure)
