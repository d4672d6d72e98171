"""Ours beside print: verdicts worked by hand, and tables that hold the frame's own numbers."""

import io
import math
from dataclasses import replace

import pandas as pd
import pytest
from pandas import DataFrame, Series

from reports.exhibits.beside import Table, Where, answers, exhibits, verdict
from reports.frames import tidy
from reports.latex import contradictions
from reports.stats import interval

HEADS = {"PSC": ("psc", "psc cosine=True scale=1 *"), "Ours": ("dl2pa",), "Goto": ("goto *",)}
DATA = {
    "cifar100": Where(("cifar100",), ("resnet32_hpn",), ("balanced_250",), full=500),
    "svhn": Where(
        ("svhn_released", "svhn"),
        ("resnet32_hpn",),
        ("balanced_250",),
        because={"svhn": "labels are right here"},
    ),
}
TABLE = Table("1", "a title", "look", "make it", HEADS, DATA, unsure=("goto",))


def row(value: str, metric: str = "accuracy", **other: object) -> Series:
    """One printed number."""
    scale = 0.01 if metric == "accuracy" else 1.0
    made: dict[str, object] = {
        **{"table": "1", "method": "PSC", "dataset": "cifar100", "ratio": 1.0, "dim": 10.0},
        **{"backbone": "", "metric": metric, "value": float(value) * scale, "std": math.nan},
        **{"text": value, "std_text": "", "corrected": math.nan, "comparable": True},
        **{"truth": float(value) * scale, "source": "them", "error": "", "network": "a net"},
        **{"half": 0.5 * 10 ** -len(value.partition(".")[2]) * scale, "epochs": "250"},
        **{"selection": "best", "recipe": "", "augmentation": "", "split": "all"},
        **{"features": "", "apart": ""},
    }
    return Series(made | other, dtype=object)


def ours(*values: float, cells: int | None = None) -> dict[str, object]:
    low, high = interval(values)
    mean = sum(values) / len(values) if values else math.nan
    return {
        **{"cells": len(values) if cells is None else cells, "n": len(values)},
        **{"mean": mean, "low": low, "high": high, "done": len(values)},
    }


@pytest.mark.parametrize(
    ("printed", "values", "told"),
    [
        # n = 2: half width 12.7062 |a − b| / 2, so 60.0 and 60.2 reach from 58.83 to 61.37
        ("61.3", (0.600, 0.602), "reproduced"),
        ("61.4", (0.600, 0.602), "reproduced"),  # 61.37 and 61.4, of which print may hide 0.05
        ("61.5", (0.600, 0.602), "below"),
        ("58.7", (0.600, 0.602), "above"),
        ("61.37", (0.600, 0.602), "reproduced"),
        ("61.38", (0.600, 0.602), "below"),  # two digits hide 0.005 only
        ("60.1", (0.600, 0.604), "no verdict (interval ± 2.5 points)"),
        ("60.1", (0.601,), "no verdict (n = 1)"),
        ("60.1", (), "no verdict (0 of 3 seeds finished)"),
    ],
)
def test_verdict_on_accuracy(printed, values, told):
    assert verdict(row(printed), ours(*values, cells=len(values) or 3)) == told


def test_a_lost_seed_withholds_the_verdict():
    lost = ours(0.600, 0.601, cells=3)
    assert verdict(row("60.0"), lost) == "no verdict (2 of 3 seeds finished)"


def test_what_differs_comes_before_what_agrees():
    same = ours(0.600, 0.601)
    assert verdict(row("60.0"), same, "30 of 250 epochs") == "not comparable: 30 of 250 epochs"
    wrong = row("60.0", comparable=False, error="impossible")
    assert verdict(wrong, same) == "not comparable: the printed number is impossible"
    both = verdict(wrong, same, "30 of 250 epochs")
    assert both == "not comparable: the printed number is impossible; 30 of 250 epochs"


def test_an_interpretation_is_never_reproduced():
    assert verdict(row("60.0"), ours(0.600, 0.601), unsure=True) == "interpretation"
    assert verdict(row("60.0"), ours(0.6), "30 of 250 epochs", True) == "interpretation"


