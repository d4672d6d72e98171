"""Records as training leaves them, without any training; and a ledger whose database exists."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from benchmark.planning.cell import Cell, Stage, freeze
from benchmark.planning.recipes import RECIPES
from benchmark.planning.suite import Data
from benchmark.records.ledger import Ledger
from benchmark.records.record import Record

EPOCH = 1_750_000_000_000  # milliseconds


def numbers(seed: int) -> dict[str, float]:
    """Floats that lose their last bits in any text that is too short."""
    generator = np.random.default_rng(seed)
    names = ("accuracy", "many", "few", "top5", "ece", "nc1", "nc2", "nc3", "nc4")
    found = {name: float(generator.random()) for name in names}
    return {
        **found,
        "nc1": found["nc1"] * 1e-17,
        "nc2": found["nc2"] * 1e17,
        "medium": float("nan"),
    }


def rows(epochs: int, start: int = EPOCH) -> list[dict[str, float]]:
    return [
        {"epoch": n, "step": 20 * n, "time": start + 1000 * n, "loss": 1 / (n + 2), "lr": 0.1 / n}
        for n in range(1, epochs + 1)
    ]


@pytest.fixture
def cell() -> Callable[..., Cell]:
    """Give a function (seed=0, head=…): a cell of two stages with options."""

    def build(seed: int = 0, head: str = "psc", ratio: float = 20.0) -> Cell:
        recipe = RECIPES["quick"].recipe.pairs()
        stages = (
            Stage(head, freeze({"dim": 8, "cosine": True}), recipe, protocol="quick"),
            Stage("ncm", frozen=True),
        )
        data = freeze(Data(name="digits", ratio=ratio, largest=124).model_dump())
        return Cell(data, freeze({"name": "small_cnn"}), stages, seed)

    return build


@pytest.fixture
def finished(tmp_path: Path) -> Callable[..., Record]:
    """Give a function (cell, state="done", …): its record, finished with numbers of its own."""

    def build(of: Cell, state: str = "done", *, number: int | None = None, epochs: int = 3, **more):
        number = of.seed if number is None else number
        record = Record(tmp_path / "runs" / of.key)
        record.begin(of)
        record.write_curves(rows(epochs, EPOCH + number))
        result = {
            "state": state,
            "metrics": numbers(number) if state == "done" else {},
            "size": {
                **{"parameters": 1234, "flops": 10**10, "width": 64, "dim": 8},
                **{"classes": 10, "train_images": 321, "steps": 60},
            },
            "cost": {
                **{"seconds": 1.2345678901234567 + number, "images_per_second": 1e5 / 3},
                **{"peak_memory_mb": 1 / 3, "finished": f"2026-01-02T03:04:{number:02}+00:00"},
                **{"device": "x86_64", "threads": 1},
            },
            "readings": [
                {"step": step, "moved": step / 7, "recall@1 für k": 0.5} for step in (0, 30, 60)
            ],
            "digests": {"images": "abc", "heads": {"psc": "1", "ncm": "2"}},
            "versions": {"torch": "2.15.0"},
            "commit": "abc-dirty",
            **more,
        }
        weights = {"w": np.full(4, number, "float32")} if state == "done" else {}
        record.finish(result, {}, weights)
        return record

    return build


@pytest.fixture
def ledger(tmp_path: Path, migrated: Path) -> Ledger:
    shutil.copy(migrated, tmp_path / "mlflow.db")
    return Ledger(f"sqlite:///{tmp_path / 'mlflow.db'}", tmp_path / "mlartifacts")
