"""list: the tables of contents, with papers."""

import inspect

from rich.console import Console
from rich.table import Table

from benchmark.planning.suite import suggest

WHAT = ("heads", "datasets", "backbones", "recipes", "suites", "studies", "exhibits", "claims")


def listing(what: str, console: Console) -> None:
    """Print one table of contents.

    Raises ValueError for what does not exist.
    """
    if what not in WHAT:
        raise ValueError(
            f"nothing called {what!r} to list. {suggest(what, WHAT)}Choose {', '.join(WHAT)}."
        )
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    for name, text in globals()[f"_{what}"]():
        table.add_row(name, text)
    console.print(table)


def papers() -> dict[str, str]:
    """Head -> the citation in its module docstring, one line."""
    from heads import HEADS

    found = {}
    for name, head in HEADS.items():
        parts = (inspect.getmodule(head).__doc__ or "").strip().split("\n\n")
        found[name] = " ".join(parts[1].split()) if len(parts) > 1 else parts[0]
    return found


def _heads() -> list[tuple[str, str]]:
    from benchmark.planning.plan import hyperparameters
    from heads import HEADS

    cited = papers()
    return [
        (name, f"{cited[name]}\n[dim]{', '.join(hyperparameters(head)) or '–'}[/dim]")
        for name, head in HEADS.items()
    ]


def _datasets() -> list[tuple[str, str]]:
    from datasets import DATASETS

    return [(name, f"{each.title}\n[dim]{each.source}[/dim]") for name, each in DATASETS.items()]


def _backbones() -> list[tuple[str, str]]:
    from benchmark.backbones import BACKBONES

    return [(name, f"{each.title}\n[dim]{each.source}[/dim]") for name, each in BACKBONES.items()]


def _recipes() -> list[tuple[str, str]]:
    from benchmark.planning.recipes import RECIPES

    return [
        (
            name,
            f"{each.source}\n[dim]{_fields(each.recipe.model_dump(exclude_defaults=True))}[/dim]",
        )
        for name, each in RECIPES.items()
    ]


def _fields(values: dict[str, object]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())


def _suites() -> list[tuple[str, str]]:
    from benchmark.planning import suite

    return [(name, suite.read(name).comment) for name in suite.names()]


def _studies() -> list[tuple[str, str]]:
    from studies import holes

    return [(name, holes.read(name).comment) for name in holes.names()]


def _exhibits() -> list[tuple[str, str]]:
    from reports.build import contents

    return contents()


def _claims() -> list[tuple[str, str]]:
    from reports.claims import contents

    return [(name, f"{text}\n[dim]{where}[/dim]") for name, where, text in contents()]
