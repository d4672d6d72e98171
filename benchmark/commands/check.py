"""check: does a head keep the contract? Also for a head in a file outside the tree."""

from pathlib import Path

from rich.console import Console
from rich.markup import escape

from benchmark.training.contract import CLAUSES, failures
from benchmark.training.registry import registry


def check(name: str, console: Console) -> int:
    """Run every clause of the contract on a head; gives the exit code, 1 where one is broken.

    name  a head of the tree, or the path of a Python file with one head

    Raises ValueError where there is no such head.
    """
    outside = name.endswith(".py")
    table = registry([Path(name)] if outside else [])
    head = Path(name).stem if outside else name
    if head not in table.heads:
        from benchmark.planning.suite import suggest

        raise ValueError(
            f"unknown head {head!r}. {suggest(head, table.heads)}"
            f"Heads: {', '.join(sorted(table.heads))}; or the path of a Python file."
        )
    broken = failures(table.heads[head])
    for clause in CLAUSES:
        reason = broken.get(clause.__name__)
        title = (clause.__doc__ or "").splitlines()[0]
        mark = "[red]broken[/red]" if reason else "[green]kept[/green]  "
        console.print(f"{mark} {title}" + (f"\n       {escape(reason)}" if reason else ""))
    console.print(f"{head}: {len(CLAUSES) - len(broken)} of {len(CLAUSES)} clauses kept")
    return 1 if broken else 0
