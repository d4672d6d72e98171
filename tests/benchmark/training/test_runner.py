"""One cell from start to finish, on the handwritten digits."""

import inspect
import json
import math
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import benchmark
from benchmark.planning.cell import freeze
from benchmark.planning.plan import Registry, complete
from benchmark.records.record import Busy, Record, digest
from benchmark.training import checkpoint, runner
from benchmark.training.registry import registry
from benchmark.training.runner import Ear, run
from benchmark.training.train import Stopped
from datasets.loader import passes
from heads import HEADS
from heads.base import Head, Needs
from heads.psc import PSC


def same(one, other):
    assert one.keys() == other.keys()
    assert [name for name in one if not np.array_equal(one[name], other[name])] == []
    return True


def without_time(rows):
    return [{k: v for k, v in row.items() if k != "time"} for row in rows]


def stopping_after(count):
    """An Ear that stops after so many steps."""
    steps = []
    return Ear(pulse=lambda step, _: steps.append(step), stop=lambda: len(steps) == count)


def test_a_whole_cell(cell, place):
    own = cell("psc", epochs=8, batch=16, ratio=2.0, oracle=3, flip=True)
    rows = []
    assert run(own, place, Ear(epoch=rows.append)) == "done"
    record = Record(place.runs / own.key)
    assert record.cell() == own
    result = record.result()
    assert result["state"] == "done"
    numbers = result["metrics"]
    assert 0.6 < numbers["accuracy"] <= 1  # ten classes: it has learned
    assert numbers["accuracy"] <= numbers["top5"]
    assert {"many", "medium", "few", "ece", "nc1", "nc2", "nc3", "nc4", "train_accuracy"} < set(
        numbers
    )
    arrays = record.arrays()
    assert arrays["confusion"].sum() == 500
    assert arrays["per_class"].mean() == pytest.approx(numbers["accuracy"])  # 50 of each class
    by_group = [arrays["per_class"][i] for i, g in enumerate(result["groups"]) if g == "many"]
    assert np.mean(by_group) == pytest.approx(numbers["many"])
    assert np.array_equal(arrays["class_vectors"], record.weights()["heads.0.classifier.weight"])

    curves = record.curves()
    assert curves == [dict(row) for row in rows]
    assert [row["epoch"] for row in curves] == list(range(1, 9))
    assert curves[-1]["loss"] < curves[0]["loss"]
    tested = {row["epoch"]: row["oracle"] for row in curves if "oracle" in row}
    assert list(tested) == [3, 6, 8]  # every third, and the last
    assert tested[8] == numbers["accuracy"] and numbers["oracle"] == max(tested.values())
    assert "validation" not in curves[0] and "validation" not in numbers

    images = sum(result["counts"])
    assert result["seen"] == 8 * images and result["size"]["train_images"] == images
    assert result["counts"][0] == 124 and result["counts"][-1] == 62
    assert result["cost"]["seconds"] > 0 and result["cost"]["threads"] == 1
    assert result["digests"]["images"] == runner.material(own.data, place.data_root).digest
    assert result["digests"]["heads"] == {"psc": place.registry.digests["psc"]}
    assert result["names"][:2] == ["zero", "one"]
    # convolutions 9·1·5, 9·5·10, 9·10·10, batch norm 2·(5 + 10 + 10), classifier 10·10 + 10
    assert result["size"]["parameters"] == 45 + 450 + 900 + 50 + 110
    # two per multiply-add: at 8 x 8, 4 x 4 and 4 x 4 positions, and the classifier
    assert result["size"]["flops"] == 2 * (45 * 64 + 450 * 16 + 900 * 16 + 100)
    assert [result["size"][name] for name in ("width", "dim", "classes")] == [10, 10, 10]
    names = {path.name for path in record.folder.iterdir()}
    assert not any(name.startswith("checkpoint") or name.endswith(".tmp") for name in names)
    claim = json.loads((record.folder / "claim.json").read_text())
    assert claim["device"] == "cpu" and claim["threads"] == 1


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_load_gives_the_recorded_accuracy(cell, place, precision):
    own = cell("dl2pa", precision=precision)
    run(own, place)
    found = benchmark.load(own.key[:7], place.runs)
    assert not found.training and found.cell == own
    assert all(value.device.type == "cpu" for value in found.state_dict().values())
    split = runner.material(own.data, place.data_root).test
    with torch.no_grad():
        predicted = torch.cat([found(images) for images in split.images.split(500)]).argmax(1)
    right = float((predicted == split.labels).double().mean())
    record = Record(place.runs / own.key)
    assert right == record.result()["metrics"]["accuracy"] == found.result["metrics"]["accuracy"]
    table = np.zeros((10, 10), dtype=int)
    for label, guess in zip(split.labels, predicted, strict=True):
        table[label, guess] += 1
    assert np.array_equal(table, record.arrays()["confusion"])


