"""chaos: whom it kills, what it compares, and that it finds what it is there to find."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from benchmark.commands import alike, chaos
from benchmark.commands.kills import KINDS, NEVER, Pace, Queue, schedule, union
from benchmark.commands.siege import Broken, Siege
from benchmark.commands.subject import MARK, Subject
from benchmark.records.faults import POINTS
from benchmark.records.files import digest
from benchmark.records.record import Record

ROOT = Path(__file__).resolve().parents[3]
SUITE = """\
# small: does it survive?
- data: {name: digits, largest: 40}
  backbone: {small_cnn: {channels: 4}}
  recipe: {quick: {epochs: 8}}
  head: [psc, psc > ncm]
  seeds: [0, 1]
"""


# whom it kills, and when


def test_the_seed_is_everything():
    assert schedule(40, 3) == schedule(40, 3)
    assert schedule(40, 3) != schedule(40, 4)


def test_each_kind_as_often_and_each_point_before_any_again():
    kills = schedule(402, 0)
    assert [*Counter(kill.kind for kill in schedule(8, 1)).values()] == [2, 2, 2, 2]
    assert {*Counter(kill.kind for kill in kills)} == {*KINDS}
    points = [kill.point for kill in kills if kill.kind == "point"]
    possible = [name for name in POINTS if not name.startswith(NEVER)]
    for start in (0, len(possible)):
        deck = points[start : start + len(possible)]
        assert sorted(deck) == sorted(possible)
    assert not any(kill.point for kill in kills if kill.kind != "point")


def test_a_point_is_killed_at_while_it_is_passed():
    """A passing that never comes would be no kill."""
    for kill in schedule(400, 0):
        passings = {kill.passing(steps, cells) for steps in (0, 1, 7) for cells in (1, 2, 50)}
        most = 7 if kill.point.startswith("step") else 2
        assert min(passings) == 1 and max(passings) <= most
        assert kill.passing(1, 1) == 1


@pytest.mark.parametrize("seed", range(5))
def test_every_kill_is_made_once(seed):
    """Whatever is due is made; a point that lurks is passed after some others, as in a run."""
    queue = Queue.of(schedule(20, seed))
    made = Counter()
    while len(queue):
        armed = queue.points[0] if queue.points else None
        kill = queue.due(armed, armed is not None) or armed
        assert kill.kind != "parent" or armed is None
        before = len(queue)
        queue.made(kill)
        assert len(queue) == before - 1
        made[kill.kind] += 1
    assert queue.due(None, False) is None
    assert made["worker"] == 5 and made["point"] == 5 and made["parent"] == 10  # starts, at last


def test_what_cannot_be_made_otherwise_becomes_a_parents():
    """The armed point last of all: its run may come to it still."""
    queue = Queue.of([kill for kill in schedule(12, 0) if kill.kind == "point"])
    armed, *others = queue.points
    for other in others:
        kill = queue.due(armed, False)
        assert (kill.kind, kill.point) == ("parent", other.point)
        queue.made(kill)
    assert queue.due(armed, False).point == armed.point
    queue.made(queue.due(armed, False))
    assert len(queue) == 0


def test_times_by_hand():
    assert union([(0, 2), (1, 3), (5, 6)]) == 4
    pace = Pace(seconds=20, start=4, spans={"a": 2, "b": 6}, busy=4, steps=10)
    assert pace.left(["b"]) == 3  # 6 of 8 seconds, at two side by side
    assert pace.room(["a", "b"]) == 4 * (1 - 0.75 / 2)
    assert pace.room([]) == 0
    assert Queue.of(schedule(8, 0)).mean(12.0) == 3  # four come by time


# what it compares


@pytest.fixture
def two(tiny_runs, tmp_path):
    """Two runs that left the same, and the cells: key -> label."""
    for name in ("one", "other"):
        shutil.copytree(tiny_runs, tmp_path / name / "runs")
    cells = {path.name: path.name[:3] for path in tiny_runs.iterdir()}
    return tmp_path / "one", tmp_path / "other", cells


def told(two) -> list[str]:
    one, other, cells = two
    return [*alike.records(one / "runs", other / "runs", cells), *alike.leftovers(one, other)]


def some(two) -> Record:
    """A cell of the second run, one that was trained: of the two one takes class means alone."""
    _, other, cells = two
    found = [Record(other / "runs" / key) for key in cells]
    return next(record for record in found if len(record.cell().stages) == 1)


def reseal(record: Record, change) -> None:
    """Write a record anew, as if it had been trained so; change(result, arrays, weights)."""
    result, arrays, weights = record.result(), record.arrays(), record.weights()
    change(result, arrays, weights)
    record.finish(result, arrays, weights)


def test_the_same(two):
    assert told(two) == []


def last_bit(tensors, name):
    """The smallest change that there is."""
    tensors[name] = tensors[name].copy()
    tensors[name].view("uint8").reshape(-1)[0] ^= 1


@pytest.mark.parametrize(
    "change, said",
    [
        (lambda result, arrays, weights: last_bit(weights, min(weights)), "weights: 1 of"),
        (lambda result, arrays, weights: weights.pop(min(weights)), "weights: 1 of"),
        (lambda result, arrays, weights: last_bit(arrays, "confusion"), "differ: confusion"),
        (lambda result, arrays, weights: result["metrics"].update(accuracy=0.5), "accuracy is 0.5"),
        (lambda result, arrays, weights: result.update(state="diverged"), "state is 'diverged'"),
        (lambda result, arrays, weights: result["counts"].clear(), "counts is []"),
    ],
)
def test_what_was_measured_differs(two, change, said):
    reseal(some(two), change)
    (sentence,) = told(two)
    assert sentence.startswith(some(two).key[:3]) and said in sentence


def test_costs_may_differ(two):
    reseal(some(two), lambda result, arrays, weights: result["cost"].update(seconds=1e9))
    reseal(some(two), lambda result, arrays, weights: result.update(commit="another"))
    assert told(two) == []


def test_a_flipped_bit_that_nothing_vouches_for(two):
    path = some(two).folder / "weights.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert "does not match its result" in told(two)[0]


@pytest.mark.parametrize("changes, said", [({"time": 0}, []), ({"loss": -1.0}, ["curves differ"])])
def test_curves(two, changes, said):
    record = some(two)
    record.write_curves([{**row, **changes} for row in record.curves()])
    reseal(record, lambda result, arrays, weights: None)
    assert [sentence.partition(": ")[2] for sentence in told(two)] == said


def test_a_missing_cell(two):
    (some(two).folder / "result.json").unlink()
    assert told(two) == [f"{some(two).key[:3]}: no result in {some(two).folder}"]


def test_a_cell_that_nobody_planned(two):
    shutil.copytree(some(two).folder, some(two).folder.with_name("strange"))
    assert any("strange: nobody planned this cell" in sentence for sentence in told(two))


def test_a_suite_too_many(two):
    some(two).tag("another")
    assert "suites are ('another'" in " ".join(told(two))


@pytest.mark.parametrize("name", [".result.json.1-2.3.tmp", "checkpoint-000001.safetensors"])
def test_what_stays_in_a_record(two, name):
    (some(two).folder / name).touch()
    assert told(two) == [f"left behind: {some(two).folder / name}"]


def test_what_stays_beside_the_records(two):
    (two[1] / "mlflow.db-journal").touch()
    assert told(two) == [f"left behind: {two[1] / 'mlflow.db-journal'}"]


def test_a_cell_that_is_still_held(two):
    with some(two).claim({}):
        assert f"still held: {some(two).folder}" in told(two)


def test_trained_again(two):
    _, other, cells = two
    seals = {key: digest((other / "runs" / key / "result.json").read_bytes()) for key in cells}
    assert [*alike.retrained(seals, other / "runs", cells)] == []
    reseal(some(two), lambda result, arrays, weights: result["cost"].update(seconds=0))
    name = cells[some(two).key]
    again = f"{name}: it had a result, and was trained again"
    assert [*alike.retrained(seals, other / "runs", cells)] == [again]
    (some(two).folder / "result.json").unlink()
    lost = f"{name}: its result was there, and is lost"
    assert [*alike.retrained(seals, other / "runs", cells)] == [lost]


@pytest.fixture
def findings(tmp_path):
    """Two folders of findings that differ in costs alone."""
    for name, cost in (("one", b"1"), ("other", b"2")):
        folder = tmp_path / name
        for path, content in {
            "cells.csv": b"key,accuracy\na,0.5\nb,0.25\n",
            "cells.parquet": b"PAR1\0",
            "cost.csv": b"key,seconds\na," + cost,
            "manifest.json": cost,
            "cost/numbers.tex": cost,
            "index.html": b'<p>0.5</p><script id="cost">' + cost + b"</script>\n<p>end</p>",
        }.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content)
    return tmp_path / "one", tmp_path / "other"


def test_findings_that_differ_in_costs(findings):
    assert [*alike.findings(*findings)] == []


@pytest.mark.parametrize(
    "name, old, new, said",
    [
        ("cells.csv", b"b,0.25", b"b,0.26", "from line 3 on: 'b,0.26', undisturbed 'b,0.25'"),
        ("cells.csv", b"b,0.25\n", b"", "one ends earlier"),
        ("cells.parquet", b"PAR1", b"PAR2", "cells.parquet differs"),
        ("index.html", b"<p>0.5", b"<p>0.6", "index.html differs"),
        ("index.html", b"<p>end", b"<p>odd", "index.html differs"),
    ],
)
def test_findings_that_differ(findings, name, old, new, said):
    path = findings[1] / name
    path.write_bytes(path.read_bytes().replace(old, new))
    (sentence,) = alike.findings(*findings)
    assert said.replace("'", "") in sentence.replace("'", "")


def test_findings_that_are_not_there(findings):
    (findings[1] / "cells.csv").unlink()
    assert [*alike.findings(*findings)] == [f"findings: cells.csv is in {findings[0]} only"]
    shutil.rmtree(findings[1])
    assert f"no findings in {findings[1]}" in [*alike.findings(*findings)]


# whether the exit codes are true


@pytest.mark.parametrize(
    "code, killed, left, fine",
    [
        (0, True, 0, True),
        (0, False, 0, True),
        (0, False, 1, False),
        (0, True, 1, False),
        (1, True, 1, True),  # a cell was killed twice
        (1, True, 0, False),
        (1, False, 1, False),
        (2, False, 0, False),
        (-9, True, 1, True),
        (-9, False, 1, False),
    ],
)
def test_exit_codes(tmp_path, code, killed, left, fine):
    pace = Pace(seconds=1, start=1, spans={"a": 1}, busy=1, steps=1)
    siege = Siege(["run"], {"a": "a"}, pace, Queue(), lambda line: None)
    siege.subject = SimpleNamespace(said=lambda: "nothing")
    siege.seals = {} if left else {"a": "seal"}
    if fine:
        siege._judge(code, killed)
    else:
        with pytest.raises(Broken, match="a run "):
            siege._judge(code, killed)


# the command


@pytest.fixture
def harmless(monkeypatch):
    """Nothing may be trained, and nobody killed."""
    for owner, name in ((chaos, "_train"), (Siege, "go")):
        monkeypatch.setattr(owner, name, lambda *words: pytest.fail("it was begun"))


@pytest.mark.usefixtures("harmless")
def test_half_an_undisturbed_run_cannot_stand_for_one(place, tiny_runs, call):
    shutil.copytree(tiny_runs, place / "kept" / "undisturbed" / "runs")
    answer = call("chaos", "--suite", "tiny.yaml", "--keep", "kept")
    assert answer.code == 2
    assert "cannot stand for an undisturbed run" in answer.err and "is done" in answer.err


@pytest.mark.usefixtures("harmless")
def test_an_undisturbed_run_of_other_options(place, tiny_runs, call):
    kept = place / "kept" / "undisturbed"
    shutil.copytree(tiny_runs, kept / "runs")
    note = {"words": ["run", "--suite=tiny.yaml", "--threads=2"], "began": 0, "ended": 1}
    (kept / "whole.json").write_text(json.dumps(note))
    answer = call("chaos", "--suite", "tiny.yaml", "--keep", "kept")
    assert answer.code == 2
    assert "--threads=2" in answer.err and "--threads=1" in answer.err
    assert [path.name for path in (place / "kept").iterdir()] == ["undisturbed"]


@pytest.mark.usefixtures("harmless")
def test_nothing_stays_after_a_refusal(place, call):
    assert call("chaos", "--suite", "nonsense").code == 2
    assert call("chaos", "--suite", "tiny.yaml", "--set", "data.name=cifar10").code == 2
    assert [path.name for path in place.iterdir()] == ["tiny.yaml"]


def test_what_differs_is_told_and_kept(place, tiny_runs, call, monkeypatch):
    """With a disturbed run that leaves another weight, and with the undisturbed one's own."""
    kept = place / "kept" / "undisturbed"

    def train(calm, options, cells, say):
        shutil.copytree(tiny_runs, calm / "runs")
        note = {"words": chaos._run(options), "began": 0.0, "ended": 1e10}
        (calm / chaos.WHOLE).write_text(json.dumps(note))

    def go(siege, subject):
        shutil.copytree(kept / "runs", subject.runs)
        siege.seals = {key: digest(file(subject, key).read_bytes()) for key in siege.cells}
        for key in changed:
            weight = Record(subject.runs / key)
            reseal(weight, lambda result, arrays, weights: last_bit(weights, min(weights)))

    def file(subject, key):
        return subject.runs / key / "result.json"

    monkeypatch.setattr(chaos, "_train", train)
    monkeypatch.setattr(Siege, "go", go)
    monkeypatch.setattr(alike, "findings", lambda one, other: [])
    monkeypatch.setattr(Subject, "start", lambda self, words: SimpleNamespace(wait=lambda: 0))
    changed = []
    answer = call("chaos", "--suite", "tiny.yaml", "--keep", "kept")
    assert answer.code == 0 and "identical" in answer.out.splitlines()
    changed = [max(path.name for path in tiny_runs.iterdir())]
    answer = call("chaos", "--suite", "tiny.yaml", "--keep", "kept")
    assert answer.code == 1 and "identical" not in answer.out
    label = Record(tiny_runs / changed[0]).cell().label
    for said in (f"{label}: weights: 1 of", f"{label}: it had a result, and was trained again"):
        assert said in answer.out
    assert len([*(place / "kept").glob("seed-0-*")]) == 2


