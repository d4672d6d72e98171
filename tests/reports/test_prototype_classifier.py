"""The exhibits of the prototype classifiers: every printed number has its cells."""

import io
import itertools
import math
import re

import numpy as np
import pandas as pd
import pytest
import torch
from pandas import DataFrame
from pylatexenc.latexwalker import LatexWalker

from benchmark.planning.recipes import RECIPES
from heads import HEADS
from heads.base import Problem
from reports import style
from reports.build import build
from reports.counts import class_counts
from reports.exhibits.prototype_classifier import ITEMS, TABLES
from reports.exhibits.prototypes import MEASURES, PAIRS
from reports.frames import tidy
from reports.printed import printed
from reports.stats import interval

COUNTS = class_counts(100, 500, 100)
PAPER = "prototype_classifier"
FULL = "psc > prototypes"


class Fake:
    """Evidence: norms as the paper sees them; distances that grow, cosines that fall."""

    def __init__(self, heads: dict[str, str]):
        self.heads = heads

    def series(self, key: str, name: str) -> DataFrame:
        known = re.fullmatch(r"head/(distance|cosine)_(\w+)", name)
        if known is None or known[2] == "few_few":
            return DataFrame(columns=["step", "epoch", "value"])
        measure, pair = known.groups()
        start, way = {"distance": (2.0, 1.0), "cosine": (0.5, -0.25)}[measure]
        step = np.array([0, 10, 20])
        value = start + way * np.array([0.0, 1.0, 0.5 if pair == "many_few" else 2.0])
        return DataFrame({"step": step, "epoch": step / 20, "value": value})

    def arrays(self, key: str) -> dict[str, np.ndarray]:
        lengths = {
            "psc": np.sqrt(COUNTS),
            "psc > ncm": 1.0 + np.arange(100) % 2,
            FULL: np.full(100, 3.0),
        }[self.heads[key]]
        return {"class_vectors": np.stack([0.6 * lengths, 0.8 * lengths], 1)}


@pytest.fixture
def cells(make_runs):
    """Factory of cells of a head: two seeds on the features with weight decay."""

    def make(head: str, **other: object) -> DataFrame:
        usual = {"backbone": "resnet34_cifar", "recipe": "weight_decay_200", "oracle": math.nan}
        usual |= {"flip": math.nan, "group_rule": "kang"}
        return make_runs([head], (512,), [other.pop("ratio", 100)], 2, **(usual | other))

    return make


def made(name: str, runs: DataFrame):
    item = next(item for item in ITEMS if item.name == name)
    evidence = Fake(dict(zip(runs["key"], runs["head"], strict=True)))
    return item.make(tidy(runs), printed(PAPER), evidence)


def csv(exhibit) -> DataFrame:
    return pd.read_csv(io.StringIO(exhibit.csv), keep_default_na=False, na_values=[""])


def test_every_printed_number_is_asked_for_by_a_table_and_every_table_by_an_item():
    rows = printed(PAPER)
    assert [table.number for table in TABLES] == sorted(rows["table"].unique())
    assert {f"Table {n}" for n in range(1, 7)} | {"Figure 2", "Figure 3"} <= {
        item.name for item in ITEMS
    }
    for table, (_, row) in itertools.product(TABLES, rows.iterrows()):
        if row["table"] == table.number:
            names = {row["method"], f"{row['method']} on {row['features']}"}
            assert names & set(table.heads), row["method"]
            assert {row["method"], f"{row['features']} features", row["dataset"]} & set(table.where)


def test_commands_name_the_paper_s_suites():
    found = {name for item in ITEMS for name in re.findall(r"--suite (\w+)", item.command)}
    assert found == {"prototype_classifier", "prototype_classifier_large"}


def test_tables_name_heads_and_recipes_that_exist():
    """Patterns that nothing can fit, and recipes that nobody can write, answer nothing."""
    for table in TABLES:
        for pattern in itertools.chain.from_iterable(table.heads.values()):
            assert {part.split(" ")[0] for part in re.split(r" >>? ", pattern)} <= set(HEADS)
        for where in table.where.values():
            assert set(where.recipes) & set(RECIPES), where


