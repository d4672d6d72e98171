"""On real images: the main job from class folders to the report, at the scale of minutes.

BENCHMARK_TEST_DATA names a folder with cifar10 and cifar100 as class folders.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmark.records.record import records
from heads import HEADS

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
        "MLFLOW_TRACKING_URI": "",  # the folder's own
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
    assert len(cells) == 297  # as the suite's comment says
    states = [cell["state"] for cell in cells]
    assert states.count("missing") == 279 and states.count("declined") == 18  # no word vectors


@pytest.fixture(scope="module")
def ten_classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root with ten classes of CIFAR-100, 64 images of each to train on and 10 to test."""
    root = tmp_path_factory.mktemp("ten")
    whole = Path(os.environ["BENCHMARK_TEST_DATA"]) / "cifar100"
    names = sorted(path.name for path in (whole / "train").iterdir())[:10]
    for split, count in (("train", 64), ("test", 10)):
        for name in names:
            folder = root / "mini" / split / name
            folder.mkdir(parents=True)
            for image in sorted((whole / split / name).iterdir())[:count]:
                (folder / image.name).symlink_to(image)
    vectors = np.random.default_rng(0).normal(size=(10, 16)).astype("float32")
    np.save(root / "vectors.npy", vectors)
    return root


def method(name: str) -> str:
    """A head as a method: on a softmax's backbone where it stands on another."""
    needs = HEADS[name].needs()
    if needs.frozen:
        return f"psc > {name}" + ("@quick" if needs.trains else "")
    return f"psc >> {name}@quick > crt@quick" if name == "dro_lt" else name


def test_twenty_steps_of_every_method(ten_classes: Path, tmp_path: Path) -> None:
    heads = [method(name) for name in HEADS]
    heads += [{"dl2pa": {"prototypes": "psc"}}, {"hpn": {"placement": "semantic"}}]
    block = {
        "data": {"name": "image_folder", "folder": "mini"},
        "backbone": {"resnet8": {"channels": 8}},
        "recipe": {"quick": {"epochs": 1, "batch": 32, "augment": "crop_flip", "padding": 4}},
        "head": heads,
        "seeds": [0],
    }
    shortened = ("--set", "recipe.quick.epochs=1", "--set", "recipe.quick.batch=32")
    (tmp_path / "methods.yaml").write_text(f"# methods: do all run?\n{json.dumps([block])}")
    done = benchmark(
        *("run", "--suite", "methods.yaml", "--data-root", str(ten_classes), *shortened),
        *("--words", str(ten_classes / "vectors.npy"), "--jobs", "1", "--offline"),
        at=tmp_path,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = [(record.cell(), record.result()) for record in records(tmp_path / "runs")]
    assert {cell.stages[-1].head for cell, _ in found} | {"dro_lt"} == set(HEADS)
    for cell, result in found:
        assert result is not None and result["state"] == "done", cell.method
        assert 0 <= result["metrics"]["accuracy"] <= 1
        steps = 20 if cell.stages[-1].recipe else 0
        assert result["size"]["steps"] == steps, cell.method
