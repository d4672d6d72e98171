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


def test_the_prototype_classifier_is_complete():
    rows = printed("prototype_classifier")
    counts = rows["table"].value_counts().to_dict()
    assert counts == {"1": 24, "2": 16, "3": 12, "4": 36, "5": 44, "6": 44}
    assert rows["split"].isin(["all", "many", "medium", "few"]).all()
    lacking = rows[rows["value"].isna()].groupby("table").size().to_dict()
    assert lacking == {"2": 6, "4": 2, "6": 6}  # cells lost, and dashes; each says which
    assert rows.loc[rows["value"].isna(), "error"].str.contains("missing|dash").all()
    assert rows["source"].ne("").all() and rows["network"].ne("").all()
    assert rows["comparable"].all() and rows["value"].dropna().between(0.05, 0.8).all()


def test_networks_and_ensembles_stand_beside_their_numbers():
    """By the released code the ResNet-32 of one table is two networks."""
    rows = printed("prototype_classifier")
    rows = rows[rows["table"] == "4"]
    wide = rows["network"].str.contains("21.3M")
    assert set(rows.loc[wide, "method"]) == {"WD", "WD + WD + Max", "NCM", "PC (Ours)"}
    assert rows.loc[wide, "apart"].eq("21.3M parameters").all()
    apart = rows.set_index("method")["apart"]
    assert "4 experts, distilled" in apart["RIDE"].iloc[0] and "400" in apart["PaCO"].iloc[0]
    assert rows.loc[rows["method"] == "PaCO", "epochs"].eq("400").all()


def test_tables_that_contradict_each_other_are_named():
    """What Table 3 rounds is in Table 4; where it does not round to it, the row says so."""
    rows = printed("prototype_classifier")
    third = rows[rows["table"] == "3"].set_index(["features", "method"])
    fourth = rows[(rows["table"] == "4") & (rows["ratio"] == 100)].set_index("method")
    same = {
        **{("CE", "CE"): "CE", ("CE", "cRT"): "cRT", ("DRO-LT", "cRT"): "DRO-LT"},
        **{("WD", "WD + MaxNorm"): "WD + WD + Max", ("WD", "PC (Ours)"): "PC (Ours)"},
        **{("WD", "CE"): "WD"},
    }
    for place, method in same.items():
        off = abs(third.loc[place, "value"] - fourth.loc[method, "value"]) > 0.0005 + 1e-9
        assert off == ("in Table 4" in third.loc[place, "error"]), place
    first = rows[(rows["method"] == "Softmax") & (rows["split"] == "all")]
    assert first["value"].ne(fourth.loc["WD", "value"]).all()
    assert first["error"].str.contains(fourth.loc["WD", "text"]).all()


def test_unknown_paper():
    with pytest.raises(ValueError, match="unknown paper 'dl2ap'. Did you mean 'dl2pa'"):
        printed("dl2ap")


def test_the_file_is_plain():
    for name in FILES.values():
        text = (FOLDER / name).read_bytes()
        assert text.isascii() and b"\r" not in text
        assert pd.read_csv(FOLDER / name, dtype=str)["comparable"].isin(["yes", "no"]).all()
