"""What print says of groups against what it says of the whole; worked by hand."""

import pytest
from pandas import DataFrame
from pylatexenc.latexwalker import LatexWalker

from reports import counts
from reports.exhibits.arithmetic import item, noted, sums
from reports.printed import printed


def rows(*values: str) -> DataFrame:
    """One row of print: many, medium, few, all."""
    facts = {"table": "1", "method": "m", "dataset": "cifar100", "ratio": 100.0, "error": ""}
    return DataFrame(
        [
            facts
            | {"metric": "accuracy", "split": split, "text": text, "value": float(text) / 100}
            | {"truth": float(text) / 100, "half": 0.005 * 10.0 ** -len(text.partition(".")[2])}
            for split, text in zip(("many", "medium", "few", "all"), values, strict=True)
        ]
    )


@pytest.mark.parametrize(
    ("values", "total", "off"),
    [
        # 35/35/30 classes: 0.35 · 80 + 0.35 · 60 + 0.30 · 40 = 61
        (("80.0", "60.0", "40.0", "61.0"), 0.61, False),
        (("80.0", "60.0", "40.0", "61.1"), 0.61, False),  # two roundings of 0.05 hide 0.1
        (("80.0", "60.0", "40.0", "61.2"), 0.61, True),
        (("80.00", "60.00", "40.00", "61.02"), 0.61, True),
        (("80.00", "60.00", "40.00", "60.99"), 0.61, False),
    ],
)
def test_sum_by_hand(values, total, off):
    (line,) = sums(rows(*values)).to_dict("records")
    assert line["sum"] == pytest.approx(total) and line["off"] is off
    assert line["classes"] == "35/35/30"


def test_what_the_paper_prints_does_not_always_add_up():
    found = sums(printed("prototype_classifier"))
    assert found["table"].value_counts().to_dict() == {"1": 6, "2": 1, "5": 11, "6": 9}
    off = found[found["off"]].set_index(["table", "method"])
    assert set(off.index) == {
        *[("1", "Softmax"), ("1", "PC + CDT"), ("1", "PC + CDT + LA"), ("2", "Softmax")],
        *[("5", "DRO-LT"), ("5", "NCM"), ("5", "PC (Ours)")],
    }
    full = off.loc[("1", "PC + CDT + LA")]
    by_hand = (35 * 70.17 + 35 * 55.89 + 30 * 33.93) / 100
    assert 100 * full["sum"] == pytest.approx(by_hand) == pytest.approx(54.30)
    assert 100 * full["gap"] == pytest.approx(by_hand - 53.41)


def test_the_sizes_of_inaturalist_are_those_at_which_print_adds_up(monkeypatch):
    """Others than those that we state would put more than half of the table in the wrong."""
    rows = printed("prototype_classifier")
    rows = rows[rows["table"] == "6"]
    assert not sums(rows)["off"].any()
    monkeypatch.setitem(counts.LISTED, "inaturalist18", (842, 3701, 3599))
    assert sums(rows)["off"].sum() == 4


def test_the_total_says_what_its_groups_make():
    wrong = noted(rows("80.0", "60.0", "40.0", "61.2"))
    assert wrong["error"].tolist() == ["", "", "", "its groups add up to 61.00"]
    assert noted(rows("80.0", "60.0", "40.0", "61.0"))["error"].eq("").all()
    twice = noted(rows("80.0", "60.0", "40.0", "61.2").assign(error="a slip"))
    assert twice["error"].iloc[-1] == "a slip; its groups add up to 61.00"


def test_papers_without_groups_have_nothing_to_add():
    assert sums(printed("dl2pa")).empty
    assert item("dl2pa").make(DataFrame(), printed("dl2pa"), None) == []
    assert noted(printed("dl2pa")).equals(printed("dl2pa"))


def test_the_exhibit_needs_no_cells():
    (made,) = item("x").make(DataFrame(), printed("prototype_classifier"), None)
    assert "7 of 27 rows are off" in made.caption
    line = made.table[made.table["method"] == "PC + CDT + LA"].iloc[0]
    assert line[["sum", "all", "sum − all", "verdict"]].tolist() == [
        *("54.30", "53.41", "+0.89", "off")
    ]
    LatexWalker(made.latex, tolerant_parsing=False).get_latex_nodes()
    assert made.latex.isascii() and "?" not in made.latex
