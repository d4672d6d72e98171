"""The Slurm engine, with submitit's local executor: jobs are processes of this machine."""

import json
import os
import signal
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest
from safetensors.numpy import load_file

from benchmark.engines.local import Local
from benchmark.engines.slurm import MINUTES, Slurm, _append, _lines, _minutes
from benchmark.engines.worker import Settings
from benchmark.records.record import Record
from tests.benchmark.engines.test_interruptions import nobody_left, until_there

STEPS = 10  # of each cell
needs_submitit = pytest.mark.skipif(
    find_spec("submitit") is None, reason="the extra `slurm` is not installed"
)
WORDS = ("--suite", "tiny.yaml", "--with", "mine.py", "--offline", "--device", "cpu", "--jobs", 2)


@pytest.fixture
def run(python, monkeypatch):
    """Give a function: `run` on the suite that `faulty` wrote, as jobs."""
    monkeypatch.setenv("BENCHMARK_SLURM", "local")
    return lambda *more: python("-m", "benchmark", "run", "--engine", "slurm", *WORDS, *more)


def job_of(cell, runs: Path) -> psutil.Process:
    """The process of submitit's that looks after a cell."""
    pid = json.loads((runs / cell.key / "claim.json").read_text())["pid"]
    return psutil.Process(pid).parent()


def same(there: Record, here: Record) -> bool:
    files = [
        [load_file(record.folder / f"{name}.safetensors") for name in ("arrays", "weights")]
        for record in (there, here)
    ]
    bits = [[{n: v.tobytes() for n, v in each.items()} for each in pair] for pair in files]
    return bits[0] == bits[1] and there.result()["metrics"] == here.result()["metrics"]


@needs_submitit
@pytest.mark.long
def test_jobs_give_what_processes_give_and_one_that_is_preempted_goes_on(
    faulty, run, tmp_path, trained
):
    """One job is told that its time is over and is queued again, one dies."""
    cells = faulty("[{mine: {fault: [slow once, waits once]}}, psc, psc > ncm]")
    process = run()
    until_there(process, tmp_path / "slow-1", tmp_path / "waits-1")
    until_there(process, *(tmp_path / "runs" / cell.key / "claim.json" for cell in cells[:2]))
    job_of(cells[0], tmp_path / "runs").send_signal(signal.SIGUSR2)
    job = job_of(cells[1], tmp_path / "runs")
    job.parent().kill()  # submitit's own: nobody starts the job again
    job.kill()
    (tmp_path / "go").touch()  # the cell's process saves after this step, and goes
    said, _ = process.communicate(timeout=280)
    assert process.returncode == 0 and "4 done" in said, said
    assert "Traceback" not in said and "it goes on elsewhere" in said
    assert trained() == {"slow once 1": STEPS, "waits once 1": STEPS}
    settings = Settings(tmp_path / "calm", tmp_path / "data", (tmp_path / "mine.py",), "cpu", 1)
    (tmp_path / "steps.log").unlink()
    Local(settings, 2, lambda event: None).run(cells)
    for cell in cells:
        assert same(Record(tmp_path / "runs" / cell.key), Record(tmp_path / "calm" / cell.key))
    assert not (tmp_path / "slurm").exists()


@needs_submitit
@pytest.mark.long
def test_ctrl_c_saves_in_the_jobs(faulty, run, tmp_path, trained):
    (cell,) = faulty("[{mine: {fault: slow once}}]")
    first = run()
    until_there(first, tmp_path / "slow-1")
    with nobody_left(first):
        os.killpg(first.pid, signal.SIGINT)
        said, _ = first.communicate(timeout=200)
    assert first.returncode == 130 and "Traceback" not in said, said
    record = Record(tmp_path / "runs" / cell.key)
    assert record.result() is None and record.failure() is None and not record.held
    assert trained() == {"slow once 1": 2}
    assert len(list(record.folder.glob("checkpoint-*"))) == 1
    assert not (tmp_path / "slurm").exists() and list(tmp_path.glob("runs/.*")) == []


@needs_submitit
def test_where_there_is_no_slurm(tmp_path, monkeypatch):
    monkeypatch.delenv("BENCHMARK_SLURM", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ValueError, match="there is no Slurm on this machine: srun and sbatch"):
        Slurm(tmp_path / "runs", "cpu", 1, 0)
    assert list(tmp_path.iterdir()) == []


def test_without_submitit(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "submitit", None)
    with pytest.raises(ValueError, match=r"needs submitit, which cannot be imported .*\[slurm\]"):
        Slurm(tmp_path / "runs", "cpu", 1, 0)


@pytest.mark.parametrize("device", ["auto", "cuda:1"])
def test_the_device_is_to_be_said(tmp_path, device):
    with pytest.raises(ValueError, match="Use --device cpu or --device cuda"):
        Slurm(tmp_path / "runs", device, 1, 0)


def test_lines_that_are_half_written_come_later(tmp_path):
    path = tmp_path / "words"
    path.touch()
    _append(path, [("pulse", {"step": 1}), ("warning", {"sentence": "ä\n"})])
    lines, position = _lines(path, 0)
    assert [json.loads(line) for line in lines] == [
        ["pulse", {"step": 1}],
        ["warning", {"sentence": "ä\n"}],
    ]
    with open(path, "a") as file:
        file.write('["do')
    assert _lines(path, position) == ([], position)
    with open(path, "a") as file:
        file.write('ne", {}]\n')
    assert _lines(path, position)[0] == ['["done", {}]']


@pytest.mark.parametrize(
    "given, minutes",
    [
        *[("", MINUTES), ("90", 90), ("30:30", 31), ("2:00:00", 120), ("1-0", 1440)],
        *[("2-12:30", 3630), ("1-00:00:01", 1441), ("0:10", 1)],
    ],
)
def test_time_limits_as_slurm_writes_them(given, minutes):
    assert _minutes(given) == minutes


@pytest.mark.parametrize("given", ["UNLIMITED", "1:2:3:4", "a-b"])
def test_time_limits_that_are_none(given):
    with pytest.raises(ValueError, match="SBATCH_TIMELIMIT is"):
        _minutes(given)
