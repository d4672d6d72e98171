"""A run that is stopped, or whose parent is killed: nothing is lost, and nothing stays."""

import os
import signal
from contextlib import contextmanager

import psutil
import pytest

from benchmark.engines.signals import STOPPING, heard, leaving
from benchmark.records.record import Record

STEPS = 10  # of each cell


def lines_until(process, start):
    """What a process says, until a line begins so."""
    said = []
    for line in process.stdout:
        said.append(line)
        if line.startswith(start):
            return "".join(said)
    raise AssertionError("".join(said))


def until_there(process, *paths):
    """Wait until files are there that workers of this process make."""
    while not all(path.exists() for path in paths):
        assert process.poll() is None, process.communicate()[0]


@contextmanager
def nobody_left(process):
    """All that this process started goes by itself."""
    family = psutil.Process(process.pid).children(recursive=True)
    assert family
    yield
    assert psutil.wait_procs(family, timeout=120)[1] == []


@pytest.mark.long
@pytest.mark.parametrize("number, code", [("SIGTERM", 143), ("SIGUSR1", 138), ("SIGINT", 130)])
def test_a_signal_lets_each_finish_its_step_and_save(
    faulty, command, trained, tmp_path, number, code
):
    """SIGTERM goes to the parent; the others to all, as from Slurm and from a terminal."""
    cells = faulty("[{mine: {fault: slow once, size: [1, 2]}}]")
    first = command(2)
    until_there(first, tmp_path / "slow-1", tmp_path / "slow-2")
    with nobody_left(first):
        if number == "SIGTERM":
            first.terminate()
        else:
            os.killpg(first.pid, getattr(signal, number))
        said, _ = first.communicate(timeout=280)
    assert first.returncode == code, said
    assert "interrupted; the same command goes on" in said and "Traceback" not in said
    assert trained() == {"slow once 1": 2, "slow once 2": 2}
    for cell in cells:
        record = Record(tmp_path / "runs" / cell.key)
        assert record.result() is None and record.failure() is None and not record.held
        assert len(list(record.folder.glob("checkpoint-*"))) == 1
    second = command(2)
    said, _ = second.communicate(timeout=280)
    assert second.returncode == 0 and "2 done" in said, said
    assert trained() == {"slow once 1": STEPS, "slow once 2": STEPS}  # none is taken twice


@pytest.mark.long
def test_a_second_ctrl_c_means_now(faulty, command, trained, tmp_path):
    (cell,) = faulty("[{mine: {fault: sleeps once}}]")
    first = command()
    until_there(first, tmp_path / "sleeps-1")
    with nobody_left(first):
        os.killpg(first.pid, signal.SIGINT)
        said = lines_until(first, "interrupted: each cell finishes its step")
        os.killpg(first.pid, signal.SIGINT)
        said += first.communicate(timeout=120)[0]
    assert first.returncode == 130 and "Traceback" not in said, said
    record = Record(tmp_path / "runs" / cell.key)
    assert record.result() is None and record.failure() is None and not record.held
    second = command()
    said, _ = second.communicate(timeout=280)
    assert second.returncode == 0 and "1 done" in said, said
    assert trained() == {"sleeps once 1": STEPS + 2}


def test_only_ctrl_c_hurries(engine):
    """Slurm sends SIGTERM twice, and the step may not be over at the second."""
    for numbers, hurried in (
        ((signal.SIGTERM, signal.SIGTERM), False),
        ((signal.SIGUSR1, signal.SIGTERM), False),
        ((signal.SIGINT, signal.SIGTERM), False),
        ((signal.SIGINT, signal.SIGINT), True),
        ((signal.SIGTERM, signal.SIGINT), True),
    ):
        run = engine()
        for number in numbers:
            run._interrupt(number)
        assert (run.interrupted, run.hurried) == (numbers[0], hurried)


@pytest.mark.long
def test_a_parent_that_is_killed(faulty, command, trained, tmp_path):
    """The next run waits for the orphan, which notices after its step, saves and goes."""
    (cell,) = faulty("[{mine: {fault: waits once}}]")
    first = command()
    until_there(first, tmp_path / "waits-1")
    with nobody_left(first):
        first.kill()
        first.wait()
        second = command()
        lines_until(second, "waiting for what other processes train")
        assert Record(tmp_path / "runs" / cell.key).held
        (tmp_path / "go").touch()
        said, _ = second.communicate(timeout=280)
    assert second.returncode == 0 and "1 done" in said, said
    assert "the process that trained it is gone; it goes on here" in said
    assert trained() == {"waits once 1": STEPS}


ORPHAN = """
import sys
from pathlib import Path
from benchmark.engines.crew import Crew
from benchmark.engines.patience import Patience
from benchmark.engines.worker import Settings
from benchmark.planning import suite
from benchmark.planning.plan import complete
from benchmark.training.registry import registry

if __name__ == "__main__":
    files = (Path("mine.py").resolve(),)
    table = registry(files)
    (cell,) = [complete(each, table, lambda name: 124) for each in suite.read("tiny.yaml").cells]
    settings = Settings(Path("runs").resolve(), Path("data"), files, "cpu", 1)
    crew = Crew(settings, 1, Patience(step=1.0))
    crew.give(crew.free(), cell)
    sys.stdin.readline()
    crew.kill()
"""


@pytest.mark.long
def test_an_orphan_that_hangs_ends_itself(faulty, python, tmp_path):
    (cell,) = faulty("[{mine: {fault: sleeps}}]")
    (tmp_path / "orphan.py").write_text(ORPHAN)
    parent = python("orphan.py")
    until_there(parent, tmp_path / "steps.log")
    with nobody_left(parent):
        parent.kill()
    assert not Record(tmp_path / "runs" / cell.key).held


@pytest.fixture
def handlers():
    """Python's own handlers, as a command finds them; pytest's come back."""
    before = {number: signal.getsignal(number) for number in STOPPING}
    yield before
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", STOPPING)
def test_outside_of_training_a_signal_ends_the_process_in_order(handlers, number):
    said = []
    with pytest.raises(SystemExit) as end, leaving(said.append), leaving(said.append):
        os.kill(os.getpid(), number)
    assert end.value.code == 128 + number and said == [number]
    assert {n: signal.getsignal(n) for n in STOPPING} == handlers


def test_who_listens_already_is_not_disturbed(handlers):
    got, said = [], []
    with heard(got.append), leaving(said.append):
        os.kill(os.getpid(), signal.SIGTERM)
    assert got == [signal.SIGTERM] and said == []
    assert {n: signal.getsignal(n) for n in STOPPING} == handlers
