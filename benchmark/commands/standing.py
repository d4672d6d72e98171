"""What a report asks of the heads: whose source has changed since, and what each one cites.

That needs torch, which takes as long to load as a thousand records to read: it can be asked of
another process meanwhile.
"""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Standing:
    """Keys of cells whose heads have changed since they were trained; head -> its citation."""

    changed: frozenset[str]
    papers: dict[str, str]


def standing(runs: Path, files: list[Path]) -> Standing:
    """Look at all records of a folder.

    files  of heads outside the tree

    Raises ValueError for a file that is no head.
    """
    from benchmark.commands.listing import papers
    from benchmark.planning import plan
    from benchmark.records.record import Torn, records
    from benchmark.training.registry import registry

    table = registry(files)
    changed = set()
    for record in records(runs):
        try:
            cell = record.cell()
        except Torn:
            continue
        known = all(stage.head in table.digests for stage in cell.stages)
        if known and plan.state(cell, record, table)[0] == "changed":
            changed.add(record.key)
    return Standing(frozenset(changed), papers())