@pytest.mark.parametrize(
    ("printed", "value", "told"),
    [
        ("0.05", 0.048, "reproduced"),  # rounds to what is printed
        ("-0.39", -0.395, "reproduced"),
        ("-0.62", -0.629, "below"),
        ("0.01", 0.0, "below"),
        ("-0.01", -1 / 99, "reproduced"),
    ],
)
def test_a_set_of_points_needs_no_seeds(printed, value, told):
    assert verdict(row(printed, "max_cosine"), ours(value)) == told


def test_a_corrected_number_is_what_counts():
    zeroed = row("0.0", "max_cosine", truth=-0.0101, half=0.00005, corrected=-0.0101)
    assert verdict(zeroed, ours(-1 / 99)) == "reproduced"
    assert verdict(zeroed, ours(0.0)) == "above"


def printed(*rows: Series) -> DataFrame:
    return DataFrame(list(rows)).reset_index(drop=True)


@pytest.fixture
def cells(make_runs):
    def make(head: str = "psc", dim: int = 10, **other: object) -> DataFrame:
        usual = {"backbone": "resnet32_hpn", "recipe": "balanced_250", "epochs": 250}
        aside = {"oracle": math.nan, "flip": math.nan}
        ratios = [other.pop("ratio", 1)]
        runs = make_runs([head], [dim], ratios, **(usual | {"largest": 0} | aside | other))
        runs["accuracy"] = [0.60, 0.61, 0.62]
        return runs

    return make


def one_exhibit(rows: DataFrame, runs: DataFrame):
    (made,) = exhibits("paper", TABLE, rows, tidy(runs))
    return made, pd.read_csv(io.StringIO(made.csv), keep_default_na=False, na_values=[""])


def test_the_exhibit_holds_the_numbers_of_the_frame(cells):
    made, long = one_exhibit(printed(row("62.1"), row("66.22", method="Ours")), cells())
    low, high = interval([0.60, 0.61, 0.62])
    line = long.iloc[0]
    assert line[["mean", "sd", "low", "high"]].tolist() == pytest.approx([0.61, 0.01, low, high])
    assert line["difference"] == pytest.approx(0.61 - 0.621)
    assert line["difference_low"] == pytest.approx(low - 0.621)
    assert (line["published"], line["verdict"]) == (0.621, "no verdict (interval ± 2.5 points)")
    assert (long.iloc[1]["verdict"], long.iloc[1]["n"]) == ("not run", 0)
    assert made.table.values.tolist() == [
        ["PSC", "print", "62.1"],
        ["", "here", "61.00 ± 1.00 (3)"],
        ["", "difference", "−1.10 [−3.58, +1.38] no verdict"],
        ["Ours", "print", "66.22"],
    ]
    assert "Not run: 1 of 2 numbers; make it" in made.caption
    assert "PSC by psc" in made.caption and "61.00 $\\pm$ 1.00" in made.latex


def test_each_shown_number_has_the_id_of_its_line(cells):
    runs = pd.concat([cells(), cells("psc cosine=True scale=1")])
    made, long = one_exhibit(printed(row("62.1"), row("66.22", method="Ours")), runs)
    assert contradictions(made) == []
    answer, variant, missing = long["id"]
    assert answer == "psc-cifar100-balanced-d10-accuracy" and variant.startswith(answer)
    assert made.ids.iloc[:, -1].tolist() == [*[answer] * 3, *[variant] * 2, missing]
    assert (made.ids.iloc[:, :-1] == "").all(axis=None)
    for line, head in ((0, "psc"), (1, "psc cosine=True scale=1")):
        assert long["keys"][line].split() == sorted(runs.loc[runs["head"] == head, "key"])
    assert long["keys"].isna()[2] and made.percent["difference"] == 2
    wrong = made.ids.replace({answer: missing})
    assert contradictions(replace(made, ids=wrong))


def test_another_protocol_is_another_exhibit(cells):
    short = cells(epochs=30, recipe="balanced_250 epochs=30", largest=100)
    made = exhibits("paper", TABLE, printed(row("62.1")), tidy(pd.concat([cells(), short])))
    assert [each.name for each in made] == [
        "paper-table-1",
        "paper-table-1-30-of-250-epochs-largest-class-100-of-500-images",
    ]
    long = pd.read_csv(io.StringIO(made[1].csv))
    why = "not comparable: 30 of 250 epochs, largest class 100 of 500 images"
    assert long["verdict"].tolist() == [why] and long["mean"].tolist() == [pytest.approx(0.61)]


