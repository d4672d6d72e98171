"""A head of which things go wrong on command, and cells with it."""

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from benchmark.engines.local import Event, Local
from benchmark.engines.patience import Patience
from benchmark.engines.worker import Settings
from benchmark.planning import suite
from benchmark.planning.cell import Cell
from benchmark.planning.plan import complete
from benchmark.training.registry import registry

HEAD = '''
import os, signal, sys, time
from pathlib import Path
import torch
from heads.base import Head, Problem

PLACE = Path(__file__).parent

def first(fault):
    """Whether a thing that goes wrong once has not gone wrong yet."""
    try:
        os.close(os.open(PLACE / fault.replace(" ", "_"), os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True

class Mine(Head):
    def __init__(self, problem: Problem, *, fault: str = "none", size: int = 1):
        super().__init__()
        self.dim, self.fault, self.size = problem.width, fault, size
        self.weight = torch.nn.Parameter(torch.zeros(problem.classes, problem.width))
        self.steps = 0

    def score(self, embedding):
        return embedding @ self.weight.T

    def loss(self, embedding, labels):
        self.steps += 1
        with open(PLACE / "steps.log", "a") as log:
            log.write(f"{self.fault} {self.size}\\n")
        fault, _, once = self.fault.partition(" once")
        if self.steps == 2 and (self.fault == fault or first(f"{fault}-{self.size}")):
            getattr(self, fault)()
        return torch.nn.functional.cross_entropy(self.score(embedding), labels)

    def none(self): pass
    def raises(self): raise RuntimeError("no loss today")
    def killed(self): os.kill(os.getpid(), signal.SIGKILL)
    def leaves(self): sys.exit(0)
    def breaks(self): os.kill(os.getpid(), signal.SIGSEGV)
    def memory(self): raise torch.OutOfMemoryError("CUDA out of memory.")

    def sleeps(self):
        while True:
            time.sleep(1)

    def waits(self):
        """A long step, which is over when the test says so."""
        while not (PLACE / "go").exists():
            time.sleep(0.05)

    def slow(self):
        """A long step, which is over once its process was asked to stop."""
        while not signal.getsignal(signal.SIGTERM).__self__.asked:
            time.sleep(0.05)

    def forks(self):
        """Its process is killed, and a child of it lives on for a while, as a reader of images."""
        if os.fork() == 0:
            until = time.monotonic() + 60
            while not (PLACE / "go").exists() and time.monotonic() < until:
                time.sleep(0.05)
            os._exit(0)
        self.killed()
'''
PATIENCE = Patience()
ROOT = Path(__file__).resolve().parents[3]
SUITE = """\
- data: {name: digits, largest: 10}
  backbone: {small_cnn: {channels: 4}}
  recipe: {quick: {epochs: 2, batch: 20}}
  seeds: 0
  head: HEADS
"""


def workers() -> list[int]:
    """Worker processes of this one."""
    found = psutil.Process().children(recursive=True)
    return [child.pid for child in found if "spawn_main" in " ".join(child.cmdline())]


@pytest.fixture
def faulty(tmp_path: Path) -> Callable[[str], list[Cell]]:
    """Give a function (heads): cells of two epochs of five steps, with the head mine.py."""
    (tmp_path / "mine.py").write_text(HEAD)

    def build(heads: str) -> list[Cell]:
        (tmp_path / "tiny.yaml").write_text(SUITE.replace("HEADS", heads))
        table = registry([tmp_path / "mine.py"])
        found = suite.read(str(tmp_path / "tiny.yaml")).cells
        return [complete(cell, table, lambda name: 124) for cell in found]

    return build


@pytest.fixture
def engine(tmp_path: Path) -> Callable[..., Local]:
    """Give a function (jobs, hear, say, patience): an engine on the runs of this folder."""

    def build(
        jobs: int = 1,
        hear: Callable[[Event], object] = lambda event: None,
        say: Callable[[str], object] = lambda sentence: None,
        patience: Patience = PATIENCE,
    ) -> Local:
        def tell(event: Event | None) -> None:
            if event is not None:
                hear(event)

        files = (tmp_path / "mine.py",)
        settings = Settings(tmp_path / "runs", tmp_path / "data", files, "cpu", 1)
        return Local(settings, jobs, tell, say, patience)

    return build


@pytest.fixture
def trained(tmp_path: Path) -> Callable[[], Counter[str]]:
    """Give a function: steps begun so far, by fault and size."""
    return lambda: Counter((tmp_path / "steps.log").read_text().splitlines())


Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def python(tmp_path: Path) -> Iterator[Start]:
    """Give a function (*words): Python in this folder, in a session of its own, with pipes."""
    started: list[subprocess.Popen[str]] = []

    def start(*words: object) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [sys.executable, *map(str, words)],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, 9)  # of a test that failed: workers too
        process.communicate()


@pytest.fixture
def command(python: Start) -> Start:
    """Give a function (jobs): `run` on the suite that `faulty` wrote."""

    def start(jobs: int = 1) -> "subprocess.Popen[str]":
        words = ("--suite", "tiny.yaml", "--with", "mine.py", "--offline", "--device", "cpu")
        return python("-m", "benchmark", "run", *words, "--jobs", jobs)

    return start


@pytest.fixture(autouse=True)
def nothing_stays(tmp_path: Path):
    """After each test: no worker, no temporary file, no checkpoint of a finished cell."""
    yield
    assert workers() == []
    assert list(tmp_path.rglob("*.tmp")) == []
    for path in tmp_path.glob("runs/*/result.json"):
        assert list(path.parent.glob("checkpoint-*")) == []
