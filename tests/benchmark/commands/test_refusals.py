"""What a user can mend is one sentence on standard error and exit code 2; nothing is written."""

import os
import sys
from pathlib import Path

import pytest

RUN = ("run", "--suite", "tiny.yaml")
HEAD = Path(__file__).resolve().parents[3] / "heads" / "psc.py"


@pytest.fixture
def refused(place, call):
    """Give a function (*words): the sentence with which the command is refused."""
    before = sorted(path.name for path in place.iterdir())

    def answer(*words, ask=call):
        said = ask(*words)
        assert said.code == 2, said
        assert said.err.count("\n") == 1 and said.err.strip(), said.err
        assert "Traceback" not in said.err
        assert said.out == ""
        after = sorted(path.name for path in place.iterdir() if path.name != "runs")
        assert set(after) - set(before) <= answer.mine
        assert not list(Path("runs").glob("*"))
        return said.err

    answer.mine = set()
    return answer


REFUSALS = [
    (("--set", "head=pcs"), ("unknown head 'pcs'", "Did you mean 'psc'?")),
    (("--set", "data.name=digit"), ("unknown data set 'digit'", "Did you mean 'digits'?")),
    (("--set", "recipe=quik"), ("unknown recipe 'quik'", "Did you mean 'quick'?")),
    (("--set", "backbone=small_cn"), ("unknown backbone 'small_cn'", "Did you mean 'small_cnn'?")),
    (("--set", "backbone.chanels=4"), ("chanels", "Did you mean 'channels'?")),
    (("--set", "backbone.channels=-4"), ("channels",)),
    (("--set", "recipe.epoch=3"), ("unknown key 'epoch'", "Did you mean 'epochs'?")),
    (("--set", "data.ratio=0"), ("data.ratio", "got 0")),
    (("--set", "data.ratio=.nan"), ("data.ratio", "got nan")),
    (("--set", "head=[{psc: {dims: 3}}]"), ("no option 'dims'", "Did you mean 'dim'?")),
    (("--set", "head=[{psc: {dim: 8.5}}]"), ("'dim' of head 'psc' must be a whole number",)),
    (("--set", "head=[{psc: {dim: 0}}]"), ("dim",)),
    (("--set", "head=[{psc: {dim: {a: 1}}}]"), ("option 'dim'",)),
    (("--set", "head=[{etf: {dim: 8}}]"), ("etf needs dim >= classes - 1", "dim 8 for 10")),
    (("--set", "head=ncm"), ("ncm stands on a finished backbone",)),
    (("--set", "seeds=[]"), ("empty list",)),
    (("--set", "data.folder=a"), ("folder",)),
    (("--set", "data.largest=100000"), ("digits",)),
    (("--set", "data={name: cifar10, ratio: 10}"), ("cifar",)),
    (("--data-root", "tiny.yaml", "--set", "data=cifar10"), ("cifar",)),
    (("--device", "tpu"), ("unknown device 'tpu'",)),
    (("--with", "nowhere.py"), ("no head in 'nowhere.py'",)),
    (("--runs", "tiny.yaml"), ("cannot write to tiny.yaml",)),
]


@pytest.mark.parametrize(
    "words, parts", REFUSALS, ids=[" ".join(words)[:50] for words, _ in REFUSALS]
)
def test_refusals_of_run(refused, words, parts):
    sentence = refused(*RUN, *words)
    for part in parts:
        assert part in sentence


def test_unknown_suites(refused, place):
    assert "Did you mean 'quick'?" in refused("run", "--suite", "quik")
    assert "no suite file" in refused("plan", "--suite", "nowhere.yaml")
    (place / "tiny.yaml").write_text("- {data: [}")
    assert "tiny.yaml, line 1 is not YAML" in refused(*RUN)
    (place / "tiny.yaml").write_bytes(b"\xff")
    assert "not UTF-8" in refused(*RUN)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_data_root_that_may_not_be_read(refused, place):
    (place / "locked").mkdir(mode=0)
    refused.mine.add("locked")
    sentence = refused(*RUN, "--set", "data=cifar10", "--data-root", "locked")
    assert "may not be read" in sentence


@pytest.mark.parametrize(
    "name, text, parts",
    [
        ("mine.py", "import nowhere\n", ("does not import", "ModuleNotFoundError", "nowhere")),
        ("mine.py", "def (:\n", ("does not import", "SyntaxError")),
        ("mine.py", "raise ValueError('two\\nlines')\n", ("does not import", "two lines")),
        ("mine.py", "x = 1\n", ("defines 0 complete heads",)),
        ("psc.py", HEAD.read_text(), ("is named as the head 'psc' of the tree",)),
        (
            "mine.py",
            HEAD.read_text().replace("        super().__init__()\n", "        self.x.y\n"),
            ("mine cannot be built", "AttributeError"),
        ),
    ],
)
def test_files_that_are_no_heads(refused, place, name, text, parts):
    (place / name).write_text(text)
    refused.mine.update({name, "__pycache__"})
    sentence = refused(*RUN, "--with", name, "--set", f"head={Path(name).stem}")
    for part in parts:
        assert part in sentence


def test_other_commands(refused):
    assert "nothing called 'head' to list. Did you mean 'heads'?" in refused("list", "head")
    assert "unknown head 'pcs'" in refused("check", "pcs")
    assert "no head in 'nowhere.py'" in refused("check", "nowhere.py")


@pytest.mark.long
def test_a_real_process(refused, command):
    sentence = refused(*RUN, "--set", "head=pcs", ask=command)
    assert sentence.startswith("unknown head 'pcs'")


def test_a_developer_can_ask_for_the_traceback(place, monkeypatch):
    from benchmark.__main__ import main

    monkeypatch.setenv("BENCHMARK_TRACEBACK", "1")
    monkeypatch.setattr(sys, "argv", ["benchmark", "plan", "--suite", "quik"])
    with pytest.raises(ValueError, match="unknown suite"):
        main()
