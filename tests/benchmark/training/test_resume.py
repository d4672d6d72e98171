"""Interrupted and gone on with: the same bits, or from the beginning with a word of warning."""

import errno
import json
import os
import random
import resource
import shutil
from dataclasses import replace

import pytest
import torch

from benchmark.records import claims, faults, lease
from benchmark.records.claims import Lost
from benchmark.records.record import Record
from benchmark.training import checkpoint, runner, train
from benchmark.training.runner import Ear, run
from benchmark.training.train import Stopped

MIXED = {"mixup": 1.0, "epochs": 2}


def identical(one: Record, other: Record) -> bool:
    """Everything measured, to the last bit; not what it cost."""
    for mine, theirs in ((one.weights(), other.weights()), (one.arrays(), other.arrays())):
        assert mine.keys() == theirs.keys()
        assert [n for n in mine if mine[n].tobytes() != theirs[n].tobytes()] == []
    rows = [[{**row, "time": 0} for row in each.curves()] for each in (one, other)]
    assert repr(rows[0]) == repr(rows[1])
    ours, theirs = one.result(), other.result()
    for name in ("state", "metrics", "readings", "seen", "size", "counts", "digests"):
        assert repr(ours[name]) == repr(theirs[name]), name
    return True


def until(step: int) -> Ear:
    """An Ear that stops after a step, counted from the beginning of the cell."""
    beats = []
    return Ear(pulse=lambda now, _: beats.append(now), stop=lambda: beats[-1] == step)


def listen() -> tuple[Ear, list[int], list[str]]:
    """An Ear, the steps that it hears of, and the warnings."""
    beats, said = [], []
    return Ear(pulse=lambda step, _: beats.append(step), warn=said.append), beats, said


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    return tmp_path_factory.mktemp("shelf")


@pytest.fixture
def begun(shelf, cell, place):
    """A cell of 16 steps, checkpoints after 8 and 11, that of 5 gone; its undisturbed record."""
    own = cell("dl2pa", **MIXED)
    whole, kept = shelf / "whole", shelf / "kept"
    if not kept.exists():
        run(own, replace(place, runs=whole))
        for step in (5, 11):
            with pytest.raises(Stopped):
                run(own, replace(place, runs=shelf / "making"), until(step))
        (shelf / "making").rename(kept)
    shutil.copytree(kept, place.runs)
    return own, Record(whole / own.key)


def generations(record: Record):
    return checkpoint._paths(record.folder)


# what is damaged


@pytest.mark.parametrize("damaged, first", [(0, 12), (1, 9), (2, 1)])
def test_damaged_checkpoints_are_warned_of(begun, place, damaged, first):
    own, whole = begun
    record = Record(place.runs / own.key)
    broken = list(reversed(generations(record)))[:damaged]
    for path in broken:
        path.write_bytes(path.read_bytes()[:-7])
    ear, beats, said = listen()
    assert run(own, place, ear) == "done"
    assert beats[0] == first and beats[-1] == 16
    assert said == [f"{path} is damaged: what is older is gone on with" for path in broken]
    assert record.result()["cost"].get("warnings", []) == said
    assert identical(record, whole) and generations(record) == []


def test_a_checkpoint_that_does_not_fit(begun, place):
    """Whole, sealed and of this cell, but of another build of the apparatus: from the beginning."""
    own, whole = begun
    record = Record(place.runs / own.key)
    newest = generations(record)[-1]
    key = json.loads(newest.read_bytes().partition(b"\n")[0])["key"]
    found = checkpoint.read(record.folder, key)
    tensors = {name: value for name, value in found.tensors.items() if "bias" not in name}
    checkpoint.write(record.folder, key, replace(found, tensors=tensors))
    ear, beats, said = listen()
    assert run(own, place, ear) == "done"
    assert beats == list(range(1, 17))
    assert len(said) == 1 and "starts over: its checkpoint does not fit (Error" in said[0]
    assert identical(record, whole)


# what the last bits depend on


@pytest.mark.parametrize("name", ["torch", "torchvision", "numpy", "device"])
def test_other_circumstances_start_over(begun, place, monkeypatch, name):
    own, whole = begun
    here = runner.circumstances
    monkeypatch.setattr(runner, "circumstances", lambda place: {**here(place), name: "0.0"})
    ear, beats, said = listen()
    assert run(own, place, ear) == "done"
    assert beats == list(range(1, 17))
    was = here(place)[name]
    assert len(said) == 1
    assert f"starts over, or its last bits would change: {name} was {was}, is 0.0" in said[0]
    record = Record(place.runs / own.key)
    assert record.result()["cost"]["warnings"] == said
    assert identical(record, whole)


