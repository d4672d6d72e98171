"""Cosine matrices and the table of superclass scores."""

import io

import numpy as np
import pandas as pd
import pytest
from fake_evidence import evidence, result

from reports import latex, style
from reports.alignment import alignment, cosines
from reports.exhibits.alignment import prototype_geometry
from reports.frames import settings, tidy

NAMES = ["ant", "bee", "cod", "dab", "elm", "fir"]
SUPERCLASSES = ["insects", "insects", "fish", "fish", "trees", "trees"]


def vectors(row: pd.Series) -> dict[str, np.ndarray]:
    """A simplex for etf; psc follows the superclasses, others do not."""
    if row["head"] == "etf":
        return {"class_vectors": np.eye(6, dtype=np.float32)}
    chance = np.random.default_rng(int(row["seed"]))
    near = np.repeat(np.eye(3), 2, axis=0) if row["head"] == "psc" else np.tile(np.eye(3), (2, 1))
    return {"class_vectors": near + 0.1 * chance.normal(size=(6, 3))}


@pytest.fixture
def cells(make_runs, lose_cells):
    runs = make_runs(["psc", "etf", "dl2pa"], (3, 6), (1, 100), 2, classes=6)
    runs = runs[(runs["dim"] == 6) == (runs["head"] == "etf")]
    return tidy(lose_cells(runs, (runs["head"] == "dl2pa") & (runs["seed"] == "1")))


@pytest.fixture
def kept(cells):
    facts = result([9] * 6, NAMES, SUPERCLASSES)
    return evidence(cells, vectors, lambda _: facts)


def csv(exhibit) -> pd.DataFrame:
    return pd.read_csv(io.StringIO(exhibit.csv))


def test_the_table_has_the_scores_and_leads_back(cells, kept):
    _, table = prototype_geometry(cells, "x", kept)
    assert table.name == "x-superclasses" and latex.contradictions(table) == []
    data = csv(table)
    assert (data.columns[0], data.columns[-1]) == ("id", "keys") and data["id"].is_unique
    row = data.set_index("id").loc["psc-d3-1-100"]
    mine = cells[(cells["head"] == "psc") & (cells["ratio"] == 100)]
    found = [
        alignment(cosines(kept.arrays(key)["class_vectors"]), SUPERCLASSES) for key in mine["key"]
    ]
    assert row["score"] == pytest.approx(np.mean([each.score for each in found]))
    assert row["z_sd"] == pytest.approx(np.std([each.z for each in found], ddof=1))
    assert row["p"] == max(each.p for each in found)
    assert (row["neighbours"], row["chance"]) == (1, pytest.approx(0.2))
    assert row["keys"] == " ".join(sorted(mine["key"]))
    assert "999 random" in table.caption and "by chance 20.0" in table.caption


def test_the_table_says_what_is_lost_and_what_is_alike(cells, kept):
    _, table = prototype_geometry(cells, "x", kept)
    rows = table.table.set_index(["ratio", "head"])
    assert list(rows.index[:3]) == [("balanced", h) for h in ("psc", "etf", "dl2pa")]
    assert rows.loc[("1:100", "dl2pa"), "n"] == "1/2†" and "†" in table.caption
    assert "±" not in rows.loc[("1:100", "dl2pa"), "score"]
    etf = rows.loc[("1:100", "etf")]
    assert (etf["score"], etf["z"], etf["p"]) == ("0.000 ± 0.000", "–", "1.0000")
    assert etf["neighbours"] == "20.0 ± 0.0"
    assert (table.marks == "").all(axis=None) and table.ids.shape == table.table.shape


def test_a_negative_score_keeps_its_sign_in_latex(cells, kept):
    _, table = prototype_geometry(cells, "x", kept)
    assert table.table["score"].str.startswith("−").any() and "$-$" in table.latex