def test_loaded_images_may_be_bytes_or_normalised(cell, place):
    own = cell("psc", ">", "ncm")
    run(own.trunk, place)
    run(own, place)
    found = benchmark.load(own.key, place.runs)
    material = runner.material(own.data, place.data_root)
    normalised, _ = next(passes(material.test, batch=20, mean=material.mean, std=material.std))
    assert torch.equal(found(material.test.images[:20]), found(normalised))
    features = found.features(normalised)
    assert features.shape == (20, 10)
    centroids = found.heads[-1].centroids
    nearest = torch.cdist(features, centroids).argmin(1)
    assert torch.equal(found(normalised).argmax(1), nearest)


def test_load_refuses(cell, place):
    one, other = cell("psc", epochs=1), cell("psc", epochs=1, seed=1)
    for own in (one, other):
        run(own, place)
    with pytest.raises(ValueError, match="2 finished cells under .* begins with ''"):
        benchmark.load("", place.runs)
    with pytest.raises(ValueError, match="0 finished cells"):
        benchmark.load("nowhere", place.runs)
    Record(place.runs / other.key).clear()
    with pytest.raises(ValueError, match="0 finished cells"):
        benchmark.load(other.key, place.runs)
    with pytest.raises(ValueError, match="python -m benchmark plan"):
        benchmark.load("", place.runs)  # one finished cell, but no key was given


def test_a_finished_cell_is_not_trained_again(cell, place):
    own = cell("psc", epochs=1)
    run(own, place)
    before = (place.runs / own.key / "result.json").read_bytes()
    beats = []
    assert run(own, place, Ear(pulse=lambda step, steps: beats.append(step))) == "done"
    assert beats == [] and (place.runs / own.key / "result.json").read_bytes() == before


def test_the_same_cell_twice_the_same_bits(cell, place, tmp_path):
    own = cell("dl2pa", mixup=1.0)
    elsewhere = replace(place, runs=tmp_path / "other")
    for each in (place, elsewhere):
        torch.manual_seed(len(str(each.runs)))  # of no account
        run(own, each)
    one, other = Record(place.runs / own.key), Record(elsewhere.runs / own.key)
    assert same(one.weights(), other.weights()) and same(one.arrays(), other.arrays())
    assert without_time(one.curves()) == without_time(other.curves())
    assert one.result()["metrics"] == pytest.approx(other.result()["metrics"], abs=0, nan_ok=True)
    third = cell("dl2pa", mixup=1.0, seed=1)
    run(third, place)
    theirs = Record(place.runs / third.key).weights()
    assert not np.array_equal(
        one.weights()["backbone.layers.0.weight"], theirs["backbone.layers.0.weight"]
    )


def test_a_frozen_trunk_is_that_of_the_cell_before(cell, place):
    own = cell("psc", ">", "ncm")
    trunk = own.trunk
    run(trunk, place)
    assert run(own, place) == "done"
    below, above = Record(place.runs / trunk.key), Record(place.runs / own.key)
    kept = below.weights()
    ours = above.weights()
    assert same(kept, {name: ours[name] for name in kept})
    result = above.result()
    assert result["trunk"] == trunk.key
    assert set(result["digests"]["heads"]) == {"psc", "ncm"}
    assert result["seen"] == 0 and above.curves() == [] and result["cost"]["seconds"] == 0
    # the centroids by hand: features of the loaded trunk over all training images
    material = runner.material(own.data, place.data_root)
    loaded = benchmark.load(trunk.key, place.runs)
    with torch.no_grad():
        features = loaded.features(material.train.images)
    for k in range(10):
        want = features[material.train.labels == k].mean(0)
        torch.testing.assert_close(torch.from_numpy(ours["heads.1.centroids"][k]), want)


