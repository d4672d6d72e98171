"""Studies as a user runs them: on digits, in this process where nothing is to be killed."""

import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

import studies
from benchmark.commands import study as command
from benchmark.engines.local import Event
from benchmark.records.record import Record, records
from benchmark.training import runner
from datasets.base import Dataset

ROOT = Path(__file__).resolve().parents[3]
BLOCK = """\
- data: {name: digits, largest: 10}
  backbone: {small_cnn: {channels: 4}}
  recipe: {quick: {epochs: EPOCHS}}
  head: HEAD
  seeds: [0]
"""
GRID = "[{dl2pa: {dim: {grid: [4, 8]}, updates_per_epoch: {grid: [0.5, 1]}}}, psc]"
RANGES = "{dl2pa: {dim: {low: 2, high: 32}, momentum: {low: 0.5, high: 0.99}}}"
SEARCH = "- search: {trials: 8, final: [0, 1]}\n"
RUN = ("study", "mine.yaml", "--device", "cpu", "--jobs", "1")


@pytest.fixture
def write(place):
    """Give a function (head, tail, epochs): the study mine.yaml."""

    def write(head, tail="", epochs=1):
        text = BLOCK.replace("HEAD", head).replace("EPOCHS", str(epochs))
        Path("mine.yaml").write_text(f"# mine: why?\n{text}{tail}")

    return write


class Here:
    """An engine that trains in this process, one cell after the other."""

    made: list["Here"] = []

    def __init__(self, desk, tell):
        self.runs, self.files = desk.runs, desk.options.files
        self.root, self.tell = desk.options.data_root, tell
        self.interrupted = 0
        self.trained, self.recalled = [], set()
        self.made.append(self)

    def recall(self, key):
        self.recalled.add(key)

    def run(self, cells, more=tuple):
        ended, waiting = {}, list(cells)
        while not self.interrupted and (waiting := waiting or list(more())):
            cell = waiting.pop(0)
            self.tell(Event(cell, "started", {}))
            ended[cell.key] = self.train(cell)
            self.tell(Event(cell, ended[cell.key], {"seconds": 1.0, "reason": ""}))
        return ended

    def train(self, cell):
        from benchmark.training.registry import registry
        from benchmark.training.train import Stopped

        self.trained.append(cell.key)

        def epoch(row):
            self.tell(Event(cell, "pulse", {"step": 1, "steps": 2, "rows": [row]}))

        ear = runner.Ear(epoch=epoch, stop=lambda: cell.key in self.recalled)
        try:
            return runner.run(cell, runner.Place(self.runs, self.root, registry(self.files)), ear)
        except Stopped:
            return "recalled"


@pytest.fixture
def here(monkeypatch):
    """Cells are trained in this process; gives the engines, in order."""
    Here.made = []
    monkeypatch.setattr(command.Desk, "engine", lambda desk, jobs, tell: Here(desk, tell))
    return Here.made


def results():
    return {each.key: each.result() for each in records(Path("runs")) if each.result()}


def notebook():
    """Trials of all Optuna studies of the notebook."""
    import optuna

    from studies.search import Journal

    with Journal(Path("notebook") / "mine.journal") as journal:
        names = optuna.get_all_study_names(journal.storage)
        found = [optuna.load_study(study_name=n, storage=journal.storage).trials for n in names]
    return [trial for trials in found for trial in trials]


