"""Two processes train a cell as one does: losses, weights, statistics, queues and assignment."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import distributed, nn

from benchmark.records.record import Record
from benchmark.training import checkpoint, orders, runner
from benchmark.training.norms import WholeNorm, widen
from benchmark.training.orders import Orders
from benchmark.training.registry import registry
from benchmark.training.runner import Place
from benchmark.training.team import ALONE, Team
from benchmark.training.train import Stopped

ROOT = Path(__file__).resolve().parents[3]
PAIR = Path(__file__).with_name("pair.py")
SMALL = {"data": {"largest": 40}, "epochs": 2, "batch": 37}  # 159 images
# What each shows, beside losses and weights, is its name.
CELLS = {
    "psc": (("psc",), {}),
    "crop, mirror, hole": ((("etf", {"dim": 10}),), {"augment": "crop_flip", "cutout": 2}),
    "mixed images": (("dl2pa",), {"mixup": 0.5}),
    # at more its rounding errors grow tenfold a step
    "two views, teacher, queue": (("paco",), {"lr": 0.005}),
    "experts": (("ride",), {}),
    "frozen": (("psc", ">", "crt"), {}),
    "drifting": (("psc", ">", "crt"), {"batch_norm": "released"}),
    "a head before the head": (("dl2pa", ">>", "psc"), {}),
    "images changed one by one": (("psc",), {"rotation": 10.0}),
    "bf16": (("psc",), {"precision": "bf16", "epochs": 1}),
    "one image left": (("psc",), {"batch": 79}),
    "a sweep": (("psc", ">>", "dro_lt"), {"epochs": 1}),
}
DIVERGES = ("psc",), {"lr": 1e30}
ALIKE = {"bf16": (1e-2, 2e-2, 1e-2)}  # of the loss; of a weight, relative and absolute


@pytest.fixture
def cells(cell):
    return {name: cell(*pipe, **{**SMALL, **own}) for name, (pipe, own) in CELLS.items()}


@pytest.fixture
def diverging(cell):
    return cell(*DIVERGES[0], **{**SMALL, **DIVERGES[1]})


@pytest.fixture(scope="module")
def once() -> dict[str, Path]:
    return {}


@pytest.fixture
def both(cells, diverging, once, tmp_path_factory) -> Path:
    """A folder with what two processes made of all cells, in runs, and one in alone."""
    if "folder" in once:
        return once["folder"]
    folder = tmp_path_factory.mktemp("both")
    trunks = [each.trunk for each in cells.values() if each.trunk]
    order = list(dict.fromkeys([*trunks, *cells.values(), diverging]))
    (folder / "cells.json").write_text(json.dumps([each.to_json() for each in order]))
    processes = [
        subprocess.Popen(
            [sys.executable, PAIR, str(rank), "2", folder],
            env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    said = [process.communicate(timeout=300)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], "\n".join(said)
    place = Place(folder / "alone", folder / "data", registry())
    for each in order:
        runner.run(each, place)
    once["folder"] = folder
    return folder


@pytest.mark.long
@pytest.mark.parametrize("name", CELLS)
def test_two_processes_do_what_one_does(both, cells, name):
    one, two = (Record(both / folder / cells[name].key) for folder in ("alone", "runs"))
    assert two.result()["cost"]["processes"] == 2 and one.result()["cost"]["processes"] == 1
    assert json.loads((two.folder / "claim.json").read_text())["processes"] == 2
    loss, relative, absolute = ALIKE.get(name, (1e-4, 2e-3, 2e-4))
    for a, b in zip(one.curves(), two.curves(), strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=loss)
    mine, theirs = one.weights(), two.weights()
    assert mine.keys() == theirs.keys()
    for key, value in mine.items():
        np.testing.assert_allclose(theirs[key], value, relative, absolute, err_msg=key)
    assert one.result()["seen"] == two.result()["seen"]
    assert one.result()["size"] == two.result()["size"]


@pytest.mark.long
def test_two_processes_end_with_the_same_bits(both, cells):
    one, two = (load_file(both / f"ends-{rank}") for rank in (0, 1))
    assert one.keys() == two.keys()
    for part in ("assignment", "means", "running_mean", "running_var", "keys", "owners"):
        assert any(name.endswith(part) for name in one), part
    for name, value in one.items():
        bits = (value.numpy().tobytes(), two[name].numpy().tobytes())  # a NaN is one, too
        assert bits[0] == bits[1] or name.startswith("norm."), name


@pytest.mark.long
def test_both_find_that_a_cell_diverges(both, diverging):
    one, two = (Record(both / folder / diverging.key).result() for folder in ("alone", "runs"))
    assert one["state"] == two["state"] == "diverged"
    assert one["diverged_step"] == two["diverged_step"]


@pytest.mark.long
def test_batch_norm_of_both_is_that_of_the_whole_batch(both):
    sys.path.insert(0, str(PAIR.parent))
    try:
        from pair import network, normed
    finally:
        sys.path.remove(str(PAIR.parent))
    images, weight = normed()
    model = network()
    features = model(images).mean((2, 3))
    (features * weight).sum().backward()
    wanted = {"features": features, **model.state_dict()}
    wanted |= {f"gradient.{name}": p.grad for name, p in model.named_parameters()}
    for rank in (0, 1):
        found = load_file(both / f"ends-{rank}")
        for name, value in wanted.items():
            torch.testing.assert_close(found[f"norm.{name}"], value.detach(), msg=name)


@pytest.mark.long
def test_what_processes_tell_each_other(both, cells):
    one, two = (json.loads((both / f"said-{rank}.json").read_text()) for rank in (0, 1))
    epochs = sum(dict(each.stages[-1].recipe)["epochs"] for each in cells.values())
    assert one.pop("looks") >= epochs and two.pop("looks") >= epochs
    assert one.pop("alone") == "Apart: process 1 of this cell could not begin it"
    assert two.pop("alone") == "OSError: no such image"
    assert "no longer agree: 'head' of process 1" in one["apart"]
    assert one.pop("shared") == [2, [0]] and two.pop("shared") == [2, [1]]
    assert one == two
    assert one["gradient"] == [1.0, 1.0] and one["most"] == 3 and one["given"] == "word"
    assert one["small"] == [1, []] and one["outside"] == []


# without a second process


def test_parts_are_the_whole_batch():
    for size in (1, 2, 3, 8):
        teams = [Team(rank, size) for rank in range(size)]
        for count in range(size, 40):
            parts = [range(count)[team.part(count)] for team in teams]
            assert [k for part in parts for k in part] == list(range(count))
            assert max(map(len, parts)) - min(map(len, parts)) <= 1
        for count in range(size):  # too small to share: done by all alike
            assert [team.part(count) for team in teams] == [slice(0, count)] * size


def test_alone_nothing_is_shared():
    images = torch.zeros(3, 1, 2, 2)
    with ALONE.share(images, 3) as own:
        assert own is images and ALONE.rows == () and ALONE.address() == ()
        assert ALONE.whole(images, 1) is images
    model = nn.BatchNorm2d(1)
    assert ALONE.join(nn.Sequential(model), images) is None
    assert ALONE.most(7) == 7 and ALONE.given(b"a") == b"a"


def test_a_batch_norm_in_place_of_another():
    usual = nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3))
    images = torch.randn(4, 2, 3, 3)
    wide = nn.Sequential(*usual)
    names = list(usual.state_dict())
    widen(wide, Team(0, 2))
    assert isinstance(wide[1], WholeNorm) and list(wide.state_dict()) == names
    assert wide[1].weight is usual[1].weight
    assert torch.equal(usual.eval()(images), wide.eval()(images))
    assert torch.equal(usual.train()(images), wide.train()(images))  # nothing is shared now
    with pytest.raises(ValueError, match="has no form for several processes"):
        widen(nn.Sequential(nn.BatchNorm2d(3, affine=False)), Team(0, 2))


def test_orders_and_answers():
    store = distributed.HashStore()
    first, other = (Orders(store, Team(rank, 2)) for rank in (0, 1))
    assert other.next(lambda: False) is None
    other.number = 0
    first.give({"cell": 1})
    assert other.next(lambda: True) == {"cell": 1}
    first.answer("no memory")
    other.answer("no memory")  # both failed: both go on
    assert first.faults(lambda: True) == (True, "")
    first.give({"cell": 2})
    assert other.next(lambda: True) == {"cell": 2}
    other.answer()
    first.answer("a full disk")  # the other had done its part
    assert first.faults(lambda: True) == (True, "")


def test_who_fails_alone_leaves_and_the_others_hear_of_it(monkeypatch):
    monkeypatch.setattr(orders, "SOON", 0.2)
    store = distributed.HashStore()
    first, other, last = (Orders(store, Team(rank, 3), number=1) for rank in range(3))
    other.answer("no memory")
    assert other.faults(lambda: True) == (False, "process 1: no memory")
    for each in (first, last):  # in whichever order: all have failed by now
        each.answer("the connection is closed")
        assert each.faults(lambda: False) == (False, "process 1: no memory")


def test_where_one_died_nobody_has_failed():
    store = distributed.HashStore()
    first, last = (Orders(store, Team(rank, 3), number=1) for rank in (0, 2))
    for each in (first, last):
        each.answer("the connection is closed")
        assert each.faults(lambda: False) == (False, "")


def test_a_checkpoint_travels_as_data():
    found = checkpoint.Checkpoint({"a": torch.arange(3)}, {"step": 4})
    again, beside = checkpoint.unpacked(checkpoint.packed(found, {"threads": 2}))
    assert again.note == {"step": 4} and torch.equal(again.tensors["a"], torch.arange(3))
    assert beside == {"threads": 2}
    assert checkpoint.unpacked(checkpoint.packed(None, {})) == (None, {})


def test_a_checkpoint_of_several_processes_is_not_gone_on_with_by_one(cell, place):
    own = cell("psc", epochs=2)
    steps: list[int] = []
    ear = runner.Ear(pulse=lambda now, _: steps.append(now), stop=lambda: steps[-1] == 3)
    with pytest.raises(Stopped, match="stopped after step 3"):
        runner.run(own, place, ear)
    folder = place.runs / own.key
    path = next(folder.glob("checkpoint-*"))
    origin = json.loads(path.read_bytes().partition(b"\n")[0])["key"]
    found = checkpoint.read(folder, origin)
    known = {**found.note["circumstances"], "processes": 2}
    changed = replace(found, note={**found.note, "circumstances": known})
    checkpoint.write(folder, origin, changed)
    said: list[str] = []
    steps.clear()
    ear = runner.Ear(pulse=lambda now, _: steps.append(now), warn=said.append)
    assert runner.run(own, place, ear) == "done"
    assert steps[0] == 1
    assert len(said) == 1 and "processes was 2, is 1" in said[0]
