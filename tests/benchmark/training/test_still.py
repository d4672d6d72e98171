"""Features of a frozen trunk, computed by the first cell on it: the next see the same bits."""

import errno
import os
import shutil
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from benchmark.commands import outlook
from benchmark.planning.recipes import Recipe
from benchmark.records.record import Record
from benchmark.training import shelf, still
from benchmark.training.runner import Ear, run
from benchmark.training.still import Still
from benchmark.training.train import Stopped, Trunk

USUAL = {
    **{"epochs": 2, "batch": 64, "lr": 0.1, "weight_decay": 5e-4, "schedule": "cosine"},
    **{"augment": "crop", "padding": 1, "precision": "float32"},
}

# what a recipe may do to images and labels; each is another way through the loader or the mixing
KINDS = {
    "crop": {},
    "mixup": {"mixup": 1.0},
    "cutmix": {"cutmix": 1.0, "hard_labels": True},
    "either": {"cutmix": 1.0, "mixup": 0.5},
    "streamed": {"policy": "trivial", "cutout": 2},
    "balanced": {"sampler": "class_balanced", "epoch_images": "largest", "drop_last": True},
    "bf16": {"precision": "bf16"},
    "unchanged": {"augment": "none", "epochs": 4},
    "judged often": {"oracle": 1, "flip": True},
}


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """A shelf of its own for each test."""
    monkeypatch.setenv("BENCHMARK_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def looks(monkeypatch):
    """Counts the batches that go through a frozen trunk."""
    seen = []
    forward = Trunk.forward

    def counted(self, images):
        seen.append(len(images))
        return forward(self, images)

    monkeypatch.setattr(Trunk, "forward", counted)
    return seen


@pytest.fixture(scope="module")
def trunks(tmp_path_factory):
    return tmp_path_factory.mktemp("trunks")


@pytest.fixture
def on_trunk(trunks, place, cell):
    """Give a function: the cell of a head on a trained trunk, and where it is trained."""

    def build(name, hyper=None, runs="runs", **changes):
        own = cell("psc", ">", (name, hyper or {}), **changes)
        kept = trunks / own.trunk.key
        if not kept.exists():
            run(own.trunk, replace(place, runs=trunks))
        there = replace(place, runs=place.runs.with_name(runs))
        shutil.copytree(kept, there.runs / own.trunk.key, dirs_exist_ok=True)
        return own, there

    return build


def measured(own, there):
    """Everything of a record but what it cost."""
    record = Record(there.runs / own.key)
    kept = [
        {n: v.tobytes() for n, v in each.items()} for each in (record.arrays(), record.weights())
    ]
    asked = ("state", "metrics", "readings", "seen", "size", "counts", "digests")
    result = {name: repr(record.result()[name]) for name in asked}
    return *kept, result, repr([{**row, "time": 0} for row in record.curves()])


def files():
    return sorted(shelf.folder().iterdir()) if shelf.folder().is_dir() else []


def forget():
    shutil.rmtree(shelf.folder())


@pytest.mark.parametrize("kind", KINDS)
def test_a_sibling_has_the_bits_that_it_would_have_computed(on_trunk, looks, kind):
    first, there = on_trunk("prototypes", {"adjust": 0.5}, **KINDS[kind])
    second, alone = on_trunk("prototypes", {"distance": "squared"}, "alone", **KINDS[kind])
    run(second, alone)
    forget()
    run(first, there)
    looks.clear()
    run(second, there)
    assert sum(looks) == 1  # the one image whose operations are counted
    assert measured(second, there) == measured(second, alone)
    assert measured(first, there) != measured(second, there)
    records = [Record(there.runs / own.key) for own in (first, second)]
    assert [each.result()["cost"].get("features") for each in records] == [None, "read"]
    ends = [(each.cell(), each.result()) for each in records]
    assert [each.read for each in outlook.past(ends, there.registry)] == [False, True]


def test_a_head_that_is_not_trained_reads_too(on_trunk, looks):
    ncm, alone = on_trunk("ncm", runs="alone")
    run(ncm, alone)
    forget()
    first, there = on_trunk("prototypes")
    run(first, there)
    looks.clear()
    run(ncm, there)
    assert sum(looks) == 1 and measured(ncm, there) == measured(ncm, alone)


@pytest.mark.parametrize("at", [1, 4, 5, 7])
def test_stopped_in_mid_epoch(on_trunk, looks, at):
    """Of five steps an epoch: computed and read, read and computed; nothing but whole is kept."""
    own, whole = on_trunk("prototypes", {"adjust": 0.5}, "whole", mixup=1.0)
    run(own, whole)
    other, _ = on_trunk("prototypes", mixup=1.0)

    def stopped(runs):
        beats = []
        ear = Ear(pulse=lambda step, _: beats.append(step), stop=lambda: beats[-1] == at)
        there = on_trunk("prototypes", mixup=1.0, runs=runs)[1]
        with pytest.raises(Stopped):
            run(own, there, ear)
        return there

    there = stopped("read, then computed")
    forget()
    run(own, there)
    assert measured(own, there) == measured(own, whole)
    assert len(files()) == 2  # of training and test images; not of the steps, the first are missing
    forget()
    there = stopped("computed, then read")
    assert not any(path.name.startswith(".") for path in files())
    run(other, there)
    looks.clear()
    run(own, there)
    assert sum(looks) == 1 and measured(own, there) == measured(own, whole)


def test_images_that_never_change_are_looked_up_after_an_epoch(on_trunk, looks):
    own, there = on_trunk("prototypes", augment="none", epochs=4)
    looks.clear()
    run(own, there)
    record = Record(there.runs / own.key)
    images, test = record.result()["size"]["train_images"], record.arrays()["confusion"].sum()
    last = images % 64
    # the one counted, before training, every step of the first epoch and the last ones, the test
    assert sum(looks) == 1 + images + images + 3 * last + test


@pytest.mark.parametrize("lie", [True, False])
def test_what_another_batch_changes_is_computed_every_time(on_trunk, looks, monkeypatch, lie):
    """A table that differs from a batch in one bit is not believed from there on."""
    known = Still.passes

    def passes(self, fresh, about, images):
        def once():
            for features, labels in known(self, fresh, about, images)():
                yield (features.nextafter(features + 1) if lie else features), labels

        return once

    own, there = on_trunk("crt", augment="none", epochs=4)
    monkeypatch.setattr(Still, "passes", passes)
    looks.clear()
    run(own, there)
    images = Record(there.runs / own.key).result()["size"]["train_images"]
    assert (sum(looks) > 5 * images) is lie


def test_only_a_trunk_that_stands_still(on_trunk, place, cell):
    own, there = on_trunk("prototypes", batch_norm="released")
    run(own, there)
    run(replace(own, stages=(own.stages[0], cell("psc").stages[0])), there)  # '>>'
    assert files() == []


def test_a_full_disk_costs_the_next_cell_time(on_trunk, monkeypatch):
    own, whole = on_trunk("prototypes", runs="whole")
    run(own, whole)
    forget()
    _, there = on_trunk("prototypes")

    def full(self, content):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(shelf.Draft, "_write", full)
    said = []
    run(own, there, Ear(warn=said.append))
    assert [line for line in said if "No space left on device" in line] == said and len(said) == 1
    assert files() == [] and measured(own, there) == measured(own, whole)


def test_a_place_that_cannot_be_written_is_said_once(on_trunk, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    own, there = on_trunk("prototypes")
    monkeypatch.setenv("BENCHMARK_CACHE", str(tmp_path / "file"))
    said = []
    assert run(own, there, Ear(warn=said.append)) == "done"
    assert len(said) == 1 and "Not a directory" in said[0] and "computes them again" in said[0]


@pytest.mark.parametrize("damage", ["cut", "changed", "empty"])
def test_a_damaged_file_is_computed_again(on_trunk, looks, damage):
    own, whole = on_trunk("prototypes", {"adjust": 0.5}, "whole")
    run(own, whole)
    for path in files():
        content = bytearray(path.read_bytes())
        content[100] ^= 1
        path.write_bytes({"cut": content[:-50], "changed": content, "empty": b""}[damage])
    _, there = on_trunk("prototypes")
    looks.clear()
    run(own, there)
    assert sum(looks) > 1 and measured(own, there) == measured(own, whole)
    assert len(files()) == 3 and all(shelf.Volume(path) for path in files())


def test_what_decides_the_features_is_in_their_name(place):
    """Every field of a recipe but those of the optimiser, and each fact of its own."""
    look, recipe = torch.nn.Linear(2, 2), Recipe.model_validate(USUAL)
    facts = {"circumstances": {"threads": 1}, "sources": "a"}

    def names(own=look, changes=(), about=(), given=()):
        here = Still(own, shelf.Shelf(place.runs), {**facts, **dict(given)})
        batches = type("Batches", (), {"steps": 1})()
        told = {"seed": {"order": 0, "augment": 0}, "stage": 1, "views": 1, **dict(about)}
        found = []
        here.volume = lambda name: found.append(name)
        asked = {**recipe.model_dump(), **dict(changes)}
        here.steps(batches, SimpleNamespace(epochs=2, model_dump=lambda: asked), told)
        return found[-1]

    for field in Recipe.model_fields:
        other = names(changes={field: "another"})
        assert (other == names()) is (field in still.UNSEEN), field
    assert set(Recipe.model_fields) >= still.UNSEEN
    for about in ({"seed": {"order": 1, "augment": 0}}, {"stage": 2}, {"views": 2}):
        assert names(about=about) != names()
    for given in ({"circumstances": {"threads": 2}}, {"sources": "b"}):
        assert names(given=given) != names()
    assert names(own=torch.nn.Linear(2, 2)) != names()


def test_facts_of_a_cell(on_trunk):
    """Two cells that differ in nothing else: another seed, other data, another recipe."""

    def kept(**changes):
        own, there = on_trunk("prototypes", **changes)
        run(own, there)
        found = {path.name for path in files()}
        forget()
        return found

    first = kept()
    assert len(first) == 3
    for changes in ({"seed": 1}, {"ratio": 20.0}, {"padding": 2}):
        assert len(kept(**changes) & first) == 0, changes


def test_sources_are_those_of_trunk_and_images_not_of_heads(monkeypatch, tmp_path):
    place = tmp_path / "heads"
    place.mkdir()
    (place / "__init__.py").write_text("")
    monkeypatch.setattr(still.heads, "__file__", str(place / "__init__.py"))

    def now():
        still.sources.cache_clear()
        return still.sources(frozenset({"crt"}))

    before = now()
    (place / "crt.py").write_text("a paper")
    assert now() == before
    (place / "geometry.py").write_text("shared by all")
    assert now() != before
    still.sources.cache_clear()
