"""Inputs that nobody writes on purpose, or somebody does: the answer is a result or one sentence.

`fuzz` tries a strategy on an action: some inputs in the fast tests, many more in the `long` ones,
the same in every run. BENCHMARK_FUZZ=10 tries ten times as many, drawn anew.
"""

import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

TRIED = "inputs tried: "  # before a test's name, in what its report tells
ANSWERS = (ValueError, FileNotFoundError, PermissionError)  # what `main` turns into exit code 2
LIMIT = 30  # seconds for one input; generous: none takes one, on a machine that does other things
LONG = 10  # as many inputs in the long tests


def sentence(action: Callable[[], Any]) -> str | None:
    """None where the action succeeds, or the sentence that refuses it; all else is raised."""
    try:
        action()
    except ANSWERS as error:
        said = " ".join(str(error).split())
        assert said and len(said) < 5000, f"no sentence: {said[:300]!r}"
        assert said.isprintable() or "\\" in ascii(said)
        return said
    return None


def _hangs(number: int, frame: FrameType | None) -> None:
    raise AssertionError(f"one input took more than {LIMIT} s")


@pytest.fixture(params=[1, pytest.param(LONG, marks=pytest.mark.long)], ids=["fast", "long"])
def fuzz(request: pytest.FixtureRequest) -> Iterator[Callable[..., None]]:
    """Give a function (strategy, action, inputs): try so many; `long` tries ten times as many."""
    factor = int(os.environ.get("BENCHMARK_FUZZ", "0"))
    name = request.node.originalname

    def run(strategy: Any, action: Callable[[Any], Any], inputs: int = 40) -> None:
        tried = 0

        @settings(
            max_examples=inputs * request.param * max(factor, 1),
            derandomize=not factor,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(strategy)
        def each(value: Any) -> None:
            nonlocal tried
            tried += 1
            signal.alarm(LIMIT)
            try:
                sentence(lambda: action(value))
            finally:
                signal.alarm(0)

        each()
        request.node.user_properties.append((f"{TRIED}{name}", tried))

    before = signal.signal(signal.SIGALRM, _hangs)
    yield run
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def soon() -> Iterator[None]:
    """A test that ends within seconds, or fails: for input that would else take hours."""
    before = signal.signal(signal.SIGALRM, _hangs)
    signal.alarm(LIMIT)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """How many inputs were tried, by all processes that ran tests."""
    tried: Counter[str] = Counter()
    for report in [each for found in terminalreporter.stats.values() for each in found]:
        if getattr(report, "when", None) == "call":
            for name, inputs in report.user_properties:
                tried[name.removeprefix(TRIED)] += inputs if name.startswith(TRIED) else 0
    tried = +tried
    if tried:
        terminalreporter.write_line(f"{sum(tried.values()):,} inputs tried")
        for name, inputs in sorted(tried.items()):
            terminalreporter.write_line(f"{inputs:9,}  {name.removeprefix('test_')}")
