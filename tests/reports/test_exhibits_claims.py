"""The table of claims: what it shows is what was judged, in ink, data and LaTeX."""

import io
import shutil
import subprocess

import pandas as pd
import pytest
from pandas import DataFrame

from reports import latex
from reports.claims import read
from reports.exhibits.claims import claims
from reports.frames import tidy

SUM = "batch_norm=False class_weights=False projection=always reduction=sum"
WHERE = {"backbone": "resnet32_hpn", "recipe": "balanced_250", "epochs": 250, "largest": 500}


@pytest.fixture
def runs(make_runs):
    """dl2pa and hpn at three lengths; at 30 epochs one length, with labels fixed beside."""

    def cells(head: str, dim: int, values: tuple[float, ...], **other: object) -> DataFrame:
        made = make_runs([head], [dim], [1], len(values), **(WHERE | other))
        return made.assign(accuracy=values)

    short = {"recipe": "balanced_250 epochs=30", "epochs": 30, "largest": 100}
    moving, fixed = f"dl2pa {SUM}", f"dl2pa assignment=fixed {SUM}"
    return tidy(
        pd.concat(
            [
                cells(moving, 10, (0.570, 0.574, 0.572)),
                cells(moving, 25, (0.646, 0.645, 0.650)),
                cells(moving, 50, (0.660, 0.662, 0.668)),
                cells("hpn projection=always", 10, (0.510, 0.513, 0.514)),
                cells("hpn projection=always", 25, (0.630, 0.628, 0.631)),
                cells("hpn projection=always", 50, (0.647, 0.648, 0.651)),
                cells(moving, 10, (0.076, 0.074), **short),
                cells(fixed, 10, (0.026, 0.028), **short),
            ],
            ignore_index=True,
        )
    )


@pytest.fixture
def made(runs):
    (exhibit,) = claims("dl2pa", runs)
    return exhibit


def row(exhibit, claim: str):
    return exhibit.table[exhibit.table["claim"] == claim]


def test_a_row_says_what_was_found(made):
    (found,) = row(made, "dl2pa-above-hpn").to_dict("records")
    assert found["verdict"].startswith("supported")
    assert found["scope"] == "as in print; by hpn projection=always; n = 3"
    assert found["effect [95 %]"].startswith("d = 10: +5.97 [+5.")
    assert "d = 50: +1.47 [" in found["effect [95 %]"] and "(print +1.52)" in found["effect [95 %]"]
    (found,) = row(made, "dl2pa-matching-helps-at-small-d").to_dict("records")
    assert found["scope"] == "at 30 of 250 epochs, largest class 100 of 500 images; n = 2"
    (found,) = row(made, "dl2pa-above-word2vec").to_dict("records")
    assert (found["verdict"], found["scope"]) == (
        "untested",
        "python -m benchmark run --suite dl2pa_balanced",
    )


def test_every_claim_of_the_paper_is_there_in_its_order(made):
    asked = [each.id for each in read() if each.paper == "dl2pa"]
    assert list(dict.fromkeys(made.table["claim"])) == asked
    assert f"Of {len(asked)} claims: as in print" in made.caption
    counted = sum(
        int(word) for word in made.caption.split(": ", 1)[1].split(".")[0].split() if word.isdigit()
    )
    assert counted == len(asked)


def test_the_data_have_every_number_with_its_cells(made, runs):
    long = pd.read_csv(io.StringIO(made.csv), keep_default_na=False, na_values=[""])
    assert list(long.columns[[0, -1]]) == ["id", "keys"] and long["id"].is_unique
    effect = long[long["id"] == "dl2pa-above-hpn-d-10"].iloc[0]
    assert effect[["effect", "printed", "above"]].tolist() == pytest.approx(
        [5.9667, 6.11, 3.055], abs=1e-4
    )
    ten = runs[(runs["dim"] == 10) & (runs["epochs"] == 250)]
    assert effect["keys"].split(" ") == sorted(ten["key"])
    claim = long[long["id"] == "dl2pa-above-hpn"].iloc[0]
    assert (claim["role"], claim["verdict"]) == ("claim", "supported")
    assert claim["p"] == pytest.approx(2 * claim["p_supported"], rel=1e-4)
    assert claim["p_holm"] >= claim["p"]
    assert long.loc[long["verdict"] == "untested", "keys"].isna().all()


def test_the_same_frame_gives_the_same_bytes(made, runs):
    (again,) = claims("dl2pa", runs.sample(frac=1, random_state=0))
    assert (again.csv, again.latex, again.caption) == (made.csv, made.latex, made.caption)
    assert latex.contradictions(made) == []


def test_a_lost_seed_is_marked(runs, lose_cells):
    spot = (runs["dim"] == 10) & runs["head"].str.startswith("hpn") & (runs["seed"] == "0")
    (exhibit,) = claims("dl2pa", lose_cells(runs, spot, "failed"))
    (found,) = row(exhibit, "dl2pa-above-hpn").to_dict("records")
    assert found["verdict"] == "undecided: a seed was lost" and "†" in found["effect [95 %]"]
    assert "† a seed diverged or failed" in exhibit.caption


def test_another_paper_has_claims_of_its_own(runs):
    (exhibit,) = claims("prototype_classifier", runs)
    assert exhibit.name == "prototype-classifier-claims"
    assert set(exhibit.table["verdict"]) == {"untested"}
    assert claims("nobody", runs) == []


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no TeX here")
def test_the_latex_compiles(made, tmp_path):
    text = latex.document([made.latex]).replace(
        r"\usepackage{booktabs}", "\\usepackage{booktabs}\n\\usepackage{longtable}"
    )
    (tmp_path / "all.tex").write_text(text, encoding="ascii")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
