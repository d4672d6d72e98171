"""The page: offline, escaped, readable, with every cell."""

import re
from html.parser import HTMLParser

import pytest

from reports.exhibits.curves import accuracy_against_ratio
from reports.exhibits.table import accuracy_table
from reports.frames import tidy
from reports.page import page

VOID = {"meta", "img", "br"}


class Balance(HTMLParser):
    """Fails on a tag that is closed out of turn."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag, attrs):
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture
def written(full) -> str:
    full["suites"] = "<script>alert(1)</script>, quick"
    runs = tidy(full)
    return page(
        [("cifar100 <b>", [accuracy_table(runs), accuracy_against_ratio(runs)])],
        runs,
        {
            "psc": "The baseline, see https://example.org/x",
            "etf": ("Yang et al. & others, NeurIPS 2022", "arXiv:2203.09081"),
            "ride": "not in this frame",
        },
        about={"quick": "Does it learn?"},
        notes=["one thing"],
    )


def test_page_is_well_formed(written):
    reader = Balance()
    reader.feed(written)
    assert reader.open == []


def test_page_points_nowhere(written):
    assert "://" not in written and "http" not in written and "@import" not in written
    for kind, target in re.findall(r'\b(src|href)="([^"]*)', written):
        assert target.startswith("data:image/png;base64," if kind == "src" else "#")
    assert "url(" not in written and "<link" not in written


def test_page_escapes_what_it_is_handed(written):
    assert "<script>alert" not in written and "&lt;script&gt;alert(1)" in written
    assert "cifar100 &lt;b&gt;" in written and "my_head&amp;50%#{}" in written


def test_page_holds_papers_protocol_and_every_cell(written, full):
    assert "arXiv:2203.09081" in written and "not in this frame" not in written
    assert "no paper named" in written  # dl2pa was handed in without one
    assert "last epoch" in written and "never the result" in written
    for key in full["key"]:
        assert f"<td>{key}</td>" in written
    assert "oracle %: best test epoch, not a result" in written
    assert "prefers-color-scheme: dark" in written and "one thing" in written


def test_page_marks_as_the_table_does(make_runs):
    runs = make_runs(heads=["psc", "etf", "dl2pa"], ratios=[100])
    runs["accuracy"] = [0.4, 0.401, 0.402, 0.5, 0.501, 0.502, 0.6, 0.601, 0.602]
    runs = tidy(runs)
    written = page([("one", [accuracy_table(runs)])], runs, {})
    assert "<strong>60.1</strong> ± 0.1" in written and "<u>50.1</u> ± 0.1" in written