def asked(make_runs, number: str) -> DataFrame:
    """The nearest cells to what a table prints, one seed each, with made-up measures."""
    table = next(table for table in TABLES if table.number == number)
    rows = printed(PAPER)
    parts = []
    for _, row in rows[rows["table"] == number].iterrows():
        method, features = row["method"], row["features"]
        own = f"{method} on {features}"
        head = table.heads[own if own in table.heads else method][0]
        head = " ".join(word for word in head.split(" ") if "*" not in word)
        names = (method, f"{features} features", row["dataset"])
        where = next(table.where[name] for name in names if name in table.where)
        recipe = where.recipes[0]
        facts = {"backbone": where.backbones[0], "recipe": recipe, "data": where.data[0]}
        facts |= {"epochs": int(re.search(r"\d+$", recipe)[0]), "group_rule": "kang"}
        facts |= {"profile": "exponential"}
        parts.append(make_runs([head], (64,), [where.ratio or row["ratio"]], 2, **facts))
    return pd.concat(parts, ignore_index=True).drop_duplicates("key")


STATED = {"4": {"RIDE"}, "5": {"RIDE", "Focal Loss"}, "6": {"RIDE", "Focal Loss"}}
"""Methods whose printed number nothing of ours can answer."""


@pytest.mark.parametrize("number", [table.number for table in TABLES])
def test_the_nearest_cells_answer_every_printed_number(make_runs, number):
    (exhibit,) = made(f"Table {number}", asked(make_runs, number))
    long = csv(exhibit)
    rows = printed(PAPER)
    rows = rows[rows["table"] == number]
    answered = long[long["role"] == "answer"]
    assert len(answered) == len(rows)
    assert not answered["verdict"].eq("not run").any()
    # what has no printed number is told apart from what has none of ours
    told = answered["verdict"] == "no printed number"
    assert told.tolist() == rows["value"].isna().tolist()
    never = answered["verdict"].str.startswith("not comparable")
    assert set(answered.loc[never, "method"]) == STATED.get(number, set())
    LatexWalker(exhibit.latex, tolerant_parsing=False).get_latex_nodes()
    assert exhibit.latex.isascii() and "?" not in exhibit.latex


def test_groups_of_classes_are_their_own_columns(cells):
    runs = cells(FULL)
    runs[["accuracy", "many", "medium", "few"]] = [[0.5, 0.7, 0.5, 0.3], [0.51, 0.7, 0.5, 0.302]]
    (exhibit,) = made("Table 1", runs)
    long = csv(exhibit)
    long = long[(long["method"] == "PC + CDT + LA")].set_index("metric")
    assert long["mean"].to_dict() == pytest.approx(
        {"many": 0.7, "medium": 0.5, "few": 0.301, "accuracy": 0.505}
    )
    low, high = interval([0.3, 0.302])
    line = long.loc["few"]
    assert (line["published"], line["difference"]) == pytest.approx((0.3393, 0.301 - 0.3393))
    assert (line["difference_low"], line["difference_high"]) == pytest.approx(
        (low - 0.3393, high - 0.3393)
    )
    assert line["verdict"] == "below" and long.loc["many", "verdict"] == "below"
    assert exhibit.table.columns.tolist() == ["method", "value", "many", "medium", "few", "all"]
    assert "its groups add up to 54.30" in exhibit.caption


def test_the_parts_are_told_apart(cells):
    parts = {
        "PC": "psc > prototypes adjust=0 temperatures=False",
        "PC + CDT": "psc > prototypes adjust=0",
        "PC + LA": "psc > prototypes temperatures=False",
        "PC + CDT + LA": "psc > prototypes adjust=0.25 distance=euclidean",  # defaults
        "NCM": "psc > ncm",
    }
    runs = pd.concat([cells(head) for head in parts.values()], ignore_index=True)
    long = csv(made("Table 1", runs)[0])
    found = long[long["n"] > 0].groupby("method")["head"].unique()
    wanted = parts | {"PC + CDT + LA": FULL}
    assert {method: heads.tolist() for method, heads in found.items()} == {
        method: [head] for method, head in wanted.items()
    }


