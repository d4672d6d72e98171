"""What is missing, and in which order.

Refuses what cannot be trained before anything is: unknown heads and options, unmet needs, heads
that do not fit the problem. Torch comes in through the table of heads that is handed in.
"""

import inspect
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from benchmark.planning.cell import Cell, Pairs, Stage, freeze
from benchmark.planning.forecast import Job
from benchmark.planning.recipes import RECIPES
from benchmark.planning.suite import suggest
from benchmark.records.record import Record, Torn
from heads.base import Head, Needs, Problem

DONE = ("done", "diverged")


class Unmet(ValueError):
    """A cell needs what few have (word vectors): it is declined, and the others are trained."""


@dataclass(frozen=True, slots=True)
class Item:
    """A cell and where it stands.

    state    missing · running · done · failed · diverged · declined · changed · torn
    reason   why it is declined, failed, changed or torn
    seconds  predicted, None while nothing like it has been trained
    asked    False for a trunk that others stand on
    images   seen in training, over all epochs; 0 where unknown or nothing is trained
    job      what there is to do, as far as it takes time; None where that is not known yet
    basis    what the prediction rests on, see forecast.py; empty where there is none
    """

    cell: Cell
    state: str
    reason: str = ""
    seconds: float | None = None
    asked: bool = True
    images: int = 0
    job: Job | None = None
    basis: str = ""


@dataclass(frozen=True, slots=True)
class Registry:
    """The table of heads, with the digest of each head's source file and, for heads in a file
    outside the tree, that digest again as content of the cell's identity.
    """

    heads: Mapping[str, type[Head]]
    digests: Mapping[str, str]
    outside: Mapping[str, str]

    def needs(self, stage: Stage) -> Needs:
        """What a stage's head asks of the apparatus."""
        return self.heads[stage.head].needs(**dict(stage.hyper))


def complete(
    cell: Cell,
    registry: Registry,
    largest: Callable[[str], int | None],
    options: Callable[[str], Mapping[str, Any]] = lambda name: {},
    words: Callable[[str], bool] = lambda name: False,
    experts: Callable[[str], bool] = lambda name: True,
) -> Cell:
    """The cell in its one canonical form, so that equal work has equal keys.

    largest  the canonical class size of a data set, by its name
    options  the options of a backbone with their defaults, by its name
    words    whether word vectors were given for a data set, by its name
    experts  whether a backbone can have several experts, by its name

    Options that repeat a head's or a backbone's default are dropped, whole numbers become floats
    where the default is one, the data set's own largest class is written out, and a head that has
    nothing to train carries no recipe.

    Raises ValueError: unknown head, hyper-parameter or recipe, or an unmet need, in one sentence.
    """
    data = dict(cell.data)
    if data["largest"] is None:
        data["largest"] = largest(data["name"])
    stages = []
    for position, stage in enumerate(cell.stages):
        head = _head(stage.head, registry)
        hyper = _canonical(stage, head)
        stage = replace(stage, hyper=hyper, content=registry.outside.get(stage.head, ""))
        needs = registry.needs(stage)
        if not needs.trains:
            stage = replace(stage, recipe=(), protocol="")
        _met(stage, needs, position, cell, words)
        _several(stage, needs, position, cell, experts)
        stages.append(replace(stage, source=_source(stage, needs, registry)))
    usual = options(dict(cell.backbone)["name"])
    backbone = {n: _like(v, usual.get(n)) for n, v in cell.backbone}
    backbone = {n: v for n, v in backbone.items() if n not in usual or v != usual[n]}
    return replace(cell, data=freeze(data), backbone=freeze(backbone), stages=tuple(stages))


def _head(name: str, registry: Registry) -> type[Head]:
    if name not in registry.heads:
        raise ValueError(
            f"unknown head {name!r}. {suggest(name, registry.heads)}"
            f"Heads: {', '.join(sorted(registry.heads))}."
        )
    return registry.heads[name]


def hyperparameters(head: type[Head]) -> dict[str, Any]:
    """A head's hyper-parameters with their defaults, from its constructor."""
    parameters = inspect.signature(head).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}


