"""The record on disk: whole or not at all, and no damage goes unnoticed."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmark.planning.cell import Cell, Stage, freeze
from benchmark.records import files
from benchmark.records import record as module
from benchmark.records.record import Busy, Record, Torn, digest, records, write_whole

ROOT = Path(__file__).resolve().parents[3]
ARRAYS = {"confusion": np.arange(6, dtype=np.int64).reshape(2, 3), "empty": np.zeros((0, 2))}
WEIGHTS = {"backbone.weight": np.linspace(0, 1, 7, dtype=np.float32), "step": np.array(3)}
RESULT = {"state": "done", "metrics": {"accuracy": 0.1 + 0.2, "ece": 1e-17}, "names": ["ä", "b"]}


def a_cell(seed=0) -> Cell:
    data = freeze({"name": "digits", "ratio": 1.0})
    return Cell(data, freeze({"name": "small_cnn"}), (Stage("psc", protocol="quick"),), seed)


@pytest.fixture
def finished(tmp_path) -> Record:
    cell = a_cell()
    record = Record(tmp_path / "runs" / cell.key)
    record.begin(cell)
    record.write_curves([{"epoch": 1, "loss": 0.5}])
    record.finish(RESULT, ARRAYS, WEIGHTS)
    return record


# whole or not at all


def test_write_whole(tmp_path):
    path = tmp_path / "file"
    write_whole(path, b"one")
    write_whole(path, b"two")
    assert path.read_bytes() == b"two"
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("step", ["write", "fsync", "replace"])
def test_a_failing_write_leaves_the_old_file(tmp_path, monkeypatch, step):
    path = tmp_path / "file"
    write_whole(path, b"old")

    def full(*args):
        raise OSError("no space left on device")

    if step == "write":

        class Full:
            def __init__(self, name, mode):
                self.file = open(name, mode)  # noqa: SIM115

            def __enter__(self):
                return self

            def __exit__(self, *error):
                self.file.close()

            def write(self, content):
                self.file.write(content[:2])
                full()

        monkeypatch.setattr(files, "open", Full, raising=False)
    else:
        monkeypatch.setattr(files.os, step, full)
    with pytest.raises(OSError, match="no space"):
        write_whole(path, b"new content")
    monkeypatch.undo()
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_content_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    done = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)

        def call(*args, name=name, real=real):
            done.append(name)
            return real(*args)

        monkeypatch.setattr(files.os, name, call)
    write_whole(tmp_path / "file", b"content")
    assert done == ["fsync", "replace", "fsync"]  # file, name, folder


def test_the_result_comes_last(tmp_path, monkeypatch):
    written = []
    real = module.write_whole
    monkeypatch.setattr(
        module,
        "write_whole",
        lambda path, content: (written.append(path.name), real(path, content)),
    )
    record = Record(tmp_path / "a")
    record.begin(a_cell())
    record.finish(RESULT, ARRAYS, WEIGHTS)
    assert written == ["cell.json", "arrays.safetensors", "weights.safetensors", "result.json"]


# what was kept comes back


def test_round_trip(finished):
    result = finished.result()
    assert {name: result[name] for name in RESULT} == RESULT
    assert result["schema"] == module.SCHEMA
    for kept, given in ((finished.arrays(), ARRAYS), (finished.weights(), WEIGHTS)):
        assert set(kept) == set(given)
        for name in given:
            assert kept[name].dtype == given[name].dtype and kept[name].shape == given[name].shape
            np.testing.assert_array_equal(kept[name], given[name])
    assert finished.cell() == a_cell() and finished.key == a_cell().key
    assert finished.curves() == [{"epoch": 1, "loss": 0.5}]


def test_layouts_in_memory_do_not_matter(tmp_path):
    record = Record(tmp_path / "a")
    record.begin(a_cell())
    turned = np.arange(6.0).reshape(2, 3).T
    record.finish(RESULT, {}, {"w": turned, "half": turned[::2]})
    np.testing.assert_array_equal(record.weights()["w"], turned)
    np.testing.assert_array_equal(record.weights()["half"], turned[::2])
    assert record.arrays() == {}


def test_nothing_yet(tmp_path):
    record = Record(tmp_path / "a")
    assert not record.begun
    assert record.result() is None and record.failure() is None
    assert record.curves() == [] and record.suites() == ()
    with pytest.raises(Torn, match="not finished"):
        record.weights()
    assert list(records(tmp_path)) == [] == list(records(tmp_path / "nowhere"))


def test_failures(finished):
    finished.clear()
    finished.fail("RuntimeError: no", "Traceback\n…")
    assert finished.failure() == {"reason": "RuntimeError: no", "traceback": "Traceback\n…"}
    assert finished.result() is None
    finished.finish(RESULT, ARRAYS, WEIGHTS)
    assert finished.failure() is None


def test_clear(finished):
    finished.tag("quick")
    finished.clear()
    assert finished.result() is None and finished.curves() == []
    assert finished.cell() == a_cell() and finished.suites() == ("quick",)
    with pytest.raises(Torn):
        finished.weights()
    finished.clear()  # nothing left is no error


def test_tags(finished):
    assert finished.suites() == ()
    for name in ("quick", "balanced", "quick"):
        finished.tag(name)
    assert finished.suites() == ("balanced", "quick")
    absent = Record(finished.folder.parent / "absent")
    absent.tag("quick")
    assert not absent.folder.exists()


def test_all_records_in_order(tmp_path):
    cells = [a_cell(seed) for seed in range(4)]
    for cell in cells:
        Record(tmp_path / cell.key).begin(cell)
    (tmp_path / "something").mkdir()
    (tmp_path / "file").write_text("")
    assert [record.key for record in records(tmp_path)] == sorted(cell.key for cell in cells)


# damage


def test_no_flipped_byte_of_a_result_goes_unnoticed(finished):
    path = finished.folder / "result.json"
    content = path.read_bytes()
    before = finished.result()
    for position in range(len(content)):
        for flip in (0x01, 0x20, 0x80):
            damaged = bytearray(content)
            damaged[position] ^= flip
            path.write_bytes(damaged)
            try:
                after = finished.result()
            except Torn as error:
                assert str(path) in str(error) and "doctor --fix" in str(error)
            else:  # another way to write the same: 1E-17 for 1e-17
                assert after == before


@pytest.mark.parametrize("name", ["arrays", "weights"])
def test_no_flipped_byte_of_a_file_goes_unnoticed(finished, name):
    path = finished.folder / f"{name}.safetensors"
    content = path.read_bytes()
    for position in range(len(content)):
        damaged = bytearray(content)
        damaged[position] ^= 0x10
        path.write_bytes(damaged)
        with pytest.raises(Torn, match=f"{name}.safetensors does not match its result"):
            getattr(finished, name)()
    path.write_bytes(content[:-1])
    with pytest.raises(Torn):
        getattr(finished, name)()


@pytest.mark.parametrize("name", ["arrays.safetensors", "weights.safetensors"])
def test_missing_files(finished, name):
    (finished.folder / name).unlink()
    with pytest.raises(Torn, match=f"{name} is missing"):
        finished.result()


@pytest.mark.parametrize("content", ["", "{", "[]", "5", "null", '"text"', "{}", "\x00", "[[1]]"])
def test_a_result_that_is_none(finished, content):
    (finished.folder / "result.json").write_text(content)
    with pytest.raises(Torn):
        finished.result()


def seal(record, **changes):
    """Change a result, and seal it again."""
    body = {**record.result(), **changes}
    sealed = {**body, "checksum": digest(module._json(body))}
    (record.folder / "result.json").write_bytes(module._json(sealed))


@pytest.mark.parametrize("schema", [0, None])
def test_older_schemas(finished, schema):
    seal(finished, schema=schema)
    with pytest.raises(Torn, match=f"has schema {schema}, not {module.SCHEMA}.*doctor --fix"):
        finished.result()
    finished.clear()
    assert finished.result() is None


def test_a_newer_schema_is_not_cleared_away(finished):
    """An older checkout must not throw away what a newer one has trained."""
    seal(finished, schema=module.SCHEMA + 1)
    before = {path: path.read_bytes() for path in finished.folder.iterdir()}
    for look in (Record.result, Record.clear, Record.weights):
        with pytest.raises(Torn, match="newer version: it has schema 2.*Update this checkout"):
            look(finished)
    assert {path: path.read_bytes() for path in finished.folder.iterdir()} == before


def test_the_result_of_another_cell(finished):
    other = Record(finished.folder.with_name("0" * 16))
    finished.folder.rename(other.folder)
    with pytest.raises(Torn, match=f"states the cell {finished.key}"):
        other.result()


def test_a_digit_of_the_curves_that_changed(finished):
    path = finished.folder / "curves.json"
    path.write_text(path.read_text().replace("0.5", "0.4"))
    with pytest.raises(Torn, match="curves.json does not match its result"):
        finished.curves()
    finished.clear()
    assert finished.curves() == []


def test_curves_of_a_result_that_vouches_for_none(finished):
    """As results from before had it."""
    files = {n: d for n, d in finished.result()["files"].items() if n != "curves.json"}
    seal(finished, files=files)
    assert finished.curves() == [{"epoch": 1, "loss": 0.5}]


@pytest.mark.parametrize(
    "name, look",
    [
        ("cell.json", Record.cell),
        ("curves.json", Record.curves),
        ("suites.json", Record.suites),
        ("failure.json", Record.failure),
    ],
)
def test_damaged_notes(finished, name, look):
    finished.tag("quick")
    finished.fail("a", "b")
    assert look(finished)
    path = finished.folder / name
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(Torn, match=name):
        look(finished)
    finished.clear()  # what --fix does
    if name == "cell.json":
        assert not finished.begun  # until the next run states it again
    else:
        assert not look(finished)


# claims

HOLDER = """
import sys, time
from pathlib import Path
from benchmark.records.record import Record
with Record(Path(sys.argv[1])).claim({"pid": "holder"}):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path / "a")],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_claim_goes_with_its_process_however_that_ends(tmp_path, holder):
    record = Record(tmp_path / "a")
    assert json.loads((record.folder / "claim.json").read_text()) == {"pid": "holder"}
    with pytest.raises(Busy, match="another process"):
        with record.claim({"pid": "second"}):
            pytest.fail("two processes hold one cell")
    note = json.loads((record.folder / "claim.json").read_text())
    assert note == {"pid": "holder"}  # the refused one wrote nothing
    assert record.held
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert not record.held
    with record.claim({"pid": "third"}):
        assert json.loads((record.folder / "claim.json").read_text()) == {"pid": "third"}


def test_a_claim_ends(tmp_path):
    record = Record(tmp_path / "a")
    assert not record.held and not record.folder.exists()  # to ask leaves nothing behind
    with pytest.raises(ZeroDivisionError):
        with record.claim({}):
            with pytest.raises(Busy):
                with record.claim({}):
                    pass
            raise ZeroDivisionError
    assert not record.held
    with record.claim({}):
        pass


def test_the_record_needs_neither_torch_nor_mlflow():
    code = (
        "import sys, benchmark.records.record; "
        "print([m for m in ('torch', 'mlflow', 'pandas') if m in sys.modules])"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"
