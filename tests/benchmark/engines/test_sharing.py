"""Many processes on one folder share the work: one trains a cell, each of them sees its result."""

import pytest

from benchmark.records.record import Record

STEPS = 10  # of each cell

HOLDER = """
import sys
from pathlib import Path
from benchmark.records.record import Record
done, failed, left, mine = map(Path, sys.argv[1:])
with Record(left).claim({}):
    with Record(done).claim({}), Record(failed).claim({}):
        print("held", flush=True)
        sys.stdin.readline()
        other = Record(mine)
        Record(done).finish({**other.result(), "key": done.name}, other.arrays(), other.weights())
        Record(failed).fail("RuntimeError: no", "…")
    sys.stdin.readline()
"""


@pytest.mark.long
def test_what_others_train_is_waited_for_and_taken_over_if_they_die(
    faulty, engine, python, tmp_path
):
    cells = faulty("[psc, {psc: {dim: [8, 9]}}, [{psc: {dim: 9}}, ncm], mine]")
    done, failed, left, top, mine = cells
    folders = [tmp_path / "runs" / cell.key for cell in (done, failed, left, mine)]
    holder = python("-c", HOLDER, *folders)
    assert holder.stdout.readline() == "held\n"
    events, said, sealed = [], [], []

    def say(sentence):
        said.append(sentence)
        if sentence.startswith("waiting for what other processes train"):
            holder.stdin.write("go\n")
            holder.stdin.flush()

    def hear(event):
        events.append(event)
        ends = {(each.cell.key, each.kind) for each in events}
        if event.cell == done:
            sealed.append((folders[0] / "result.json").read_bytes())
        if {(done.key, "done"), (failed.key, "failed")} <= ends:
            holder.kill()

    ended = engine(1, hear, say).run(cells)
    assert [ended[cell.key] for cell in cells] == ["done", "failed", "done", "done", "done"]
    started = [each.cell for each in events if each.kind == "started"]
    assert started == [mine, left, top]  # what others did is not done again
    assert sealed == [(folders[0] / "result.json").read_bytes()]
    (end,) = [each for each in events if each.cell == failed]
    assert end.values == {"reason": "RuntimeError: no", "elsewhere": True}
    assert sum("the process that trained it is gone" in sentence for sentence in said) == 1
    assert not any(Record(folder).held for folder in folders)


@pytest.mark.long
def test_two_commands_on_one_folder(faulty, command, trained, tmp_path):
    """The second takes what the first has not got, and waits for the rest."""
    cells = faulty("[{mine: {fault: [waits once, none]}}, psc]")
    first = command()
    for line in first.stdout:
        if line.startswith("suite"):
            break
    while not (tmp_path / "waits-1").exists():
        assert first.poll() is None
    second = command()
    said = []
    for line in second.stdout:
        said.append(line)
        if line.startswith("waiting for what other processes train"):
            (tmp_path / "go").touch()
    told, _ = first.communicate(timeout=280)
    assert (first.returncode, second.wait(timeout=280)) == (0, 0), (told, said)
    assert trained() == {"waits once 1": STEPS, "none 1": STEPS}
    assert told.count("by another process") == 2 and "3 done" in told
    assert "".join(said).count("by another process") == 1 and "3 done" in said[-1]
    for cell in cells:
        record = Record(tmp_path / "runs" / cell.key)
        assert record.result()["state"] == "done" and record.failure() is None and not record.held


SHARE = """
import sys
from pathlib import Path
from benchmark.engines.local import Local
from benchmark.engines.worker import Settings
from benchmark.planning import suite
from benchmark.planning.plan import complete
from benchmark.training.registry import registry

if __name__ == "__main__":
    files = (Path("mine.py").resolve(),)
    table = registry(files)
    cells = [complete(cell, table, lambda name: 124) for cell in suite.read("tiny.yaml").cells]
    settings = Settings(Path("runs").resolve(), Path("data"), files, "cpu", 1)
    print("ready", flush=True)
    sys.stdin.readline()
    ended = Local(settings, 1, lambda event: None).run(cells)
    print(*ended.values())
"""


@pytest.mark.long
@pytest.mark.parametrize("processes", [2, 8])
def test_processes_that_race_for_one_cell(faulty, python, trained, tmp_path, processes):
    (cell,) = faulty("mine")
    (tmp_path / "share.py").write_text(SHARE)
    racing = [python("share.py") for _ in range(processes)]
    for process in racing:
        assert process.stdout.readline() == "ready\n"
    for process in racing:
        process.stdin.write("go\n")
        process.stdin.flush()
    said = [process.communicate(timeout=280)[0] for process in racing]
    assert said == ["done\n"] * processes
    assert [process.returncode for process in racing] == [0] * processes
    assert trained() == {"none 1": STEPS}
    record = Record(tmp_path / "runs" / cell.key)
    assert record.result()["state"] == "done" and record.failure() is None and not record.held
