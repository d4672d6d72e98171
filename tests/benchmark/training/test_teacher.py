"""Views, teacher, experts, sweeps: what dro_lt, paco and ride ask for, by hand and to the bit."""

import copy
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import benchmark
from benchmark.planning.cell import freeze
from benchmark.records.record import Record
from benchmark.training import checkpoint
from benchmark.training.runner import Ear, run
from benchmark.training.train import MOMENTUM, Stopped, Taught, Trunk, train
from heads import HEADS
from heads.base import Clock, Head

WIDTH, CLASSES = 4, 3


class Normed(nn.Module):
    """One matrix and batch norm."""

    width = WIDTH

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.weight = nn.Parameter(torch.randn(WIDTH, 5, generator=generator))
        self.norm = nn.BatchNorm1d(WIDTH)

    def forward(self, images):
        return self.norm(images.flatten(1) @ self.weight.T)


class Pairs(Head):
    """The first view is drawn to the second."""

    def __init__(self):
        super().__init__()
        self.dim = WIDTH
        self.shift = nn.Parameter(torch.zeros(WIDTH))
        self.seen = []

    def score(self, embedding):
        return embedding[..., :CLASSES]

    def loss(self, embedding, labels):
        assert embedding.shape[0] == 2
        return (embedding[0] + self.shift - embedding[1]).square().mean()

    def after_step(self, embedding, labels, clock: Clock):
        self.seen.append(embedding.clone())


class Views:
    """Two views of random images."""

    steps = 3

    def epoch(self, epoch, start=0):
        for step in range(start, self.steps):
            generator = torch.Generator().manual_seed(100 * epoch + step)
            images = torch.randn(2, 6, 5, 1, 1, generator=generator)
            yield images, torch.randint(0, CLASSES, (6,), generator=generator)


def trunk():
    return Trunk(Normed(), [], frozen=False, precision="float32")


def test_the_teacher_follows_and_sees_the_last_view(recipe):
    look, head = trunk(), Pairs()
    short = recipe(epochs=2, lr=0.5, momentum=0.0, weight_decay=0.0, schedule="constant")
    twin, shift = Normed(), torch.zeros(WIDTH, requires_grad=True)
    teacher = copy.deepcopy(twin)
    train(look, head, Views(), short, seed=0, teacher=True)

    seen = []
    for epoch in range(2):
        for images, _ in Views().epoch(epoch):
            with torch.no_grad():
                second = teacher(images[1])
            first = twin(images[0])
            seen.append(torch.stack([first.detach(), second]))
            parameters = [*twin.parameters(), shift]
            loss = (first + shift - second).square().mean()
            gradients = torch.autograd.grad(loss, parameters)
            with torch.no_grad():
                for parameter, gradient in zip(parameters, gradients, strict=True):
                    parameter -= 0.5 * gradient
                for slow, fast in zip(teacher.parameters(), twin.parameters(), strict=True):
                    slow.copy_(0.999 * slow + 0.001 * fast)
    for one, other in zip(head.seen, seen, strict=True):
        torch.testing.assert_close(one, other)
    assert not torch.allclose(seen[-1][0], seen[-1][1], atol=0.1)
    for name, value in twin.state_dict().items():
        torch.testing.assert_close(look.backbone.state_dict()[name], value)
    assert all("teacher" not in name for name in look.state_dict())
    assert MOMENTUM == 0.999


def test_without_a_teacher_both_views_go_one_way(recipe):
    look, head = trunk(), Pairs()
    before = copy.deepcopy(look)
    train(look, head, Views(), recipe(epochs=1, lr=0.1), seed=0)
    images, _ = next(Views().epoch(0))
    torch.testing.assert_close(head.seen[0], before.train()(images).detach())


def test_no_gradient_and_no_running_statistics_cross_over():
    look = trunk()
    taught = Taught(look).train()
    images = torch.randn(2, 6, 5, 1, 1, generator=torch.Generator().manual_seed(0))
    images.requires_grad_()
    views = taught(images)
    assert views.shape == (2, 6, WIDTH)
    views.sum().backward()
    assert not images.grad[1].any()
    assert all(p.grad is None for p in taught.teacher.parameters())
    alone = trunk().train()
    alone(images[0].detach())
    torch.testing.assert_close(look.backbone.norm.running_mean, alone.backbone.norm.running_mean)
    theirs = taught.teacher.backbone.norm.running_mean
    assert not torch.allclose(look.backbone.norm.running_mean, theirs)


def test_three_views_of_which_the_last_is_the_teachers():
    look = trunk()
    taught = Taught(look).eval()
    with torch.no_grad():
        taught.teacher.backbone.weight.zero_()
    images = torch.randn(3, 6, 5, 1, 1, generator=torch.Generator().manual_seed(0))
    views = taught(images).detach()
    for k in range(2):
        torch.testing.assert_close(views[k], look(images[k]).detach())
    assert not views[2].any() and views[:2].any()


PIPES = {
    "paco": (("paco", {"queue": 256}),),
    "ride": (("ride", {"deferred": 0.5}),),
    "dro_lt": ("psc", ">>", "dro_lt"),
}


@pytest.fixture
def specimens(cell):
    """Give a function (name, backbone): its cell of 2 epochs of 3 steps, 503 digits."""

    def build(name, backbone="small_cnn", **changes):
        own = cell(*PIPES[name], batch=200, precision=changes.pop("precision", "float32"))
        options = {"channels": 4} if backbone != "small_cnn" else {"channels": 5}
        return replace(own, backbone=freeze({"name": backbone, **options, **changes}))

    return build


def without_time(rows):
    return [{k: v for k, v in row.items() if k != "time"} for row in rows]


