"""Nothing that a name may hold can break a table, and no number changes on its way into print."""

import io
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from pandas import DataFrame
from pylatexenc.latex2text import LatexNodes2Text

from reports import latex
from reports.exhibits.arithmetic import item
from reports.exhibits.table import accuracy_table, group_table
from reports.frames import tidy
from reports.printed import printed

NASTY = "my_head&50%#{}~^$\\ > ncm é猫"
TEX = pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("my_head&50%#{}", r"my\_head\&50\%\#\{\}"),
        ("psc > ncm", "psc $>$ ncm"),
        ("a\\b~c^d$e", r"a\textbackslash{}b\textasciitilde{}c\textasciicircum{}d\$e"),
        ("1 ± 2 · 3 – 4 †", r"1 $\pm$ 2 $\cdot$ 3 -- 4 $\dagger$"),
        ("café 猫", "cafe ?"),
        ("％", r"\%"),  # full width, which decomposes to a comment
    ],
)
def test_escape(text, told):
    assert latex.escape(text) == told
    assert told.isascii()


def test_escaped_text_reads_back():
    text = "my_head&50%#{} 1 ± 2"
    assert LatexNodes2Text().latex_to_text(latex.escape(text)) == text


def test_every_printable_character_is_ascii_afterwards():
    assert latex.escape("".join(map(chr, range(1, 0x3000)))).isascii()


def table(*rows: list[str]) -> str:
    frame = DataFrame(list(rows), columns=["head", "d", *map(str, range(len(rows[0]) - 2))])
    marks = DataFrame("", index=frame.index, columns=frame.columns)
    marks.iloc[0, -1] = "bold"
    return latex.fragment(frame, marks, f"50 % of {NASTY}", "t")


def test_numbers_are_read_back():
    written = table(
        ["psc", "64", "62.1 ± 0.4 (4/5†)", "−1.10 [−3.58, +1.38]"],
        [NASTY, "3", "3.1e−05", "– (0/3†)"],
    )
    assert latex.numbers(written) == [
        [(), ("64",), ("62.1", "0.4", "4", "5"), ("-1.10", "-3.58", "1.38")],
        [("50",), ("3",), ("3.1e-05",), ("0", "3")],
    ]


@pytest.fixture
def exhibits(full):
    runs = tidy(full)
    found = [*accuracy_table(runs, "x"), *group_table(runs, "x")]
    return [*found, *item("p").make(DataFrame(), printed("prototype_classifier"), None)]


def test_what_is_printed_is_what_was_measured(exhibits):
    for exhibit in exhibits:
        assert latex.contradictions(exhibit) == []
        assert (exhibit.ids != "").any(axis=None) and exhibit.ids.shape == exhibit.table.shape


def test_a_number_that_was_tampered_with_is_found(exhibits):
    """In LaTeX alone; in LaTeX and table alike, against the data; and in the data."""
    exhibit = exhibits[0]
    shown, row = exhibit.table.iloc[0, 2], exhibit.ids.iloc[0, 2]
    text, _, spread = shown.split(" ")
    other, place = f"{float(text) + 0.1:.1f}", "x-accuracy, row 1, column balanced: "
    written = exhibit.latex.replace(text, other, 1)
    assert latex.contradictions(replace(exhibit, latex=written)) == [
        f"{place}{other} {spread} in LaTeX where {shown!r} is meant",
        f"{place}{other} is no number of {row}",
    ]
    table = exhibit.table.copy()
    table.iloc[0, 2] = f"{other} ± {spread}"
    assert latex.contradictions(replace(exhibit, latex=written, table=table)) == [
        f"{place}{other} is no number of {row}"
    ]
    data = exhibit.csv.replace(",0.63", ",0.73")
    assert latex.contradictions(replace(exhibit, csv=data))
    short = exhibit.latex.replace(" & ", " ", 1)
    short = replace(exhibit, latex=short.replace(r" & 50 &", " & 50", 1))
    assert "torn" in latex.contradictions(short)[0]


def test_a_number_of_another_row_is_found(exhibits):
    exhibit = exhibits[0]
    ids = exhibit.ids.copy()
    ids.iloc[[0, 1], 2] = ids.iloc[[1, 0], 2].to_list()
    assert latex.contradictions(replace(exhibit, ids=ids))


def test_small_numbers_are_held_to_their_own_last_digit(exhibits):
    exhibit = exhibits[0]
    shown, row = exhibit.table.iloc[0, 2], exhibit.ids.iloc[0, 2]
    table = exhibit.table.copy()
    table.iloc[0, 2] = "3.1e−05"
    written = exhibit.latex.replace(shown.replace("±", r"$\pm$"), "3.1e$-$05", 1)
    assert written != exhibit.latex
    for value, right in ((3.14e-05, True), (3.2e-05, False), (3.14, False)):
        data = pd.read_csv(io.StringIO(exhibit.csv), dtype={"id": str})
        data["n"] = data["n"].mask(data["id"] == row, value)
        told = latex.contradictions(
            replace(exhibit, latex=written, table=table, csv=data.to_csv(index=False))
        )
        assert (told == []) == right


def test_hyphens_are_no_signs():
    assert latex.numbers(table(["ResNet-32", "1", "3–5"])) == [[("32",), ("1",), ("3", "5")]]


def compiled(folder: Path, source: str) -> subprocess.CompletedProcess:
    (folder / "a.tex").write_text(source)
    words = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "a.tex"]
    return subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=120)


@TEX
def test_macros_print_and_an_unknown_one_is_an_error_that_names_it(tmp_path):
    numbers = {"x-1": {"psc-d3.mean_of": "−62.1", "b.n": "4"}, "y": {"b.n": "5"}}
    (tmp_path / "numbers.tex").write_text(latex.macros(numbers))
    (tmp_path / "cost").mkdir()
    (tmp_path / "cost" / "numbers.tex").write_text(latex.macros({"z": {"b.n": "6"}}))
    shown = "".join(rf"\finding{{{name}}}" for name in ("x-1/b.n", "y/b.n", "z/b.n"))
    parts = [rf"\section{{On \finding{{x-1/psc-d3.mean_of}}}} \typeout{{[{shown}]}}"]
    parts += [table([NASTY, "3", "62.1 ± 0.4"]), r"\edef\x{\finding{y/b.n}}\x"]
    done = compiled(tmp_path, latex.document(parts))
    assert done.returncode == 0 and "[456]" in done.stdout, done.stdout[-2000:]
    for unknown in ("x-1/psc-d4.mean_of", "x-2/b.n", "b.n"):
        done = compiled(tmp_path, latex.document([rf"\finding{{{unknown}}}"]))
        assert done.returncode != 0 and f"There is no finding '{unknown}" in done.stdout