def test_a_grid_is_run_as_the_suite_that_it_stands_for(tracked, write, call, here):
    write(GRID)
    said = call(*RUN)
    assert said.code == 0, said
    assert "suite mine: 5 cells: 5 missing" in said.out and "5 done" in said.out
    text = Path("mine.yaml").read_text()
    Path("same.yaml").write_text(re.sub(r"\{grid: (\[.*?\])\}", r"\1", text))
    rows = json.loads(call("plan", "--suite", "same.yaml", "--json").out)
    assert {row["key"] for row in rows} == set(results())
    assert {row["state"] for row in rows} == {"done"}
    for key, result in results().items():
        assert result["metrics"]["accuracy"] >= 0 and "validation" not in result["metrics"]
        assert Record(Path("runs") / key).suites() == ("mine",)
    trials = notebook()
    assert {trial.user_attrs["cell"]: trial.value for trial in trials} == {
        key: result["metrics"]["accuracy"] for key, result in results().items()
    }
    params = [tuple(trial.params.values()) for trial in trials]
    assert sorted(params) == [(), (4, 0.5), (4, 1.0), (8, 0.5), (8, 1.0)]

    said = call(*RUN)  # like make
    assert said.code == 0 and "nothing to do" in said.out
    assert len(here) == 1 and len(notebook()) == 5
    (Path("notebook") / "mine.journal").unlink()  # loses nothing
    assert call(*RUN).code == 0 and len(notebook()) == 5

    from benchmark.records.ledger import Ledger, default_uri

    assert len(Ledger(default_uri(Path()), Path("mlartifacts")).read("mine")) == 5


def test_a_grid_needs_no_optuna(place, write, call, here, monkeypatch):
    write(GRID.replace("[0.5, 1]", "[1]"))
    monkeypatch.setitem(sys.modules, "studies.search", None)
    monkeypatch.delattr(studies, "search", raising=False)
    said = call(*RUN, "--offline", "--set", "head.dl2pa.dim=4")
    assert said.code == 0 and "not noted in Optuna" in said.out and "2 done" in said.out
    write(RANGES, SEARCH)
    said = call(*RUN, "--offline")
    assert said.code == 2 and "a search needs optuna" in said.err


class Poisoned:
    """Images that nobody may look at."""

    def __getattr__(self, name):
        raise AssertionError(f"the test images were looked at: {name}")


@pytest.fixture
def poison(monkeypatch):
    """Test images of what is carved are poisoned; of everything, once `all` is set."""
    load = Dataset.load
    found = type("Switch", (), {"all": False})()

    def poisoned(self, options, *args, **more):
        material = load(self, options, *args, **more)
        if options["validation"] or found.all:
            return dataclasses.replace(material, test=Poisoned())
        return material

    monkeypatch.setattr(Dataset, "load", poisoned)
    runner.material.cache_clear()
    yield found
    runner.material.cache_clear()


def test_the_poison_works(place, write, call, here, poison):
    write("[{psc: {dim: {grid: [4]}}}]")
    poison.all = True
    with pytest.raises(AssertionError, match="the test images were looked at"):
        call(*RUN, "--offline")


def test_a_search_sees_no_test_image_and_its_choice_does(place, write, call, here, poison):
    write(RANGES, SEARCH, epochs=2)
    said = call(*RUN, "--offline")
    assert said.code == 0, said
    trials = notebook()
    assert len(trials) == 8 and {t.state.name for t in trials} <= {"COMPLETE", "PRUNED"}
    done = [trial for trial in trials if trial.state.name == "COMPLETE"]
    best = max(done, key=lambda trial: trial.value)
    final = []
    for key, result in results().items():
        record = Record(Path("runs") / key)
        assert record.suites() == ("mine",)
        if dict(record.cell().data)["validation"]:
            assert dict(record.cell().data)["validation"] == 0.1
            assert "accuracy" not in result["metrics"]
            (trial,) = [trial for trial in done if trial.user_attrs["cell"] == key]
            assert trial.value == result["metrics"]["validation"]
            assert trial.intermediate_values.keys() == {1, 2}
        else:
            final.append(record.cell())
            assert "validation" not in result["metrics"]
    assert [cell.seed for cell in sorted(final, key=lambda cell: cell.seed)] == [0, 1]
    for cell in final:
        hyper = dict(cell.stages[0].hyper)
        assert hyper.get("dim") == best.params["head.dl2pa.dim"]
        assert hyper.get("momentum") == best.params["head.dl2pa.momentum"]
    assert "the choice on test: " in said.out and "over 2 seeds" in said.out

    trained = [key for engine in here for key in engine.trained]
    assert len(trained) == len(set(trained)) == 10
    said = call(*RUN, "--offline")
    assert said.code == 0 and "0 to go" in said.out and "nothing to do" in said.out
    assert len(notebook()) == 8 and len(here) == 3  # the third had nothing to train
    assert here[2].trained == []

    said = call(*RUN, "--offline", "--set", "search.trials=10", "--set", "search.final=[]")
    assert said.code == 0 and "8 trials" not in said.out, said
    assert len(notebook()) == 10 and len(here[3].trained) == 2


