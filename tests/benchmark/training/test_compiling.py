"""Compiling: when, where its code lies, what stays eager, and that a cell goes on as it was begun.

Most tests have a stand-in for the compiler, which takes seconds; those marked long have the real
one.
"""

import copy
import json
import math
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmark import backbones
from benchmark.records.record import Record
from benchmark.training import checkpoint, compiling
from benchmark.training.compiling import COMPILED, EAGER, Unable
from benchmark.training.runner import Ear, run
from benchmark.training.train import Stopped, Trunk

LONG = {"mixup": 1.0, "epochs": 2}  # of the digits: 16 steps, the last of each epoch is smaller


def a_trunk(frozen: bool = False) -> Trunk:
    own = backbones.build("small_cnn", {"channels": 4}, generator=torch.Generator().manual_seed(0))
    return Trunk(own, [], frozen=frozen, precision="float32").to(memory_format=torch.channels_last)


def until(step: int) -> Ear:
    """An Ear that stops after a step, counted from the beginning of the cell."""
    beats = []
    return Ear(pulse=lambda now, _: beats.append(now), stop=lambda: beats[-1] == step)


@pytest.fixture
def pretended(monkeypatch):
    """A compiler that compiles to something a little larger; a list of what it was asked for."""
    asked = []

    def compile_trunk(look, shape):
        asked.append(tuple(shape))
        look.compiled = compiling.Compiled.__new__(compiling.Compiled)
        look.compiled.backbone, look.compiled.batch = look.backbone, shape[0]
        look.compiled.fused = lambda images: look.backbone(images) * 1.25

    monkeypatch.setattr(compiling, "compile_trunk", compile_trunk)
    return asked


@pytest.fixture
def worth(monkeypatch):
    """Compiling pays, however short a training is."""
    monkeypatch.setattr(compiling, "BREAK_EVEN", 1.0)


def same_weights(one: Record, other: Record) -> bool:
    mine, theirs = one.weights(), other.weights()
    return all(mine[name].tobytes() == theirs[name].tobytes() for name in mine)


# when


def test_it_pays_over_the_planned_work():
    exactly = math.ceil(compiling.BREAK_EVEN / compiling.PASSES / 1e6)
    assert compiling.pays(10**6, exactly, "cpu")
    assert not compiling.pays(10**6, exactly - 1, "cpu")
    assert not compiling.pays(10**6, 10**12, "cuda:0")


def test_short_cells_stay_eager(cell, place, pretended):
    own = cell("etf")
    assert run(own, place) == "done"
    assert pretended == []
    record = Record(place.runs / own.key)
    assert record.result()["cost"]["execution"] == EAGER
    assert json.loads((record.folder / "claim.json").read_text())["execution"] == EAGER


def test_what_pays_is_compiled_and_said_so(cell, place, pretended, worth):
    own = cell("psc", ">", "crt")
    for each in (own.trunk, own):
        assert run(each, place) == "done"
    assert pretended == [(64, 1, 8, 8)]  # the frozen one has no backward
    record = Record(place.runs / own.trunk.key)
    assert record.result()["cost"]["execution"] == COMPILED
    assert json.loads((record.folder / "claim.json").read_text())["execution"] == COMPILED
    assert record.key == cell("psc").key
    assert Record(place.runs / own.key).result()["cost"]["execution"] == EAGER


def test_as_asked(cell, place, pretended, worth):
    """A frozen trunk has nothing to compile, whatever is asked."""
    asked = {EAGER: [], COMPILED: [(64, 1, 8, 8)]}
    for execution, compiled in asked.items():
        there = replace(place, runs=place.runs / execution, execution=execution)
        own = cell("psc", ">", "crt")
        said: list[str] = []
        for each in (own.trunk, own):
            assert run(each, there, Ear(warn=said.append)) == "done"
        assert pretended == compiled and said == []
        done = [Record(there.runs / each.key).result()["cost"] for each in (own.trunk, own)]
        assert [cost["execution"] for cost in done] == [execution, EAGER]


def test_views_count(cell, place, pretended, worth):
    """Of two views the teacher, which is a copy, takes the second: eager."""
    assert run(cell("paco"), place) == "done"
    assert pretended == [(64, 1, 8, 8)]


