"""How the assignment of labels to points went in one cell: what was kept of it, and counts of it.

A head with a moving assignment keeps `assignment`, the index of the point of each class, at the
start and after each epoch. A refresh at the end of an epoch waits for the next one to begin, so
what the first epoch's features ask for shows after the second.
"""

import math
from dataclasses import dataclass

import numpy as np
from pandas import DataFrame

from reports.evidence import Evidence

MEASURES = ("changes", "last", "returned", "stayed")


@dataclass(frozen=True, slots=True, eq=False)
class Film:
    """How the assignment of one cell went.

    epochs  after which something is known, (snapshots,), rising
    shares  of labels whose point is another than one snapshot before, (snapshots - 1,)
    points  which point each class has, (snapshots, classes); None where only changes were counted
    """

    epochs: np.ndarray
    shares: np.ndarray
    points: np.ndarray | None

    @property
    def known(self) -> bool:
        """Whether it is known which labels changed: also where none did."""
        return self.points is not None or not self.shares.any()

    def measures(self) -> dict[str, float]:
        """What the table shows; NaN where only changes were counted, and there were some.

        changes   per label, from one snapshot to the next
        last      epoch after which the last change shows, 0 for none
        returned  share of labels that end where they started
        stayed    share of labels that never change
        """
        if self.points is None:
            still = (0.0, 0.0, 1.0, 1.0) if self.known else (math.nan,) * len(MEASURES)
            return dict(zip(MEASURES, still, strict=True))
        changed = self.points[1:] != self.points[:-1]
        at = self.epochs[1:][changed.any(axis=1)]
        return {
            "changes": float(changed.sum() / changed.shape[1]),
            "last": float(at[-1]) if len(at) else 0.0,
            "returned": float((self.points[0] == self.points[-1]).mean()),
            "stayed": float((~changed.any(axis=0)).mean()),
        }

    def places(self) -> np.ndarray:
        """Which class ends at the point that each class has, (snapshots, classes).

        A point that nobody has at the end is numbered from `classes` on.
        """
        if self.points is None:
            raise ValueError("this film has counts and no points; use its shares.")
        final = {point: label for label, point in enumerate(self.points[-1].tolist())}
        for point in np.unique(self.points).tolist():
            final.setdefault(point, len(final))
        return np.vectorize(final.__getitem__)(self.points)


def counted(history: DataFrame, classes: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Epochs and shares of labels that changed, from a running count of changes ('head/moves').

    history: step, epoch, value. Within an epoch the last reading counts. None for fewer than two
    epochs, or where labels changed more than once between two: those are no shares.
    """
    number = np.ceil(history["epoch"].to_numpy(dtype=np.float64) - 1e-9)
    last = history.assign(number=number).groupby("number")["value"].last()
    shares = np.diff(last.to_numpy()) / classes
    if len(shares) == 0 or (shares > 1).any():
        return None
    return last.index.to_numpy(), shares


def film(key: str, evidence: Evidence) -> Film | None:
    """The film of a finished cell, None for a head without `assignment`.

    Records without snapshots have their changes counted, where that can be done.
    """
    arrays = evidence.arrays(key)
    final = arrays.get("head.assignment")
    if final is None or final.ndim != 1:
        return None
    points, epochs = arrays.get("epochs.head.assignment"), arrays.get("epochs")
    if points is not None and epochs is not None and len(points) > 1:
        points = np.asarray(points)
        shares = (points[1:] != points[:-1]).mean(axis=1)
        return Film(np.asarray(epochs, dtype=np.float64), shares, points)
    known = counted(evidence.series(key, "head/moves"), len(final))
    return None if known is None else Film(*known, None)