def test_threads_are_those_that_it_was_begun_with(begun, place):
    own, whole = begun
    seen = []
    ear, beats, said = listen()
    ear = replace(ear, epoch=lambda row: seen.append(torch.get_num_threads()))
    assert run(own, replace(place, threads=2), ear) == "done"
    assert beats[0] == 12 and seen == [1, 1]  # of the epoch before it heard again
    assert len(said) == 1 and "goes on with 1 threads, as it was begun, not with 2" in said[0]
    record = Record(place.runs / own.key)
    assert record.result()["cost"]["threads"] == 1
    assert json.loads((record.folder / "claim.json").read_text())["threads"] == 1
    assert identical(record, whole)


def test_another_cell_has_its_own_threads_again(begun, place, cell):
    own, _ = begun
    two = replace(place, threads=2)
    seen = []
    for each in (own, cell("psc", epochs=1)):
        ear = Ear(pulse=lambda *_: seen.append(torch.get_num_threads()), stop=lambda: True)
        with pytest.raises(Stopped):
            run(each, two, ear)
    assert seen == [1, 2]


def test_warnings_outlive_another_interruption(begun, place):
    own, whole = begun
    record = Record(place.runs / own.key)
    generations(record)[-1].write_bytes(b"")
    with pytest.raises(Stopped):
        run(own, place, replace(until(9), warn=lambda sentence: None))
    run(own, place)
    (said,) = record.result()["cost"]["warnings"]
    assert "cannot be read" in said
    assert identical(record, whole)


def test_an_undisturbed_cell_has_no_warnings(begun):
    assert "warnings" not in begun[1].result()["cost"]


# from anywhere


@pytest.mark.parametrize("at", [3, 8, 11])
def test_a_study_hears_of_the_epochs_before(cell, place, tmp_path, at):
    """Its process may have died before it heard of them, and the pruner looks at each."""
    trial = cell("psc", epochs=3, ratio=5.0, data={"validation": 0.2})
    whole = replace(place, runs=tmp_path / "whole")
    assert run(trial, whole, Ear()) == "done"
    with pytest.raises(Stopped):
        run(trial, place, until(at))
    rows = []
    run(trial, place, Ear(epoch=rows.append))
    record = Record(place.runs / trial.key)
    assert rows == record.curves() and [row["epoch"] for row in rows] == [1, 2, 3]
    assert all("validation" in row for row in rows)
    assert identical(record, Record(whole.runs / trial.key))


@pytest.mark.parametrize("stops", [[], [3], [8, 11]], ids=str)
def test_a_loss_that_is_no_number_at_a_given_step(cell, place, monkeypatch, stops):
    """After twelve good ones, however often it was interrupted among them."""
    advance = train._Run.advance

    def spoilt(self, loss, now):
        advance(self, loss * float("nan") if now.step == 12 else loss, now)

    monkeypatch.setattr(train._Run, "advance", spoilt)
    own = cell("psc", epochs=2)
    for step in stops:
        with pytest.raises(Stopped):
            run(own, place, until(step))
    assert run(own, place) == "diverged"
    record = Record(place.runs / own.key)
    result = record.result()
    assert result["diverged_step"] == 12 and result["size"]["steps"] == 12
    assert [row["epoch"] for row in record.curves()] == [1]
    assert result["metrics"] == {} and record.weights() == {} and generations(record) == []


def pipes(cell):
    return {
        "psc": cell("psc", **MIXED),
        "dl2pa": cell("dl2pa", **MIXED),
        "sweep": cell("psc", ">>", "dro_lt", epochs=2),
        "frozen": cell("psc", ">", "prototypes", **MIXED),
        "teacher": cell(("paco", {"queue": 256}), epochs=2),
        "adamw": cell("etf", optimizer="adamw", lr=0.01, cutmix=1.0, epochs=2),
        "experts": cell("ride", epochs=2),
        "search": cell("dl2pa", data={"validation": 0.2}, ratio=5.0, **MIXED),
        **{name: cell(name, epochs=2) for name in ("dnc", "hpn", "ldam", "logit_adjustment")},
        **{f"psc > {name}": cell("psc", ">", name, epochs=2) for name in ("crt", "disalign")},
        "psc > max_norm": cell("psc", ">", "max_norm", epochs=2),
    }


