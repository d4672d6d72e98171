"""Records by the thousand as training would leave them, without any training.

For what must be quick over many cells: delivering, reading, reporting. Numbers are plausible in
size and direction (rarer classes are harder, losses fall), and mean nothing.
"""

from collections.abc import Iterator, Mapping
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.planning.cell import Cell, Stage, freeze
from benchmark.planning.recipes import RECIPES
from benchmark.planning.suite import Data
from benchmark.records.record import Record

CLASSES, LARGEST, WIDTH, TESTED = 100, 500, 64, 100  # as CIFAR-100 and a ResNet-32 have them
HEADS = ("one_hot", "psc", "etf", "hpn", "dl2pa", "ldam", "logit_adjustment", "ebv")
DIMS = (16, 32, 64, 100, 128)
RATIOS = (1.0, 10.0, 50.0, 100.0, 200.0)
START = 1_750_000_000_000  # milliseconds
BATCH = 128


def cells(seeds: int = 5) -> Iterator[Cell]:
    """Heads x dims x ratios x seeds on one data set: 200 a seed, so 1,000 by default."""
    recipe = RECIPES["long_tail_200"].recipe.pairs()
    backbone = freeze({"name": "resnet32", "channels": 16})
    for seed, ratio, dim, head in product(range(seeds), RATIOS, DIMS, HEADS):
        data = freeze(Data(name="cifar100", ratio=ratio, largest=LARGEST).model_dump())
        stage = Stage(head, freeze({"dim": dim}), recipe, protocol="long_tail_200")
        yield Cell(data, backbone, (stage,), seed)


def write(cell: Cell, runs: Path, epochs: int = 200) -> Record:
    """The finished record of one of `cells`, under the folder of runs."""
    number = int(cell.key[:8], 16)
    random = np.random.default_rng(number)
    ratio, dim = float(dict(cell.data)["ratio"]), int(dict(cell.stages[0].hyper)["dim"])
    counts = [int(LARGEST * ratio ** (-i / (CLASSES - 1))) for i in range(CLASSES)]
    steps = epochs * -(-sum(counts) // BATCH)
    kept = _arrays(random, cell.stages[0].head, np.array(counts), dim, epochs)
    record = Record(runs / cell.key)
    record.begin(cell)
    record.tag("synthetic")
    rows = _rows(random, epochs, steps // epochs, START + number % 10**9)
    record.write_curves(rows)
    groups = ["many" if n > 100 else "few" if n < 20 else "medium" for n in counts]
    numbers = _metrics(random, kept, groups) | {f"nc{i}": rows[-1][f"nc{i}"] for i in range(1, 5)}
    result = {
        "state": "done",
        "metrics": numbers,
        "size": {
            **{"parameters": 463_504 + WIDTH * dim, "flops": 138_000_000, "width": WIDTH},
            **{"dim": dim, "classes": CLASSES, "train_images": sum(counts), "steps": steps},
        },
        "cost": {
            **{"seconds": 900 * random.random(), "images_per_second": 900 + 100 * random.random()},
            "finished": f"2026-01-{1 + number % 28:02}T03:04:05+00:00",
            **{"peak_memory_mb": 1200.5, "device": "x86_64", "threads": 1},
        },
        "seen": BATCH * steps,
        "readings": _readings(random, steps),
        "counts": counts,
        "groups": groups,
        "names": [f"class {i}" for i in range(CLASSES)],
        "superclasses": [f"group {i // 5}" for i in range(CLASSES)],
        "constants": [[0.5] * 3, [0.25] * 3],
        "trunk": None,
        "digests": {"images": f"{int(ratio):064x}", "heads": {cell.stages[0].head: "1" * 64}},
        "versions": {"torch": "2.15.0", "numpy": "2.4.6", "python": "3.11.7", "scipy": "1.17.1"},
        "commit": "0123456789ab",
    }
    record.finish(result, kept, {})
    return record


def _rows(
    random: np.random.Generator, epochs: int, length: int, start: int
) -> list[dict[str, float]]:
    """One row an epoch; collapse at ten of them."""
    rows = []
    for epoch in range(1, epochs + 1):
        row = {
            **{"epoch": epoch, "step": length * epoch, "time": start + 1000 * epoch},
            **{"loss": 4.6 * 0.98**epoch + 0.1 * random.random(), "lr": 0.1 * (1 - epoch / 300)},
        }
        if epoch % max(epochs // 10, 1) == 0:
            row |= {f"nc{i}": random.random() / epoch for i in range(1, 5)}
        rows.append(row)
    return rows


def _readings(random: np.random.Generator, steps: int) -> list[dict[str, float]]:
    """Three measures at the start and at fifty steps: about what a head reports."""
    names = ("agreement", "moved", "moves")
    ats = np.linspace(0, steps, 51).round()
    return [{"step": float(at), **dict(zip(names, random.random(3), strict=True))} for at in ats]


def _arrays(
    random: np.random.Generator, head: str, counts: np.ndarray, dim: int, epochs: int
) -> dict[str, np.ndarray]:
    """Everything that a judged cell keeps; an assignment and its film where the head has one."""
    right = random.binomial(TESTED, 0.2 + 0.5 * (counts / LARGEST) ** 0.3)
    confusion = np.full((CLASSES, CLASSES), 0)
    for label, hits in enumerate(right):
        wrong = random.multinomial(TESTED - hits, np.full(CLASSES - 1, 1 / (CLASSES - 1)))
        confusion[label] = np.insert(wrong, label, hits)
    examples = random.multinomial(TESTED * CLASSES, np.full(15, 1 / 15)).astype(float)
    sure = (np.arange(15) + 0.5) / 15
    found = {
        "confusion": confusion,
        "per_class": right / TESTED,
        "class_vectors": random.normal(size=(CLASSES, dim)).astype("float32"),
        "reliability": np.stack([examples, examples * sure, examples * sure**1.5], axis=1),
    }
    if head == "dl2pa":
        film = np.stack([random.permutation(CLASSES) for _ in range(epochs + 1)])
        found |= {
            "head.assignment": film[-1].astype("int64"),
            "epochs.head.assignment": film.astype("int32"),
            "epochs": np.arange(epochs + 1, dtype="int32"),
        }
    return found


def _metrics(
    random: np.random.Generator, kept: Mapping[str, Any], groups: list[str]
) -> dict[str, float]:
    right, table = kept["per_class"], kept["reliability"]
    within = {name: right[np.array(groups) == name] for name in ("many", "medium", "few")}
    geometry = ("cosine_max", "cosine_min", "cosine_mean", "cosine_sd", "angle_mean", "uniformity")
    return {
        "accuracy": float(right.mean()),
        **{n: float(v.mean()) if len(v) else float("nan") for n, v in within.items()},
        "top5": float(min(1.0, 1.5 * right.mean())),
        "ece": float(np.abs(table[:, 2] - table[:, 1]).sum() / table[:, 0].sum()),
        "train_accuracy": float(1 - 0.05 * random.random()),
        **{name: float(random.random()) for name in geometry},
    }
