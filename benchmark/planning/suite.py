"""A suite is a comment and a list of blocks; each block is a product.

    data, backbone, recipe, head, seeds     in a block, lists multiply and mappings are records
    a > b      freeze the backbone and a's embed, go on with b
    a >> b     go on with b without freezing
    head@name  trained with that recipe; a stage after an arrow takes, without @, the recipe that
               bears its head's name, the first stage the block's

Form only: which heads, data sets and backbones exist is the plan's business. A list inside a list
is one value (`milestones: [[0.5, 0.75]]`). docs/suites.md is the grammar for users.
"""

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import islice, product
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from benchmark.planning import document
from benchmark.planning.cell import Cell, Pairs, Stage, freeze
from benchmark.planning.recipes import RECIPES, Recipe, no_truth, recipe

SUITES = Path(__file__).resolve().parent.parent / "suites"
BLOCK = ("data", "backbone", "recipe", "head", "seeds")
STREAMS = ("backbone", "head", "order", "augment")
LATER = ("classes", "subset")  # of Data: came later, so cells at their default keep their keys
CELLS = 10_000  # of one suite; ours: thirty times the largest that comes with the benchmark
STAGES = 12  # of one pipe; ours: four times the longest in use
_ARROW = re.compile(r"\s*(>>|>)\s*")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,79}")