PIPES = ("psc", "dl2pa", "sweep", "frozen", "teacher", "adamw", "experts", "search", "dnc", "hpn")
PIPES = (*PIPES, "ldam", "logit_adjustment", "psc > crt", "psc > disalign", "psc > max_norm")


@pytest.mark.long
@pytest.mark.parametrize("name", PIPES)
def test_interrupted_at_random_steps(cell, place, tmp_path, name):
    """Three times in a row, with the checkpoint of the step itself or of some step before it."""
    own = pipes(cell)[name]
    whole = replace(place, runs=tmp_path / "whole")
    if own.trunk:
        run(own.trunk, whole)
        shutil.copytree(whole.runs, place.runs)
    run(own, whole)
    drawn = random.Random(name)
    stops = sorted(drawn.sample(range(1, 17), 3))
    for step in stops:
        every = replace(place, every=drawn.choice([0.0, 3600.0]))
        with pytest.raises(Stopped):
            run(own, every, until(step))
        if drawn.random() < 0.5:  # as if it had been killed before that one was written
            generations(Record(place.runs / own.key))[-1].unlink()
    run(own, place)
    assert identical(Record(place.runs / own.key), Record(whole.runs / own.key)), stops


# when


@pytest.mark.parametrize(
    "step, writing, want",
    [
        (1.0, 0.0, [4, 8, 12, 16, 20, 24]),  # epochs of 4 s: every end
        (1.0, 0.1, [4, 12, 20]),  # where writing takes 0.1 s: at least 5 s apart
        (4.0, 1.0, [4, 20]),  # where writing takes 1 s: at least 50 s apart
        (50.0, 0.0, [3, 4, 7, 8, 11, 12, 15, 16, 19, 20, 23, 24]),  # two minutes, and every end
    ],
)
def test_when_checkpoints_are_written(monkeypatch, step, writing, want):
    """Twenty-four steps in epochs of four, by a clock that a step and a checkpoint move."""
    now = [1000.0]
    monkeypatch.setattr(train.time, "monotonic", lambda: now[0])
    saved = []

    def save(each):
        saved.append(each.note["step"])
        now[0] += writing

    look = train.Trunk(torch.nn.Identity(), [], frozen=False, precision="float32")
    own = train._Run.__new__(train._Run)
    own.steps, own.writing, own.started, own.saved = 4, 0.0, now[0], now[0]
    own.watch = train.Watch(save=save)
    own.parts, own.losses = {"look.": look}, torch.zeros(4)
    own.optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    progress = train.Progress()
    for number in range(1, 25):
        now[0] += step
        progress.step = number
        own.keep(progress)
    assert saved == want


# what cannot be written


@pytest.fixture
def armed(monkeypatch):
    """Give a function that arms a fault in this process."""

    def arm(text):
        monkeypatch.setenv(faults.VARIABLE, text)
        faults.arm()

    yield arm
    monkeypatch.undo()
    faults.arm()