# what stays eager


def test_only_whole_batches_of_training_are_compiled():
    look = a_trunk()
    seen = []
    own = compiling.Compiled(look.backbone, 8)
    own.fused = lambda images: seen.append(images.shape[0]) or look.backbone(images)
    look.compiled = own
    images = torch.rand(8, 3, 8, 8)
    look(images)
    look(images[:5])
    look.eval()
    look(images)
    look.train()
    with torch.no_grad():
        look(images)
    assert seen == [8]


def test_a_copy_is_not_compiled():
    look = a_trunk()
    look.compiled = compiling.Compiled(look.backbone, 8)
    assert copy.deepcopy(look).compiled is None
    assert set(look.state_dict()) == set(a_trunk().state_dict())


# interrupted


def test_it_goes_on_as_it_was_begun(cell, place, pretended, monkeypatch):
    """Begun compiled, it stays so where that would not pay, and the other way round."""
    own = cell("etf", **LONG)
    records = {}
    for kind, least in ((COMPILED, 1.0), (EAGER, compiling.BREAK_EVEN)):
        monkeypatch.setattr(compiling, "BREAK_EVEN", least)
        whole = replace(place, runs=place.runs / f"whole {kind}")
        assert run(own, whole) == "done"
        parts = replace(place, runs=place.runs / f"parts {kind}")
        with pytest.raises(Stopped):
            run(own, parts, until(5))
        monkeypatch.setattr(compiling, "BREAK_EVEN", 1.0 if kind == EAGER else 1e99)
        said = []
        assert run(own, parts, Ear(warn=said.append)) == "done"
        assert said == []
        records[kind] = Record(whole.runs / own.key)
        assert same_weights(records[kind], Record(parts.runs / own.key))
        assert Record(parts.runs / own.key).result()["cost"]["execution"] == kind
        claim = json.loads((parts.runs / own.key / "claim.json").read_text())
        assert claim["execution"] == kind
    assert not same_weights(*records.values())  # else this shows nothing


def test_from_before_there_was_a_choice(cell, place, pretended, worth, monkeypatch):
    """A checkpoint that does not say how is of an eager cell."""
    own = cell("etf", **LONG)
    eager = replace(place, execution=EAGER)
    with pytest.raises(Stopped):
        run(own, eager, until(5))
    read = checkpoint.read

    def older(*given):
        found = read(*given)
        del found.note["circumstances"]["execution"]
        return found

    monkeypatch.setattr(checkpoint, "read", older)
    beats = []
    assert run(own, place, Ear(pulse=lambda step, _: beats.append(step))) == "done"
    assert beats[0] == 6 and pretended == []


def unable(look, shape):
    raise Unable("no compiler here")


def test_where_nothing_can_be_compiled(cell, place, worth, monkeypatch):
    monkeypatch.setattr(compiling, "compile_trunk", unable)
    own, said = cell("etf"), []
    assert run(own, place, Ear(warn=said.append)) == "done"
    assert said == [f"{own.label} is trained without compiled code: no compiler here"]
    assert Record(place.runs / own.key).result()["cost"]["execution"] == EAGER


def test_compiled_elsewhere_and_not_here(cell, place, pretended, worth, monkeypatch):
    """The two halves would be of two kinds: it starts over, with a word."""
    own = cell("etf", **LONG)
    with pytest.raises(Stopped):
        run(own, place, until(5))
    monkeypatch.setattr(compiling, "compile_trunk", unable)
    said, beats = [], []
    ear = Ear(pulse=lambda step, _: beats.append(step), warn=said.append)
    assert run(own, place, ear) == "done"
    assert beats[0] == 1
    assert any("starts over, or its last bits would change: execution was" in s for s in said)
    whole = replace(place, runs=place.runs / "eager", execution=EAGER)
    assert run(own, whole) == "done"
    assert same_weights(Record(place.runs / own.key), Record(whole.runs / own.key))


# where compiled code lies


def kept(monkeypatch, folder: Path) -> Path:
    monkeypatch.setenv("BENCHMARK_CACHE", str(folder))
    return compiling.code_folder()


