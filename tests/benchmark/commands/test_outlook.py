"""What `run` and `plan` expect of their cells, and what a pilot has to say in it."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from benchmark.commands import agenda, alike, desk, outlook
from benchmark.engines import pilot
from benchmark.engines.pilot import Reading, Vain
from benchmark.engines.worker import Settings
from benchmark.planning import forecast
from benchmark.planning.forecast import Machine
from benchmark.records.record import Record, records
from benchmark.training.operations import operations
from benchmark.training.registry import registry
from benchmark.training.runner import Place, run

RUN = ("run", "--suite", "tiny.yaml", "--device", "cpu", "--offline")
HERE = outlook.here("cpu", 1, 0)
LONG = ("head=[psc, {etf: {dim: 16}}, psc > crt@quick, psc > ncm]", "recipe.quick.epochs=100000")


@pytest.fixture
def work(place):
    """Give a function (*changes): the agenda of the tiny suite."""

    def read(*changes):
        return agenda.read(
            *("tiny.yaml", changes, [], place / "runs", place), skip_missing=False, load=False
        )

    return read


@pytest.fixture
def settings(place):
    return Settings(place / "runs", place, (), "cpu", 1)


@pytest.fixture
def sham(monkeypatch):
    """Readings in place of processes: 100 images/s in one, 190 in two, 300 in four."""
    asked = []

    def measure(self, cell, jobs):
        asked.append((cell, jobs))
        return Reading(jobs, {1: 100.0, 2: 190.0, 4: 300.0}[jobs], 0.002, 10**6, 2**30, 9)

    monkeypatch.setattr(pilot.Pilot, "measure", measure)
    return asked


# choosing jobs


def test_a_pilot_chooses_and_says_why(work, settings, sham):
    items = outlook.due(work(*LONG).items)
    jobs, known, told = outlook.choose(items, settings, 4, HERE)
    assert jobs == 4 and [each.machine.jobs for each in known] == [4]
    assert re.fullmatch(
        r"jobs 4: 1 gives 100 images/s, 2 give 190, 4 give 300 \(pilot of [\d.]+ s on "
        r"digits 1:1 · small_cnn channels=4 · psc · .* · seed 0\)",
        told,
    ), told
    assert {cell.method for cell, _ in sham} == {"psc"}  # what stands on another cannot begin yet


def test_who_reads_features_is_told_from_who_computes_them(work, settings, sham):
    """On one trunk with one recipe the first computes; another recipe, and another seed, do too."""
    heads = "head=[psc, psc > crt@quick, psc > disalign@quick, psc > ncm]"
    items = outlook.due(work(heads, "seeds=[0, 1]", "recipe.quick.epochs=100000").items)
    _, known, _ = outlook.choose(items, settings, 2, HERE)
    found = outlook.predicted(items, known, replace(HERE, jobs=2))
    assert len(found) == 8
    for psc, crt, disalign, ncm in (found[::2], found[1::2]):
        assert [psc.basis, crt.basis, disalign.basis, ncm.basis] == ["pilot"] * 2 + ["reads"] * 2
    assert disalign.seconds == pytest.approx(outlook.READ * crt.seconds, rel=0.01)


def test_a_reader_is_measured_by_readers(place, work):
    """And by nobody else; nor does it say how long computing takes."""
    table = registry()
    heads = "head=[psc, psc > crt@quick, psc > disalign@quick, psc > max_norm@quick]"
    items = outlook.due(work(heads).items)
    psc, crt, disalign, max_norm = items

    def took(item, seconds, **cost):
        own = {"device": HERE.device, "threads": 1, "finished": "", "seconds": seconds, **cost}
        size = {"train_images": 100, "classes": 10, "flops": 1000}
        return item.cell, {"state": "done", "cost": own, "size": size, "seen": item.images}

    ends = [took(psc, 30.0), took(crt, 10.0), took(disalign, 0.5, features="read")]
    known = [*outlook.past(ends, table)]
    assert [each.read for each in known] == [False, False, True]
    (found,) = outlook.predicted([max_norm], known, HERE)
    assert found.basis == "reads" and found.seconds == pytest.approx(0.5, rel=0.5)
    alone = [each for each in known if not each.shown]
    (first,) = outlook.predicted([crt], alone, HERE)
    assert first.basis == "same network" and first.seconds > 5


def test_what_a_pilot_saw_is_scaled_to_the_whole(work, settings, sham):
    items = outlook.due(work(*LONG).items)
    _, known, _ = outlook.choose(items, settings, 2, HERE)
    psc, etf, crt, ncm = outlook.predicted(items, known, replace(HERE, jobs=2))
    assert psc.images == 100_000 * 100 and psc.basis == etf.basis == "pilot"
    judged = psc.job.judged + psc.job.beside
    assert psc.seconds == pytest.approx(psc.images * 2 / 190 + judged * 0.002)
    assert crt.seconds < psc.seconds / 2 and ncm.seconds < 10  # a pass of three; no loop


@pytest.mark.parametrize(
    "changes, room, told",
    [
        ((*LONG, "head=[psc]"), 4, "there is one cell to train: jobs 1"),
        (LONG, 1, "there is room for one process: jobs 1"),
        ((), 2, "no pilot: 0.1 s of work is too little for one to be worth it: jobs 2"),
    ],
)
def test_without_need_there_is_no_pilot(work, settings, sham, changes, room, told):
    items = outlook.due(work(*changes).items)
    jobs, known, said = outlook.choose(items, settings, room, HERE)
    assert known == [] and sham == []
    assert re.sub(r"\d\.\d+ s", "0.1 s", said) == told and said.endswith(str(jobs))


def test_a_pilot_that_fails_leaves_what_fits(work, settings, monkeypatch):
    def measure(self, cell, jobs):
        raise Vain("it said nothing for 60 s")

    monkeypatch.setattr(pilot.Pilot, "measure", measure)
    found = outlook.choose(outlook.due(work(*LONG).items), settings, 2, HERE)
    assert found[:2] == (2, []) and "failed: it said nothing for 60 s. jobs 2" in found[2]


def test_kinds_are_told_apart_by_work_not_by_head(work, settings):
    more = ("backbone=[{small_cnn: {channels: 4}}, {small_cnn: {channels: 16}}]",)
    found = outlook.kinds(work(*LONG, *more).items, settings)
    assert [item.cell.network for item in found] == [
        "small_cnn channels=16",
        "small_cnn channels=4",
    ]


def test_operations_without_a_cell():
    backbone = (("channels", 4), ("name", "small_cnn"))
    few = operations(backbone, (1, 8, 8))
    assert 0 < few < operations(backbone, (1, 16, 16))


# what finished cells tell


def test_finished_cells_tell_and_odd_records_do_not(tiny_runs, place, work):
    (cell, result), *_ = [(each.cell(), each.result()) for each in records(tiny_runs)]
    table = work().registry
    (known,) = outlook.past([(cell, result)], table)
    assert (
        known.machine == Machine(HERE.device, 1, 0) and known.seconds == result["cost"]["seconds"]
    )
    for broken in (
        {**result, "state": "diverged"},
        {**result, "seen": "many"},
        {**result, "size": {**result["size"], "classes": 0}},
        {**result, "cost": {**result["cost"], "seconds": float("nan")}},
        {**result, "cost": {**result["cost"], "beside_seconds": -1}},
        {**result, "cost": 3},
    ):
        assert list(outlook.past([(cell, broken)], table)) == []


def test_equal_cells_at_other_seeds_are_predicted_once(work, tiny_runs, monkeypatch):
    asked = []
    monkeypatch.setattr(forecast, "predict", lambda job, *given, **more: asked.append(job))
    items = work("seeds=[0, 1, 2]").items
    asked.clear()
    outlook.predicted(items, ())
    assert len(items) == 6 and len(asked) == 2


# commands


@pytest.mark.parametrize("jobs", ["many", "-1", "1.5", ""])
def test_jobs_are_auto_or_a_number(place, call, jobs):
    said = call(*RUN, f"--jobs={jobs}")
    assert said.code == 2 and "neither auto nor a number" in said.err
    assert not Path("runs").exists()


@pytest.mark.long
def test_what_is_expected_is_noted_with_each_cell(place, call):
    said = call(*RUN, "--jobs", "1")
    assert said.code == 0 and "predicted" not in said.out, said
    first = [record.result()["cost"] for record in records(Path("runs"))]
    assert all(cost["jobs"] == 1 and cost["beside_seconds"] > 0 for cost in first)
    assert not any("predicted_seconds" in cost for cost in first)
    said = call(*RUN, "--jobs", "1", "--set", "seeds=[0, 1]")
    assert said.code == 0, said
    assert re.search(r"about .* with jobs 1: 2 from cells with the same head", said.out), said
    assert re.search(r"2 done · predicted .* s, took .* s", said.out), said
    fresh = [each for each in records(Path("runs")) if each.cell().seed == 1]
    assert len(fresh) == 2
    for record in fresh:
        cost = record.result()["cost"]
        assert cost["predicted_seconds"] > 0 and cost["predicted_from"] == "same head"
        claim = json.loads((record.folder / "claim.json").read_text())
        assert claim["predicted_seconds"] == cost["predicted_seconds"]


@pytest.mark.long
def test_auto_with_a_pilot_in_a_run(place, call, sham, monkeypatch):
    monkeypatch.setattr(outlook, "WORTH", 0.0)
    monkeypatch.setattr(outlook, "cores", lambda: 2)
    said = call(*RUN, "--jobs", "auto", "--set", "head=[psc, psc > ncm]")
    assert said.code == 0 and "jobs 2: 1 gives 100 images/s, 2 give 190 (pilot" in said.out, said
    assert "about" in said.out and "2 from the pilot" in said.out
    costs = [record.result()["cost"] for record in records(Path("runs"))]
    assert [(cost["jobs"], cost["predicted_from"]) for cost in costs] == [(2, "pilot")] * 2


def test_a_plan_with_a_pilot_keeps_nothing(place, call, sham):
    words = ("plan", "--suite", "tiny.yaml", "--device", "cpu", "--jobs", "2")
    assert "try --pilot" in call(*words).out
    said = call(*words, "--pilot")
    assert said.code == 0 and "2 from the pilot" in said.out, said
    rows = json.loads(call(*words, "--pilot", "--json").out)
    assert [row["basis"] for row in rows] == ["pilot", "pilot"]
    assert not Path("runs").exists()


def test_what_is_noted_of_a_cell_reaches_its_cost_alone(tiny_runs, place, work):
    (item, *_) = work().items
    noted = {"jobs": 2, "predicted_seconds": 3.0, "predicted_from": "pilot"}
    run(item.cell, Place(place / "runs", place, work().registry, noted=noted))
    mine, other = (Record(runs / item.cell.key) for runs in (place / "runs", tiny_runs))
    found = mine.result()
    assert noted.items() <= found["cost"].items() and found["cost"]["beside_seconds"] > 0
    assert noted.items() <= json.loads((mine.folder / "claim.json").read_text()).items()
    assert list(alike.records(place / "runs", tiny_runs, {mine.key: "psc"}))[1:] == []
    for part in ("arrays.safetensors", "weights.safetensors"):
        assert found["files"][part] == other.result()["files"][part]


class Cluster:
    """Where cells could be trained, and are not."""

    device, room, readers = "cuda", 7, 0


def test_on_a_cluster_auto_means_all_its_room(work, place, monkeypatch, capsys):
    """And nothing is asked of a device that this machine need not have."""
    monkeypatch.setattr(desk, "_carrier", lambda options: Cluster())
    given = (place, place, None, "cuda", desk.AUTO, 1)
    flags = dict.fromkeys(("offline", "download", "skip_missing", "refresh"), False)
    options = desk.Options("tiny.yaml", (), (), *given, **flags, engine="ray")
    mine = desk.Desk(options, Console())
    jobs, items = mine.expect(outlook.due(work().items), ())
    assert (
        jobs == 7 and len(items) == 2 and "jobs 7: all that the cluster" in capsys.readouterr().out
    )
    assert list(mine.noted.values()) == [{}, {}]
