"""The README tells the truth: its head keeps the contract, and its commands are understood."""

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmark.__main__ import app

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """Fenced blocks of the README in a language."""
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def commands() -> list[list[str]]:
    """Every `python -m benchmark …` of the README's shell blocks, as words after 'benchmark'."""
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    found = [shlex.split(line, comments=True) for line in lines if "-m benchmark" in line]
    return [words[3:] for words in found]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the README's own head and no data."""
    (tmp_path / "my_head.py").write_text(blocks("python")[0], encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_there_are_commands_to_try() -> None:
    assert len(commands()) >= 6


NEEDY = {
    "report": "there are no fin",  # finished cells, or findings to trace
    "replay": "0 finished cells",
    "bundle": "there is no finished cell",
}
"""What commands say that can do nothing without finished cells."""


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_commands_are_understood(words: list[str], place: Path) -> None:
    """`run` is planned instead, some need finished cells and say so; the rest is done as is."""
    if words[0] == "run":
        words = ["plan", *words[1:]]
    result = CliRunner().invoke(app, words)
    if words[0] in NEEDY:
        assert NEEDY[words[0]] in str(result.exception)
    else:
        assert result.exit_code == 0, result.output


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    targets = re.findall(r"\]\(([^)#]+)\)", document.read_text(encoding="utf-8"))
    inside = [target for target in targets if not target.startswith("http")]
    missing = [target for target in inside if not (document.parent / target).exists()]
    assert not missing


def test_every_head_stands_in_the_readme() -> None:
    from heads import HEADS

    missing = [name for name in HEADS if f"| `{name}` |" not in README]
    assert not missing


def test_every_recipe_and_backbone_of_the_protocols_exists() -> None:
    from benchmark.backbones import BACKBONES
    from benchmark.planning.recipes import RECIPES

    text = (ROOT / "docs" / "protocols.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)[`:]", text, re.MULTILINE)
    assert set(rows) <= {*RECIPES, *BACKBONES}
    assert len(rows) >= 6
