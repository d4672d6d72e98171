"""Bundles: what is carried arrives whole, and what does not belong here is refused."""

import io
import json
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest

from benchmark.planning.cell import PROTOCOL, Cell
from benchmark.records import bundle
from benchmark.records.bundle import pack, take
from benchmark.records.record import Record, records


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*.*"))}


def finish(record: Record, of: Cell, accuracy=0.5, images="a"):
    record.begin(of)
    record.write_curves([{"epoch": 1, "loss": 0.5}])
    result = {"state": "done", "metrics": {"accuracy": accuracy}, "digests": {"images": images}}
    record.finish(result, {"per_class": np.ones(3)}, {"w": np.arange(4.0)})
    record.tag("quick")


@pytest.fixture
def runs(tmp_path, cell):
    """Records of two cells, and a third that is not finished."""
    folder = tmp_path / "here"
    for seed in (0, 1):
        own = cell(seed=seed)
        finish(Record(folder / own.key), own)
    unfinished = cell(seed=2)
    Record(folder / unfinished.key).begin(unfinished)
    return folder


@pytest.fixture
def packed(runs, tmp_path):
    target = tmp_path / "out" / "b.tar"
    assert pack(records(runs), target) == 2
    return target


def members(file: Path) -> list[tuple[str, bytes]]:
    with tarfile.open(file) as tar:
        return [(member.name, tar.extractfile(member).read()) for member in tar]


def written(file: Path, parts) -> Path:
    with tarfile.open(file, "w") as tar:
        for name, content in parts:
            info = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return file


def test_there_and_back(runs, packed, tmp_path):
    there = tmp_path / "there"
    assert [each.fate for each in take(packed, there)] == ["taken", "taken"]
    finished = {record.key for record in records(runs) if record.result()}
    assert {record.key for record in records(there)} == finished and len(finished) == 2
    for key in finished:
        mine, theirs = files(runs / key), files(there / key)
        theirs = {name: text for name, text in theirs.items() if not name.startswith("claim")}
        assert mine == theirs
        assert Record(there / key).suites() == ("quick",)
    assert [each.fate for each in take(packed, there)] == ["here", "here"]
    assert not [p for p in there.iterdir() if p.name.startswith(".")]  # nothing is left lying


def test_the_same_records_the_same_bytes(runs, packed, tmp_path):
    again = tmp_path / "again.tar"
    pack(reversed([*records(runs)]), again)
    assert again.read_bytes() == packed.read_bytes()
    assert not [p for p in tmp_path.iterdir() if p.name.endswith(".tmp")]


def test_a_finished_cell_keeps_its_numbers_and_gets_the_suites(runs, packed, tmp_path):
    there = tmp_path / "there"
    shutil.copytree(runs, there)
    known, other = [record for record in records(there) if record.result()]
    finish(other, other.cell(), accuracy=0.75)
    before = files(other.folder)
    (known.folder / "suites.json").write_text('["mine"]')
    fates = {each.key: each for each in take(packed, there)}
    assert fates[known.key].fate == "here" and known.suites() == ("mine", "quick")
    assert fates[other.key].fate == "refused" and "other numbers" in fates[other.key].reason
    assert files(other.folder) == before


def test_other_images_are_refused(packed, tmp_path, cell):
    there = tmp_path / "there"
    own = cell(seed=7)
    finish(Record(there / own.key), own, images="b")
    found = [*take(packed, there)]
    assert {each.fate for each in found} == {"refused"}
    assert "other images than cells here" in found[0].reason


def test_two_kinds_of_images_in_one_bundle(tmp_path, cell):
    here = tmp_path / "here"
    for seed, images in ((0, "a"), (1, "b")):
        own = cell(seed=seed)
        finish(Record(here / own.key), own, images=images)
    pack(records(here), tmp_path / "b.tar")
    fates = sorted(each.fate for each in take(tmp_path / "b.tar", tmp_path / "there"))
    assert fates == ["refused", "taken"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"protocol": PROTOCOL + 1}, f"has protocol {PROTOCOL + 1}, and this benchmark"),
        ({"schema": 99}, "has no schema that is known here"),
    ],
)
def test_another_protocol_or_schema_is_refused_whole(packed, tmp_path, change, said):
    (name, text), *rest = members(packed)
    manifest = json.dumps({**json.loads(text), **change}).encode()
    file = written(tmp_path / "other.tar", [(name, manifest), *rest])
    with pytest.raises(ValueError, match=said):
        [*take(file, tmp_path / "there")]
    assert not [*records(tmp_path / "there")]