def _canonical(stage: Stage, head: type[Head]) -> tuple[tuple[str, Any], ...]:
    defaults = hyperparameters(head)
    given = _given(head)
    kept = {}
    for name, value in stage.hyper:
        if name not in defaults:
            known = ", ".join(sorted(defaults)) or "none"
            raise ValueError(
                f"head {stage.head!r} has no option {name!r}. {suggest(name, defaults)}"
                f"Options: {known}."
            )
        default = defaults[name]
        like = default
        if default is None and value is not None and name in given:
            like = given[name]()
        value = _like(value, like)
        if isinstance(like, (bool, int, float, str)) and not _alike(like, value):
            raise ValueError(
                f"option {name!r} of head {stage.head!r} must be {_noun(like)}, "
                f"got {value!r}. Its default is {default!r}."
            )
        if value != default:
            kept[name] = value
    return freeze(kept)


def _like(value: Any, default: Any) -> Any:
    """A whole number as a float where the default is one, so that 0 and 0.0 are one cell."""
    whole = isinstance(value, int) and not isinstance(value, bool)
    return float(value) if whole and isinstance(default, float) else value


def _given(head: type[Head]) -> dict[str, type]:
    """Of options such as `dim: int | None = None`: what each holds where it is given."""
    kinds = {}
    for name, parameter in inspect.signature(head).parameters.items():
        asked = [kind for kind in typing.get_args(parameter.annotation) if kind is not type(None)]
        if isinstance(parameter.annotation, types.UnionType) and len(asked) == 1:
            if asked[0] in (bool, int, float, str):
                kinds[name] = asked[0]
    return kinds


def _alike(default: Any, value: Any) -> bool:
    if isinstance(default, bool) or isinstance(value, bool):
        return isinstance(default, bool) and isinstance(value, bool)
    return isinstance(value, type(default))


def _noun(default: Any) -> str:
    names = {bool: "true or false", int: "a whole number", float: "a number", str: "a word"}
    return names[type(default)]


def _source(stage: Stage, needs: Needs, registry: Registry) -> tuple[str, Pairs, str] | None:
    """The stage whose class vectors a head starts from, in its canonical form."""
    if needs.source is None:
        return None
    name, hyper = needs.source
    head = _head(name, registry)
    asked = Stage(name, freeze({k: v for k, v in hyper.items() if v is not None}))
    asked = replace(asked, hyper=_canonical(asked, head))
    own = registry.needs(asked)
    if own.source is not None or not own.trains:
        raise ValueError(
            f"{stage.label} starts from the class vectors of {asked.label}, which is not trained "
            f"by itself. Name a head that is."
        )
    return name, asked.hyper, registry.outside.get(name, "")


def _met(
    stage: Stage, needs: Needs, position: int, cell: Cell, words: Callable[[str], bool]
) -> None:
    if needs.frozen and not stage.frozen:
        raise ValueError(
            f"{stage.head} stands on a finished backbone, but nothing freezes one before it "
            f"in {cell.method!r}. Write 'psc > {stage.head}'."
        )
    if needs.trains and not stage.recipe:
        raise ValueError(
            f"{stage.head} after an arrow is trained with the recipe of its own name, and there is "
            f"none. Write {stage.head}@RECIPE; recipes: {', '.join(sorted(RECIPES))}."
        )
    mixing = [name for name in ("mixup", "cutmix") if dict(stage.recipe).get(name)]
    if not needs.mixup and mixing:
        raise ValueError(
            f"{stage.head} cannot be trained with recipe {stage.protocol!r}: its loss compares "
            "whole images, so a mixed image has no label. "
            f"Set recipe.{mixing[0]}=0, or take {stage.head} out of the suite."
        )
    if needs.words and not words(dict(cell.data)["name"]):
        raise Unmet(
            f"{stage.label} needs one word vector per class name, and none were given for "
            f"{dict(cell.data)['name']}. Give a file of word vectors with --words, or take "
            f"{stage.head} out of the suite."
        )


