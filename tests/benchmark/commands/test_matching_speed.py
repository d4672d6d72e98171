"""The comparison of the two ways to match: what it measures, not how long it took."""

import pytest
import torch
from rich.console import Console

from benchmark.commands import matching
from benchmark.commands.matching import Timing


def test_rows_say_what_was_moved(capsys: pytest.CaptureFixture[str]) -> None:
    found = matching.matching([120], 2, Console(width=120))
    moved = {kind: [row.moved for row in found if row.kind == kind] for kind in matching.BLUR}
    assert moved["settled"] == [0, 10, 100, 120]
    assert [row.kind for row in found].count("alike") == 4
    assert all(len(row.scipy) == len(row.ours) == 2 for row in found)
    said = capsys.readouterr().out
    assert said.count("120 classes, settled") == 4 and "least to most" in said
    assert said.count("│ settled") == 4 and said.count("│ alike") == 4


def test_the_command(place, call) -> None:
    found = call("speed", "--matching", 40, "--matching", 30, "--rounds", 1)
    assert found.code == 0 and found.out.count("40 classes, crowded") == 4
    assert found.out.index("30 classes") < found.out.index("40 classes")
    assert call("speed", "--matching", 1).code == 2


def test_ratios_are_of_neighbours_in_time() -> None:
    assert Timing("settled", 9, 0, (4.0, 9.0), (2.0, 3.0)).ratios == [2.0, 3.0]


def test_many_classes_alike_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matching, "CROWD", 100)
    assert {row.kind for row in matching.timings(120, 1)} == {"settled", "crowded"}


def test_another_answer_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matching, "match", lambda cost, present, stay: torch.arange(len(cost)))
    with pytest.raises(RuntimeError, match="120 classes .settled. gave another answer"):
        list(matching.timings(120, 1))