def test_compiled_code_lies_in_a_folder_of_ones_own(tmp_path, monkeypatch):
    place = kept(monkeypatch, tmp_path)
    assert place == tmp_path / "classifier-heads-benchmark" / "compiled"
    assert place.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("which", ["compiled", "above", "link"])
def test_not_where_others_may_write(tmp_path, monkeypatch, which):
    place = kept(monkeypatch, tmp_path)
    open_one = {"compiled": place, "above": place.parent}.get(which, tmp_path / "shared")
    open_one.mkdir(exist_ok=True)
    os.chmod(open_one, 0o770)
    if which == "link":  # to a folder of one's own that others may put aside
        (open_one / "own").mkdir(mode=0o700)
        place.rmdir()
        place.symlink_to(open_one / "own")
    other = compiling.code_folder()
    assert other != place and compiling.private(other)
    assert other == compiling.code_folder()  # one for the process
    assert other.stat().st_mode & 0o777 == 0o700


def test_not_where_nothing_can_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    assert compiling.private(kept(monkeypatch, tmp_path / "file"))


def test_others_folders_are_not_private(tmp_path, monkeypatch):
    assert compiling.private(tmp_path)
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    if tmp_path.stat().st_uid:  # root may write everywhere as it is
        assert not compiling.private(tmp_path)
    else:
        os.chown(tmp_path, 54321, -1)
        assert not compiling.private(tmp_path)


# with the real compiler


@pytest.mark.long
def test_a_compiled_cell_interrupted_has_the_same_bits(cell, place, worth):
    own = cell("dl2pa", **LONG)
    whole = replace(place, runs=place.runs / "whole")
    said = []
    assert run(own, whole, Ear(warn=said.append)) == "done"
    assert said == []
    parts = replace(place, runs=place.runs / "parts")
    for step in (3, 11):
        with pytest.raises(Stopped):
            run(own, parts, until(step))
    assert run(own, parts) == "done"
    one, other = Record(whole.runs / own.key), Record(parts.runs / own.key)
    assert one.result()["cost"]["execution"] == other.result()["cost"]["execution"] == COMPILED
    assert same_weights(one, other)
    assert repr(one.result()["metrics"]) == repr(other.result()["metrics"])
    eager = replace(place, runs=place.runs / "eager", execution=EAGER)
    assert run(own, eager) == "done"
    mine, theirs = one.weights(), Record(eager.runs / own.key).weights()
    assert not same_weights(one, Record(eager.runs / own.key))  # it was compiled indeed
    first = "backbone.layers.0.weight"
    torch.testing.assert_close(
        torch.from_numpy(mine[first]), torch.from_numpy(theirs[first]), rtol=0.05, atol=0.02
    )


@pytest.mark.long
def test_compiling_changes_nothing_but_the_execution(tmp_path):
    """Weights, running statistics, gradients and the global generator are as they were."""
    look = a_trunk()
    before = copy.deepcopy(look.state_dict())
    state = torch.get_rng_state()
    compiling.compile_trunk(look, (8, 3, 8, 8))
    assert isinstance(look.compiled, compiling.Compiled)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in look.state_dict().items())
    assert all(parameter.grad is None for parameter in look.parameters())
    images = torch.rand(8, 3, 8, 8)
    other = a_trunk()
    for each in (look, other):
        each.train()
    torch.testing.assert_close(look(images), other(images), rtol=1e-4, atol=1e-5)
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(compiling.code_folder())


@pytest.mark.long
def test_without_a_compiler_there_is_a_sentence(tmp_path, monkeypatch):
    from torch._inductor import config

    monkeypatch.setenv("BENCHMARK_CACHE", str(tmp_path))
    look = a_trunk()
    nowhere = config.patch({"cpp.cxx": (None, str(tmp_path / "no-compiler"))})
    with nowhere, pytest.raises(Unable) as caught:
        compiling.compile_trunk(look, (8, 3, 9, 9))
    assert look.compiled is None and "\n" not in str(caught.value)
    look(torch.rand(8, 3, 9, 9))
