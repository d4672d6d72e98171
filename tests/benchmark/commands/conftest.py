"""Commands as a user types them, in an empty folder."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
OWN = ("BENCHMARK_DATA", "BENCHMARK_TRACEBACK", "MLFLOW_TRACKING_URI")
TINY = """\
# tiny: does it run?
- data: {name: digits, largest: 10}
  backbone: {small_cnn: {channels: 4}}
  recipe: {quick: {epochs: 1}}
  head: [psc, psc > ncm]
  seeds: [0]
"""


@dataclass(frozen=True)
class Answer:
    """What a command said: exit code, standard output, standard error."""

    code: int
    out: str
    err: str


@pytest.fixture
def place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """An empty folder with a tiny suite, to be in."""
    monkeypatch.chdir(tmp_path)
    for name in OWN:
        monkeypatch.delenv(name, raising=False)
    cache = tmp_path_factory.getbasetemp() / "points"
    monkeypatch.setenv("BENCHMARK_CACHE", str(cache))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    (tmp_path / "tiny.yaml").write_text(TINY)
    return tmp_path


@pytest.fixture
def tracked(place: Path, migrated: Path) -> Path:
    """The same, where MLflow's database exists already, which saves seconds."""
    shutil.copy(migrated, place / "mlflow.db")
    return place


@pytest.fixture
def call(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Answer]:
    """Give a function (*words): a command in this process; what it says."""
    from benchmark.__main__ import main

    def answer(*words: object) -> Answer:
        monkeypatch.setattr(sys, "argv", ["benchmark", *map(str, words)])
        capsys.readouterr()
        try:
            main()
            code = 0
        except SystemExit as end:
            code = end.code or 0
        said = capsys.readouterr()
        return Answer(code, said.out, said.err)

    return answer


@pytest.fixture
def command(place: Path) -> Callable[..., Answer]:
    """Give a function (*words, first=…): `python -m benchmark` in a process of its own.

    first  folder whose modules hide others
    """

    def answer(*words: object, first: Path | None = None) -> Answer:
        path = os.pathsep.join(map(str, filter(None, [first, ROOT])))
        done = subprocess.run(
            [sys.executable, "-m", "benchmark", *map(str, words)],
            cwd=place,
            env={**os.environ, "PYTHONPATH": path},
            capture_output=True,
            text=True,
            timeout=300,
        )
        return Answer(done.returncode, done.stdout, done.stderr)

    return answer


@pytest.fixture(scope="session")
def tiny_runs(tmp_path_factory):
    from benchmark.commands import agenda
    from benchmark.training.runner import Place, run

    folder = tmp_path_factory.mktemp("tiny")
    (folder / "tiny.yaml").write_text(TINY)
    work = agenda.read(
        *(str(folder / "tiny.yaml"), [], [], folder / "runs", folder),
        skip_missing=False,
        load=False,
    )
    for item in work.items:
        assert run(item.cell, Place(folder / "runs", folder, work.registry)) == "done"
    return folder / "runs"
