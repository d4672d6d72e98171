"""What finished cells kept beside their final numbers, as a report may ask for it."""

from collections.abc import Mapping
from typing import Protocol

import numpy as np
from pandas import DataFrame


class Evidence(Protocol):
    """The evidence of finished cells, by key."""

    def series(self, key: str, name: str) -> DataFrame:
        """History of a metric ('head/moved', 'train/loss'): step, epoch, value; empty if none."""
        ...

    def arrays(self, key: str) -> Mapping[str, np.ndarray]:
        """What was kept ('class_vectors', 'confusion', 'per_class', …); empty if nothing."""
        ...
