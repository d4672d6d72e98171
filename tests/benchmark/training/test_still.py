"""Features of a frozen trunk, computed by the first cell on it: the next have the same last bits."""

import errno
import os
import shutil
from dataclasses import replace

import pytest
import torch

from benchmark.planning.recipes import Recipe
from benchmark.records.record import Record
from benchmark.training import shelf, still
from benchmark.training.runner import Ear, run
from benchmark.training.train import Stopped, Trunk

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
    arrays, weights = ({n: v.tobytes() for n, v in each.items()} for each in record.content())
    result = {k: v for k, v in record.result().items() if k not in ("cost", "checksum", "sums")}
    return arrays, weights, repr(result), repr([{**row, "time": 0} for row in record.curves()])


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