@pytest.mark.parametrize(
    ("other", "told"),
    [
        ({"backbone": "resnet20"}, "network resnet20 where print has resnet32_hpn"),
        ({"recipe": "balanced_250 lr=0.1"}, "lr=0.1"),
        ({"data": "cifar100 subset_seed=1"}, "subset_seed=1"),
        ({"ratio": 10}, "ratio 1:10 where print has balanced classes"),
        ({"largest": 500}, ""),  # what print has, written out
        ({"recipe": "balanced_250 oracle=1 precision=float32"}, ""),
    ],
)
def test_what_a_whole_table_differs_in(cells, other, told):
    found = answers(TABLE, printed(row("62.1")), tidy(cells(**other)))
    assert found["deviation"].tolist() == [told]


@pytest.mark.parametrize(
    "other",
    [
        {"data": "cifar100 validation=0.1"},  # a search, judged on its carve
        {"epochs": 0, "recipe": "untrained"},
        {"recipe": "long_tail_200"},
        {"dim": 16},
        {"head": "psc uniformity=0.01"},
        {"head": "psc > ncm"},
        {"data": "cifar10"},
    ],
)
def test_what_answers_nothing(cells, other):
    assert exhibits("paper", TABLE, printed(row("62.1")), tidy(cells(**other))) == []


def test_other_labels_are_not_comparable_in_their_own_rows_only(cells):
    rows = printed(row("62.1"), row("40.9", dataset="svhn"))
    made, long = one_exhibit(rows, pd.concat([cells(), cells(data="svhn")]))
    assert long["verdict"].tolist()[1] == "not comparable: labels are right here"
    assert long["verdict"].tolist()[0].startswith("no verdict")
    assert "Not comparable, PSC svhn: labels are right here." in made.caption
    both = pd.concat([cells(data="svhn_released"), cells(data="svhn")])
    _, long = one_exhibit(rows, both)
    assert long["role"].tolist() == ["answer", "answer", "variant"]
    assert long["data"].tolist()[1:] == ["svhn_released", "svhn"]


def test_another_length_than_print_states_is_not_comparable(cells):
    _, long = one_exhibit(printed(row("62.1", epochs="200")), cells())
    assert long["verdict"].tolist() == ["not comparable: 250 epochs where print states 200"]


def test_variants_stand_below_and_one_line_answers(cells):
    runs = pd.concat([cells(), cells("psc cosine=True scale=1")])
    made, long = one_exhibit(printed(row("62.1")), runs)
    assert long["role"].tolist() == ["answer", "variant"]
    assert made.table["value"].tolist() == [
        *("print", "here", "difference", "here, as psc cosine=True scale=1", "difference"),
    ]


def test_a_default_written_out_is_no_further_seed(cells):
    runs = pd.concat([cells(), cells("psc uniformity=0 projection=needed")])
    _, long = one_exhibit(printed(row("62.1")), runs)
    assert long["n"].tolist() == [3]


def test_best_epoch_stands_beside_and_decides_nothing(cells):
    made, long = one_exhibit(printed(row("64.0")), cells(oracle=0.64))
    assert long["best_epoch"].tolist() == [0.64]
    assert long["difference"].tolist() == [pytest.approx(-0.03)]
    assert made.table["value"].tolist() == ["print", "here", "best test epoch", "difference"]
    assert "never our result" in made.caption


def test_goto_is_an_interpretation(cells):
    _, long = one_exhibit(printed(row("61.0", method="Goto")), cells("goto columns=4"))
    assert long["verdict"].tolist() == ["interpretation"]


def test_diverged_seeds_are_counted(cells, lose_cells):
    runs = cells()
    made, long = one_exhibit(printed(row("62.1")), lose_cells(runs, runs["seed"] == "0"))
    assert long[["n", "diverged"]].values.tolist() == [[2, 1]]
    assert long["bound"].tolist() == [pytest.approx((0.61 + 0.62) / 3)]
    assert made.table.iloc[1, -1] == "61.50 ± 0.71 (2/3†)"
    assert long["verdict"].tolist() == ["no verdict (2 of 3 seeds finished)"]
