"""The apparatus: everything that must be the same for every head.

    >>> import benchmark
    >>> cell = benchmark.load("3f0c…")        # a finished cell, by its key
    >>> scores = cell(images)                  # (batch, classes)

Importing this package is cheap: torch is loaded by `load`, mlflow by the ledger.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmark.training.runner import Trained

# A benchmark that phones home is not reproducible offline; must be set before mlflow is imported.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")


def load(key: str, runs: str | Path = "runs", files: Sequence[str | Path] = ()) -> "Trained":
    """Give back a finished cell, ready to use: backbone and heads in evaluation mode, on the CPU.

    key   the cell's key, or a prefix that only one finished cell has
    runs  folder of the records
    files the Python files of heads outside the tree that it was trained with

    Raises ValueError when no finished cell, or more than one, has this key, or when the source of
    one of its heads is not what it was trained with.
    """
    from benchmark.training.runner import load as restore

    return restore(key, Path(runs), [Path(file) for file in files])