def test_an_open_trunk_starts_from_the_cell_before_and_moves(cell, place):
    own = cell("psc", ">>", "psc", lr=1e-6, momentum=0.0, weight_decay=0.0)
    run(own.trunk, place)
    run(own, place)
    before = Record(place.runs / own.trunk.key).weights()
    after = Record(place.runs / own.key).weights()
    moved = {name for name in before if not np.array_equal(before[name], after[name])}
    assert {"backbone.layers.0.weight", "backbone.layers.1.running_mean"} <= moved
    # at this rate nothing goes far: it went on from there
    name = "backbone.layers.0.weight"
    assert np.abs(before[name] - after[name]).max() < 1e-4
    assert not any(name.startswith("heads.0") for name in moved)  # it only embeds, and is identity
    assert "heads.1.classifier.weight" in after


def test_a_head_on_a_frozen_trunk_is_trained_alone(cell, place):
    own = cell("etf", ">", "psc")
    run(own.trunk, place)
    run(own, place)
    before = Record(place.runs / own.trunk.key).weights()
    after = Record(place.runs / own.key).weights()
    assert same(before, {name: after[name] for name in before})
    assert len(Record(place.runs / own.key).curves()) == 2


def test_statistics_of_a_frozen_trunk_move_where_the_recipe_says_so(cell, place):
    own = cell("psc", ">", "etf")
    run(own.trunk, place)
    below = Record(place.runs / own.trunk.key).weights()
    moved = {}
    for policy in ("frozen", "released"):
        last = dict(own.stages[1].recipe) | ({} if policy == "frozen" else {"batch_norm": policy})
        each = replace(own, stages=(own.stages[0], replace(own.stages[1], recipe=freeze(last))))
        run(each, place)
        above = Record(place.runs / each.key).weights()
        moved[policy] = {
            name.rpartition(".")[2]
            for name in below
            if name.startswith("backbone.") and not np.array_equal(below[name], above[name])
        }
    assert moved["frozen"] == set()
    assert moved["released"] == {"running_mean", "running_var", "num_batches_tracked"}


def test_a_released_pair_stands_on_a_trunk_with_other_images(cell, place):
    """The first stage on the first images of each class, the second on the canonical ones."""
    plain = cell("psc", ">", "ncm", data={"subset": "released_pair"})
    first = cell("psc", data={"subset": "first"})
    assert plain.trunk == first
    run(plain.trunk, place)
    run(plain, place)
    jobs = [runner._Job(each, place, Record(place.runs / each.key)) for each in (first, plain)]
    canonical = runner.material(cell("psc").data, place.data_root)
    found = runner.material(first.data, place.data_root)
    assert torch.equal(jobs[0].material.train.images, found.train.images)
    assert torch.equal(jobs[1].material.train.images, canonical.train.images)
    assert not torch.equal(found.train.images, canonical.train.images)
    assert found.counts == canonical.counts and found.digest == canonical.digest
    below = Record(place.runs / first.key).weights()
    above = Record(place.runs / plain.key).weights()
    assert all(np.array_equal(below[n], above[n]) for n in below if n.startswith("backbone."))
    # the centroids by hand: features of the loaded trunk over the canonical images
    loaded = benchmark.load(first.key, place.runs)
    with torch.no_grad():
        features = loaded.features(canonical.train.images)
    means = torch.stack([features[canonical.train.labels == k].mean(dim=0) for k in range(10)])
    centroids = torch.from_numpy(Record(place.runs / plain.key).arrays()["class_vectors"])
    torch.testing.assert_close(centroids, means, atol=1e-5, rtol=1e-5)


def test_samplers_reach_the_batches(cell, place):
    own = cell(
        "psc", epochs=1, batch=16, sampler="class_balanced", epoch_images="largest", cutout=2
    )
    assert run(own, place) == "done"
    result = Record(place.runs / own.key).result()
    assert result["seen"] == 10 * 124 and result["size"]["steps"] == math.ceil(1240 / 16)
    job = runner._Job(own, place, Record(place.runs / own.key))
    shown = job.batches(job.protocol)
    assert shown.cutout == 2 and shown.sampler.kind == "class_balanced"
    labels = torch.cat([labels for _, labels in shown.epoch(0)])
    assert torch.equal(labels[:1240].reshape(-1, 4), labels[:1240:4, None].expand(-1, 4))


@pytest.mark.parametrize("changes", [{"sampler": "class_balanced"}, {"policy": "auto_cifar10"}])
def test_stopped_within_an_epoch_of_a_sampler(cell, place, tmp_path, changes):
    own = cell("psc", epochs=2, batch=100, **changes)
    whole = replace(place, runs=tmp_path / "whole")
    run(own, whole)
    with pytest.raises(Stopped):
        run(own, place, stopping_after(5))
    run(own, place)
    same(Record(whole.runs / own.key).weights(), Record(place.runs / own.key).weights())