class Data(BaseModel):
    """Which images, and how many of each class.

    name         data set; folder: the tree under the data root, for image_folder
    ratio        images of the largest class over those of the smallest; 1 is balanced
    profile      exponential (the field's canonical one) · step · pareto
    largest      images of the largest class; the data set's own if not given
    validation   share of each class set aside before the profile is computed, for searches
    subset_seed  of the canonical subset; 0 as in all released code
    groups       rule for many, medium, few: kang (> 100, < 20) · at_least_100 · dl2pa_index
    classes      how many, for the synthetic data set that asks for it
    subset       which images survive: canonical · first, of each class in file order (released
                 code of Weight Balancing, arXiv:2203.14197) · released_pair: a first stage on
                 `first`, all that stands on it on `canonical` (released code of the prototype
                 classifiers, arXiv:2302.00491)
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(max_length=80)
    ratio: float = Field(default=1.0, ge=1, allow_inf_nan=False)
    profile: Literal["exponential", "step", "pareto"] = "exponential"
    largest: Annotated[int, Field(ge=1)] | None = None
    validation: float = Field(default=0.0, ge=0, lt=1)
    subset_seed: int = Field(default=0, ge=0, lt=2**32)
    groups: Literal["kang", "at_least_100", "dl2pa_index"] = "kang"
    folder: Annotated[str, Field(max_length=4000)] | None = None
    classes: Annotated[int, Field(ge=2)] | None = None
    subset: Literal["canonical", "first", "released_pair"] = "canonical"

    _numbers = field_validator("*", mode="before")(no_truth)


@dataclass(frozen=True, slots=True)
class Suite:
    """A question: its name, the comment that states it, and its cells as written."""

    name: str
    comment: str
    cells: tuple[Cell, ...]


def names() -> tuple[str, ...]:
    """Suites that come with the benchmark."""
    return tuple(sorted(path.stem for path in SUITES.glob("*.yaml")))


def read(name: str, changes: Sequence[str] = ()) -> Suite:
    """Read a suite by name, or by path of a YAML file, with `--set`-style changes applied.

    changes  'recipe.epochs=30', 'seeds=[0]', 'data.largest=100', 'head.dl2pa.momentum=0.9'

    Raises ValueError: one sentence that names the file, the block, and what is wrong.
    """
    path = _find(name)
    text = _text(path)
    try:
        blocks = document.load(text)
    except Exception as error:  # beside YAMLError its constructors raise KeyError, ValueError, …
        raise ValueError(
            f"{path.name}{document.line(error)} is not YAML that can be used: "
            f"{document.problem(error)}. Mend the file; docs/suites.md shows the grammar."
        ) from None
    if not isinstance(blocks, list) or not blocks:
        raise ValueError(
            f"{path.name} must be a list of blocks ('- data: …'), got {_kind(blocks)}. "
            "Start the first block with '- data:'."
        )
    cells: dict[str, Cell] = {}
    used = _Used(set(), set())
    inside: set[str] = set()
    for number, block in enumerate(blocks, start=1):
        where = f"{path.name}, block {number}"
        changed = _changed(_checked(block, where), changes, inside, where)
        for cell in _cells(changed, where):
            cells.setdefault(cell.key, cell)
            used.add(cell)
            if len(cells) > CELLS:
                raise _too_many(path.name)
    for change in changes:
        if change in inside:
            used.demand(change, path.stem)
    comment = "\n".join(
        line.lstrip("#").strip() for line in text.splitlines() if line.startswith("#")
    )
    return Suite(path.stem, comment, tuple(cells.values()))


def suggest(word: str, known: Iterable[str]) -> str:
    """'Did you mean …? ' where something known is near, else nothing."""
    near = get_close_matches(word, list(known), n=1)
    return f"Did you mean {near[0]!r}? " if near else ""


def _find(name: str) -> Path:
    if name.endswith((".yaml", ".yml")):
        path = Path(name)
        try:
            there = path.is_file()
        except (OSError, ValueError):  # a name that no file can have
            there = False
        if not there:
            raise ValueError(f"no suite file {_shown(name)}. Give the path of a YAML file.")
        return path
    path = SUITES / f"{name}.yaml"
    if name not in names():
        raise ValueError(
            f"unknown suite {_shown(name)}. {suggest(name, names())}"
            f"Suites: {', '.join(names())}; or the path of a YAML file."
        )
    return path


def _text(path: Path) -> str:
    try:
        with path.open(encoding="utf-8") as file:
            return file.read(document.LONGEST + 1)  # more is refused, however much it is
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path.name} is not UTF-8 text ({error.reason} at byte {error.start}). "
            "Save it as UTF-8."
        ) from None


def _checked(block: Any, where: str) -> dict[str, Any]:
    if not isinstance(block, dict):
        raise ValueError(
            f"{where} must be a mapping, got {_kind(block)}. Keys: {', '.join(BLOCK)}."
        )
    for key in block:
        if key not in BLOCK:
            raise ValueError(
                f"{where}: unknown key {_shown(key)}. {suggest(str(key), BLOCK)}"
                f"Keys: {', '.join(BLOCK)}."
            )
    for key in BLOCK:
        if key not in block:
            raise ValueError(f"{where}: {key!r} is missing. A block has {', '.join(BLOCK)}.")
    return dict(block)


@dataclass(frozen=True, slots=True)
class _Block:
    """A block with the changes that reach inside a name: heads' and recipes' own fields."""

    values: dict[str, Any]
    heads: dict[str, dict[str, Any]]
    recipes: dict[str, dict[str, Any]]


@dataclass(frozen=True, slots=True)
class _Used:
    """Heads and recipes of a suite's cells, to know whether a change reaches any."""

    heads: set[str]
    recipes: set[str]

    def add(self, cell: Cell) -> None:
        self.heads.update(stage.head for stage in cell.stages)
        self.recipes.update(stage.protocol.split(" ")[0] for stage in cell.stages if stage.recipe)

    def demand(self, change: str, suite: str) -> None:
        field, name, _ = change.partition("=")[0].strip().split(".")
        known = self.heads if field == "head" else self.recipes
        if name not in known:
            raise ValueError(
                f"--set {_shown(change)} changes nothing in suite {suite}: it has no such {field}. "
                f"{suggest(name, known)}Name one that it uses: {', '.join(sorted(known))}."
            )