def ours(place: Path) -> list[int]:
    """Processes of runs under a folder, by the mark that they bear."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK, "").startswith(str(place)):
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


def test_nothing_of_a_run_stays(tmp_path):
    """Whoever started it. What waits for its input for ever ends by being killed alone."""
    with Subject(tmp_path / "one") as one, Subject(tmp_path / "other") as other:
        waiting = [
            subprocess.Popen(["cat"], stdin=subprocess.PIPE, env={MARK: str(each.place)})
            for each in (one, other)
        ]
        for each, process in zip((one, other), waiting, strict=True):
            assert [mine.pid for mine in each.alive()] == [process.pid]
    for process in waiting:
        process.wait(30)
        process.stdin.close()
    assert not one.temporary.exists() and not other.temporary.exists()


@pytest.mark.long
def test_killed_and_identical(place, call):
    """All of it; then again beside the same undisturbed run, until Ctrl-C."""
    (place / "small.yaml").write_text(SUITE)
    words = ("chaos", "--suite", "small.yaml", "--keep", "kept", "--jobs", 2, "--kills", 4)
    answer = call(*words)
    assert answer.code == 0, answer.out + answer.err
    assert "identical" in answer.out.splitlines()
    (made,) = [line for line in answer.out.splitlines() if " kills in " in line]
    assert int(made.split()[0]) >= 2 and "of the parent" in made
    assert ours(place) == []

    said = []
    with subprocess.Popen(
        [sys.executable, "-m", "benchmark", *map(str, words)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
        cwd=place,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        for line in process.stdout:
            said.append(line)
            if line.startswith("kill 1 "):
                process.send_signal(signal.SIGINT)
    assert process.returncode == 130, said
    assert not any(line.startswith("undisturbed") for line in said)  # it was there
    assert ours(place) == []
