"""A process dies at each named point in turn; the next run makes the same of it all.

One process imports everything once and forks a child for each run, as a worker would start.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from benchmark.planning.cell import Cell
from benchmark.records import faults
from benchmark.records.faults import FILES, POINTS
from benchmark.records.record import Record

ROOT = Path(__file__).resolve().parents[3]

SERVER = """
import json, os, sys
from pathlib import Path

import torch
from benchmark.planning.cell import Cell
from benchmark.records import faults
from benchmark.records.record import Record, Torn
from benchmark.training import runner
from benchmark.training.registry import registry

runner._commit = lambda: "unknown"
table = registry()

def work(runs, cells, fault):
    os.environ[faults.VARIABLE] = fault
    faults.arm()
    place = runner.Place(Path(runs), Path(runs), table, every=0.0)
    steps = []
    for cell in map(Cell.from_json, cells):
        record = Record(place.runs / cell.key)
        try:
            if record.result() is None:
                record.fail("made up", "so that there is one")
        except Torn:
            record.clear()  # as `run` does
        beats = []
        ear = runner.Ear(pulse=lambda step, _: beats.append(step), warn=lambda said: None)
        try:
            runner.run(cell, place, ear)
        except OSError as error:
            record.fail(str(error), "")
            break
        record.tag("tiny")
        steps.append(len(beats))
    return steps

for line in sys.stdin:
    asked = json.loads(line)
    runner.material(Cell.from_json(asked[1][0]).data, Path(asked[0]))  # once: children have it
    out, into = os.pipe()
    child = os.fork()
    if not child:
        os.write(into, json.dumps(work(*asked)).encode())
        os._exit(0)
    os.close(into)
    said = os.read(out, 1000).decode()
    os.close(out)
    print(json.dumps([os.waitpid(child, 0)[1], json.loads(said or "null")]), flush=True)
"""

STEPS = 8  # of either cell


@pytest.fixture(scope="module")
def serve(tmp_path_factory):
    """Give a function (runs, cells, fault): exit code and steps of each cell, in a child."""
    cache = tmp_path_factory.mktemp("cache")
    own = {"PYTHONPATH": str(ROOT), "BENCHMARK_CACHE": str(cache), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        [sys.executable, "-c", SERVER],
        env={**os.environ, **own},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as server:

        def ask(runs: Path, cells: list[Cell], fault: str = "") -> tuple[int, list[int] | None]:
            line = json.dumps([str(runs), [cell.to_json() for cell in cells], fault])
            server.stdin.write(line + "\n")
            server.stdin.flush()
            status, steps = json.loads(server.stdout.readline())
            return os.waitstatus_to_exitcode(status), steps

        yield ask
        server.stdin.close()


@pytest.fixture
def cells(cell) -> list[Cell]:
    """A trunk, and a stage that is trained on it, frozen; eight steps each."""
    small = {"data": {"largest": 20}, "ratio": 1.0, "batch": 50, "epochs": 2, "mixup": 1.0}
    return [cell("dl2pa", **small), cell("dl2pa", ">", "prototypes", **small)]


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    return tmp_path_factory.mktemp("undisturbed")


@pytest.fixture
def undisturbed(shelf, serve, cells) -> list[Record]:
    if not list(shelf.iterdir()):
        assert serve(shelf, cells) == (0, [STEPS, STEPS])
    return [Record(shelf / cell.key) for cell in cells]


def measured(record: Record) -> tuple:
    """Everything but what it cost."""
    result = record.result()
    names = ("state", "metrics", "readings", "seen", "size", "counts", "digests", "versions")
    arrays = {name: value.tobytes() for name, value in record.arrays().items()}
    weights = {name: value.tobytes() for name, value in record.weights().items()}
    rows = repr([{**row, "time": 0} for row in record.curves()])
    return repr([result[name] for name in names]), rows, arrays, weights, record.suites()


def passing(name: str) -> int:
    """The one in the second cell, of which the first was trained before.

    After three of its steps, or its only one; the first cell is claimed too, to find it finished.
    """
    if name.startswith(("step", "checkpoint")) and name != "checkpoint: before all go":
        return 3
    return 2 if name.startswith("claim: ") or name == "cell: claimed" else 1


def begun(runs: Path, cells: list[Cell], undisturbed: list[Record]) -> list[Record]:
    """Both records, the first of them finished."""
    shutil.copytree(undisturbed[0].folder, runs / cells[0].key)
    return [Record(runs / cell.key) for cell in cells]


def check(runs: Path, cells: list[Cell], serve, undisturbed: list[Record], fault: str) -> None:
    """Disturb a run, run again, and hold what there is then against an undisturbed one."""
    records = begun(runs, cells, undisturbed)
    before = (records[0].folder / "result.json").read_bytes()
    code, steps = serve(runs, cells, fault)
    if "full" not in fault:
        assert (code, steps) == (-signal.SIGKILL, None)
    assert not any(record.held for record in records)
    code, steps = serve(runs, cells)
    assert code == 0
    assert (records[0].folder / "result.json").read_bytes() == before  # not trained again
    assert steps[0] == 0 and steps[1] < STEPS + 1
    assert sorted(path.name for path in runs.iterdir()) == sorted(cell.key for cell in cells)
    for record, other in zip(records, undisturbed, strict=True):
        assert measured(record) == measured(other)
        assert sorted(os.listdir(record.folder)) == sorted(os.listdir(other.folder))
        assert not record.held


@pytest.mark.long
@pytest.mark.parametrize("name", POINTS)
def test_killed_at_each_point(tmp_path, cells, serve, undisturbed, name):
    check(tmp_path, cells, serve, undisturbed, f"kill {passing(name)} {name}")


@pytest.mark.long
@pytest.mark.parametrize("what", FILES)
def test_power_cut_after_each_rename(tmp_path, cells, serve, undisturbed, what):
    name = f"{what}: after rename"
    check(tmp_path, cells, serve, undisturbed, f"truncate {passing(name)} {name}")


@pytest.mark.long
@pytest.mark.parametrize("what", FILES)
def test_disk_full_at_each_file(tmp_path, cells, serve, undisturbed, what):
    name = f"{what}: half written"
    check(tmp_path, cells, serve, undisturbed, f"full {passing(name)} {name}")


def test_a_killed_cell_goes_on_where_it_stood(tmp_path, cells, serve, undisturbed):
    """One of the above among the fast tests; and that it is as long as it should be."""
    name = "checkpoint: half written"
    records = begun(tmp_path, cells, undisturbed)
    assert serve(tmp_path, cells, f"kill {passing(name)} {name}") == (-signal.SIGKILL, None)
    assert serve(tmp_path, cells) == (0, [0, STEPS - 2])  # two checkpoints of the second cell
    assert list(map(measured, records)) == list(map(measured, undisturbed))
    assert faults._armed is None