def test_stages_have_their_own_randomness(cell, place):
    own = cell("psc", ">", "psc")
    run(own.trunk, place)
    job = runner._Job(own, place, Record(place.runs / own.key))
    assert job.stage == 1
    first = runner._Job(own.trunk, place, Record(place.runs / own.trunk.key))
    labels = [next(each.batches(runner.protocol(own)).epoch(0))[1] for each in (first, job)]
    assert not torch.equal(*labels)
    assert not torch.equal(first.head.classifier.weight, job.head.classifier.weight)


def test_mixup_has_the_address_of_its_cell_and_stage(cell, place, monkeypatch):
    asked = []

    def mix(images, labels, recipe, seed, where):
        asked.append((recipe.mixup, seed, where))
        return images, labels, lambda head, embedding: head.loss(embedding, labels)

    monkeypatch.setattr("benchmark.training.train.mix", mix)
    own = cell("psc", ">>", "psc", seed=5, mixup=0.5, epochs=1)
    run(own.trunk, place)
    run(own, place)
    steps = len(asked) // 2
    want = [(0.5, 5, (stage, 0, step)) for stage in (0, 1) for step in range(steps)]
    assert asked == want


def test_a_trunk_that_is_missing_or_diverged(cell, place):
    own = cell("psc", ">", "ncm", lr=1e6, schedule="constant")
    with pytest.raises(ValueError, match="is not finished: run its suite first"):
        run(own, place)
    assert run(own.trunk, place) == "diverged"
    with pytest.raises(ValueError, match=f"its trunk {own.trunk.key} diverged"):
        run(own, place)
    assert Record(place.runs / own.key).result() is None


def test_a_diverged_cell_is_recorded_with_its_step(cell, place):
    own = cell("psc", lr=1e6, epochs=20, schedule="constant")
    beats = []
    assert run(own, place, Ear(pulse=lambda step, steps: beats.append(step))) == "diverged"
    record = Record(place.runs / own.key)
    result = record.result()
    assert result["state"] == "diverged" and result["metrics"] == {}
    assert result["diverged_step"] == len(beats)  # 0-based: so many were well
    assert record.arrays() == {} and record.weights() == {}
    assert result["digests"]["heads"] == {"psc": place.registry.digests["psc"]}
    assert run(own, place) == "diverged"  # not tried again
    with pytest.raises(ValueError, match="diverged: there are no weights"):
        benchmark.load(own.key, place.runs)


def test_another_process_has_it(cell, place):
    own = cell("psc", epochs=1)
    folder = place.runs / own.key
    holding = (
        "import sys; from pathlib import Path; from benchmark.records.record import Record\n"
        f"with Record(Path({str(folder)!r})).claim({{}}):\n"
        "    print('held', flush=True); sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", holding]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(Busy):
            run(own, place)
        assert not (folder / "cell.json").exists()
        other.kill()  # however it ends, the kernel frees the claim
    assert run(own, place) == "done"


def test_the_claim_is_given_back_after_an_error(cell, place, monkeypatch):
    def broken(*values, **options):
        raise OSError("no space")

    own = cell("psc", epochs=1)
    with monkeypatch.context() as patch:
        patch.setattr(runner, "judge", broken)
        with pytest.raises(OSError, match="no space"):
            run(own, place)
    assert Record(place.runs / own.key).result() is None
    assert run(own, place) == "done"


@pytest.mark.parametrize("at", [1, 7, 8])
def test_stopped_and_gone_on_with(cell, place, tmp_path, at):
    """In the middle of an epoch (8 steps each), at its last step, and at the first of the next."""
    own = cell("dl2pa", mixup=1.0, epochs=3, ratio=5.0, data={"validation": 0.2})
    whole = replace(place, runs=tmp_path / "whole")
    run(own, whole)
    with pytest.raises(Stopped):
        run(own, place, stopping_after(at))
    record = Record(place.runs / own.key)
    assert record.result() is None
    assert checkpoint._paths(record.folder)
    beats = []
    assert run(own, place, Ear(pulse=lambda step, steps: beats.append((step, steps)))) == "done"
    assert beats[0] == (at + 1, 24) and beats[-1] == (24, 24)
    other = Record(whole.runs / own.key)
    assert same(record.weights(), other.weights()) and same(record.arrays(), other.arrays())
    assert without_time(record.curves()) == without_time(other.curves())
    ours, theirs = record.result(), other.result()
    assert ours["metrics"] == pytest.approx(theirs["metrics"], abs=0, rel=0, nan_ok=True)
    assert ours["readings"] == theirs["readings"] and ours["seen"] == theirs["seen"]
    assert checkpoint._paths(record.folder) == []  # finished: no longer needed


