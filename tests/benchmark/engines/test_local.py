"""Many cells in real worker processes, some of which fail or are killed."""

import multiprocessing
import os
import signal
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from benchmark.engines.local import Event, Local, _Worker, folder, workers_fit
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
        assert engine._workers == []
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
    assert killed.failure()["reason"].startswith("its process ended with code -9 (killed, perhaps")
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
        assert kept == ["started", end]
    for cell in found[7:]:
        assert kinds[cell.key] == ["failed"]  # never started
    order = [event.cell.key for event in events if event.kind == "started"]
    assert order.index(found[5].key) < order.index(found[6].key)


@pytest.mark.long
def test_a_worker_that_is_killed_from_outside(cells, train, tmp_path):
    killed = []

    def kill(event):
        if event is not None and event.kind == "started" and not killed:
            killed.append(event.cell.key)
            for pid in workers():
                os.kill(pid, signal.SIGKILL)

    found = cells("[psc, {psc: {dim: 8}}, mine]")
    ended, _ = train(found, hear=kill)
    assert ended == ["failed", "done", "done"] and killed == [found[0].key]
    assert "code -9" in Record(tmp_path / "runs" / found[0].key).failure()["reason"]
    ended, _ = train(found)
    assert ended == ["done"] * 3
    assert Record(tmp_path / "runs" / found[0].key).failure() is None


@pytest.mark.long
def test_a_cell_that_another_process_has(cells, train, tmp_path):
    found = cells("[psc, mine]")
    with Record(tmp_path / "runs" / found[0].key).claim({}):
        ended, _ = train(found)
    assert ended == ["busy", "done"]
    assert Record(tmp_path / "runs" / found[0].key).failure() is None


def test_a_worker_that_died_while_idle_takes_no_cell_with_it(cells, tmp_path):
    """It counts as alive until its parent looks again: what was meant for it stays to be done."""
    ours, theirs = multiprocessing.Pipe()
    theirs.close()
    alive = SimpleNamespace(is_alive=lambda: True)
    told: list[Event | None] = []
    settings = Settings(tmp_path / "runs", tmp_path / "data", (), "cpu", 1)
    engine = Local(settings, 1, told.append, _workers=[_Worker(alive, ours)])
    waiting = cells("psc")
    engine._hand_out(waiting, set())
    assert len(waiting) == 1 and told == [] and engine._workers == []


def test_workers_may_have_children(tmp_path):
    """Streamed images are read by processes of the worker's own; a daemon may have none."""
    settings = Settings(tmp_path / "runs", tmp_path / "data", (), "cpu", 1)
    engine = Local(settings, 1, lambda event: None)
    worker = engine._free()
    try:
        assert not worker.process.daemon
    finally:
        engine._close()
    assert not worker.process.is_alive()


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


def test_a_folder_that_cannot_be(tmp_path):
    assert folder(tmp_path / "a" / "b").is_dir()
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "runs"):
        with pytest.raises(ValueError, match="cannot write to .*Choose another --runs"):
            folder(Path(path))


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
