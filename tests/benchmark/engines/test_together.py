"""A whole run under torchrun, undisturbed and disturbed, against the same cells in one process."""

import json
import os
import signal
from pathlib import Path

import pytest

from benchmark.engines.together import Signal
from benchmark.engines.torchrun import Rank, rank
from benchmark.planning import suite
from benchmark.planning.plan import complete
from benchmark.records.record import Record
from benchmark.training.registry import registry
from benchmark.training.runner import Place
from benchmark.training.runner import run as train

NAMES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")

# What a process does in a step, once: that is said in a file `RANK-STEP`.
HEAD = """
import os, signal
from pathlib import Path
import torch
from heads.base import Head, Problem

class Mine(Head):
    def __init__(self, problem: Problem, *, fault: bool = False):
        super().__init__()
        self.dim, self.fault, self.step = problem.width, fault, 0
        self.weight = torch.nn.Parameter(torch.zeros(problem.classes, problem.width))
        self.register_buffer("taken", torch.zeros((), dtype=torch.int64))

    def score(self, embedding):
        return embedding @ self.weight.T

    def loss(self, embedding, labels):
        if self.fault:
            raise RuntimeError("no loss today")
        return torch.nn.functional.cross_entropy(self.score(embedding), labels)

    def after_step(self, embedding, labels, clock):
        self.taken += 1
        order = Path(f"{os.environ.get('RANK')}-{clock.step}")
        if order.exists():
            number = getattr(signal, order.read_text())
            order.unlink()
            os.kill(os.getpid(), number)
"""
SUITE = """\
- data: {name: digits, largest: 20, ratio: 4}
  backbone: {small_cnn: {channels: 4}}
  recipe: {quick: {epochs: 4, batch: 20}}
  seeds: 0
  head: [{mine: {fault: true}}, mine, psc > ncm]
"""


@pytest.fixture
def cells(tmp_path: Path):
    """A cell that fails, a cell that is disturbed, a trunk and what stands on it."""
    (tmp_path / "mine.py").write_text(HEAD)
    (tmp_path / "tiny.yaml").write_text(SUITE)
    table = registry([tmp_path / "mine.py"])
    found = suite.read(str(tmp_path / "tiny.yaml")).cells
    bad, good, top = (complete(cell, table, lambda name: 124) for cell in found)
    return bad, good, top.trunk, top


@pytest.fixture
def torchrun(python):
    """Give a function (folder of the records): `run` in three processes; what it says.

    Three, for gradients of two add up to the same bits in whatever order they come.
    """

    def call(runs: str) -> str:
        words = ("--suite", "tiny.yaml", "--with", "mine.py", "--offline", "--device", "cpu")
        launch = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", 3)
        process = python(*launch, "-m", "benchmark", "run", *words, "--runs", runs)
        said, _ = process.communicate(timeout=280)
        assert process.returncode == 1, said  # torchrun's own for whatever is not 0
        return said

    return call


@pytest.mark.long
def test_a_suite_in_three_processes(cells, torchrun, tmp_path):
    bad, good, trunk, top = cells
    said = torchrun("whole")
    assert "3 done, 1 failed" in said and said.count("suite tiny") == 1
    assert said.count("exitcode  : 1") == 3, said  # both end with the command's own
    assert "no loss today" in Record(tmp_path / "whole" / bad.key).failure()["reason"]
    table = registry([tmp_path / "mine.py"])
    place = Place(tmp_path / "alone", tmp_path / "data", table)
    for cell in (good, trunk, top):
        train(cell, place)
        one, two = (Record(tmp_path / kind / cell.key).result() for kind in ("alone", "whole"))
        assert two["metrics"] == pytest.approx(one["metrics"], rel=0.02, abs=0.02, nan_ok=True)

    # the same, disturbed: a signal to one process, then one is killed, then to the end
    (tmp_path / "1-6").write_text("SIGUSR1")
    said = torchrun("runs")
    assert "interrupted; the same command goes on" in said and "1 stopped" in said
    assert said.count("exitcode  : 138") == 3, said
    record = Record(tmp_path / "runs" / good.key)
    assert list(record.folder.glob("checkpoint-*")) and record.failure() is None
    (tmp_path / "1-9").write_text("SIGKILL")
    said = torchrun("runs")
    assert "ended: not all processes can go on" in said and "exitcode  : -9" in said
    assert record.result() is None and record.failure() is None and not record.held
    said = torchrun("runs")
    assert "3 done, 1 failed" in said
    whole = Record(tmp_path / "whole" / good.key)
    mine, theirs = record.weights(), whole.weights()
    assert [name for name in mine if mine[name].tobytes() != theirs[name].tobytes()] == []
    assert [row["loss"] for row in record.curves()] == [row["loss"] for row in whole.curves()]
    assert json.loads((record.folder / "claim.json").read_text())["processes"] == 3


def test_where_a_process_stands(monkeypatch):
    for name in (*NAMES, "TORCHELASTIC_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    assert rank() is None
    for name, value in zip(NAMES, "3412", strict=True):
        monkeypatch.setenv(name, value)
    assert rank() is None  # not from torchrun
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    assert rank() == Rank(3, 4, 1, 2)
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert rank() is None


def test_a_process_without_torchrun_stops(monkeypatch):
    stop = Signal()
    assert stop.look() == 0 and stop.patient()
    monkeypatch.setattr(os, "getppid", lambda: 1)
    stop.parent = 2
    assert stop.look() == signal.SIGTERM
    stop.hear(signal.SIGUSR1)
    assert stop.look() == signal.SIGTERM  # the first counts
    assert stop.patient()
    stop.since -= 31
    assert not stop.patient()