def test_a_lost_notebook_is_written_again_from_the_records(place, write, call, here):
    write(RANGES, SEARCH.replace("8", "4"))
    assert call(*RUN, "--offline").code == 0
    before = [(trial.params, trial.value) for trial in notebook()]
    (Path("notebook") / "mine.journal").unlink()
    said = call(*RUN, "--offline")
    assert said.code == 0 and "4/4 known" in said.out, said
    assert [(trial.params, trial.value) for trial in notebook()] == before
    assert here[2].trained == []


def test_what_is_pruned_stays_to_be_done(place, write, call, here):
    """The first five are not pruned; of the others those that are below the median."""
    write(RANGES, SEARCH.replace("8", "14").replace("[0, 1]", "[]"), epochs=5)
    said = call(*RUN, "--offline")
    assert said.code == 0, said
    pruned = [trial for trial in notebook() if trial.state.name == "PRUNED"]
    assert pruned and f"{len(pruned)} pruned" in said.out
    for trial in pruned:
        folder = Path("runs") / trial.user_attrs["cell"]
        assert Record(folder).result() is None and Record(folder).failure() is None
        assert 1 <= max(trial.intermediate_values) < 5
    assert len(results()) == 14 - len(pruned)


def test_trials_that_are_the_same_cell_share_it(place, write, call, here):
    write("{dl2pa: {dim: {choice: [4, 8]}}}", SEARCH.replace("[0, 1]", "[]"))
    said = call(*RUN, "--offline")
    assert said.code == 0, said
    assert len(notebook()) == 8 and sorted(here[0].trained) == sorted(results())
    assert len(results()) == 2


def test_a_change_closes_a_hole(place, write, call, here):
    write(RANGES, SEARCH.replace("8", "2").replace("[0, 1]", "[]"))
    said = call(*RUN, "--offline", "--set", "head.dl2pa.dim=6")
    assert said.code == 0 and "head.dl2pa.dim is fixed at 6 by --set" in said.out
    assert [set(trial.params) for trial in notebook()] == [{"head.dl2pa.momentum"}] * 2
    assert call(*RUN, "--offline").code == 0  # another question: other trials
    assert len(notebook()) == 4


def test_what_diverges_is_as_bad_as_can_be(place, write, call, here):
    (place / "mine.py").write_text(
        (ROOT / "heads" / "psc.py")
        .read_text()
        .replace("functional.cross_entropy(", "float('nan') * functional.cross_entropy(")
    )
    write("{mine: {dim: {low: 2, high: 32}}}", SEARCH.replace("8", "3"))
    said = call(*RUN, "--offline", "--with", "mine.py")
    assert said.code == 1 and "nothing to choose" in said.out, said
    assert [trial.user_attrs["why"] for trial in notebook()] == ["diverged"] * 3
    assert len(here) == 1


