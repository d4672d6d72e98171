"""What goes wrong takes one cell with it, and that only where trying again is of no use."""

import errno
import signal

import pytest
import torch

from benchmark.engines.patience import ROUND, Patience, Silence
from benchmark.engines.worker import _starved
from benchmark.records.record import Record

STEPS = 10  # of each cell


@pytest.mark.long
def test_what_finds_no_memory_is_tried_again_alone(faulty, engine, tmp_path, trained):
    """Whether torch says so or the kernel."""
    once = faulty("[{mine: {fault: [memory once, killed once]}}]")
    always = faulty("[{mine: {fault: [memory, killed]}}]")
    good, other = others = faulty("[{mine: {size: [2, 3]}}]")
    starts, said = [], []

    def hear(event):
        if event.kind == "started":
            starts.append((event.cell, [worker.cell for worker in run._crew.busy]))

    run = engine(2, hear, said.append)
    ended = run.run([*once, *always, *others])
    assert [ended[cell.key] for cell in [*once, *others]] == ["done"] * 4
    assert [ended[cell.key] for cell in always] == ["failed"] * 2
    tried = [cell for cell, _ in starts]
    assert sorted(tried.count(cell) for cell in [*once, *always, *others]) == [1, 1, 2, 2, 2, 2]
    assert tried[:6] == [*once, *always, *others]  # those that are tried again come last
    assert any(len(beside) == 2 for _, beside in starts[:6])
    assert all(beside == [cell] for cell, beside in starts[6:])
    assert len(said) == 4 and all("it is trained alone" in sentence for sentence in said)
    reasons = [Record(tmp_path / "runs" / cell.key).failure() for cell in always]
    assert reasons[0]["reason"].startswith("OutOfMemoryError: CUDA out of memory., also alone")
    assert "in loss" in reasons[0]["traceback"]
    assert reasons[1]["reason"].startswith("its process ended with code -9")
    assert all("also alone" in reason["reason"] for reason in reasons)
    # nothing that was finished is trained again
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.glob("runs/*/result.json")}
    assert len(stamps) == 4
    assert engine(1).run([good]) == {good.key: "done"}
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps
    assert trained()["none 2"] == STEPS


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."),
        RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be …"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("DataLoader worker (pid 4711) is killed by signal: Killed. "),
        MemoryError(),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
    ],
)
def test_what_says_that_there_is_no_memory(error):
    assert _starved(error)


def test_what_torch_and_python_say_themselves():
    for allocate in (lambda: torch.zeros(1 << 50), lambda: bytearray(1 << 60)):
        with pytest.raises((RuntimeError, MemoryError)) as caught:
            allocate()
        assert _starved(caught.value)


@pytest.mark.parametrize(
    "error", [RuntimeError("no loss today"), ValueError("memory"), OSError(errno.ENOSPC, "full")]
)
def test_what_says_something_else(error):
    assert not _starved(error)


@pytest.mark.long
def test_what_a_killed_worker_left_half_written_goes(faulty, engine, tmp_path, monkeypatch):
    """Also where its cell is not tried again; that no temporary file stays is seen at the end."""
    monkeypatch.setenv("BENCHMARK_FAULT", "kill 1 cell: half written")  # in each worker
    (cell,) = faulty("psc")
    assert engine().run([cell]) == {cell.key: "failed"}
    record = Record(tmp_path / "runs" / cell.key)
    assert record.cell() == cell and "killed" in record.failure()["reason"] and not record.held


@pytest.mark.long
def test_a_worker_whose_children_outlive_it_is_known_to_be_dead(faulty, engine, tmp_path, trained):
    """They have its end of the pipe, until they notice."""
    (cell,) = faulty("[{mine: {fault: forks once}}]")
    said = []

    def say(sentence):
        said.append(sentence)
        (tmp_path / "go").touch()

    patience = Patience(step=20.0, grace=2.0)  # without its care the engine would wait so long
    assert engine(say=say, patience=patience).run([cell]) == {cell.key: "done"}
    assert "its process ended with code -9" in said[0] and len(said) == 1
    assert trained() == {"forks once 1": STEPS + 2}


@pytest.mark.long
def test_a_worker_that_crashes_is_not_tried_again_and_one_that_leaves_is(
    faulty, engine, tmp_path, trained
):
    leaves, breaks, good = cells = faulty("[{mine: {fault: [leaves once, breaks, none]}}]")
    ended = engine().run(cells)
    assert ended == {leaves.key: "done", breaks.key: "failed", good.key: "done"}
    found = Record(tmp_path / "runs" / breaks.key)
    assert found.failure()["reason"] == f"its process ended with code {-signal.SIGSEGV}"
    assert found.result() is None and not found.held
    assert trained() == {"leaves once 1": STEPS + 2, "breaks 1": 2, "none 1": STEPS}


