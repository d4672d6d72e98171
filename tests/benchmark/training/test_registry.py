"""The table of heads, with a stranger's file beside the tree's own."""

import hashlib
import inspect
from pathlib import Path

import pytest

from benchmark.planning.cell import Stage
from benchmark.training.contract import problem
from benchmark.training.registry import outsider, registry
from heads import HEADS
from heads.base import Needs

SOURCE = '''
"""A head of mine, arXiv:0000.00000."""

from abc import abstractmethod
from heads.base import Head, Needs
from heads.psc import PSC  # imported, not defined here


class Half(Head):
    """Not complete: no class of its own."""

    def score(self, embedding):
        return embedding

    @abstractmethod
    def extra(self):
        ...


class Mine(Head):
    def __init__(self, problem, *, far=False):
        super().__init__()
        self.dim = problem.width

    @classmethod
    def needs(cls, far=False):
        return Needs(sweep=far)

    def score(self, embedding):
        return embedding[:, :3]

    def loss(self, embedding, labels):
        return embedding.sum()
'''


@pytest.fixture
def mine(tmp_path):
    path = tmp_path / "my_head.py"
    path.write_text(SOURCE)
    return path


def test_the_tree_alone():
    table = registry()
    assert table.heads == dict(HEADS) and table.outside == {}
    for name, head in HEADS.items():
        content = Path(inspect.getfile(head)).read_bytes()
        assert table.digests[name] == hashlib.sha256(content).hexdigest()
    assert table.needs(Stage("ncm")) == Needs(frozen=True, trains=False)


def test_a_strangers_head(mine):
    table = registry([mine])
    digest = hashlib.sha256(mine.read_bytes()).hexdigest()
    assert table.outside == {"my_head": digest} and table.digests["my_head"] == digest
    assert set(table.heads) == {*HEADS, "my_head"}
    head = table.heads["my_head"](problem())
    assert type(head).__name__ == "Mine" and head.dim == 16
    assert table.needs(Stage("my_head", (("far", True),))).sweep
    assert not table.needs(Stage("my_head")).sweep


def test_a_changed_file_has_another_digest(mine):
    before = registry([mine]).digests["my_head"]
    mine.write_text(SOURCE + "\n")
    assert registry([mine]).digests["my_head"] != before


@pytest.mark.parametrize(
    "name, source, sentence",
    [
        ("psc.py", SOURCE, "named as the head 'psc' of the tree. Rename the file"),
        ("my-head.py", SOURCE, "Give the path of a Python file"),
        ("my_head.txt", SOURCE, "Give the path of a Python file"),
        ("my_head.py", None, "Give the path of a Python file"),
        ("my_head.py", "import nowhere_to_be_found", "does not import .ModuleNotFoundError"),
        ("my_head.py", "def :", "does not import .SyntaxError"),
        ("my_head.py", "x = 1", "defines 0 complete heads"),
        ("my_head.py", "from heads.psc import PSC", "defines 0 complete heads"),
        ("my_head.py", SOURCE + "\n\nclass Other(Mine):\n    pass\n", "defines 2 complete heads"),
    ],
)
def test_refusals(tmp_path, name, source, sentence):
    path = tmp_path / name
    if source is not None:
        path.write_text(source)
    with pytest.raises(ValueError, match=sentence):
        registry([path])


def test_outsider_gives_the_files_stem(mine):
    name, head = outsider(mine)
    assert name == "my_head" and head.__name__ == "Mine"