def stopping_after(count):
    steps = []
    return Ear(pulse=lambda step, _: steps.append(step), stop=lambda: len(steps) == count)


@pytest.mark.parametrize("at", [2, 3, 4])
@pytest.mark.parametrize("name", PIPES)
def test_stopped_and_gone_on_with_to_the_same_bits(specimens, place, tmp_path, name, at):
    """Within the first epoch, at its end, and within the second."""
    own = specimens(name)
    whole = replace(place, runs=tmp_path / "whole")
    for each in (whole, place):
        if own.trunk:
            run(own.trunk, each)
    assert run(own, whole) == "done"
    with pytest.raises(Stopped):
        run(own, place, stopping_after(at))
    folder = Record(place.runs / own.key).folder
    kept = checkpoint.read(folder, checkpoint_owner(folder))
    assert any(key.startswith("teacher.") for key in kept.tensors) == (name == "paco")
    assert run(own, place) == "done"
    one, other = Record(place.runs / own.key), Record(whole.runs / own.key)
    for found, want in ((one.weights(), other.weights()), (one.arrays(), other.arrays())):
        assert found.keys() == want.keys()
        assert [key for key in want if not np.array_equal(found[key], want[key])] == []
    rows, wanted = without_time(one.curves()), without_time(other.curves())
    assert rows == wanted and len(rows) == 2
    assert one.result()["readings"] == other.result()["readings"]


def checkpoint_owner(folder):
    newest = checkpoint._paths(folder)[-1]
    return json.loads(newest.read_bytes().partition(b"\n")[0])["key"]


def test_a_teacher_left_out_of_a_checkpoint_would_show(specimens, place, tmp_path, monkeypatch):
    """Its keys wait in the queue, so that the last bits tell whether it came back."""
    own = specimens("paco")
    whole = replace(place, runs=tmp_path / "whole")
    run(own, whole)
    with pytest.raises(Stopped):
        run(own, place, stopping_after(3))
    read = checkpoint.read

    def forgetful(*asked):
        found = read(*asked)
        if found is None:
            return None
        look = {k: v for k, v in found.tensors.items() if k.startswith("look.")}
        young = {f"teacher.{k.removeprefix('look.')}": v for k, v in look.items()}
        return checkpoint.Checkpoint({**found.tensors, **young}, found.note)

    monkeypatch.setattr(checkpoint, "read", forgetful)
    run(own, place)
    keys = [Record(each.runs / own.key).weights()["heads.0.keys"] for each in (place, whole)]
    assert not np.array_equal(*keys)


@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize("name", PIPES)
def test_resnet8_and_what_is_written(specimens, place, name, precision):
    own = specimens(name, "resnet8", precision=precision)
    if own.trunk:
        run(own.trunk, place)
    assert run(own, place) == "done"
    record = Record(place.runs / own.key)
    result = record.result()
    assert all(np.isfinite(row["loss"]) for row in record.curves())
    assert result["size"]["width"] == 16 and result["size"]["dim"] == (48 if name == "ride" else 16)
    assert record.arrays()["class_vectors"].shape == (10, result["size"]["dim"])
    weights = record.weights()
    assert not any("teacher" in key for key in weights)
    trained = sum(v.size for k, v in weights.items() if k.startswith("backbone.") and v.ndim == 4)
    assert result["size"]["parameters"] > trained
    loaded = benchmark.load(own.key, place.runs)
    images = torch.zeros(2, 1, 8, 8, dtype=torch.uint8)
    assert loaded(images).shape == (2, 10)
    if name == "ride":
        assert loaded.backbone(images.float()).shape == (2, 3, 16)


def test_the_teacher_is_not_counted(specimens, place):
    """A cell's parameters are what it predicts with: queries' projection, no copies."""
    own = specimens("paco")
    run(own, place)
    # the small CNN by hand, 10 x 10 classifier, projection 10 -> 10 -> 32 with batch norm
    backbone, classifier = 45 + 450 + 900 + 50, 110
    assert Record(place.runs / own.key).result()["size"]["parameters"] == (
        backbone + classifier + 110 + 20 + 10 * 32 + 32
    )


def test_experts_are_shared_by_all_that_stand_on_them(cell, place):
    own = cell("ride", ">", "ncm", epochs=1)
    run(own.trunk, place)
    assert run(own, place) == "done"
    below, above = (Record(place.runs / key).weights() for key in (own.trunk.key, own.key))
    assert all(np.array_equal(value, above[name]) for name, value in below.items())
    assert above["heads.1.centroids"].shape == (10, 30)
    assert benchmark.load(own.key, place.runs)(torch.zeros(2, 1, 8, 8)).shape == (2, 10)


def test_dro_lt_starts_from_psc_and_leaves_its_classifier(specimens, place):
    own = specimens("dro_lt")
    run(own.trunk, place)
    run(own, place)
    before, after = (Record(place.runs / key).weights() for key in (own.trunk.key, own.key))
    assert np.array_equal(before["heads.0.classifier.weight"], after["heads.1.weight"])
    assert np.array_equal(before["heads.0.classifier.bias"], after["heads.1.bias"])
    assert not np.array_equal(before["backbone.layers.0.weight"], after["backbone.layers.0.weight"])
    assert (after["heads.1.epsilon"] != 1).any() and np.abs(after["heads.1.centroids"]).sum() > 0


def test_the_heads_ask_for_what_is_tested_here():
    needs = {name: HEADS[name].needs() for name in PIPES}
    assert needs["paco"].teacher and needs["paco"].views == 2
    assert needs["ride"].experts == 3 and needs["dro_lt"].sweep
