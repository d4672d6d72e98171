"""prototypes: what it says, what it saves, what it refuses."""

from pathlib import Path

import numpy as np
import pytest

from benchmark.commands import prototypes as command
from benchmark.training import points


def values(said):
    """Title -> number, of the lines that have one."""
    found = {}
    for title in command.TITLES.values():
        (line,) = (line for line in said.splitlines() if line.startswith(title))
        found[title] = float(line.removeprefix(title).split()[0])
    return found


def test_a_set_with_a_known_optimum(place, call):
    said = call("prototypes", "--classes", 100, "--dim", 50, "--out", "points.npy")
    assert said.code == 0 and said.err == ""
    saved = np.load("points.npy")
    assert saved.shape == (100, 50) and saved.dtype == np.float32
    np.testing.assert_array_equal(saved, points.keeper(100)(50).numpy())
    cosines = (saved @ saved.T)[np.triu_indices(100, 1)]
    found = values(said.out)
    assert found["largest cosine"] == cosines.max() == 0
    assert found["smallest cosine"] == cosines.min() == -1
    assert found["mean cosine"] == pytest.approx(cosines.mean(), abs=1e-6)
    assert found["spread of cosines (sd)"] == pytest.approx(cosines.std(), abs=1e-6)
    assert found["mean angle, radians"] == pytest.approx(np.arccos(cosines).mean(), abs=1e-6)
    assert found["L_uni at t = 2"] == pytest.approx(np.log(np.exp(4 * cosines - 4).mean()), 1e-6)
    assert "0.000000   best possible 0.000000" in said.out
    assert "-4.009965   best possible -4.009965" in said.out
    assert "saved to points.npy" in said.out
    assert sorted(path.name for path in place.iterdir()) == ["points.npy", "tiny.yaml"]


def test_describes_without_saving(place, call):
    said = call("prototypes", "--classes", 7, "--dim", 3, "--objective", "separation")
    assert said.code == 0 and "saved" not in said.out
    # Seven points in space: 77.8695 degrees apart (Schütte and van der Waerden 1951).
    largest = values(said.out)["largest cosine"]
    assert np.degrees(np.arccos(largest)) == pytest.approx(77.8695, abs=1e-3)
    assert "not known, at least 0.1" in said.out
    assert [path.name for path in place.iterdir()] == ["tiny.yaml"]


def test_an_earlier_file_is_replaced_whole(place, call):
    Path("points.npy").write_text("old")
    call("prototypes", "--classes", 3, "--dim", 2, "--out", "points.npy")
    assert np.load("points.npy").shape == (3, 2)


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (("--classes", 1, "--dim", 5), "got 1 classes"),
        (("--classes", 5, "--dim", 0), "dim 0"),
        (("--classes", -5, "--dim", 3), "got -5 classes"),
        (("--classes", 5, "--dim", 1), "Give dim 2 or more"),
        (("--classes", 10**6, "--dim", 10), "20000 classes at most"),
        (("--classes", 10**6, "--dim", 10**6), "got 1000000 classes"),
        (("--classes", 5, "--dim", 2, "--objective", "enery"), "Did you mean 'energy'?"),
        (("--classes", 5, "--dim", 2, "--out", "."), "it is a folder"),
        (("--classes", 5, "--dim", 2, "--out", "nowhere/points.npy"), "no folder nowhere"),
        (("--classes", 5, "--dim", 2, "--out", "tiny.yaml/points.npy"), "no folder tiny.yaml"),
    ],
)
def test_refusals(place, call, words, part):
    said = call("prototypes", *words)
    assert said.code == 2 and said.out == ""
    assert part in said.err and said.err.count("\n") == 1
    assert [path.name for path in place.iterdir()] == ["tiny.yaml"]


def test_a_disk_that_is_full(place, call, monkeypatch):
    def refuse(path, content):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(points, "write_whole", refuse)
    said = call("prototypes", "--classes", 5, "--dim", 2, "--out", "points.npy")
    assert said.code == 2 and "cannot write to points.npy: No space left" in said.err
