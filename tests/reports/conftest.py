"""Synthetic frames with the columns of the ledger: no training, no ledger."""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import pytest
from finished_cells import ADVERSARY, one
from pandas import DataFrame


def lose(runs: DataFrame, spot: pd.Series, state: str = "diverged") -> DataFrame:
    """The frame with the cells at `spot` lost: no measures left."""
    runs = runs.copy()
    runs.loc[spot, "state"] = state
    measures = ["accuracy", "many", "medium", "few", "top5", "ece", "oracle", "flip", "nc1", "nc2"]
    runs.loc[spot, [*measures, "nc3", "nc4"]] = np.nan
    if state == "diverged":
        runs.loc[spot, "diverged_step"] = 17.0
    return runs


@pytest.fixture
def make_runs() -> Callable[..., DataFrame]:
    """Factory of frames: the product of heads, dims, ratios and seeds, like the ledger's."""

    def make(
        heads: Sequence[str] = ("psc", "etf", "dl2pa", "psc > ncm", ADVERSARY),
        dims: Sequence[int] = (128,),
        ratios: Sequence[float] = (1, 10, 100),
        seeds: int = 3,
        **other: object,
    ) -> DataFrame:
        return DataFrame(
            [
                one(head, dim, ratio, seed, **other)
                for head in heads
                for dim in dims
                for ratio in ratios
                for seed in range(seeds)
            ]
        )

    return make


@pytest.fixture
def lose_cells() -> Callable[..., DataFrame]:
    """lose(runs, mask, state='diverged') -> frame."""
    return lose


@pytest.fixture
def full(make_runs: Callable[..., DataFrame]) -> DataFrame:
    """Two lengths, three ratios, three seeds, one diverged seed, and an adversarial name."""
    runs = make_runs(dims=(50, 128))
    spot = (runs["head"] == "etf") & (runs["ratio"] == 100) & (runs["dim"] == 128)
    return lose(runs, spot & (runs["seed"] == "1"))
