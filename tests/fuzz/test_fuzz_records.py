"""Records of cells, checkpoints and bundles: torn, bent, sealed anew, and of another shape."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import strategies as st

from benchmark.planning import plan
from benchmark.planning.cell import Cell, Stage, freeze
from benchmark.planning.recipes import RECIPES
from benchmark.records.bundle import pack, take
from benchmark.records.record import Record, Torn, digest, records
from benchmark.training import checkpoint
from benchmark.training.registry import registry
from tests.fuzz.mutations import damaged, reshaped

DATA = freeze({"name": "digits", "ratio": 1.0, "largest": 9})
QUICK = RECIPES["quick"].recipe.pairs()
STAGES = (Stage("psc", freeze({"dim": 8}), QUICK, protocol="quick"), Stage("ncm", frozen=True))
CELL = Cell(DATA, freeze({"name": "small_cnn"}), STAGES, 0)
TABLE = registry()
RESULT = {
    "state": "done",
    "metrics": {"accuracy": 0.5},
    "digests": {"images": "a", "heads": {head: TABLE.digests[head] for head in ("psc", "ncm")}},
    "cost": {"seconds": 1.0},
    "seen": 90,
}
ARRAYS = {"confusion": np.arange(4).reshape(2, 2)}
FILES = ("cell", "suites", "curves", "result", "failure")
DEEP = b"[" * 20_000  # more levels than Python's own stack
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 2**70) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)


@pytest.fixture
def record(tmp_path) -> Record:
    """A finished cell that was tried in vain before, so that every file is there."""
    record = Record(tmp_path / "runs" / CELL.key)
    record.begin(CELL)
    record.tag("quick")
    record.write_curves([{"epoch": 1, "loss": 0.5}])
    record.finish(RESULT, ARRAYS, ARRAYS)
    record.fail("no reason", "Traceback …")
    return record


def look(record: Record) -> None:
    """Everything that a command reads of a record: whole, or Torn, which `doctor` can clear."""
    whole = True
    for part in (record.cell, record.suites, record.curves, record.failure, record.result):
        whole &= readable(part)
    whole &= readable(record.arrays) and readable(record.weights)
    assert record.litter() == record.litter()
    state, reason = plan.state(CELL, record, TABLE, images="a", words="b")
    assert state in ("done", "diverged", "torn", "changed", "failed", "missing")
    if whole and state == "done":  # what is taken for finished can be told to people
        assert record.cell().label and record.suites() is not None


def readable(part) -> bool:
    try:
        part()
        return True
    except Torn as error:
        assert (
            "doctor --fix" in str(error) or "newer version" in str(error) or "run its" in str(error)
        )
        return False


def sealed(value) -> bytes:
    """A result with the right checksum, whatever it holds."""
    if isinstance(value, dict):
        body = {name: part for name, part in value.items() if name != "checksum"}
        text = json.dumps(body, indent=1, sort_keys=True, ensure_ascii=False)
        value = {**body, "checksum": digest(text.encode(errors="surrogatepass"))}
    return json.dumps(value).encode()


@pytest.mark.parametrize("name", FILES)
def test_records_damaged(fuzz, record, name):
    path = record.folder / f"{name}.json"
    seeds = [path.read_bytes(), DEEP, b"9" * 9_000, b"\xff\xfe", b"null", b"{}", b"[[]]", b'"a"']

    def read(content):
        path.write_bytes(content)
        look(record)

    fuzz(damaged(seeds), read, 25)


@pytest.mark.parametrize("name", FILES)
def test_records_reshaped(fuzz, record, name):
    path = record.folder / f"{name}.json"
    value = json.loads(path.read_bytes())

    def read(found):
        path.write_bytes(sealed(found) if name == "result" else json.dumps(found).encode())
        look(record)

    fuzz(reshaped(value, VALUES) | VALUES, read, 40)


@pytest.mark.parametrize("name", ["arrays", "weights"])
def test_arrays_damaged_and_vouched_for(fuzz, record, name):
    """Not what a record's own writer can do: the result vouches for what is no safetensors."""
    path = record.folder / f"{name}.safetensors"
    result = json.loads((record.folder / "result.json").read_bytes())
    header = b'{"a":{"dtype":"F32","shape":[%s],"data_offsets":[0,8]}}'
    odd = [header % size for size in (b"2", b"99999999999999", b"-2", b"2.5")]
    seeds = [path.read_bytes(), *(len(h).to_bytes(8, "little") + h + bytes(8) for h in odd)]

    def read(content):
        path.write_bytes(content)
        files = {**result["files"], path.name: digest(content)}
        (record.folder / "result.json").write_bytes(sealed({**result, "files": files}))
        look(record)

    fuzz(damaged(seeds), read, 30)


