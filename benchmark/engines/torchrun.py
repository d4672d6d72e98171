"""Whether torchrun started this process, and as which of how many; read here and nowhere else."""

import os
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rank:
    """A process among those that torchrun started.

    rank, size     which of how many, on all machines
    local, beside  which of how many on this machine
    """

    rank: int
    size: int
    local: int
    beside: int


def rank() -> Rank | None:
    """Where this process stands; None where it is alone."""
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    if any(name not in os.environ for name in (*names, "TORCHELASTIC_RUN_ID")):
        return None  # some sites set one or the other for programs of their own
    found = Rank(*(int(os.environ[name]) for name in names))
    return found if found.size > 1 else None
