"""Many cells in real worker processes, some of which fail or are killed."""

import multiprocessing
import os
import signal
from dataclasses import replace
from types import SimpleNamespace

import psutil
import pytest

from benchmark.engines.crew import Crew, Worker
from benchmark.engines.elsewhere import Elsewhere
from benchmark.engines.local import Event, Local
from benchmark.engines.machine import workers_fit
from benchmark.engines.patience import Patience, Silence
from benchmark.engines.worker import Settings, _Recall
from benchmark.planning import suite
from benchmark.planning.cell import Cell
from benchmark.planning.plan import complete
from benchmark.records.record import Record
from benchmark.training.registry import registry

# a head that trains until a file says otherwise; what it does then is the class's own business
HEAD = """
import os, signal
from pathlib import Path
import torch
from heads.base import Head, Problem

class Mine(Head):
    def __init__(self, problem: Problem, *, fault: str = "none"):
        super().__init__()
        self.dim = problem.width
        self.fault = fault
        self.weight = torch.nn.Parameter(torch.zeros(problem.classes, problem.width))

    def score(self, embedding):
        return embedding @ self.weight.T

    def loss(self, embedding, labels):
        if self.fault == "raises":
            raise RuntimeError("no loss today [/not a tag]\\nand a second line")
        if self.fault == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.fault == "nan":
            return (embedding * float("nan")).sum()
        return torch.nn.functional.cross_entropy(self.score(embedding), labels)
"""


def workers() -> list[int]:
    found = psutil.Process().children(recursive=True)
    return [child.pid for child in found if "spawn_main" in " ".join(child.cmdline())]


@pytest.fixture
def cells(tmp_path):
    """Give a function (heads): cells of one epoch on 10 digits a class."""
    (tmp_path / "mine.py").write_text(HEAD)

    def build(heads: str) -> list[Cell]:
        (tmp_path / "tiny.yaml").write_text(
            "- data: {name: digits, largest: 10}\n  backbone: {small_cnn: {channels: 4}}\n"
            f"  recipe: {{quick: {{epochs: 1}}}}\n  seeds: 0\n  head: {heads}\n"
        )
        table = registry([tmp_path / "mine.py"])
        found = suite.read(str(tmp_path / "tiny.yaml")).cells
        return [complete(cell, table, lambda name: 124) for cell in found]

    return build


@pytest.fixture
def train(tmp_path):
    """Give a function (cells, jobs): how each ended, in their order, and all events."""

    def run(cells: list[Cell], jobs: int = 1, hear=lambda event: None):
        events: list[Event] = []

        def tell(event):
            if event is not None:
                events.append(event)
            hear(event)

        files = (tmp_path / "mine.py",)
        settings = Settings(tmp_path / "runs", tmp_path / "data", files, "cpu", 1)
        engine = Local(settings, jobs, tell)
        ended = engine.run(cells)
        assert engine._crew.workers == []
        assert workers() == []
        assert engine.interrupted == 0
        return [ended[cell.key] for cell in cells], events

    return run


def test_one_bad_cell_does_not_stop_the_others(cells, train, tmp_path):
    found = cells(
        "[{mine: {fault: [raises, none, killed, nan]}}, 'mine > ncm', psc, psc > ncm,"
        " [{mine: {fault: raises}}, ncm], [{mine: {fault: killed}}, ncm], "
        " [{mine: {fault: nan}}, ncm]]"
    )
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    ended, events = train(found)
    after = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    assert after == before
    assert ended == [
        *("failed", "done", "failed", "diverged"),
        *("done", "done", "done"),
        *("failed", "failed", "failed"),
    ]
    raised, good, killed, nan, _, _, pair, *dependants = [
        Record(tmp_path / "runs" / cell.key) for cell in found
    ]
    assert raised.failure()["reason"] == "RuntimeError: no loss today [/not a tag]"
    assert "in loss" in raised.failure()["traceback"]
    assert "and a second line" in raised.failure()["traceback"]
    assert "killed, perhaps for memory, also alone" in killed.failure()["reason"]
    assert killed.cell() == found[2] and killed.result() is None
    assert good.result()["state"] == "done" and good.failure() is None
    assert nan.result()["state"] == "diverged" and nan.result()["diverged_step"] == 0
    assert pair.result()["trunk"] == found[5].key
    for dependant, trunk, how in zip(
        dependants, (raised, killed, nan), ("failed", "failed", "diverged"), strict=True
    ):
        assert dependant.result() is None
        assert dependant.failure()["reason"] == f"what it stands on, {trunk.key}, {how}"
        assert dependant.cell().trunk.key == trunk.key
    # what a display hears
    kinds = {cell.key: [e.kind for e in events if e.cell.key == cell.key] for cell in found}
    for cell, end in zip(found[:7], ended[:7], strict=True):
        kept = [kind for kind in kinds[cell.key] if kind != "pulse"]
        assert kept == ["started", *(["started"] if cell == found[2] else []), end]
    for cell in found[7:]:
        assert kinds[cell.key] == ["failed"]  # never started
    order = [event.cell.key for event in events if event.kind == "started"]
    assert order.index(found[5].key) < order.index(found[6].key)


