"""Word vectors from the command line: which file, for which data set, and what is refused."""

import json
import re

import numpy as np
import pytest

from benchmark.commands import agenda

SUITE = """\
# words: do word vectors reach the head?
- data: {name: digits, largest: 10}
  backbone: {small_cnn: {channels: 4}}
  recipe: {quick: {epochs: 1}}
  head: {word2vec: {dim: 4}}
  seeds: [0]
"""


def states(answer) -> list[str]:
    assert answer.code == 0, answer
    return [row["state"] for row in json.loads(answer.out)]


def test_files_of_word_vectors(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("all.txt", "own.npy", "cifar10=odd.npy"):
        (tmp_path / name).write_text("")
    found = agenda.vector_files(["all.txt", "cifar100=own.npy"])
    assert found == {"": tmp_path / "all.txt", "cifar100": tmp_path / "own.npy"}
    assert agenda.vector_files(["cifar10=odd.npy"]) == {"": tmp_path / "cifar10=odd.npy"}
    for given, sentence in (
        (["none.txt"], "there is no file 'none.txt'"),
        (["cifar100=none.txt"], "there is no file 'none.txt'"),
        (["cifar1000=own.npy"], "unknown data set 'cifar1000'. Did you mean 'cifar100'?"),
        (["all.txt", "own.npy"], "names two files for all data sets"),
    ):
        with pytest.raises(ValueError, match=re.escape(sentence)):
            agenda.vector_files(given)


def test_word_vectors_are_asked_for_and_looked_at(place, call):
    (place / "words.yaml").write_text(SUITE)
    words = ("--suite", "words.yaml")
    refused = call("run", *words, "--offline")
    assert refused.code == 2 and "--words" in refused.err
    skipped = call("run", *words, "--offline", "--skip-missing")
    assert skipped.code == 0 and "declined" in skipped.out
    (place / "both.yaml").write_text(SUITE.replace("{word2vec: {dim: 4}}", "[psc, word2vec]"))
    found = call("plan", "--suite", "both.yaml", "--json")
    assert sorted(states(found)) == ["declined", "missing"]
    assert "Give a file of word vectors with --words" in found.out
    np.save("bad.npy", np.ones((9, 6), "float32"))
    bad = call("run", *words, "--offline", "--words", "bad.npy")
    assert bad.code == 2 and "\n" not in bad.err.strip() and "bad.npy" in bad.err
    vectors = np.random.default_rng(0).normal(size=(10, 6)).astype("float32")
    np.save("good.npy", vectors)
    given = (*words, "--words", "digits=good.npy")
    assert call("run", *given, "--offline").code == 0
    assert states(call("plan", *given, "--json")) == ["done"]
    np.save("good.npy", -vectors)
    assert states(call("plan", *given, "--json")) == ["changed"]
