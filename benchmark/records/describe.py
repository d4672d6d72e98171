"""A cell as people read it in MLflow: its parameters, its run's name, its description."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from benchmark.planning.cell import PROTOCOL, Cell

EXPERIMENT_NOTE = """\
Classifier heads, compared fairly. One run is one cell: one head on one data set with one seed, with
the same backbone, images and batches as every other head at that seed.

- **Choose cells** by parameter: `params.head = 'psc' and params.ratio = '100.0'`; those of one
  suite: `` tags.`benchmark.suites` LIKE '%long_tail%' ``. Runs without the tag
  `benchmark.committed` are not finished, and stand in no report.
- **Compare** only cells of one protocol: equal `data`, `backbone`, `recipe`, `epochs`, `profile`,
  `largest`, `group_rule`. What one looks at are `head`, `dim`, `ratio` and `seed`.
- **accuracy** is that of the last epoch on test, as a fraction; `many`, `medium` and `few` are
  means over classes by their training images. `train/…` are curves by epoch, `head/…` a head's
  own measures by step.
- **Files** of each run: `per_class.csv`, `curves.csv`, `readings.csv`, `result.json`, `cell.json`,
  and the arrays.

Everything here is written from the records under `runs/`. Tables with intervals and verdicts come
from `python -m benchmark report`.
"""

APART = ("key", "label")
GROUPS = ("many", "medium", "few")
SEARCHED = ("validation", "accuracy on the carve")
_OWN = ("profile=", "groups=")  # have parameters of their own


def describe(cell: Cell) -> dict[str, Any]:
    """A cell as people compare, filter and plot it."""
    data = dict(cell.data)
    first = cell.stages[0]
    name = " ".join(part for part in cell.material.split(" ") if not part.startswith("1:"))
    return {
        "key": cell.key,
        "label": cell.label,
        "data": " ".join(part for part in name.split(" ") if not part.startswith(_OWN)),
        "ratio": data["ratio"],
        "profile": data["profile"],
        "largest": data["largest"] or 0,
        "group_rule": data["groups"],
        "backbone": cell.network,
        "head": _method(cell),
        "recipe": first.protocol,
        "epochs": dict(first.recipe).get("epochs", 0),
        "stage_epochs": dict(cell.stages[-1].recipe).get("epochs", 0),
        "seed": cell.seed_label,
        "protocol": PROTOCOL,
    }


def parameters(cell: Cell) -> dict[str, Any]:
    """What a run has as parameters before it is finished.

    `mlflow ui` compares by the first parameters that differ, in the order of the alphabet: so
    options are called with.psc.dim, and what every cell has another of is a tag instead.
    """
    shared = {name: value for name, value in describe(cell).items() if name not in APART}
    options = [(stage.head, *pair) for stage in cell.stages for pair in stage.hyper]
    return {**shared, **{f"with.{head}.{name}": value for head, name, value in options}}


def _method(cell: Cell) -> str:
    """The heads without the last stated `dim`, which has a column of its own."""
    stages = list(cell.stages)
    for position in reversed(range(len(stages))):
        kept = tuple(pair for pair in stages[position].hyper if pair[0] != "dim")
        if kept != stages[position].hyper:
            stages[position] = replace(stages[position], hyper=kept)
            break
    return replace(cell, stages=tuple(stages)).method


def run_name(cell: Cell) -> str:
    """The label with the head first, since columns are narrow."""
    material, network, method, *rest = cell.label.split(" · ")
    return " · ".join([method, material, network, *rest])


def question(comment: str) -> str:
    """What a suite asks: the first line of its comment, without its name."""
    first = comment.strip().partition("\n")[0]
    return first.partition(": ")[2] or first


def note(
    cell: Cell,
    suites: Sequence[str],
    asks: Callable[[str], str],
    result: Mapping[str, Any] | None = None,
) -> str:
    """The description of a cell's run, in Markdown.

    asks    the comment of a suite by name, empty where it is not known
    result  what came of it, None while it is trained
    """
    facts = describe(cell)
    lines = [
        f"**{cell.method}** on **{cell.material}**, {cell.network}, recipe {facts['recipe']} "
        f"({facts['epochs']} epochs), seed {cell.seed_label}."
    ]
    if result is not None:
        lines.append(_outcome(result))
    lines += [_suite(name, question(asks(name))) for name in suites]
    commit = "" if result is None else f" at commit {result['commit']}"
    lines.append(f"To train it again{commit}: `python -m benchmark replay {cell.key}`.")
    return "\n\n".join(lines)


def _suite(name: str, asked: str) -> str:
    return f"Suite **{name}**: {asked}" if asked else f"Suite **{name}**."


def _outcome(result: Mapping[str, Any]) -> str:
    """Accuracy in per cent, as far as it was measured; or where training diverged."""
    size, numbers = result["size"], result["metrics"]
    images = f"{size['train_images']:,} training images of {size['classes']} classes"
    if result["state"] == "diverged":
        return f"Diverged at step {result['diverged_step']}; {images}."
    known = [
        f"{word} {100 * numbers[name]:.2f} %"
        for name, word in (("accuracy", "accuracy"), *((n, n) for n in GROUPS), SEARCHED)
        if not math.isnan(numbers.get(name, math.nan))
    ]
    return "; ".join([", ".join(known), images] if known else [images]).capitalize() + "."
