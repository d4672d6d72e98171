"""docs/faults.md names tests that are there, and every kind of kill and fault there is."""

import re
from pathlib import Path

import pytest

from benchmark.commands.kills import KINDS
from benchmark.records.faults import ACTIONS

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "docs" / "faults.md").read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"`([\w/]+)::(test_\w+)`", TEXT)))


def test_tests_are_named():
    assert len(NAMED) > 50


@pytest.mark.parametrize("file", sorted({file for file, _ in NAMED}))
def test_the_named_tests_are_there(file):
    path = ROOT / f"{file}.py" if file.startswith("tests/") else ROOT / f"tests/benchmark/{file}.py"
    text = path.read_text(encoding="utf-8")
    lacking = [test for where, test in NAMED if where == file and f"\ndef {test}(" not in text]
    assert lacking == []


def test_every_row_has_a_test():
    rows = re.findall(
        r"^\| (?!\*\*|---|kind|fault)(.*) \|$", TEXT.partition("## Fault by fault")[2], re.M
    )
    assert rows and [row for row in rows if "::test_" not in row] == []


@pytest.mark.parametrize("name", [*KINDS, *ACTIONS])
def test_what_can_be_done_is_explained(name):
    assert f"\n| {name} |" in TEXT or f"`{name}`" in TEXT