def test_a_cell_under_another_key_is_refused(packed, tmp_path):
    parts = [(n.replace(n[:16], "0" * 16) if "/" in n else n, c) for n, c in members(packed)[:7]]
    found = [*take(written(tmp_path / "x.tar", parts), tmp_path / "there")]
    assert [each.fate for each in found] == ["refused"] and "states the cell" in found[0].reason


@pytest.mark.parametrize("part", ["result.json", "arrays.safetensors", "weights.safetensors"])
def test_a_damaged_part_is_refused_and_the_others_are_taken(packed, tmp_path, part):
    parts = members(packed)
    place = next(i for i, (name, _) in enumerate(parts) if name.endswith(part))
    name, content = parts[place]
    flipped = content[:-2] + bytes([content[-2] ^ 1]) + content[-1:]
    parts[place] = (name, flipped)
    found = [*take(written(tmp_path / "x.tar", parts), tmp_path / "there")]
    assert sorted(each.fate for each in found) == ["refused", "taken"]
    bad = next(each for each in found if each.fate == "refused")
    assert name.startswith(bad.key) and str(tmp_path) not in bad.reason
    assert not (tmp_path / "there" / bad.key).exists()


def _link(name: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
    return info


@pytest.mark.parametrize(
    "member",
    [
        "../escape.json",
        "/tmp/escape.json",
        f"{'a' * 16}/../../escape.json",
        f"{'a' * 16}/claim.lock",
        "aaaa/cell.json",
        _link(f"{'a' * 16}/cell.json"),
    ],
)
def test_members_that_no_record_has(packed, tmp_path, member):
    file = written(tmp_path / "x.tar", [members(packed)[0], (member, b"")])
    with pytest.raises(ValueError, match="which no record has"):
        [*take(file, tmp_path / "there")]
    assert not [*tmp_path.rglob("escape.json")]


def test_sizes_are_bounded(packed, tmp_path, monkeypatch):
    monkeypatch.setitem(bundle.LARGEST, ".safetensors", 10)
    with pytest.raises(ValueError, match="no file of at most 10 bytes"):
        [*take(packed, tmp_path / "there")]


@pytest.mark.parametrize("content", [b"", b"no tar at all", b"\x1f\x8b\x08"])
def test_what_is_no_bundle(tmp_path, content):
    file = tmp_path / "x.tar"
    file.write_bytes(content)
    with pytest.raises(ValueError, match="is no bundle"):
        [*take(file, tmp_path / "there")]


def test_a_bundle_cut_short(packed, tmp_path):
    file = tmp_path / "x.tar"
    file.write_bytes(packed.read_bytes()[:2600])
    with pytest.raises(ValueError, match="is no bundle, or a damaged one"):
        [*take(file, tmp_path / "there")]


def test_a_part_twice(packed, tmp_path):
    parts = members(packed)
    with pytest.raises(ValueError, match="twice"):
        [*take(written(tmp_path / "x.tar", [*parts, parts[1]]), tmp_path / "there")]


def test_a_cell_that_is_being_trained_is_left(packed, tmp_path):
    there = tmp_path / "there"
    key = members(packed)[1][0][:16]
    with Record(there / key).claim({}):
        found = {each.key: each for each in take(packed, there)}
    assert found[key].fate == "refused" and "another process" in found[key].reason


def test_damaged_records_and_none_at_all_are_not_bundled(runs, tmp_path):
    first = next(record for record in records(runs) if record.result())
    path = first.folder / "arrays.safetensors"
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(ValueError, match="does not match its result"):
        pack(records(runs), tmp_path / "b.tar")
    with pytest.raises(ValueError, match="no finished cell"):
        pack([], tmp_path / "b.tar")
    assert not (tmp_path / "b.tar").exists()