@pytest.fixture
def small_files():
    """Give a function: no file may grow beyond so many bytes, None for no limit."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limit(size):
        most = before[0] if size is None else size
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))

    yield limit
    limit(None)


def test_a_checkpoint_that_cannot_be_written_stops_nothing(cell, place, monkeypatch):
    own = cell("psc", epochs=1)
    write, tried = checkpoint.write, []

    def full(*values):
        tried.append(values)
        if len(tried) < 4:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(*values)

    monkeypatch.setattr(checkpoint, "write", full)
    ear, beats, said = listen()
    with pytest.raises(Stopped):
        run(own, replace(place, every=0.0), replace(ear, stop=lambda: beats[-1] == 5))
    assert len(tried) >= 5  # tried again each time
    assert len(said) == 1 and "goes on without a new checkpoint" in said[0]  # and said once
    assert "(No space left on device)" in said[0]
    assert run(own, place, ear) == "done"
    assert beats == list(range(1, 9))
    assert Record(place.runs / own.key).result()["cost"]["warnings"] == said


def test_a_disk_that_fills_up_in_mid_training(cell, place, tmp_path, small_files):
    """No file beyond 3000 bytes: no checkpoint, no result, and one sentence; then there is room."""
    own = cell("psc", epochs=1)
    whole = replace(place, runs=tmp_path / "whole")
    run(own, whole)
    ear, _, said = listen()
    small_files(3000)
    with pytest.raises(OSError, match=r"File too large\). Make room, .* goes on where this one"):
        run(own, replace(place, every=0.0), ear)
    small_files(None)
    assert len(said) == 1 and "goes on without a new checkpoint" in said[0]
    record = Record(place.runs / own.key)
    assert record.result() is None and not record.held and generations(record) == []
    assert not list(record.folder.glob(".*"))
    assert run(own, place) == "done"
    assert identical(record, Record(whole.runs / own.key))


@pytest.mark.parametrize("what", ["curves", "arrays", "weights", "result"])
def test_a_full_disk_at_the_end_costs_the_end_alone(cell, place, tmp_path, armed, what):
    """The cell fails and the record is not half; with room again it is judged, not retrained."""
    own = cell("psc", epochs=1)
    whole = replace(place, runs=tmp_path / "whole")
    run(own, whole)
    armed(f"full 1 {what}: half written")
    with pytest.raises(OSError, match="No space"):
        run(own, replace(place, every=0.0))
    record = Record(place.runs / own.key)
    assert record.result() is None and not record.held
    assert not list(record.folder.glob(".*.tmp"))
    ear, beats, _ = listen()
    assert run(own, place, ear) == "done"
    assert beats == []  # not a step was taken again
    assert identical(record, Record(whole.runs / own.key))


# a lease that was lost


@pytest.mark.parametrize("when", ["training", "checkpoint", "evaluation"])
def test_who_lost_the_cell_writes_nothing_more(cell, place, monkeypatch, when):
    def none(handle, kind):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(claims.fcntl, "flock", none)
    own = cell("psc", epochs=1)
    record = Record(place.runs / own.key)
    beats, next_owner = [], []

    def rob(*values):
        path = record.folder / "claim-000001.lease"
        os.utime(path, (0, 0))
        next_owner.append(lease.take(record.folder))

    def pulse(step, steps):
        beats.append(step)
        if step == 3:
            rob()
            if when == "training":
                held[0].lease.beat()  # as its thread does a few seconds later

    held = []
    job = runner._Job.__init__

    def watched(self, cell, place, record, claim, ear):
        held.append(claim)
        job(self, cell, place, record, claim, ear)

    monkeypatch.setattr(runner._Job, "__init__", watched)
    judge = runner.judge

    def judged(*values, **options):
        rob()
        return judge(*values, **options)

    ear = Ear()
    if when != "evaluation":
        ear = Ear(pulse=pulse, stop=lambda: when == "checkpoint" and beats[-1] == 3)
    else:
        monkeypatch.setattr(runner, "judge", judged)
    with pytest.raises(Lost, match="taken over by another process"):
        run(own, place, ear)
    assert beats == ([1, 2, 3] if when != "evaluation" else [])
    names = {path.name for path in record.folder.iterdir()}
    kept = {"checkpoint-000001.safetensors"} if when == "evaluation" else set()
    assert names == kept | {"cell.json", "claim.json", "claim.lock", "claim-000002.lease"}
    next_owner[0].release()


def test_a_cell_is_trained_under_a_lease(cell, place, tmp_path, monkeypatch):
    own = cell("psc", epochs=1)
    whole = replace(place, runs=tmp_path / "whole")
    run(own, whole)

    def none(handle, kind):
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

    monkeypatch.setattr(claims.fcntl, "flock", none)
    assert run(own, place) == "done"
    record = Record(place.runs / own.key)
    assert identical(record, Record(whole.runs / own.key)) and not record.held
    assert not list(record.folder.glob("*.lease"))


# the end


@pytest.mark.parametrize("state", ["done", "diverged"])
def test_checkpoints_of_a_finished_cell_go_with_the_next_run(cell, place, monkeypatch, state):
    """Its process died between the result and their removal."""
    own = cell("psc", epochs=1, **({"lr": 1e9} if state == "diverged" else {}))
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "clear", lambda folder: None)
        assert run(own, replace(place, every=0.0)) == state
    record = Record(place.runs / own.key)
    assert generations(record) and record.result()["state"] == state
    assert set(record.litter()) == set(generations(record))
    assert run(own, place) == state
    assert generations(record) == []
