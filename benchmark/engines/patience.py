"""How long a worker may be silent before it counts as hung."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

ROUND = 1.0  # seconds of silence, at most, that count between two looks; see `Silence`


@dataclass(frozen=True, slots=True)
class Patience:
    """Limits in seconds, all ours: far above what a healthy worker was seen to need.

    step   between two steps; 600: the slowest step of a suite takes seconds, and a network file
           system that does not answer comes back within minutes
    times  and at least so many times the slowest step of this cell; 20: a machine that others use
           too is rarely slower than that
    other  wherever no steps are taken: torch is imported, images are decoded, kernels compiled,
           features collected, an epoch or the whole cell is judged; 3600: one pass over the 115,846
           images of ImageNet-LT at 100 a second takes 20 minutes, and a cell ends with two
    grace  from SIGTERM, which lets it finish its step and save, to SIGKILL; 60
    """

    step: float = 600.0
    times: float = 20.0
    other: float = 3600.0
    grace: float = 60.0

    def after(self, pulse: Mapping[str, Any]) -> float:
        """Silence that is allowed after a pulse.

        pulse  slowest: seconds of this cell's slowest step; between: more steps of the epoch follow
        """
        least = self.step if pulse["between"] else self.other
        return max(least, self.times * float(pulse["slowest"]))


@dataclass(slots=True)
class Silence:
    """How long a worker has been silent, as far as its parent was there to listen.

    A parent that was stopped by Ctrl-Z or by Slurm, or that waited for a slow tracker, has heard
    nothing either: of the time between two looks at most `ROUND` counts.
    """

    allowed: float
    lasted: float = 0.0

    def goes_on(self, elapsed: float) -> bool:
        """Seconds since the last look went by without a word; whether it is too long now."""
        self.lasted += min(elapsed, ROUND)
        return self.lasted > self.allowed

    def broken(self, allowed: float) -> None:
        """The worker was heard; so long may it be silent now."""
        self.allowed, self.lasted = allowed, 0.0