# checkpoints


def test_checkpoints_damaged(fuzz, tmp_path):
    """What is damaged is passed over: never a traceback, and never half a state."""
    kept = checkpoint.Checkpoint({"w": torch.arange(4.0)}, {"step": 3})
    checkpoint.write(tmp_path, "key", kept)
    (path,) = tmp_path.glob("checkpoint-*")
    good = path.read_bytes()
    seeds = [good, DEEP + b"\n" + good, b"null\n", b"[]\n", b'{"checksum": 3}\n']

    def read(content):
        path.write_bytes(content)
        found = checkpoint.read(tmp_path, "key")
        if content == good:
            assert found is not None
        if found is not None:
            assert found.note == {"step": 3} and torch.equal(found.tensors["w"], kept.tensors["w"])

    fuzz(damaged(seeds), read, 60)


# bundles

ODD = ("../x", "/etc/x", "0" * 16 + "/cell.json", "0" * 16 + "/../x", "manifest.json", "a" * 300)


def parts(file: Path) -> list[tuple[str, bytes]]:
    with tarfile.open(file) as tar:
        return [(member.name, tar.extractfile(member).read()) for member in tar]


def tar_of(members) -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return sink.getvalue()


@pytest.fixture
def bundled(record, tmp_path):
    """A bundle; and a function (content) that takes such a file in, into an empty folder."""
    file = tmp_path / "b.tar"
    pack(records(record.folder.parent), file)
    outside = sorted(tmp_path.iterdir())
    count = iter(range(10**9))

    def merge(content):
        file.write_bytes(content)
        target = tmp_path / "there" / f"{next(count)}"
        try:
            for taken in take(file, target):
                assert taken.fate in ("taken", "here", "refused")
        finally:
            assert [p for p in sorted(tmp_path.iterdir()) if p.name != "there"] == outside
            assert not list(target.glob(".merge-*"))

    return file, merge


def test_bundles_damaged(fuzz, bundled):
    file, merge = bundled
    fuzz(damaged([file.read_bytes()]), merge, 40)


def test_bundles_of_bent_parts(fuzz, bundled):
    file, merge = bundled
    known = parts(file)

    fuzz(bundles(known), lambda members: merge(tar_of(members)), 40)


@st.composite
def bundles(draw, known):
    """Members of a bundle with one or two of them bent, renamed, dropped or reshaped."""
    members = list(known)
    for _ in range(draw(st.integers(1, 2))):
        place = draw(st.integers(0, len(members) - 1))
        name, content = members[place]
        how = draw(st.sampled_from(["damage", "reshape", "name", "drop", "turn", "twice"]))
        if how == "damage":
            members[place] = name, draw(damaged([content, DEEP]))
        elif how == "reshape":
            value = dict(known)[name] if name.endswith(".json") and name in dict(known) else b"{}"
            members[place] = name, sealed(draw(reshaped(json.loads(value), VALUES)))
        elif how == "name":
            members[place] = draw(st.sampled_from(ODD)), content
        elif how == "drop" and len(members) > 1:
            del members[place]
        elif how == "turn":
            members.reverse()
        elif how == "twice":
            members.append(members[place])
    return members
