"""What a claim measures on the evidence of one cell, beside the columns of the frame.

    norm_spread        standard deviation over mean of the norms of the class vectors, n in the
                       denominator: 0 where all are equally long
    norm_size          rank correlation (Spearman 1904) of these norms with the class sizes
    end SERIES         last reading
    rise, fall SERIES  last reading less the first, and the contrary
    least SERIES       smallest rise from one reading to the next: above 0 where all of them rise
    early, late SERIES mean of the first and of the last quarter of the readings
    mean SERIES        mean of all of them

`head/moved` is read after the first epoch: before it no refresh can have moved a label.
"""

import math
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from pandas import DataFrame
from scipy.stats import spearmanr

from reports.counts import CANONICAL, class_counts

MEASURED = ("norm_spread", "norm_size")
WAYS = ("end", "rise", "fall", "least", "early", "late", "mean")

PAIRS = ("all", "many_many", "many_few", "few_few")
READINGS = ("head/moved", "head/agreement", *(f"train/nc{nth}" for nth in range(1, 5)))
READINGS += tuple(f"head/{what}_{pair}" for what in ("distance", "cosine") for pair in PAIRS)
"""Series that a claim may read."""


class Source(Protocol):
    """As much of `reports.evidence.Evidence` as is measured on."""

    def arrays(self, key: str) -> Mapping[str, np.ndarray]:
        """What a cell kept."""
        ...

    def series(self, key: str, name: str) -> DataFrame:
        """History of a metric: step, epoch, value."""
        ...


def measured(metric: str, cell: Mapping[str, Any], evidence: Source) -> float:
    """One of MEASURED, or a way and a series, of a cell, its tidy row; NaN if unknown."""
    how, _, series = metric.partition(" ")
    if series:
        history = evidence.series(cell["key"], series)
        if series == "head/moved":
            history = history[history["epoch"] > 1]
        return _read(how, history["value"].to_numpy(dtype=np.float64))
    vectors = evidence.arrays(cell["key"]).get("class_vectors")
    if vectors is None:
        return math.nan
    norms = np.linalg.norm(np.asarray(vectors, dtype=np.float64), axis=1)
    if metric == "norm_spread":
        return float(norms.std() / norms.mean()) if norms.mean() > 0 else math.nan
    counts = _counts(cell)
    if counts is None or len(counts) != len(norms) or np.ptp(norms) == 0:
        return math.nan
    return float(spearmanr(counts, norms).statistic)


def _read(how: str, values: np.ndarray) -> float:
    """One number of the readings, (readings,); NaN for too few."""
    if len(values) < (2 if how in ("rise", "fall", "least") else 1):
        return math.nan
    quarter = max(len(values) // 4, 1)
    return float(
        {
            "end": lambda: values[-1],
            "rise": lambda: values[-1] - values[0],
            "fall": lambda: values[0] - values[-1],
            "least": lambda: np.diff(values).min(),
            "early": lambda: values[:quarter].mean(),
            "late": lambda: values[-quarter:].mean(),
            "mean": lambda: values.mean(),
        }[how]()
    )


def _counts(cell: Mapping[str, Any]) -> tuple[int, ...] | None:
    """Images of each class in label order, None where they are not known for certain."""
    data = str(cell["data"]).split(" ")[0]
    if data not in CANONICAL or cell["ratio"] == 1 or cell["profile"] not in ("", "exponential"):
        return None
    classes, largest = CANONICAL[data]
    counts = class_counts(classes, cell["largest"] or largest, cell["ratio"])
    return counts if cell["train_images"] == sum(counts) else None
