"""The page: offline, escaped, readable, with every cell."""

import base64
import hashlib
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from pandas import DataFrame

from reports.dossier import known
from reports.exhibits import Exhibit
from reports.exhibits.curves import accuracy_against_ratio
from reports.exhibits.table import accuracy_table
from reports.frames import tidy
from reports.page import page

VOID = {"meta", "img", "br"}
HOSTILE = "</script><script>alert(1)</script>\u2028&\"' <!--"


class Balance(HTMLParser):
    """Fails on a tag that is closed out of turn; knows the texts of scripts, and every id."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.scripts: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.ids += [value for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.scripts.append(data)


def read(written: str) -> Balance:
    reader = Balance()
    reader.feed(written)
    assert reader.open == []
    return reader


def block(written: str, name: str) -> dict:
    return json.loads(written.split(f'id="{name}">')[1].split("</script>")[0])


def table_of(columns: dict[str, list[str]], csv: str = "", name: str = "claims") -> Exhibit:
    return Exhibit(name, "Claims", "Look.", DataFrame(columns), None, csv, None)


@pytest.fixture
def written(full) -> str:
    full["suites"] = "<script>alert(1)</script>, quick"
    runs = tidy(full)
    return page(
        [
            (
                "cifar100 <b>",
                [*accuracy_table(runs, "table"), *accuracy_against_ratio(runs, "figure")],
            )
        ],
        runs,
        {
            "psc": "The baseline, see https://example.org/x",
            "etf": ("Yang et al. & others, NeurIPS 2022", "arXiv:2203.09081"),
            "ride": "not in this frame",
        },
        about={"quick": "Does it learn?"},
        notes=["one thing, by `python -m benchmark run`"],
    )


def test_page_is_well_formed(written):
    ids = read(written).ids
    assert len(ids) == len(set(ids)) and {"measured", "cost", "cells", "notes", "s0"} <= set(ids)


def test_page_points_nowhere(written):
    bare = written.replace("http-equiv", "")
    assert "://" not in bare and "http" not in bare and "@import" not in bare
    for kind, target in re.findall(r'\b(src|href)="([^"]*)', written):
        assert target.startswith("data:image/png;base64," if kind == "src" else "#")
    assert "url(" not in written and "<link" not in written and "xmlns" not in written


def test_page_lets_the_browser_run_its_own_script_and_load_nothing(written):
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', written)[1]
    assert policy.startswith("default-src 'none'; img-src data:;")
    script = read(written).scripts[-1]
    style = written.split("<style>")[1].split("</style>")[0]
    for text, kind in ((script, "script-src"), (style, "style-src")):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{kind} 'sha256-{digest}'" in policy
    assert "unsafe" not in policy and ' style="' not in written and ' onclick="' not in written


def test_page_escapes_what_it_is_handed(written):
    assert "<script>alert" not in written and "&lt;script&gt;alert(1)" in written
    assert "cifar100 &lt;b&gt;" in written and "my_head&amp;50%#{}" in written


def test_hostile_names_stay_names_everywhere(make_runs):
    """In the table, in exhibits, in both blocks of JSON; and they are not altered there."""
    raw = make_runs(heads=["psc"], ratios=[1], seeds=1)
    raw["label"] = raw["head"] = raw["suites"] = HOSTILE
    key = raw["key"][0]

    class Evidence:
        def arrays(self, key):
            return {"per_class": [0.5]}

        def series(self, key, name):
            raise AssertionError("histories are asked for at once")

        def histories(self, key):
            return {f"head/{HOSTILE}": [(1, 2.0)]}

        def facts(self, key):
            result = {"names": [HOSTILE], "counts": [3], "versions": {HOSTILE: HOSTILE}}
            return {"cell": {HOSTILE: {HOSTILE: HOSTILE}}, "result": result, "run": HOSTILE}

    runs = tidy(raw)
    exhibit = table_of({"claim": [HOSTILE], "verdict": [HOSTILE]}, f"id,keys\nx,{key}\n")
    written = page(
        [(HOSTILE, [exhibit, HOSTILE])],
        runs,
        {HOSTILE: HOSTILE},
        about={HOSTILE: HOSTILE},
        notes=[HOSTILE],
        known=known(runs, Evidence()),
    )
    assert "<script>alert" not in written
    scripts = read(written).scripts
    assert len(scripts) == 3 and "alert(1)" not in scripts[2]
    assert all("<" not in data and "\u2028" not in data for data in scripts[:2])
    measured, cost = block(written, "measured"), block(written, "cost")
    assert measured["cells"][0]["label"] == HOSTILE
    assert {"names": [HOSTILE], "counts": [3], "groups": [], "superclasses": []} in (
        measured["shared"]
    )
    assert {HOSTILE: HOSTILE} in measured["shared"]
    assert measured["exhibits"] == {"claims": [["x", [0]]]}
    assert cost["facts"][0]["run"] == HOSTILE and cost["facts"][0]["versions"][HOSTILE] == HOSTILE


def test_the_cells_behind_a_cost_are_a_cost(make_runs):
    """Which cells of a kind were foretold is another thing each time that they are trained."""
    raw = make_runs(heads=["psc"], ratios=[1], seeds=1)
    shown = table_of({"claim": ["a"], "verdict": ["b"]}, f"id,keys\nx,{raw['key'][0]}\n")
    costly = replace(shown, name="times", cost=True)
    written = page([("One", [shown, costly])], tidy(raw), {})
    assert block(written, "measured")["exhibits"] == {"claims": [["x", [0]]]}
    assert block(written, "cost")["exhibits"] == {"times": [["x", [0]]]}


def test_page_holds_papers_protocol_and_every_cell(written, full):
    assert "arXiv:2203.09081" in written and "not in this frame" not in written
    assert "no paper named" in written  # dl2pa was handed in without one
    assert "last epoch" in written and "never the result" in written
    for key in full["key"]:
        assert f"<td>{key}</td>" in written and f'<tr id="cell-{key}">' in written
    assert "oracle %: best test epoch, not a result" in written
    assert "prefers-color-scheme: dark" in written
    assert "one thing, by <code>python -m benchmark run</code>" in written


def test_costs_are_in_one_element_and_nowhere_else(full):
    runs = tidy(full)
    dearer = tidy(full.assign(seconds=9.0, images_per_second=1.0, finished="2030"))
    once, again = (page([], frame, {}) for frame in (runs, dearer))
    assert once != again
    cost = re.compile(r'<script [^>]*id="cost">.*?</script>', re.DOTALL)
    assert cost.sub("", once) == cost.sub("", again)
    assert len(cost.findall(once)) == 1 and "2026-01-02" not in cost.sub("", once)


def test_page_marks_as_the_table_does(make_runs):
    runs = make_runs(heads=["psc", "etf", "dl2pa"], ratios=[100])
    runs["accuracy"] = [0.4, 0.401, 0.402, 0.5, 0.501, 0.502, 0.6, 0.601, 0.602]
    runs = tidy(runs)
    written = page([("one", accuracy_table(runs, "table"))], runs, {})
    assert "<strong>60.1</strong> ± 0.1" in written and "<u>50.1</u> ± 0.1" in written


def test_verdicts_are_words_in_a_colour(full):
    verdicts = {
        "supported": '<span class="verdict good">supported</span>',
        "refuted (n = 3)": '<span class="verdict bad">refuted</span> (n = 3)',
        "not comparable: other epochs": '<span class="verdict faint">not comparable</span> '
        "other epochs",
        "no verdict": '<span class="verdict open">no verdict</span>',
        "strange": '<span class="verdict open">strange</span>',
        "–": "<td>–</td>",
    }
    runs = tidy(full)
    written = page([("c", [table_of({"verdict": list(verdicts)})])], runs, {})
    assert all(shown in written for shown in verdicts.values())
    assert 'class="exhibit judged"' in written
    other = table_of({"difference": ["+0.4 [−0.1, +0.9] reproduced", "above"]})
    written = page([("c", [other])], runs, {})
    assert '+0.4 [−0.1, +0.9] <span class="verdict good">reproduced</span>' in written
    assert "<td>above</td>" in written and 'class="exhibit judged"' not in written


def test_a_cell_that_did_not_finish_shows_no_accuracy(full):
    row = re.search(
        r'<tr id="cell-[0-9a-f]*"><td>[^\n]*<td>diverged</td>[^\n]*', page([], tidy(full), {})
    )
    assert row[0].count("<td>–</td>") >= 10 and "<td>17</td>" in row[0]
