"""Confusion: shares by hand, differences paired by seed, and which form more classes take."""

import io

import numpy as np
import pandas as pd
import pytest
from fake_evidence import FakeEvidence, evidence, result

from reports import style
from reports.exhibits.confusion import confusion
from reports.frames import tidy


def read(exhibit):
    return pd.read_csv(io.StringIO(exhibit.csv), dtype={"keys": str}).set_index("id")


def test_shares_and_paired_differences_by_hand(make_runs, lose_cells):
    """Two classes. psc takes 2 of 8 dogs for cats at seed 0 and 4 of 8 at seed 1; etf 1 of 8.

    Shares 0.25 and 0.5, mean 0.375; psc's seed 2 is lost, so pairs are 0.125 − 0.25 and
    0.125 − 0.5: mean −0.25.
    """
    runs = make_runs(heads=["psc", "etf"], ratios=[5], seeds=3)
    runs = tidy(lose_cells(runs, (runs["head"] == "psc") & (runs["seed"] == "2")))
    wrong = {"psc": {"0": 2, "1": 4}, "etf": dict.fromkeys("012", 1)}

    def counts(row):
        taken = wrong[row["head"]][row["seed"]]
        return {"confusion": np.array([[8 - taken, taken], [0, 4]])}  # dogs, then cats, by label

    made = evidence(runs, counts, lambda row: result([10, 50], ["dog", "cat"]))
    (exhibit,) = confusion(runs, "x", made)
    found = read(exhibit)
    share = found.loc["psc-d128-1-5-share-dog-cat"]
    assert share["mean"] == pytest.approx(0.375) and share["n"] == 2
    pair = found.loc["etf-d128-1-5-difference-dog-cat"]
    assert pair["mean"] == pytest.approx(-0.25) and pair["n"] == 2
    both = runs[(runs["seed"] != "2") & (runs["state"] == "done")]
    assert pair["keys"] == " ".join(sorted(both["key"]))
    assert [*found["true"][:2]] == ["cat", "cat"]  # the frequent class comes first
    texts = [text.get_text() for text in exhibit.figure.axes[0].texts]
    assert texts == ["100.0", "0.0", "37.5", "62.5"]
    assert [t.get_text() for t in exhibit.figure.axes[1].texts][2:] == ["−25.0", "+25.0"]


def banded(row, classes=100, each=10):
    """Half of each class is right, the rest goes to label 0; class 0 is always right."""
    table = np.diag(np.full(classes, each // 2))
    table[:, 0] += each // 2
    return {"confusion": table}


def test_a_hundred_classes_are_grouped_by_frequency(make_runs):
    runs = tidy(make_runs(heads=["psc", "etf", "dl2pa", "psc > ncm"], ratios=[1, 10, 100], seeds=2))
    counts = {1.0: [500] * 100, 10.0: range(500, 0, -5), 100.0: range(500, 0, -5)}
    made = evidence(runs, banded, lambda row: result([*counts[row["ratio"]]]))
    grouped, every = confusion(runs, "x", made)
    found = read(grouped)
    assert set(found["ratio"]) == {100} and set(found["true"]) == {"many", "medium", "few"}
    # 80 classes have more than 100 images: label 0 is all right, the others half
    many = found.loc["psc-d128-1-100-share-many-right"]
    assert many["mean"] == pytest.approx((1 + 79 * 0.5) / 80) and many["n"] == 2
    few = found[(found["true"] == "few") & (found["shown"] == "share")].set_index("predicted")
    assert few["mean"].to_dict() == pytest.approx(
        {"right": 0.5, "wrong, many": 0.5, "wrong, medium": 0, "wrong, few": 0}
    )
    assert [*dict.fromkeys(found["head"])] == ["psc", "dl2pa", "etf"]  # by accuracy
    assert (found.loc[found["shown"] == "difference", "mean"] == 0).all()
    rows = read(every)
    assert len(rows) == 3 * 199 and rows.loc["psc-d128-1-100-7-7", "mean"] == 0.5
    for exhibit in (grouped, every):
        assert style.pdf(exhibit.figure) == style.pdf(exhibit.figure)


def test_balanced_classes_are_grouped_by_superclass(make_runs):
    runs = tidy(make_runs(heads=["psc"], ratios=[1], seeds=1))
    above = [f"kind {k % 4}" for k in range(40)]
    facts = result([50] * 40, superclasses=above)
    made = evidence(runs, lambda row: banded(row, 40), lambda row: facts)
    grouped, _ = confusion(runs, "x", made)
    found = read(grouped)
    assert len(found) == 16
    assert found.loc["psc-d128-balanced-share-kind-1-kind-0", "mean"] == pytest.approx(0.5)
    # of the ten classes of label 0's kind, one is all right and nine go half to label 0
    assert found.loc["psc-d128-balanced-share-kind-0-kind-0", "mean"] == pytest.approx(1)
    plain = evidence(runs, lambda row: banded(row, 40), lambda row: result([50] * 40))
    assert [each.name for each in confusion(runs, "x", plain)] == ["x-confusion-all"]


def test_a_thousand_classes_are_grouped_only(make_runs):
    runs = tidy(make_runs(heads=["psc", "etf"], ratios=[256], seeds=1))
    facts = result(np.linspace(1280, 5, 1000).astype(int))
    made = evidence(runs, lambda row: banded(row, 1000), lambda row: facts)
    (exhibit,) = confusion(runs, "x", made)
    assert exhibit.name == "x-confusion" and len(read(exhibit)) == 2 * 3 * 4


def test_a_class_without_test_images_has_no_share(make_runs):
    runs = tidy(make_runs(heads=["psc"], ratios=[5], seeds=1))
    table = {"confusion": np.array([[3, 1], [0, 0]])}
    (exhibit,) = confusion(runs, "x", evidence(runs, lambda row: table, lambda row: result([9, 3])))
    found = read(exhibit)
    assert found.loc["psc-d128-1-5-share-0-0", "mean"] == 0.75
    assert found.loc["psc-d128-1-5-share-1-0", "n"] == 0
    assert [t.get_text() for t in exhibit.figure.axes[0].texts][2:] == ["–", "–"]


def test_twenty_classes_have_signs_for_numbers(make_runs):
    runs = tidy(make_runs(heads=["psc", "etf"], ratios=[1], seeds=1))

    def counts(row):
        return banded(row, 20) if row["head"] == "psc" else {"confusion": 10 * np.eye(20)}

    (exhibit,) = confusion(runs, "x", evidence(runs, counts, lambda row: result([50] * 20)))
    signs = [text.get_text() for text in exhibit.figure.axes[1].texts]
    assert sorted(signs) == ["+"] * 19 + ["−"] * 19
    assert "only signs" in exhibit.caption


def test_nothing_kept_is_no_exhibit(make_runs):
    runs = tidy(make_runs(heads=["psc"], ratios=[100]))
    assert confusion(runs, "x", None) == [] and confusion(runs, "x", FakeEvidence()) == []