def test_a_worker_that_died_while_idle_takes_no_cell_with_it(cells, tmp_path):
    """It counts as alive until its parent looks again: what was meant for it stays to be done."""
    ours, theirs = multiprocessing.Pipe()
    theirs.close()
    dead = SimpleNamespace(is_alive=lambda: True, join=lambda limit=0: None, kill=lambda: None)
    dead.exitcode = 1
    told: list[Event | None] = []
    settings = Settings(tmp_path / "runs", tmp_path / "data", (), "cpu", 1)
    engine = Local(settings, 1, told.append)
    engine._crew.workers.append(Worker(dead, ours, Silence(1.0)))
    engine._take_on(cells("psc"))
    engine._hand_out()
    assert len(engine._waiting) == 1 and told == [] and engine._crew.workers == []


def test_workers_may_have_children(tmp_path):
    """Streamed images are read by processes of the worker's own; a daemon may have none."""
    settings = Settings(tmp_path / "runs", tmp_path / "data", (), "cpu", 1)
    crew = Crew(settings, 1, Patience())
    worker = crew.free()
    try:
        assert not worker.process.daemon
    finally:
        crew.close()
    assert not worker.process.is_alive()


def test_signals_to_all_processes_are_the_parents_business(tmp_path):
    """A worker is deaf to them from its first moment on, before a line of ours has run in it."""
    crew = Crew(Settings(tmp_path / "runs", tmp_path / "data", (), "cpu", 1), 1, Patience())
    worker = crew.free()
    try:
        for number in (signal.SIGINT, signal.SIGUSR1):
            os.kill(worker.process.pid, number)
    finally:
        crew.close()
    assert worker.process.exitcode == 0


class _Process:
    """Stands for a worker's process that is alive."""

    exitcode = 0

    def __init__(self):
        self.told = []

    def is_alive(self):
        return True

    def terminate(self):
        self.told.append("terminate")

    def join(self, seconds=0):
        pass

    kill = join


@pytest.mark.parametrize("kind", ["memory", "stopped"])
def test_a_worker_that_said_it_leaves_gets_no_other_cell(cells, tmp_path, kind):
    """Its process is there for a moment still."""
    (cell,) = cells("psc")
    run = Local(Settings(tmp_path / "runs", tmp_path, (), "cpu", 1), 1, lambda event: None)
    run._take_on([cell])
    worker = Worker(_Process(), multiprocessing.Pipe()[0], Silence(1.0), cell)
    run._crew.workers.append(worker)
    run._answered(worker, cell, kind, {"reason": "no memory", "traceback": "…"})
    found = run._crew.free()
    try:
        assert found is not worker and worker not in run._crew.workers
    finally:
        run._crew.close()


def test_a_worker_that_was_just_started_hears_of_the_signal_too(cells, tmp_path):
    (cell,) = cells("psc")
    run = Local(Settings(tmp_path / "runs", tmp_path, (), "cpu", 1), 1, lambda event: None)
    run._interrupt(signal.SIGTERM)
    ours, theirs = multiprocessing.Pipe()
    worker = Worker(_Process(), ours, Silence(60.0), cell)
    run._crew.workers.append(worker)  # it was on its way when the signal came
    theirs.send(("warning", {"sentence": ""}))
    run._listen()
    run._listen()
    assert worker.process.told == ["terminate"]  # once: it would not hear more of a second