@pytest.mark.long
def test_a_worker_that_is_hung_is_ended_and_its_cell_goes_on_once(
    faulty, engine, tmp_path, trained
):
    hung, once, slow = cells = faulty("[{mine: {fault: [sleeps, sleeps once, slow once]}}]")
    said = []
    patience = Patience(step=6.0, grace=1.0)
    ended = engine(2, say=said.append, patience=patience).run(cells)
    assert ended == {hung.key: "failed", once.key: "done", slow.key: "done"}
    reason = Record(tmp_path / "runs" / hung.key).failure()["reason"]
    assert reason.startswith("no sign of life for ") and reason.endswith(" s, twice")
    assert len(said) == 3 and all("it goes on from its checkpoint, once" in each for each in said)
    # what could finish its step has saved it: no step is taken twice
    assert trained() == {"sleeps 1": 4, "sleeps once 1": STEPS + 2, "slow once 1": STEPS}
    rows = Record(tmp_path / "runs" / slow.key).curves()
    assert [row["epoch"] for row in rows] == [1, 2]


def test_how_long_a_worker_may_be_silent():
    patience = Patience(step=600.0, times=20.0, other=3600.0)
    assert patience.after({"slowest": 0.1, "between": True}) == 600.0
    assert patience.after({"slowest": 60.0, "between": True}) == 1200.0
    assert patience.after({"slowest": 0.1, "between": False}) == 3600.0
    assert patience.after({"slowest": 1000.0, "between": False}) == 20000.0


def test_what_a_parent_could_not_hear_is_no_silence():
    """It was stopped for an hour, as by Ctrl-Z, and its workers with it."""
    silence = Silence(10.0)
    assert not silence.goes_on(3600.0) and silence.lasted == ROUND
    assert not any(silence.goes_on(0.5) for _ in range(18))
    assert silence.goes_on(0.5)
    silence.broken(5.0)
    assert not silence.goes_on(0.5) and silence.allowed == 5.0


@pytest.mark.long
def test_a_worker_that_dies_between_its_record_and_its_answer(faulty, engine, tmp_path, trained):
    """The record is the evidence: the cell is done, and is not trained again."""
    (cell,) = faulty("mine")
    with open(tmp_path / "mine.py", "a") as head:
        head.write(
            "import benchmark.engines.worker as worker\n"
            "train = worker._train\n"
            "def dies(*given):\n    train(*given)\n    os.kill(os.getpid(), signal.SIGKILL)\n"
            "if worker.multiprocessing.parent_process():\n    worker._train = dies\n"
        )
    (cell, other) = faulty_again(faulty, tmp_path, "[mine, {mine: {size: 2}}]")
    events = []
    ended = engine(hear=events.append).run([cell, other])
    assert ended == {cell.key: "done", other.key: "done"}
    assert len([e for e in events if e.kind == "started"]) == 2
    # the head is read with the first cell: it is at the second that its worker dies
    (end,) = [e for e in events if e.cell == other and e.kind == "done"]
    assert end.values == {}  # not: by another process
    assert trained() == {"none 1": STEPS, "none 2": STEPS}


def faulty_again(faulty, tmp_path, heads):
    """Cells with the head as it lies there now, not as the fixture writes it."""
    text = (tmp_path / "mine.py").read_text()
    faulty(heads)
    (tmp_path / "mine.py").write_text(text)
    from benchmark.planning import suite
    from benchmark.planning.plan import complete
    from benchmark.training.registry import registry

    table = registry([tmp_path / "mine.py"])
    found = suite.read(str(tmp_path / "tiny.yaml")).cells
    return [complete(cell, table, lambda name: 124) for cell in found]


@pytest.mark.long
@pytest.mark.parametrize(
    "text, parts",
    [
        ("def (:\n", ("does not import (SyntaxError",)),
        ("#", ("was changed after this run began", "Run the command again")),
    ],
)
def test_a_head_file_that_is_changed_in_mid_run(faulty, engine, tmp_path, trained, text, parts):
    """Its cells fail, none is trained with a source that its key does not name; others go on."""
    first, mine, last = faulty("[psc, mine, {psc: {dim: 8}}]")
    old = (tmp_path / "mine.py").read_text()

    def hear(event):
        if event.kind == "started" and event.cell == first:
            (tmp_path / "mine.py").write_text(old + "# a remark\n" if text == "#" else text)

    ended = engine(hear=hear).run([first, mine, last])
    assert list(ended.values()) == ["done", "failed", "done"]
    failure = Record(tmp_path / "runs" / mine.key).failure()
    assert "Traceback" in failure["traceback"]
    assert all(part in failure["reason"] for part in parts)
    assert not (tmp_path / "steps.log").exists()
