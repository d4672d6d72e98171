"""The published numbers: complete, typed, and with their errors named."""

import pandas as pd
import pytest

from reports.printed import FILES, FOLDER, printed


def test_every_number_of_the_nine_tables_is_there():
    counts = printed("dl2pa")["table"].value_counts().to_dict()
    wanted = {"1": 29, "2": 10, "3": 11, "4": 12, "5": 4, "6": 27, "7": 12, "8": 12, "9": 6}
    assert counts == wanted


def test_accuracies_are_fractions_and_print_is_kept():
    rows = printed("dl2pa")
    best = rows[(rows["table"] == "2") & (rows["method"] == "Ours")].iloc[0]
    assert (best["value"], best["text"], best["dim"]) == (0.6622, "66.22", 50)
    assert best["half"] == pytest.approx(0.00005)
    assert rows.loc[rows["text"] == "62.1", "half"].iloc[0] == pytest.approx(0.0005)
    accuracies = rows.loc[rows["metric"] == "accuracy", "value"]
    assert accuracies.between(0.2, 0.9).all() and rows["source"].ne("").all()
    spread = rows[(rows["table"] == "9") & (rows["method"] != "Ours")]
    assert spread["std"].tolist() == [0.0076, 0.0043, 0.0034]


def test_cosines_are_as_they_are_and_their_errors_named():
    rows = printed("dl2pa")
    rows = rows[rows["table"] == "7"].set_index(["method", "dim", "metric"])
    impossible = rows.loc[("HPN", 50, "max_cosine")]
    assert impossible["value"] == -0.05 and not impossible["comparable"]
    assert "impossible" in impossible["error"]
    for method in ("ETF", "Ours"):
        zeroed = rows.loc[(method, 100, "max_cosine")]
        assert (zeroed["value"], zeroed["truth"]) == (0.0, -0.0101) and zeroed["comparable"]
    assert rows["comparable"].sum() == len(rows) - 1


def test_text_and_tables_that_contradict_each_other_are_named():
    """The differences that the paper's text states, recomputed from its tables."""
    rows = printed("dl2pa")
    told = rows[(rows["table"] == "2") & (rows["method"] == "ETF")].set_index("dataset")
    ours = rows[(rows["table"] == "2") & (rows["method"] == "Ours")].set_index("dataset")
    for data, text, table in (("cifar100", "0.87", "0.88"), ("tiny_imagenet", "9.15", "9.70")):
        gap = 100 * (ours.loc[data, "value"] - told.loc[data, "value"])
        assert f"{gap:.2f}" == table
        assert text in told.loc[data, "error"] and table in told.loc[data, "error"]


def test_shifted_labels_are_named_in_every_svhn_row():
    rows = printed("dl2pa")
    shifted = rows["error"].str.contains("shifts the labels")
    assert (shifted == (rows["dataset"] == "svhn")).all()


def test_unknown_paper():
    with pytest.raises(ValueError, match="unknown paper 'dl2ap'. Did you mean 'dl2pa'"):
        printed("dl2ap")


def test_the_file_is_plain():
    for name in FILES.values():
        text = (FOLDER / name).read_bytes()
        assert text.isascii() and b"\r" not in text
        assert pd.read_csv(FOLDER / name, dtype=str)["comparable"].isin(["yes", "no"]).all()