def _changed(block: dict[str, Any], changes: Sequence[str], inside: set[str], where: str) -> _Block:
    """The block after all changes; `inside` takes up those that reach inside a name."""
    heads: dict[str, dict[str, Any]] = {}
    recipes: dict[str, dict[str, Any]] = {}
    for change in changes:
        path, equals, text = change.partition("=")
        keys = path.strip().split(".")
        if not equals or not all(keys) or keys[0] not in BLOCK:
            raise ValueError(
                f"--set {_shown(change)} is not FIELD=VALUE of a suite. {suggest(keys[0], BLOCK)}"
                f"Fields begin with {', '.join(BLOCK)}: --set recipe.epochs=30."
            )
        try:
            value = document.load(text)
        except Exception as error:  # as for a whole file
            raise ValueError(
                f"--set {_shown(change)}: the value is not YAML that can be used "
                f"({document.problem(error)}). Quote it."
            ) from None
        if len(keys) == 1:
            block[keys[0]] = value
        elif len(keys) == 2 and keys[0] in ("data", "backbone", "recipe"):
            items = [_with(item, keys, value) for item in _listed(block[keys[0]])]
            block[keys[0]] = items if isinstance(block[keys[0]], list) else items[0]
        elif len(keys) == 3 and keys[0] in ("head", "recipe"):
            kept = heads if keys[0] == "head" else recipes
            kept.setdefault(keys[1], {})[keys[2]] = value
            inside.add(change)
        else:
            raise ValueError(
                f"--set {_shown(change)} is too deep or too shallow for {keys[0]!r} ({where}). "
                "Forms: data.FIELD, backbone.OPTION, recipe.FIELD, recipe.NAME.FIELD, "
                "head.NAME.OPTION, seeds=[0]."
            )
    return _Block(block, heads, recipes)


def _with(item: Any, keys: Sequence[str], value: Any) -> Any:
    """One data record, or one named thing, 'name' or {name: {…}}, with one more option."""
    field, key = keys
    if field == "data":
        record = {"name": item} if isinstance(item, str) else item
        return {**record, key: value} if isinstance(record, dict) else item
    if isinstance(item, str):
        return {item: {key: value}}
    if isinstance(item, dict) and len(item) == 1:
        ((name, options),) = item.items()
        if options is None or isinstance(options, dict):
            return {name: {**(options or {}), key: value}}
    return item  # not a form that exists: said when the block is read


def _cells(block: _Block, where: str) -> Iterator[Cell]:
    values = block.values
    for key in BLOCK:
        if values[key] == []:
            raise _empty(f"{where}: {key!r}")
    data = [_data(record, where) for record in _expand(values["data"], f"{where}: data")]
    backbones = [
        _named(item, f"{where}: backbone")
        for item in _few(_each(values, "backbone", where), f"{where}: backbone")
    ]
    for name, options in backbones:
        _options({**options}, f"{where}: backbone {name}", reserved="name")
    recipes = [
        _named(item, f"{where}: recipe")
        for item in _few(_each(values, "recipe", where), f"{where}: recipe")
    ]
    for name, changes in recipes:
        _recipe(name, changes, where)  # also where every head names another one
    written = (pipe for item in _listed(values["head"]) for pipe in _pipes(item, block, where))
    pipes = list(_few(written, f"{where}: head"))
    seeds = [_seed(item, where) for item in _listed(values["seeds"])]
    if len(data) * len(backbones) * len(recipes) * len(pipes) * len(seeds) > CELLS:
        raise _too_many(where)
    for each, (backbone, options), (name, changes), pipe, seed in product(
        data, backbones, recipes, pipes, seeds
    ):
        stages = tuple(
            _stage(part, position, name, changes, block.recipes, where)
            for position, part in enumerate(pipe)
        )
        cell = Cell(each, freeze({**options, "name": backbone}), stages, seed)
        yield cell.until(len(stages))


def _options(options: Mapping[Any, Any], what: str, reserved: str = "") -> None:
    """Hold options against what a cell can state: words as names, plain values."""
    for name, value in options.items():
        if not isinstance(name, str) or not _NAME.fullmatch(name) or name == reserved:
            raise ValueError(f"{what}: {_shown(name)} is not the name of an option. Leave it out.")
        if not _plain(value):
            raise ValueError(
                f"{what}: option {name!r} is a finite number, a word, true, false, or a list of "
                f"these, got {_shown(value)}. Change the value."
            )