def test_stopped_after_the_very_last_step(cell, place, tmp_path):
    own = cell("psc", epochs=1, data={"validation": 0.2})
    whole = replace(place, runs=tmp_path / "whole")
    beats = []
    run(own, whole, Ear(pulse=lambda step, steps: beats.append(step)))
    with pytest.raises(Stopped):
        run(own, place, stopping_after(len(beats)))
    assert run(own, place) == "done"
    one, other = Record(place.runs / own.key), Record(whole.runs / own.key)
    assert same(one.weights(), other.weights())
    assert without_time(one.curves()) == without_time(other.curves()) != []
    assert one.result()["metrics"]["validation"] == other.result()["metrics"]["validation"]


def test_a_stopped_stage_is_not_prepared_again(cell, place, tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(PSC, "prepare", lambda *values: calls.append(len(values[2])))
    own = cell("etf", ">>", "psc", mixup=0.5)
    whole = replace(place, runs=tmp_path / "whole")
    for each in (whole, place):
        run(own.trunk, each)
    run(own, whole)
    with pytest.raises(Stopped):
        run(own, place, stopping_after(3))
    assert calls == [503, 503]  # all training images, once in either place
    run(own, place)
    assert calls == [503, 503]
    one, other = Record(place.runs / own.key), Record(whole.runs / own.key)
    assert same(one.weights(), other.weights())


def test_a_checkpoint_from_before_a_change_of_the_head_is_not_gone_on_with(cell, place):
    own = cell("psc", epochs=1)
    with pytest.raises(Stopped):
        run(own, place, stopping_after(2))
    digests = {**place.registry.digests, "psc": "0" * 64}
    changed = replace(place, registry=replace(place.registry, digests=digests))
    beats = []
    run(own, changed, Ear(pulse=lambda step, steps: beats.append(step)))
    assert beats[0] == 1
    assert Record(place.runs / own.key).result()["digests"]["heads"]["psc"] == "0" * 64


class Watched:
    """A test split that may not be looked at while the door is shut."""

    def __init__(self, split, door):
        self._split, self._door = split, door

    def __getattr__(self, name):
        assert self._door["open"], f"test {name} used in training"
        return getattr(self._split, name)

    def __len__(self):
        return len(self.labels)


@pytest.mark.parametrize("pipe", [("psc",), ("dl2pa",), ("psc", ">", "ncm"), ("psc", ">>", "etf")])
@pytest.mark.parametrize("oracle", [0, 1])
def test_test_images_are_not_touched_in_training(cell, place, monkeypatch, pipe, oracle):
    own = cell(*pipe, epochs=1, oracle=oracle)
    if own.trunk:
        run(own.trunk, place)
    door = {"open": False}
    original, judged = runner.material, runner.judge

    def material(data, root):
        found = original(data, root)
        return replace(found, test=Watched(found.test, door))

    def judge(*values, **options):
        door["open"] = True
        return judged(*values, **options)

    monkeypatch.setattr(runner, "material", material)
    monkeypatch.setattr(runner, "judge", judge)
    trains = own.stages[-1].recipe
    if oracle and trains:  # the guard can see
        with pytest.raises(AssertionError, match="used in training"):
            run(own, place)
    else:
        assert run(own, place) == "done"
        assert door["open"]


def batches(cell, place, epochs=2):
    job = runner._Job(cell, place, Record(place.runs / cell.key))
    found = []
    for epoch in range(epochs):
        found += list(job.batches(runner.protocol(cell)).epoch(epoch))
    return job, found


def equal(one, other):
    return all(
        torch.equal(a, b)
        for x, y in zip(one, other, strict=True)
        for a, b in zip(x, y, strict=True)
    )


def test_two_heads_at_one_seed_see_the_same(cell, place):
    made = [batches(cell(head), place) for head in ("psc", "etf", "dl2pa")]
    jobs, seen = zip(*made, strict=True)
    for job, each in zip(jobs[1:], seen[1:], strict=True):
        assert equal(seen[0], each)
        for name, value in jobs[0].look.state_dict().items():
            assert torch.equal(value, job.look.state_dict()[name])
    job, other = batches(cell("psc", seed=1), place)
    assert not equal(seen[0], other)
    assert not torch.equal(
        job.look.backbone.layers[0].weight, jobs[0].look.backbone.layers[0].weight
    )


def test_each_entry_of_a_seed_record_moves_its_own_stream(cell, place):
    base = {"backbone": 5, "head": 5, "order": 5, "augment": 5}
    job, seen = batches(cell("psc", seed=5), place)
    for name in (None, *base):
        record = freeze({**base, **({name: 6} if name else {})})
        other_job, other = batches(cell("psc", seed=record), place)
        labels = [[pair[1:] for pair in each] for each in (seen, other)]
        found = {
            "backbone": not torch.equal(
                job.look.backbone.layers[0].weight, other_job.look.backbone.layers[0].weight
            ),
            "head": not torch.equal(job.head.classifier.weight, other_job.head.classifier.weight),
            "order": not equal(*labels),
        }
        assert found == {each: each == name for each in found}, name
        if name not in ("order", "augment"):
            assert equal(seen, other)
        if name == "augment":
            assert not equal(seen, other)


class Sweeping(Head):
    """Asks for all training features every epoch, and keeps a word of what it got."""

    seen: list = []  # noqa: RUF012

    def __init__(self, problem):
        super().__init__()
        self.dim = problem.width
        self.inner = PSC(problem)

    @classmethod
    def needs(cls):
        return Needs(sweep=True)

    def score(self, embedding):
        return self.inner.score(embedding)

    def loss(self, embedding, labels):
        return self.inner.loss(embedding, labels)

    def begin_epoch(self, clock, sweep=None):
        self.seen.append((clock.epoch, sweep))


@pytest.fixture
def sweeping(place, monkeypatch):
    monkeypatch.setattr(Sweeping, "seen", [])
    table = Registry({**HEADS, "sweeping": Sweeping}, {**registry().digests, "sweeping": "1"}, {})
    return replace(place, registry=table)


def test_a_sweep_is_all_training_images_in_evaluation_mode(cell, sweeping):
    own = cell("sweeping", epochs=2)
    run(own, sweeping)
    material = runner.material(own.data, sweeping.data_root)
    assert [epoch for epoch, _ in Sweeping.seen] == [0, 1]
    job = runner._Job(own, sweeping, Record(sweeping.runs / own.key))
    job.look.eval()
    first = Sweeping.seen[0][1]
    assert torch.equal(first.labels, material.train.labels)
    batches = passes(material.train, batch=500, mean=material.mean, std=material.std)
    with torch.no_grad():
        # the initial backbone: its statistics have not moved yet
        want = torch.cat([job.look(images) for images, _ in batches])
    assert torch.equal(first.features, want)
    assert not first.features.requires_grad


def test_a_sweep_comes_after_a_resume_too(cell, sweeping):
    own = cell("sweeping", epochs=3)
    with pytest.raises(Stopped):
        run(own, sweeping, stopping_after(2))
    assert [epoch for epoch, _ in Sweeping.seen] == [0]
    run(own, sweeping)
    assert [epoch for epoch, _ in Sweeping.seen] == [0, 1, 2]
    assert all(len(sweep.labels) == len(sweep.features) > 300 for _, sweep in Sweeping.seen)


def test_dl2pas_assignment_and_readings_are_kept(cell, place):
    own = cell(("dl2pa", {"dim": 3, "momentum": 0.5}), epochs=3)
    run(own, place)
    record = Record(place.runs / own.key)
    arrays = record.arrays()
    assert sorted(arrays["head.assignment"].tolist()) == list(range(10))
    assert np.array_equal(arrays["head.assignment"], record.weights()["heads.0.assignment"])
    prototypes = record.weights()["heads.0.prototypes"]
    assert np.array_equal(arrays["class_vectors"], prototypes[arrays["head.assignment"]])
    # in three dimensions the test embeddings are kept, to be drawn
    assert arrays["embedding"].shape == (500, 3) and arrays["labels"].shape == (500,)
    assert np.linalg.norm(arrays["embedding"], axis=1) == pytest.approx(np.ones(500), abs=1e-5)
    agree = (arrays["embedding"] @ arrays["class_vectors"].T).argmax(1) == arrays["labels"]
    assert agree.mean() == pytest.approx(record.result()["metrics"]["accuracy"])
    readings = record.result()["readings"]
    steps = [reading["step"] for reading in readings]
    assert steps == list(range(len(steps)))
    assert {"step", "moved", "moves", "agreement"} == set(readings[0])
    assert readings[-1]["moves"] > 0


def test_a_validation_carve_is_looked_at_each_epoch(cell, place):
    own = cell("psc", data={"validation": 0.2})
    run(own, place)
    record = Record(place.runs / own.key)
    curve = [row["validation"] for row in record.curves()]
    assert len(curve) == 2 and all(0 <= value <= 1 for value in curve)
    assert record.result()["metrics"]["validation"] == curve[-1]
    loaded = benchmark.load(own.key, place.runs)
    split = runner.material(own.data, place.data_root).validation
    with torch.no_grad():
        right = (loaded(split.images).argmax(1) == split.labels).double().mean()
    assert float(right) == curve[-1]


def test_a_cell_with_a_carve_never_sees_test(cell, place, monkeypatch):
    looked = []
    passes = runner._Job.passes

    def watched(job, split, *most):
        looked.append(split)
        return passes(job, split, *most)

    monkeypatch.setattr(runner._Job, "passes", watched)
    own = cell("psc", data={"validation": 0.2}, oracle=1)
    run(own, place)
    assert set(looked) == {"train", "validation"}
    numbers = Record(place.runs / own.key).result()["metrics"]
    assert "accuracy" not in numbers and "oracle" not in numbers and "few" in numbers
    looked.clear()
    run(cell("psc", oracle=1), place)
    assert set(looked) == {"train", "test"}


def test_a_head_starts_from_the_class_vectors_of_its_source(cell, place):
    written = cell(("dl2pa", {"dim": 8, "prototypes": "psc", "start": "identity"}))
    data = freeze({**dict(written.data), "largest": 50})
    own = complete(replace(written, data=data), place.registry, lambda name: 124)
    assert own.source.method == "psc dim=8"
    with pytest.raises(ValueError, match="starts from the class vectors of .* Train that cell"):
        run(own, place)
    run(own.source, place)
    assert run(own, place) == "done"
    vectors = Record(place.runs / own.source.key).arrays()["class_vectors"]
    record = Record(place.runs / own.key)
    assert (record.arrays()["source.0"] == vectors).all()
    placed = record.weights()["heads.0.prototypes"]
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    np.testing.assert_allclose(placed, vectors / lengths, rtol=1e-5, atol=1e-6)
    assert set(record.result()["digests"]["heads"]) == {"dl2pa", "psc"}
    shutil.rmtree(place.runs / own.source.key)  # a finished cell is whole without it
    assert benchmark.load(own.key, place.runs)


def test_word_vectors_reach_the_head_and_the_record(cell, place, tmp_path):
    file = tmp_path / "vectors.npy"
    vectors = np.random.default_rng(0).normal(size=(10, 12)).astype("float32")
    np.save(file, vectors)
    own = cell(("word2vec", {"dim": 6}))
    with pytest.raises(ValueError, match="word"):
        run(own, place)
    given = replace(place, words={"": tmp_path / "other.npy", "digits": file})
    assert run(own, given) == "done"
    record = Record(place.runs / own.key)
    assert (record.arrays()["words"] == vectors).all()
    assert record.result()["digests"]["words"] == digest(vectors.tobytes())
    assert benchmark.load(own.key, place.runs)
    assert run(cell("psc"), given) == "done"
    plain = Record(place.runs / cell("psc").key)
    assert plain.result()["digests"]["words"] is None and "words" not in plain.arrays()


def test_where_the_labels_were_after_each_epoch_is_kept(cell, place):
    own = cell(("dl2pa", {"dim": 3, "momentum": 0.5}), epochs=4)
    run(own, place)
    arrays = Record(place.runs / own.key).arrays()
    assert arrays["epochs"].tolist() == [0, 1, 2, 3, 4]
    film = arrays["epochs.head.assignment"]
    assert film.shape == (5, 10) and film.dtype == np.int32
    assert all(sorted(row) == list(range(10)) for row in film.tolist())
    assert np.array_equal(film[-1], arrays["head.assignment"]) and (film[0] != film[-1]).any()
    for still in (cell(("dl2pa", {"assignment": "fixed"})), cell("psc")):
        run(still, place)
        assert "epochs" not in Record(place.runs / still.key).arrays()


def test_snapshots_are_thinned_evenly(cell, place, monkeypatch):
    monkeypatch.setattr(runner, "SNAPSHOTS", 2)
    own = cell(("dl2pa", {"dim": 3, "momentum": 0.5}), epochs=5)
    run(own, place)
    assert Record(place.runs / own.key).arrays()["epochs"].tolist() == [0, 3, 5]


def test_collapse_is_followed_along_training(cell, place, monkeypatch):
    monkeypatch.setattr(runner, "FOLLOWED", 2)
    own = cell("psc", epochs=5)
    run(own, place)
    record = Record(place.runs / own.key)
    assert [row["epoch"] for row in record.curves() if "nc1" in row] == [3, 5]
    last = {name: record.curves()[-1][name] for name in ("nc1", "nc2", "nc3", "nc4")}
    whole = record.result()["metrics"]  # digits are few: at the end, all of them are seen
    assert last == pytest.approx({name: whole[name] for name in last})
    frozen = cell("psc", ">", "crt", epochs=5)
    run(frozen, place)
    assert not any("nc1" in row for row in Record(place.runs / frozen.key).curves())


def test_looking_at_collapse_moves_nothing(cell, place, tmp_path, monkeypatch):
    own = cell("dl2pa", epochs=3, mixup=0.5)
    run(own, place)
    monkeypatch.setattr(runner._Job, "collapse", lambda self: {})
    blind = replace(place, runs=tmp_path / "blind")
    run(own, blind)
    assert same(Record(place.runs / own.key).weights(), Record(blind.runs / own.key).weights())


def test_fair_takes_evenly_from_each_class():
    labels = torch.tensor([2, 0, 0, 0, 0, 0, 2, 1])
    assert runner.fair(labels, 2).tolist() == [0, 1, 4, 6, 7]
    assert runner.fair(labels, 9).tolist() == list(range(8))


def test_times_are_cost_and_no_findings(cell, place):
    own = cell("dl2pa", epochs=3)
    run(own, place)
    result = Record(place.runs / own.key).result()
    assert result["cost"]["assignment_seconds"] > 0
    assert not any(name.endswith("_seconds") for row in result["readings"] for name in row)


def test_collapse_of_many_images_is_taken_on_every_nth(cell, place):
    job = runner._Job(cell("psc"), place, Record(place.runs / "x"))
    labels = job.material.train.labels
    seen = torch.cat([own for _, own in job.passes("train", 100)()])
    step = math.ceil(len(labels) / 100)
    assert len(seen) <= 100 and torch.equal(seen, labels[::step])
    assert len(torch.cat([own for _, own in job.passes("train", len(labels))()])) == len(labels)


def test_an_untrained_cell_describes_its_head(cell, place):
    own = cell(("etf", {"dim": 9}), epochs=0)
    assert run(own, place) == "done"
    result = Record(place.runs / own.key).result()
    assert result["seen"] == 0 and result["size"]["steps"] == 0
    for name in ("cosine_max", "cosine_min", "cosine_mean"):
        assert result["metrics"][name] == pytest.approx(-1 / 9, abs=1e-6)


def test_constants_of_cifar10_where_the_recipe_says_so(cell, place):
    job = runner._Job(cell("psc"), place, Record(place.runs / "x"))
    assert job.constants == ((0.2881,), (0.3545,))
    job = runner._Job(cell("psc", normalise="cifar10"), place, Record(place.runs / "x"))
    assert job.constants == ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))