def test_a_rate_of_its_own_is_a_variant(cells):
    squared = "psc > prototypes distance=squared"
    runs = pd.concat([cells(squared), cells(f"{squared} prototype_lr=0.01")], ignore_index=True)
    long = csv(made("Table 2", runs)[0])
    long = long[(long["metric"] == "accuracy") & (long["n"] > 0)]
    assert long[["role", "head"]].values.tolist() == [
        ["answer", squared],
        ["variant", f"{squared} prototype_lr=0.01"],
    ]


def test_both_networks_are_shown_and_the_verdict_names_the_other_one(cells):
    small = {"backbone": "resnet32", "recipe": "cross_entropy_200"}
    runs = [cells(FULL), cells(FULL, backbone="resnet32"), cells("psc", **small)]
    (exhibit,) = made("Table 4", pd.concat(runs, ignore_index=True))
    long = csv(exhibit)
    long = long[(long["ratio"] == 100) & (long["n"] > 0)].set_index(["method", "backbone"])
    assert set(long.index) == {
        ("CE", "resnet32"),
        ("PC (Ours)", "resnet34_cifar"),
        ("PC (Ours)", "resnet32"),
    }
    other = long.loc[("PC (Ours)", "resnet32")]
    why = "network resnet32, 0.46M parameters where print has 21.3M"
    assert (other["role"], other["verdict"]) == ("variant", f"not comparable: {why}")
    same = long.loc[("PC (Ours)", "resnet34_cifar"), "verdict"]
    assert same.split(" ")[0] in ("above", "below", "reproduced", "no")
    labels = exhibit.table["value"].tolist()
    assert {"here, resnet32", "here, resnet34_cifar"} <= set(labels)
    assert {"print (21.3M parameters)", "print (400 epochs, AutoAugment, Cutout)"} <= set(labels)
    assert "print (ensemble of 4 experts, distilled from 6)" in labels


def test_features_stand_in_rows_and_classifiers_in_columns(cells):
    small = {"backbone": "resnet32", "recipe": "cross_entropy_200"}
    heads = ["psc", "psc > crt", "psc >> dro_lt > crt recipe=crt_dro_lt", FULL]
    runs = [cells("psc"), *(cells(head, **small) for head in heads)]
    (exhibit,) = made("Table 3", pd.concat(runs, ignore_index=True))
    assert exhibit.table.columns.tolist() == [
        *("features", "value", "CE", "cRT", "WD + MaxNorm", "PC (Ours)")
    ]
    long = csv(exhibit)
    found = long[long["n"] > 0].set_index(["features", "method"])
    assert found["head"].to_dict() == {
        ("CE", "CE"): "psc",
        ("CE", "cRT"): "psc > crt",
        ("CE", "PC (Ours)"): FULL,
        ("DRO-LT", "cRT"): "psc >> dro_lt > crt recipe=crt_dro_lt",
        ("WD", "CE"): "psc",
    }
    assert found["recipe"].to_dict()[("WD", "CE")] == "weight_decay_200"
    assert not found["verdict"].str.startswith("not comparable").any()
    assert "41.24 in Table 4" in exhibit.caption


@pytest.mark.parametrize(
    ("recipe", "why"),
    [
        ("crt,epochs=3", "crt with epochs=3"),
        ("crt,oracle=1", ""),
        ("crt_released", ""),
        ("cross_entropy_imagenet_lt_90", "crt by recipe cross_entropy_imagenet_lt_90"),
    ],
)
def test_how_a_later_stage_was_trained_counts(cells, recipe, why):
    runs = cells(f"psc > crt recipe={recipe}", backbone="resnet32", recipe="cross_entropy_200")
    long = csv(made("Table 4", runs)[0])
    (told,) = long.loc[long["n"] > 0, "verdict"]
    assert told == f"not comparable: {why}" if why else not told.startswith("not comparable")


def test_a_short_run_is_a_table_of_its_own(cells):
    short = cells(FULL, recipe="weight_decay_200 epochs=30", epochs=30, largest=100)
    found = made("Table 1", pd.concat([cells(FULL), short], ignore_index=True))
    assert len(found) == 2 and "30 of 200 epochs, largest class 100" in found[1].title
    assert csv(found[1])["verdict"].str.contains("30 of 200").any()


def test_an_empty_group_is_no_lost_seed(cells):
    runs = cells("psc", largest=100).assign(many=math.nan)
    long = csv(made("Table 1", runs)[0]).set_index(["method", "metric"])
    assert long.loc[("Softmax", "many"), "verdict"] == "no verdict (no class in this group)"