@pytest.mark.parametrize(
    "head, tail, words, parts",
    [
        (RANGES, SEARCH, ("--set", "seeds=[0, 1]"), ("one cell a trial", "makes 2")),
        (f"[{RANGES}, psc]", SEARCH, (), ("one cell a trial", "makes 2")),
        (RANGES, SEARCH, ("--set", "data={name: digits, validation: 0.3}"), ("all training",)),
        (RANGES, SEARCH, ("--set", "head=psc"), ("leaves no hole",)),
        ("{etf: {dim: {low: 4, high: 16}}}", SEARCH, (), ("etf needs dim >= classes - 1",)),
        ("{psc: {dims: {grid: [4]}}}", "", (), ("no option 'dims'", "Did you mean 'dim'?")),
        ("{pcs: {dim: {grid: [4]}}}", "", (), ("unknown head 'pcs'",)),
        ("{psc: {dim: {gird: [4]}}}", "", (), ("Did you mean 'grid'?",)),
        (RANGES, SEARCH, ("--device", "tpu"), ("unknown device",)),
    ],
)
def test_refusals(write, call, here, head, tail, words, parts):
    write(head, tail)
    said = call(*RUN, "--offline", *words)
    assert said.code == 2 and said.err.count("\n") == 1, said
    for part in parts:
        assert part in said.err
    assert here == [] and not list(Path("runs").glob("*")) and not Path("notebook").exists()


def test_unknown_studies(place, call):
    said = call("study", "taus")
    assert said.code == 2 and "Did you mean 'tau'?" in said.err
    assert not Path("runs").exists()


# in processes


@pytest.mark.long
def test_a_search_that_is_killed_loses_and_repeats_no_trial(place, write, command):
    write(RANGES, SEARCH.replace("8", "6").replace("[0, 1]", "[0]"), epochs=20)
    words = (*RUN[:-1], "2", "--offline", "--set", "data.largest=100")
    words = (*words, "--set", "search.pruner=none")
    stamps: dict[str, int] = {}
    for kill in (signal.SIGKILL, signal.SIGTERM):
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmark", *words],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        until = time.monotonic() + 300
        while len(results()) <= len(stamps) and process.poll() is None:
            assert time.monotonic() < until
            time.sleep(0.05)
        family = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(kill)
        said, _ = process.communicate(timeout=120)
        if kill == signal.SIGTERM:
            assert process.returncode == 143 and "the same command goes on" in said, said
        assert not psutil.wait_procs(family, timeout=30)[1]  # orphans stop by themselves
        now = {key: (Path("runs") / key / "result.json").stat().st_mtime_ns for key in results()}
        assert stamps.items() <= now.items()  # what was finished is not trained again
        stamps = now
    assert len(stamps) < 6
    before = [trial.params for trial in notebook()]
    said = command(*words)
    assert said.code == 0, said
    trials = notebook()
    assert [trial.params for trial in trials][: len(before)] == before
    assert [trial.state.name for trial in trials] == ["COMPLETE"] * 6
    carved = [
        key for key in results() if dict(Record(Path("runs") / key).cell().data)["validation"]
    ]
    assert sorted(trial.user_attrs["cell"] for trial in trials) == sorted(carved)
    for key in results():
        rows = [row["epoch"] for row in Record(Path("runs") / key).curves()]
        assert rows == list(range(1, 21))
    for key, stamp in stamps.items():
        assert (Path("runs") / key / "result.json").stat().st_mtime_ns == stamp
    assert not list(Path("runs").glob("*/checkpoint-*"))


@pytest.mark.long
def test_a_pruned_trial_frees_its_worker(place, write, command):
    write(RANGES, SEARCH.replace("8", "12").replace("[0, 1]", "[]"), epochs=40)
    said = command(*RUN, "--offline", "--set", "data.largest=100")
    assert said.code == 0, said
    trials = notebook()
    pruned = [trial for trial in trials if trial.state.name == "PRUNED"]
    assert len(trials) == 12 and pruned, said.out
    cut = [each for each in pruned if not Record(Path("runs") / each.user_attrs["cell"]).result()]
    assert cut
    for trial in cut:
        assert not list((Path("runs") / trial.user_attrs["cell"]).glob("checkpoint-*"))