def test_a_pipe_in_which_nothing_is_trained(cell):
    with pytest.raises(ValueError, match="nothing in 'ncm' is trained"):
        runner.protocol(cell("ncm"))


def test_problem_of_a_stage(cell):
    own = cell("psc", ">", "ncm", seed=3)
    found = [runner.problem(own, stage, 8, (5, 3, 1), ("a", "b", "c")) for stage in (0, 1)]
    assert found[0].counts.tolist() == [5, 3, 1] and found[0].names == ("a", "b", "c")
    assert found[0].seed != found[1].seed and found[0].width == 8
    assert found[0].seed == runner.problem(own.trunk, 0, 8, (5, 3, 1), ()).seed
    assert found[0].points(2).shape == (3, 2)
    assert not math.isnan(float(found[0].points(2).sum()))


def test_a_cell_of_a_head_outside_the_tree_is_loaded_with_its_file(cell, place, tmp_path):
    file = tmp_path / "stranger.py"
    file.write_text(Path(inspect.getfile(PSC)).read_text(encoding="utf-8"), encoding="utf-8")
    own = cell("stranger", epochs=1)
    assert run(own, replace(place, registry=registry([file]))) == "done"
    assert benchmark.load(own.key, place.runs, [file]).cell == own
    with pytest.raises(ValueError, match="another source of head 'stranger'"):
        benchmark.load(own.key, place.runs)
