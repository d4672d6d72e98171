"""What finished cells kept beside their final numbers, as a report may ask for it."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from pandas import DataFrame


class Evidence(Protocol):
    """The evidence of finished cells, by key.

    Curves are named train/…, as 'train/loss' and, at a few epochs, 'train/nc1' to 'train/nc4'; a
    head's own readings head/…, as 'head/moved'. Older cells kept less than newer ones: what is not
    there is empty.
    """

    def series(self, key: str, name: str) -> DataFrame:
        """History of a metric: step, epoch, value, in the order of steps; empty if none."""
        ...

    def histories(self, key: str) -> Mapping[str, Sequence[tuple[float, float]]]:
        """Every curve and reading by name: pairs of epoch and value, in the order of steps.

        Epochs count from 1, 0 is before training; NaN where a stage has no epochs.
        """
        ...

    def arrays(self, key: str) -> Mapping[str, np.ndarray]:
        """What was kept by name; empty if nothing.

        per_class         (classes,) accuracy on test, NaN for a class without test images
        confusion         (classes, classes) counts: row the true class, column the predicted one
        reliability       (15, 3) examples, sum of confidences, sum of right answers, in equal bins
                          of softmax confidence
        class_vectors     (classes, dim), if the head has them
        embedding         (examples, dim) of the test images with labels (examples,), for dim <= 3
        head.<b>          a head's whole-number state at the end: head.assignment (classes,)
        epochs.head.<b>   (snapshots, classes) the same along training, with epochs (snapshots,):
                          after how many epochs each was taken, 0 first
        """
        ...

    def facts(self, key: str) -> Mapping[str, Any]:
        """What is known of a cell, as plain values.

        cell    settings: data, backbone, stages with head, hyper and recipe, seed
        result  counts, names, groups and superclasses by class; versions, commit, digests, cost,
                size, metrics
        run     its run's id in MLflow
        """
        ...
