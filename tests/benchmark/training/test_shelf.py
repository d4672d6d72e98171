"""Files of features: whole or not there, bounded, with the bytes that were written."""

import os
import subprocess
import sys

import pytest
import torch

from benchmark.training import shelf
from benchmark.training.shelf import Keeping, Shelf, Volume


@pytest.fixture
def place(tmp_path):
    return Shelf(tmp_path / "features")


def written(place, name, count=3):
    draft = place.draft(name)
    parts = []
    for part in range(count):
        tensors = [torch.randn(part + 2, 3, 2), torch.arange(part + 2)]
        draft.add(tensors, {"part": part})
        parts.append(tensors)
    draft.finish()
    return parts


def test_parts_come_back_in_any_order(place):
    parts = written(place, "a")
    found = place.find("a")
    assert len(found) == 3
    for part in (2, 0, 1, 2):
        for mine, theirs in zip(found.read(part), parts[part], strict=True):
            assert mine.dtype == theirs.dtype and torch.equal(mine, theirs)
        assert found.note(part) == {"part": part}


def test_a_part_is_the_readers_own(place):
    written(place, "a")
    found = place.find("a")
    found.read(0)[0].zero_()
    assert found.read(0)[0].any()


def test_nobody_meets_half_a_file(place):
    draft = place.draft("a")
    draft.add([torch.ones(4)])
    assert place.find("a") is None
    del draft
    assert list(place.folder.iterdir()) == []


def test_every_byte_counts(place):
    written(place, "a", 1)
    path = place.folder / "a.kept"
    whole = path.read_bytes()
    for position in range(len(whole)):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        assert place.find("a") is None, position
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        assert place.find("a") is None, length
    path.write_bytes(whole)
    assert place.find("a") is not None


def test_two_that_write_the_same(place):
    first, second = place.draft("a"), place.draft("a")
    for draft in (first, second, first, second):
        draft.add([torch.ones(4)])
    first.finish()
    early = place.find("a")
    second.finish()
    assert len(early) == len(place.find("a")) == 2 and early.read(1)[0].all()
    assert [path.name for path in place.folder.iterdir()] == ["a.kept"]


def test_what_was_used_longest_ago_goes_first(place):
    for age, name in enumerate("abc"):
        written(place, name)
        os.utime(place.folder / f"{name}.kept", (100 + age, 100 + age))
    size = (place.folder / "a.kept").stat().st_size
    reader = place.find("a")  # used now
    written(place, "d")
    Shelf(place.folder, 2 * size).tidy("d")
    assert sorted(path.name for path in place.folder.iterdir()) == ["a.kept", "d.kept"]
    Shelf(place.folder, 0).tidy("d")
    assert list(place.folder.iterdir()) == []
    assert len(reader.read(2)[0]) == 4  # who has it open goes on


def test_a_new_file_makes_room_for_itself(place):
    written(place, "a")
    os.utime(place.folder / "a.kept", (100, 100))
    kept = Keeping(Shelf(place.folder, 600), "b", pytest.fail)
    kept.add(torch.ones(10, 8), torch.zeros(10, dtype=torch.int64), 10)
    kept.finish()
    assert [path.name for path in place.folder.iterdir()] == ["b.kept"]


def test_what_dead_processes_left_goes(place):
    code = "import sys, os; from pathlib import Path; from benchmark.training.shelf import Shelf\n"
    code += "draft = Shelf(Path(sys.argv[1])).draft('a'); os.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", code, str(place.folder)], check=False)
    mine = place.draft("b")
    assert len(list(place.folder.iterdir())) == 2
    place.tidy("c")
    assert [path.name[:3] for path in place.folder.iterdir()] == [".b."]
    mine.drop()


@pytest.mark.parametrize("examples, want", [(10, ["a.kept"]), (11, [])])
def test_too_much_is_not_begun(place, examples, want):
    place.folder.mkdir()
    kept = Keeping(Shelf(place.folder, 4 * 8 * 10), "a", pytest.fail)
    kept.add(torch.ones(5, 8), torch.zeros(5, dtype=torch.int64), examples)
    assert (kept.draft is not None) is bool(want)
    kept.shelf = place  # the room for its index is not what is asked for here
    kept.finish()
    assert [path.name for path in place.folder.iterdir()] == want


def test_another_layout_is_not_kept(place):
    """Read back it would be laid out otherwise, and a product of it could have other last bits."""
    kept = Keeping(place, "a", pytest.fail)
    kept.add(torch.ones(8, 5).T, torch.zeros(5, dtype=torch.int64), 5)
    kept.finish()
    assert not place.folder.exists()


def test_a_file_that_is_cut_while_it_is_read(place):
    written(place, "a")
    found = Volume(place.folder / "a.kept")
    os.truncate(place.folder / "a.kept", 10)
    with pytest.raises(OSError, match="a cache was damaged"):
        found.read(2)


def test_the_folder_is_the_users(monkeypatch, tmp_path):
    monkeypatch.setenv("BENCHMARK_CACHE", str(tmp_path))
    assert shelf.folder() == tmp_path / "classifier-heads-benchmark" / "features"
