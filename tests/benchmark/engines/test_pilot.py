"""A pilot: real steps in processes side by side, of which nothing is kept."""

import math
import time
from dataclasses import replace

import psutil
import pytest

from benchmark.commands import outlook
from benchmark.engines import machine, pilot
from benchmark.engines.pilot import Pilot, Reading, Vain, best, compare, sizes
from benchmark.engines.worker import Settings

GIB = 2**30


def reading(jobs, rate, fit=100):
    return Reading(jobs, float(rate), 0.001, 10, GIB, fit)


class Sham:
    """A pilot whose readings are given, by number of processes."""

    def __init__(self, rates, left=30.0, fit=100):
        self.rates, self.left, self.fit, self.asked = rates, left, fit, []

    def measure(self, cell, jobs):
        self.asked.append(jobs)
        if self.rates[jobs] is None:
            raise Vain("it said nothing for 30 s")
        return reading(jobs, self.rates[jobs], self.fit)


@pytest.mark.parametrize(
    "room, tried",
    [(1, [1]), (2, [1, 2]), (3, [1, 2, 3]), (8, [1, 2, 4, 8]), (12, [1, 2, 4, 8, 12])],
)
def test_doubled_until_there_is_no_room(room, tried):
    assert sizes(room) == tried


@pytest.mark.parametrize(
    "rates, jobs, tried",
    [
        ({1: 210, 2: 395, 4: 700}, 4, [1, 2, 4]),
        ({1: 210, 2: 395, 4: 400}, 2, [1, 2, 4]),  # within noise: the fewer
        ({1: 210, 2: 215, 4: 999}, 1, [1, 2]),  # no gain: more is not tried
        ({1: 210, 2: 150, 4: 999}, 1, [1, 2]),
        ({1: 210, 2: None, 4: 999}, 1, [1, 2]),  # it died, perhaps for memory
    ],
)
def test_the_fewest_that_are_as_fast_as_any(rates, jobs, tried):
    sham = Sham(rates)
    assert best(compare(sham, None, 4)[0]).jobs == jobs
    assert sham.asked == tried


def test_memory_and_time_bound_what_is_tried():
    for sham, tried, why in (
        (Sham({1: 1, 2: 2, 4: 4}, fit=2), [1, 2], "no memory for 4"),
        (Sham({1: 1, 2: 2}, left=1.0), [1], "no time for 2"),
        (Sham({1: 1, 2: None}), [1], "2 failed: it said nothing for 30 s"),
        (Sham({1: 1, 2: 2, 4: 4}), [1, 2, 4], ""),
    ):
        found, told = compare(sham, None, 4)
        assert ([each.jobs for each in found], told) == (tried, why)
    with pytest.raises(Vain):
        compare(Sham({1: None}), None, 4)


def test_what_fits_into_memory(monkeypatch):
    monkeypatch.setattr(machine, "memory", lambda: 10 * GIB)
    assert pilot._fit(1, 4 * GIB, 0, 0) == 3  # one there is, and two in what is free
    assert pilot._fit(2, 1 * GIB, 60 * GIB, 80 * GIB) == 7  # 10 GiB each, nine tenths of 80
    assert pilot._fit(1, 10**12, 0, 0) == 1


# real processes

ENDLESS = 10**6  # epochs: no training is over before the pilot


@pytest.fixture
def endless(faulty):
    """Give a function (head): a cell with the head mine.py that trains for ever."""

    def build(head: str):
        (cell,) = faulty(f"[{head}]")
        (stage,) = cell.stages
        recipe = tuple((n, ENDLESS if n == "epochs" else v) for n, v in stage.recipe)
        return replace(cell, stages=(replace(stage, recipe=recipe),))

    return build


@pytest.fixture
def settings(tmp_path):
    (tmp_path / "runs").mkdir()
    return Settings(tmp_path / "runs", tmp_path / "data", (tmp_path / "mine.py",), "cpu", 1)


def gone(pid):
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


@pytest.mark.long
def test_real_steps_of_which_nothing_is_kept(endless, settings, monkeypatch, trained):
    monkeypatch.setattr(pilot, "WINDOW", 0.3)
    first, second = endless("mine"), endless("{mine: {size: 2}}")
    with Pilot(settings, limit=240.0) as trial:
        folder = trial.folder
        alone = trial.measure(first, 1)
        both = trial.measure(first, 2)
        pids = [each.process.pid for each in trial.trials]
        other = trial.measure(second, 1)  # in a process that is there already
        assert [each.process.pid for each in trial.trials] == pids[:1]
        assert gone(pids[1])
    for found, jobs in ((alone, 1), (both, 2), (other, 1)):
        assert found.jobs == jobs and found.rate > 0 and math.isfinite(found.forward)
        assert found.operations > 0 and found.memory > 2**20 and found.fit >= 1
    assert trained()["none 1"] > 0 and trained()["none 2"] > 0
    assert not folder.exists() and list(settings.runs.iterdir()) == []
    assert all(gone(pid) for pid in pids)


@pytest.mark.long
def test_a_cell_that_cannot_be_rehearsed(endless, settings, monkeypatch):
    monkeypatch.setattr(pilot, "WINDOW", 0.2)
    with Pilot(settings, limit=240.0) as trial:
        with pytest.raises(Vain, match="RuntimeError: no loss today"):
            trial.measure(endless("{mine: {fault: raises}}"), 1)
        assert trial.measure(endless("mine"), 1).rate > 0  # the process takes another
        with pytest.raises(Vain, match="a process of it died"):
            trial.measure(endless("{mine: {fault: killed}}"), 1)


@pytest.mark.long
def test_a_cell_that_hangs_does_not_hold_up_a_run(endless, settings, monkeypatch):
    monkeypatch.setattr(pilot, "STARTING", 1.0)
    with Pilot(settings) as trial:
        with pytest.raises(Vain, match="it said nothing for 1 s"):
            trial.measure(endless("{mine: {fault: sleeps}}"), 1)
        pid = trial.trials[0].process.pid
    assert gone(pid)


@pytest.mark.long
@pytest.mark.skipif(outlook.cores() < 2, reason="one process fits, which needs no pilot")
@pytest.mark.parametrize("how", ["asked", "killed"])
def test_a_run_that_ends_amid_its_pilot(faulty, python, tmp_path, how, monkeypatch):
    """Asked to stop it ends with 143; killed, its processes find out by themselves."""
    faulty("[{mine: {fault: [waits, none]}}]")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    words = ("--suite", "tiny.yaml", "--with", "mine.py", "--offline", "--device", "cpu")
    words = (*words, "--jobs", "auto", "--set", f"recipe.quick.epochs={ENDLESS}")
    run = python("-m", "benchmark", "run", *words)
    while not (tmp_path / "steps.log").exists():
        assert run.poll() is None, run.communicate()
        time.sleep(0.05)
    children = psutil.Process(run.pid).children(recursive=True)
    assert children
    if how == "asked":
        run.terminate()
        said, _ = run.communicate(timeout=120)
        assert run.returncode == 143 and "the same command goes on" in said, said
    else:
        run.kill()
        run.wait(timeout=60)
        (tmp_path / "go").touch()
    for child in children:
        psutil.wait_procs([child], timeout=120)
        assert gone(child.pid)
    assert not list((tmp_path / "runs").glob("*/cell.json"))
    assert not list(tmp_path.glob("benchmark-pilot-*"))
