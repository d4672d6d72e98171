"""On real images: the main job from class folders to the report, at the scale of minutes.

BENCHMARK_TEST_DATA names a folder with cifar10 and cifar100 as class folders.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).resolve().parent.parent
pytestmark = pytest.mark.data

SMALL = [
    *("--suite", "long_tail", "--set", "backbone={resnet8: {channels: 8}}"),
    *("--set", "recipe.precision=float32", "--set", "seeds=[0]"),
]


def benchmark(*words: str, at: Path) -> subprocess.CompletedProcess[str]:
    """Run the command line in a folder; the data root is the one that is given to the tests."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "BENCHMARK_DATA": os.environ["BENCHMARK_TEST_DATA"],
    }
    command = [sys.executable, "-m", "benchmark", *words]
    return subprocess.run(command, cwd=at, env=environment, capture_output=True, text=True)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three heads on CIFAR-10 at ratio 10, with up to 1,000 images a class, for four epochs."""
    folder = tmp_path_factory.mktemp("real")
    done = benchmark(
        *("run", *SMALL, "--set", "data={name: cifar10, ratio: 10, largest: 1000}"),
        *("--set", "recipe.epochs=4", "--set", "head=[psc, etf, {dl2pa: {dim: 9}}, psc > ncm]"),
        at=folder,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_every_head_learns(place: Path) -> None:
    """Chance is a tenth; after four epochs each head is far above it."""
    done = benchmark("report", at=place)
    assert done.returncode == 0, done.stderr
    cells = pd.read_csv(place / "findings" / "cells.csv")
    assert sorted(cells["head"]) == ["dl2pa", "etf", "psc", "psc > ncm"]
    assert (cells["accuracy"] > 0.2).all(), cells[["head", "accuracy"]]
    assert (cells["train_images"] == 4084).all()  # int(1000 * 0.1 ** (k / 9)) over ten classes
    assert (cells["parameters"] > 18_000).all()


def test_the_ncm_stands_on_the_very_backbone_of_psc(place: Path) -> None:
    from benchmark.records.record import records

    found = {record.cell().method: record for record in records(place / "runs")}
    trunk, stage = found["psc"].weights(), found["psc > ncm"].weights()
    shared = [name for name in trunk if name.startswith("backbone.")]
    assert shared
    assert all((trunk[name] == stage[name]).all() for name in shared)


def test_running_again_trains_nothing(place: Path) -> None:
    done = benchmark(
        *("run", *SMALL, "--set", "data={name: cifar10, ratio: 10, largest: 1000}"),
        *("--set", "recipe.epochs=4", "--set", "head=[psc, etf, {dl2pa: {dim: 9}}, psc > ncm]"),
        at=place,
    )
    assert "nothing to do" in done.stdout


def test_too_few_images_are_refused_before_anything_trains(tmp_path: Path) -> None:
    """The class folders hold CIFAR-10 thinned to 1:10; a balanced run needs more."""
    done = benchmark(
        *("run", *SMALL, "--set", "data={name: cifar10}", "--set", "head=psc"), at=tmp_path
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    for word in ("automobile", "3871", "5000"):
        assert word in done.stderr
    assert not list((tmp_path / "runs").glob("*/result.json"))


def test_the_whole_suite_is_planned_at_full_size(tmp_path: Path) -> None:
    done = benchmark("plan", "--suite", "long_tail", "--json", at=tmp_path)
    cells = json.loads(done.stdout)
    assert len(cells) == 63
    assert {cell["state"] for cell in cells} == {"missing"}