def _several(
    stage: Stage, needs: Needs, position: int, cell: Cell, experts: Callable[[str], bool]
) -> None:
    """Refuse a teacher that has no view to see, and experts where there can be none."""
    if needs.teacher and needs.views < 2:
        raise ValueError(
            f"{stage.head} asks for a teacher, which sees the last of several views, and for "
            f"{needs.views} view. Set `views=2` in its needs()."
        )
    if needs.experts > 1 and position:
        raise ValueError(
            f"{stage.label} asks for {needs.experts} experts, and in {cell.method!r} the head "
            f"before it gives one vector an image. Put {stage.head} first."
        )
    name = str(dict(cell.backbone)["name"])
    if needs.experts > 1 and not experts(name):
        raise ValueError(
            f"{stage.label} asks for {needs.experts} experts, and backbone {name} has one. "
            f"Choose a backbone with experts, such as resnet32, or take {stage.head} out of the "
            "suite."
        )


def fits(cell: Cell, problem: Callable[[Cell, int, int], Problem], registry: Registry) -> None:
    """Build each head of a cell once, on a stand-in problem, so that bad values show now.

    problem  gives the problem of a cell's stage for a feature width; 0 is the backbone's own

    Raises ValueError: the head's own sentence, or what else its constructor raised.
    """
    width = 0
    for position, stage in enumerate(cell.stages):
        try:
            head = registry.heads[stage.head](problem(cell, position, width), **dict(stage.hyper))
            width = head.dim
        except ValueError:
            raise
        except Exception as error:  # whatever a stranger's head raises is the answer to show
            raise ValueError(
                f"{stage.label} cannot be built ({type(error).__name__}: {error}). "
                f"Try `python -m benchmark check` on it."
            ) from error


def with_foundations(cells: Sequence[Cell]) -> list[tuple[Cell, bool]]:
    """Cells and what they stand on or start from, that first; True where the cell was asked for."""
    asked = {cell.key for cell in cells}
    ordered: dict[str, tuple[Cell, bool]] = {}
    depth: dict[str, int] = {}

    def add(cell: Cell) -> int:
        if cell.key not in depth:
            depth[cell.key] = max((1 + add(under) for under in cell.foundations), default=0)
            ordered[cell.key] = (cell, cell.key in asked)
        return depth[cell.key]

    for cell in cells:
        add(cell)
    return sorted(ordered.values(), key=lambda pair: depth[pair[0].key])


def state(
    cell: Cell,
    record: Record,
    registry: Registry,
    images: str | None = None,
    words: str | None = None,
) -> tuple[str, str]:
    """Where a cell stands, with the reason.

    images  digest of the data set as it lies here, None if it was not looked at
    words   digest of its word vectors as they lie here, None if they were not looked at
    """
    try:
        result, failure = record.result(), record.failure()
    except Torn as error:
        return "torn", str(error)
    if result is None and record.held:
        return "running", "another process trains it"
    if result is None:
        return ("failed", failure["reason"]) if failure else ("missing", "")
    try:
        return _held_against(result, cell, registry, images, words)
    except (KeyError, TypeError, AttributeError):
        return "torn", f"{record.folder / 'result.json'} is sealed, but lacks what a result says"


def _held_against(
    result: Mapping[str, Any],
    cell: Cell,
    registry: Registry,
    images: str | None,
    words: str | None,
) -> tuple[str, str]:
    """The state of a finished cell: its own, or `changed` where a digest is another one now."""
    for head in heads(cell):
        if result["digests"]["heads"].get(head) != registry.digests[head]:
            return "changed", f"the source of {head} changed after this cell was trained"
    if images is not None and result["digests"]["images"] != images:
        return "changed", "the images changed after this cell was trained"
    known = result["digests"].get("words")
    if words is not None and known is not None and known != words:
        return "changed", "the word vectors changed after this cell was trained"
    if result["state"] not in DONE:
        raise KeyError(result["state"])
    return str(result["state"]), ""


def heads(cell: Cell) -> list[str]:
    """Names of all heads whose source a cell's numbers depend on."""
    names = [stage.head for stage in cell.stages]
    names += [stage.source[0] for stage in cell.stages if stage.source is not None]
    return list(dict.fromkeys(names))