def _plain(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return all(_plain(item) for item in value)
    if isinstance(value, float):
        return math.isfinite(value)
    return value is None or isinstance(value, (bool, int, str))


@dataclass(frozen=True, slots=True)
class _Part:
    head: str
    recipe: str | None
    hyper: Pairs
    frozen: bool


def _stage(
    part: _Part,
    position: int,
    default: str,
    changes: Mapping[str, Any],
    by_name: Mapping[str, Mapping[str, Any]],
    where: str,
) -> Stage:
    first = position == 0 and part.recipe is None
    name = part.recipe or (default if first else part.head)
    own = {**(changes if first else {}), **by_name.get(name, {})}
    if name not in RECIPES and not first and part.recipe is None:
        return Stage(part.head, part.hyper, frozen=part.frozen)  # right where nothing is trained
    chosen, label = _recipe(name, own, where)
    return Stage(part.head, part.hyper, chosen.pairs(), part.frozen, protocol=label)


def _recipe(name: str, changes: Mapping[str, Any], where: str) -> tuple[Recipe, str]:
    try:
        return recipe(name, changes)
    except ValidationError as error:
        fields = list(Recipe.model_fields)
        raise ValueError(_sentence(error, f"{where}: recipe {name}", fields)) from None
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def _data(record: Any, where: str) -> Pairs:
    if isinstance(record, str):
        record = {"name": record}
    if not isinstance(record, dict):
        raise ValueError(
            f"{where}: data must be a record such as {{name: cifar10, ratio: 100}}, "
            f"got {_kind(record)}. Give at least a name."
        )
    try:
        values = Data.model_validate(record).model_dump()
        usual = {name: Data.model_fields[name].default for name in LATER}
        return freeze({k: v for k, v in values.items() if k not in usual or v != usual[k]})
    except ValidationError as error:
        raise ValueError(_sentence(error, f"{where}: data", list(Data.model_fields))) from None


def _pipes(item: Any, block: _Block, where: str) -> Iterator[tuple[_Part, ...]]:
    """All pipes that one element of `head` stands for: its hyper-parameters multiply."""
    tokens: list[Any] = []
    for piece in item if isinstance(item, list) else [item]:
        if isinstance(piece, str):
            words = [word for word in _ARROW.split(piece.strip()) if word]
            if tokens and words and words[0] not in (">", ">>") and tokens[-1] not in (">", ">>"):
                tokens.append(">")  # elements of a list follow each other on a frozen trunk
            tokens.extend(words)
        else:
            if tokens and tokens[-1] not in (">", ">>"):
                tokens.append(">")
            tokens.append(piece)
    heads, arrows = tokens[::2], tokens[1::2]
    if len(heads) > STAGES:
        raise ValueError(
            f"{where}: head {_shown(item)} has {len(heads)} stages, and a pipe has at most "
            f"{STAGES}. Shorten it."
        )
    if len(heads) != len(arrows) + 1 or any(arrow not in (">", ">>") for arrow in arrows):
        raise ValueError(
            f"{where}: head {_shown(item)} is not a pipe. "
            "Write 'psc', 'psc > ncm', 'a >> b' or [psc, {ncm: {transform: l2n}}]."
        )
    choices = [
        [(name, hyper) for name, hyper in _heads(head, block.heads, where)] for head in heads
    ]
    for combination in product(*choices):
        parts = []
        for position, (name, hyper) in enumerate(combination):
            head, _, named = name.partition("@")
            frozen = position > 0 and arrows[position - 1] == ">"
            parts.append(_Part(head, named or None, freeze(hyper), frozen))
        yield tuple(parts)


def _heads(
    item: Any, changes: Mapping[str, Mapping[str, Any]], where: str
) -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(item, str):
        item = {item: {}}
    if not isinstance(item, dict) or len(item) != 1:
        raise ValueError(
            f"{where}: a head is a name or {{name: {{option: value}}}}, got {_shown(item)}. "
            "Write one name with its options indented below it."
        )
    ((name, options),) = item.items()
    head, at, named = str(name).partition("@")
    if not _NAME.fullmatch(head) or (at and not _NAME.fullmatch(named)):
        raise ValueError(
            f"{where}: {_shown(name)} is not a head or head@recipe. Use letters, digits, _."
        )
    if options is not None and not isinstance(options, dict):
        raise ValueError(
            f"{where}: the options of head {_shown(name)} must be a record, got {_kind(options)}. "
            f"Write {{{name}: {{option: value}}}}."
        )
    what = f"{where}: head {name}"
    for hyper in _expand({**(options or {}), **changes.get(head, {})}, what):
        _options(hyper, what)
        yield str(name), hyper


def _seed(item: Any, where: str) -> int | Pairs:
    if isinstance(item, int) and not isinstance(item, bool) and item >= 0:
        return item
    if isinstance(item, dict) and set(item) == set(STREAMS):
        if all(isinstance(v, int) and not isinstance(v, bool) and v >= 0 for v in item.values()):
            return freeze(item)
    raise ValueError(
        f"{where}: seeds holds {_shown(item)}, which is no seed. "
        f"Give integers from 0, or records of {', '.join(STREAMS)}."
    )


def _each(values: Mapping[str, Any], field: str, where: str) -> Iterator[Any]:
    """The items of a field of named things, their options multiplied."""
    for item in _listed(values[field]):
        if isinstance(item, dict) and len(item) == 1:
            ((name, options),) = item.items()
            for record in _expand({} if options is None else options, f"{where}: {field}"):
                yield {name: record}
        else:
            yield item


def _named(item: Any, where: str) -> tuple[str, dict[str, Any]]:
    if isinstance(item, str):
        return item, {}
    if isinstance(item, dict) and len(item) == 1:
        ((name, options),) = item.items()
        if isinstance(options, dict):
            return str(name), options
    raise ValueError(
        f"{where} is a name or {{name: {{option: value}}}}, got {_shown(item)}. "
        "Write one name with its options indented below it."
    )


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _expand(value: Any, where: str) -> Iterator[Any]:
    """Lists multiply, mappings are records; a list inside a list is one value."""
    return _few(_product(value, where), where)


def _product(value: Any, where: str) -> Iterator[Any]:
    if isinstance(value, list):
        if not value:
            raise _empty(where)
        for item in value:
            if isinstance(item, list):
                yield tuple(item)
            else:
                yield from _expand(item, where)
    elif isinstance(value, dict):
        for combination in product(*(list(_expand(item, where)) for item in value.values())):
            yield dict(zip(value, combination, strict=True))
    else:
        yield value


def _few(found: Iterable[Any], where: str) -> Iterator[Any]:
    """What was found, one by one, until it is more than any suite may hold."""
    found = iter(found)
    yield from islice(found, CELLS)
    for _ in found:
        raise _too_many(where)


def _too_many(where: str) -> ValueError:
    return ValueError(
        f"{where}: its lists multiply to more than {CELLS:,} cells. Shorten them, or write several "
        "suites."
    )


def _empty(what: str) -> ValueError:
    return ValueError(f"{what} has an empty list, which makes no cells. Give a value, or leave it.")


def _sentence(error: ValidationError, where: str, known: Sequence[str]) -> str:
    first = error.errors(include_url=False)[0]
    field = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        hint = suggest(field, known)
        return f"{where}: unknown key {_shown(field)}. {hint}Keys: {', '.join(known)}."
    if first["type"] == "missing":
        return f"{where}: {field!r} is missing. Add it; keys: {', '.join(known)}."
    message = first["msg"].removeprefix("Value error, ")
    given = "" if not field else f", got {_shown(first['input'])}"
    return f"{where}{'.' + field if field else ''}: {message}{given}. Change the value."


def _kind(value: Any) -> str:
    return "nothing" if value is None else f"{type(value).__name__} {str(value)[:40]!r}"


def _shown(value: Any) -> str:
    """As it was written, cut where it is long."""
    text = repr(value)
    return text if len(text) <= 160 else f"{text[:120]}…{text[-20:]}"