def test_other_subsets_stand_below(cells):
    pair = cells(FULL, data="cifar100 subset=released_pair")
    (exhibit,) = made("Table 1", pd.concat([cells(FULL), pair], ignore_index=True))
    assert f"here, as {FULL}, cifar100 subset=released_pair" in exhibit.table["value"].tolist()


def norms_of(cells):
    runs = pd.concat([cells(head) for head in ("psc", "psc > ncm", FULL)], ignore_index=True)
    return runs.assign(train_images=10847)


def test_norms_by_hand(cells):
    (exhibit,) = made("Figure 2", norms_of(cells))
    long = csv(exhibit).set_index(["set", "class"])
    assert long.loc[("softmax weights", 0), "mean"] == pytest.approx(math.sqrt(500))
    assert long.loc[("softmax weights", 99), ["images", "mean"]].tolist() == pytest.approx(
        [5, math.sqrt(5)]
    )
    assert set(long.loc["prototypes", "mean"]) == {3.0} and (long["n"] == 2).all()
    assert long["group"].value_counts().to_dict() == {"many": 105, "medium": 105, "few": 90}
    # of 50 norms 1 and 50 norms 2: mean 1.5, standard deviation √(25/99)
    assert f"centroids: sd over mean {math.sqrt(25 / 99) / 1.5:.3f}" in exhibit.caption
    assert "softmax weights" in exhibit.caption and "with size +1.00" in exhibit.caption
    assert "prototypes: sd over mean 0.000." in exhibit.caption
    titles = [axis.get_title(loc="left") for axis in exhibit.figure.axes]
    assert titles == ["class size", "softmax weights", "centroids", "prototypes"]


@pytest.mark.parametrize("other", [{"train_images": 10848}, {"profile": "step"}, {"data": "svhn"}])
def test_norms_are_not_drawn_against_sizes_that_are_not_known(cells, other):
    assert made("Figure 2", norms_of(cells).assign(**other)) == []


def test_separation_by_hand(cells):
    (exhibit,) = made("Figure 3", cells(FULL))
    long = csv(exhibit).set_index(["measure", "pair", "step"])
    assert long.loc[("distance", "all", 20), "mean"] == 4.0
    assert long.loc[("cosine", "many_few", 20), "mean"] == 0.375
    assert "few_few" not in long.index.get_level_values("pair")  # no reading: no such classes
    told = exhibit.caption
    assert "distance all 2.000 to 4.000, up in 2 of 2" in told
    assert "distance many – few 2.000 to 2.500, up in 1 of 2" in told
    assert "cosine many – many 0.500 to 0.000, down in 2 of 2" in told


def test_readings_are_named_as_the_head_names_them():
    counts = torch.tensor([200, 150, 10, 5])
    head = HEADS["prototypes"](Problem(2, counts, 0, lambda *_: torch.zeros(4, 2)))
    named = {f"{measure}_{pair}" for measure in MEASURES for pair in PAIRS}
    assert named == {name for name in head.readings() if not name.startswith("temperature")}


def test_figures_need_evidence_and_cells(cells):
    runs = norms_of(cells)
    for item in ITEMS:
        if item.name.startswith("Figure"):
            assert item.make(tidy(runs), printed(PAPER), None) == []
            assert made(item.name, cells("psc")) == []


def test_a_paper_is_built_in_its_order_and_what_lacks_is_named(cells, tmp_path, monkeypatch):
    for form in ("png", "pdf"):  # the ink is not asked for here, and takes long
        monkeypatch.setattr(style, form, lambda figure: b"")
    runs = norms_of(cells)
    evidence = Fake(dict(zip(runs["key"], runs["head"], strict=True)))
    built = build(runs, tmp_path, {}, paper=PAPER, evidence=evidence)
    names = [exhibit.name for exhibit in built.exhibits]
    assert len(set(names)) == len(names)
    assert names[-2:] == ["prototype-classifier-arithmetic", "prototype-classifier-claims"]
    lacking = [note.split(",")[0] for note in built.notes]
    assert lacking == ["Table 5", "Table 6"]
    assert all("--suite prototype_classifier_large" in note for note in built.notes)
