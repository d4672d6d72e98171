"""The ledger beside a folder of runs, as commands open it."""

from functools import lru_cache
from pathlib import Path

from benchmark.planning import suite
from benchmark.records.ledger import Ledger, default_uri


def ledger(runs: Path, tracking_uri: str | None) -> Ledger:
    """The ledger at an address, the usual one beside the runs if none is given."""
    here = runs.resolve().parent
    return Ledger(tracking_uri or default_uri(here), here / "mlartifacts", comment)


@lru_cache
def comment(name: str) -> str:
    """The comment of a suite that comes with the benchmark, or lies here; empty for any other."""
    try:
        return suite.read(name if name in suite.names() else f"{name}.yaml").comment
    except (ValueError, OSError):
        return ""