def test_what_became_of_a_cell_that_another_process_had(cells, tmp_path, monkeypatch):
    """Why it failed is written just after the lock is gone: that is not overlooked."""
    monkeypatch.setattr("benchmark.engines.elsewhere.EVERY", -1.0)
    failing, left = cells("[psc, {psc: {dim: 8}}]")
    others = Elsewhere(tmp_path)
    assert not others.has(failing)
    with Record(tmp_path / failing.key).claim({}), Record(tmp_path / left.key).claim({}):
        assert others.has(failing) and others.has(left)
        assert list(others.look()) == []
    assert list(others.look()) == []
    Record(tmp_path / failing.key).fail("RuntimeError: no", "…")
    assert list(others.look()) == [
        (failing, "failed", {"reason": "RuntimeError: no", "elsewhere": True}),
        (left, "free", {}),
    ]
    assert others.cells == {}


def test_nothing_to_do(train):
    assert train([]) == ([], [])


@pytest.mark.parametrize(
    "cores, threads, cells, device, memory, jobs",
    [
        (8, 1, 100, "cpu", 64 * 2**30, 8),
        (8, 2, 100, "cpu", 64 * 2**30, 4),
        (8, 1, 3, "cpu", 64 * 2**30, 3),
        (8, 1, 100, "cpu", 5 * 2**30, 2),
        (8, 16, 100, "cpu", 64 * 2**30, 1),
        (8, 1, 100, "cpu", 2**20, 1),
        (8, 1, 100, "cuda", 64 * 2**30, 1),
    ],
)
def test_workers_fit(cores, threads, cells, device, memory, jobs):
    assert workers_fit(cores, threads, cells, device, memory) == jobs


def test_cells_that_come_later_and_one_that_is_recalled(cells, tmp_path):
    """A recalled cell leaves nothing but its statement, and its worker goes on with the next."""
    first, second, third = cells("[psc, {psc: {dim: 8}}, {psc: {dim: 9}}]")
    (stage,) = first.stages
    recipe = tuple((name, 5000 if name == "epochs" else old) for name, old in stage.recipe)
    endless = replace(first, stages=(replace(stage, recipe=recipe),))
    queue = [[endless], [second], [third]]
    events: list[Event] = []

    def tell(event):
        if event is None:
            return
        events.append(event)
        if event.kind == "pulse" and event.cell == endless and event.values["rows"]:
            engine.recall(second.key)  # which nobody trains: nothing happens
            engine.recall(endless.key)

    settings = Settings(tmp_path / "runs", tmp_path / "data", (), "cpu", 1)
    engine = Local(settings, 1, tell)
    ended = engine.run([], lambda: queue.pop(0) if queue else ())
    assert ended == {endless.key: "recalled", second.key: "done", third.key: "done"}
    assert queue == [] and workers() == []
    folder = tmp_path / "runs" / endless.key
    record = Record(folder)
    assert record.cell() == endless and record.result() is None and record.failure() is None
    assert not list(folder.glob("checkpoint-*")) and not record.held
    kinds = [event.kind for event in events if event.kind != "pulse"]
    assert kinds == ["started", "recalled", "started", "done", "started", "done"]


class _Asked:
    """Stands for the worker's own word on whether all is to stop."""

    asked = False

    def __call__(self):
        return self.asked


def test_only_the_cell_that_is_meant_is_recalled():
    ours, theirs = multiprocessing.Pipe()
    stop = _Asked()
    recall = _Recall(theirs, "b", stop)
    assert not recall()
    ours.send("a")  # the cell before, which was over when the word arrived
    assert not recall() and not theirs.poll()
    ours.send("b")
    assert recall() and recall.heard and not stop.asked
    other = _Recall(theirs, "c", stop)
    ours.close()  # the parent is gone
    assert other() and not other.heard and stop.asked
