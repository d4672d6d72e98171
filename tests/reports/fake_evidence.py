"""Evidence in memory: what cells kept, by key, for tests of exhibits; no records, no ledger."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from pandas import DataFrame

Rows = Sequence[tuple[int, float, float]]


@dataclass
class FakeEvidence:
    """What cells kept; a key that is not listed kept nothing.

    kept      key -> name -> array
    followed  key -> metric -> rows of (step, epoch, value)
    told      key -> facts: 'cell', 'result', 'run'
    """

    kept: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)
    followed: dict[str, dict[str, Rows]] = field(default_factory=dict)
    told: dict[str, dict[str, Any]] = field(default_factory=dict)

    def series(self, key: str, name: str) -> DataFrame:
        """History of a metric: step, epoch, value; empty if none."""
        rows = self.followed.get(key, {}).get(name, [])
        return DataFrame(list(rows), columns=["step", "epoch", "value"])

    def histories(self, key: str) -> Mapping[str, Sequence[tuple[float, float]]]:
        """Every metric of a cell: pairs of epoch and value."""
        metrics = self.followed.get(key, {})
        return {
            name: [(epoch, value) for _, epoch, value in rows] for name, rows in metrics.items()
        }

    def arrays(self, key: str) -> Mapping[str, np.ndarray]:
        """What a cell kept; empty if nothing."""
        return self.kept.get(key, {})

    def facts(self, key: str) -> Mapping[str, Any]:
        """What a cell's record says; empty if it has none."""
        return self.told.get(key, {})


def result(
    counts: Sequence[int],
    names: Sequence[str] = (),
    superclasses: Sequence[str] = (),
    many: int = 100,
    few: int = 20,
) -> dict[str, Any]:
    """Facts of a cell as its record tells them: counts, names and groups in label order.

    many, few: a class above `many` images is many, below `few` few (Kang et al., arXiv:1910.09217).
    """
    groups = ["many" if n > many else "few" if n < few else "medium" for n in counts]
    told = {"counts": list(counts), "names": list(names), "groups": groups}
    return {"cell": {}, "result": told | {"superclasses": list(superclasses)}, "run": "r0"}


def evidence(
    runs: DataFrame,
    arrays: Callable[[pd.Series], dict[str, np.ndarray]] | None = None,
    facts: Callable[[pd.Series], dict[str, Any]] | None = None,
    histories: Callable[[pd.Series], dict[str, Rows]] | None = None,
) -> FakeEvidence:
    """Evidence of the finished cells of a frame, each made from its row."""
    made = FakeEvidence()
    for _, row in runs[runs["state"] == "done"].iterrows():
        for make, into in (
            (arrays, made.kept),
            (facts, made.told),
            (histories, made.followed),
        ):
            if make is not None:
                into[row["key"]] = make(row)
    return made
