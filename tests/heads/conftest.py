"""One thread, and a problem to build heads with."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from heads.base import Problem
from heads.geometry import spread_points

torch.set_num_threads(1)


@pytest.fixture
def problem() -> Callable[..., Problem]:
    """Give a function (width=8, classes=4, seed=0): balanced, its points computed on the spot."""

    def build(width: int = 8, classes: int = 4, seed: int = 0) -> Problem:
        def points(dim: int, objective: str = "energy") -> Tensor:
            return spread_points(classes, dim, objective)

        return Problem(
            width=width,
            counts=torch.full((classes,), 10, dtype=torch.int64),
            seed=seed,
            points=points,
        )

    return build
