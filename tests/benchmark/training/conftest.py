"""One thread, points kept for the session, and small cells on the digits."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmark.planning.cell import Cell, Stage, freeze
from benchmark.planning.recipes import Recipe
from benchmark.training import runner
from benchmark.training.registry import registry
from benchmark.training.runner import Place


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def kept_points(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def own_cache(kept_points, monkeypatch):
    """No test reads or writes the user's cache; points are computed once a session."""
    monkeypatch.setenv("BENCHMARK_CACHE", str(kept_points))


@pytest.fixture(autouse=True)
def no_question_to_git(monkeypatch):
    monkeypatch.setattr(runner, "_commit", lambda: "unknown")


@pytest.fixture
def recipe() -> Callable[..., Recipe]:
    """Give a function that changes a short recipe."""

    def build(**changes: Any) -> Recipe:
        usual: dict[str, Any] = {
            **{"epochs": 2, "batch": 64, "lr": 0.1, "weight_decay": 5e-4},
            **{"schedule": "cosine", "augment": "crop", "padding": 1, "precision": "float32"},
        }
        return Recipe.model_validate({**usual, **changes})

    return build


@pytest.fixture
def cell(recipe) -> Callable[..., Cell]:
    """Give a function: a pipe such as ('psc', '>', 'ncm'), heads by name or (name, options)."""

    def build(*pipe: Any, seed: Any = 0, ratio: float = 10.0, data=None, **changes: Any) -> Cell:
        stages = []
        for position, part in enumerate(pipe[::2]):
            name, hyper = part if isinstance(part, tuple) else (part, {})
            stages.append(
                Stage(
                    head=name,
                    hyper=freeze(hyper),
                    recipe=() if name == "ncm" else recipe(**changes).pairs(),
                    frozen=position > 0 and pipe[2 * position - 1] == ">",
                )
            )
        material = {"name": "digits", "ratio": ratio, **(data or {})}
        backbone = freeze({"name": "small_cnn", "channels": 5})
        return Cell(freeze(material), backbone, tuple(stages), seed)

    return build


@pytest.fixture
def place(tmp_path) -> Place:
    return Place(tmp_path / "runs", tmp_path / "data", registry())