def test_matrices_stand_in_the_order_of_superclasses(cells, kept):
    figure, _ = prototype_geometry(cells, "x", kept)
    assert [axis.get_title(loc="left") for axis in figure.figure.axes[:3]] == [
        *("psc\nd = 3", "etf\nd = 6", "dl2pa\nd = 3")
    ]
    data = csv(figure)
    first = data[data["head"] == "psc"]
    assert first["class"].tolist() == ["2 cod", "3 dab", "0 ant", "1 bee", "4 elm", "5 fir"]
    assert first["nearest"].tolist() == ["3 dab", "2 cod", "1 bee", "0 ant", "5 fir", "4 elm"]
    (key,) = first["keys"].unique()
    matrix = cosines(kept.arrays(key)["class_vectors"])
    shown = np.array([text.split() for text in first["cosines"]], dtype=float)
    order = [2, 3, 0, 1, 4, 5]
    np.testing.assert_allclose(shown, matrix[np.ix_(order, order)], atol=5.1e-4)
    (image,) = figure.figure.axes[0].get_images()
    off = ~np.eye(6, dtype=bool)
    np.testing.assert_allclose(image.get_array().data[off], matrix[np.ix_(order, order)][off])
    assert image.norm.vmin == -image.norm.vmax
    assert len(figure.figure.axes[0].patches) == 3  # an outline for each superclass
    assert "1:100, seed 0" in figure.caption


def test_without_superclasses_there_is_a_matrix_in_label_order_and_no_score(cells):
    kept = evidence(cells, vectors, lambda _: result([9] * 6, NAMES))
    (figure,) = prototype_geometry(cells, "x", kept)
    labels = [text.get_text() for text in figure.figure.axes[0].get_yticklabels()]
    assert labels == [f"{k} {name}" for k, name in enumerate(NAMES)]
    assert csv(figure)["class"].tolist()[:6] == labels and "label order" in figure.caption
    assert figure.figure.axes[0].patches[:] == []


def test_many_classes_have_a_score_but_no_matrix(make_runs):
    runs = tidy(make_runs(["psc"], (3,), (1,), 1, classes=202))
    superclasses = [str(k // 2) for k in range(202)]
    spread = np.random.default_rng(0).normal(size=(202, 3))
    kept = evidence(
        *(runs, lambda _: {"class_vectors": spread}, lambda _: result([9] * 202, (), superclasses))
    )
    (table,) = prototype_geometry(runs, "x", kept)
    assert table.latex is not None and "202 classes in 101 superclasses" in table.caption


def test_nothing_to_show(cells):
    assert prototype_geometry(cells, "x", None) == []
    assert prototype_geometry(cells, "x", evidence(cells)) == []
    wrong = evidence(cells, lambda _: {"class_vectors": np.zeros((4, 3, 2))})
    assert prototype_geometry(cells, "x", wrong) == []


def test_a_head_without_class_vectors_is_left_out(cells):
    def some(row):
        return vectors(row) if row["head"] == "psc" else {}

    found = prototype_geometry(cells, "x", evidence(cells, some, lambda _: result([9] * 6)))
    assert [axis.get_title(loc="left") for axis in found[0].figure.axes[:1]] == ["psc\nd = 3"]
    assert set(csv(found[0])["head"]) == {"psc"}


def test_the_same_frame_gives_the_same_bytes(cells, kept):
    first, again = (prototype_geometry(cells, "x", kept) for _ in range(2))
    assert [each.csv for each in first] == [each.csv for each in again]
    assert first[1].latex == again[1].latex
    assert style.png(first[0].figure) == style.png(again[0].figure)


def test_long_names_of_heads_are_broken_into_lines(make_runs):
    head = "psc > prototypes adjust=0 temperatures=False"
    runs = tidy(make_runs([head, "psc"], (3,), (1,), 1, classes=6))
    (setting,) = settings(runs)
    (figure,) = prototype_geometry(setting.runs, "x", evidence(runs, vectors))
    titles = [axis.get_title(loc="left") for axis in figure.figure.axes[:2]]
    assert max(len(line) for title in titles for line in title.split("\n")) <= 26
