"""Points on the sphere: computed once and kept."""

import os

import pytest
import torch

from benchmark.training import points
from benchmark.training.points import estimate, folder, keeper, stand_in
from heads.geometry import OBJECTIVES


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("BENCHMARK_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def computed(monkeypatch):
    """Counts how often points are computed."""
    calls = []
    original = points.spread_points

    def counting(classes, dim, **options):
        calls.append((classes, dim, options["objective"]))
        return original(classes, dim, **options)

    monkeypatch.setattr(points, "spread_points", counting)
    return calls


def files(place):
    return sorted(path.name for path in place.rglob("*") if path.is_file())


def test_kept_file_is_used_again(cache, computed):
    first = keeper(4)(3)
    assert files(cache) == ["energy-4x3-v2.safetensors"]
    second = keeper(4)(3)
    assert computed == [(4, 3, "energy")]
    assert torch.equal(first, second) and first.dtype == second.dtype == torch.float32
    torch.testing.assert_close(first.norm(dim=1), torch.ones(4))
    second.zero_()  # what is handed out may be changed by whoever has it
    assert torch.equal(keeper(4)(3), first)


def test_each_part_of_the_name_matters(cache, computed):
    for classes, dim, objective in ((4, 3, "energy"), (5, 3, "energy"), (4, 2, "energy")):
        assert keeper(classes)(dim, objective).shape == (classes, dim)
    keeper(5)(3, objective="separation")
    assert len(computed) == len(files(cache)) == 4


def test_points_do_not_depend_on_who_asks_first(cache, tmp_path, monkeypatch):
    first = keeper(5)(3)
    monkeypatch.setenv("BENCHMARK_CACHE", str(tmp_path / "another"))
    torch.manual_seed(5)
    assert torch.equal(keeper(5)(3), first)


@pytest.mark.parametrize("where", [0, 64, 100, -1])
def test_a_flipped_byte_is_noticed(cache, computed, where):
    whole = keeper(4)(3)
    (path,) = folder().iterdir()
    content = bytearray(path.read_bytes())
    content[where] ^= 1
    path.write_bytes(content)
    assert torch.equal(keeper(4)(3), whole)
    assert len(computed) == 2
    keeper(4)(3)  # the damaged file was replaced
    assert len(computed) == 2


@pytest.mark.parametrize("length", [0, 10, 64, 90])
def test_a_torn_file_is_noticed(cache, computed, length):
    whole = keeper(4)(3)
    (path,) = folder().iterdir()
    path.write_bytes(path.read_bytes()[:length])
    assert torch.equal(keeper(4)(3), whole)
    assert len(computed) == 2


def test_another_shape_under_the_name_is_not_believed(cache, computed):
    keeper(5)(3)
    (path,) = folder().iterdir()
    path.rename(path.with_name("energy-4x3-v2.safetensors"))
    assert keeper(4)(3).shape == (4, 3)
    assert len(computed) == 2


def test_a_cache_that_cannot_be_written_costs_time_only(cache, computed, monkeypatch):
    def refuse(path, content):
        raise PermissionError(13, "Permission denied", str(path))

    whole = keeper(4)(3)
    for path in folder().iterdir():
        path.unlink()
    monkeypatch.setattr(points, "write_whole", refuse)
    assert torch.equal(keeper(4)(3), whole)
    assert torch.equal(keeper(4)(3), whole)
    assert len(computed) == 3 and files(cache) == []


def test_a_read_only_folder(cache, computed):
    folder().mkdir(parents=True)
    folder().chmod(0o555)
    try:
        assert keeper(4)(3).shape == (4, 3)
    finally:
        folder().chmod(0o755)


def test_a_folder_that_cannot_be(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("BENCHMARK_CACHE", str(tmp_path / "file" / "below"))
    assert keeper(4)(3).shape == (4, 3)


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may read everything")
def test_a_file_that_may_not_be_read(cache, computed):
    whole = keeper(4)(3)
    (path,) = folder().iterdir()
    path.chmod(0)
    assert torch.equal(keeper(4)(3), whole)


def test_where_points_are_kept(monkeypatch, tmp_path):
    monkeypatch.setenv("BENCHMARK_CACHE", str(tmp_path / "own"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert folder() == tmp_path / "own" / "classifier-heads-benchmark" / "points"
    monkeypatch.delenv("BENCHMARK_CACHE")
    assert folder() == tmp_path / "xdg" / "classifier-heads-benchmark" / "points"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert folder().is_relative_to(tmp_path / "home" / ".cache")


def test_points_are_computed_on_one_thread(monkeypatch):
    """A search is chaotic: the last bits, which change with the threads, decide where it ends."""

    def spread(classes, dim, **options):
        seen.append(torch.get_num_threads())
        raise ValueError

    seen, before = [], torch.get_num_threads()
    monkeypatch.setattr(points, "spread_points", spread)
    try:
        torch.set_num_threads(2)
        with pytest.raises(ValueError):
            estimate(40, 3)
        assert seen == [1] and torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_every_objective_is_kept_under_its_own_name(cache, computed):
    for objective in OBJECTIVES:
        assert keeper(6)(2, objective).shape == (6, 2)
        assert stand_in(6)(2, objective).shape == (6, 2)
    assert len(files(cache)) == len(computed) == len(OBJECTIVES)


def test_stand_ins_have_the_shape_and_refuse_what_cannot_be(computed):
    found = stand_in(100)(50)
    assert found.shape == (100, 50) and computed == []
    torch.testing.assert_close(found.norm(dim=1), torch.ones(100))
    with pytest.raises(ValueError):
        stand_in(3)(1)
    with pytest.raises(ValueError):
        stand_in(3)(0)
    with pytest.raises(ValueError, match="Did you mean 'separation'"):
        stand_in(3)(2, "seperation")
