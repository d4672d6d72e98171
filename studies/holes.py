"""A study is a suite with holes: the suite's grammar, and ranges where values would stand.

    {grid: [0.1, 1, 10]}                        each of them: multiplies as a list does
    {low: 10, high: 100, log: true, step: 5}    a number of a range; whole where low and high are
    {choice: [dynamic, fixed]}                  one of them

A study with grids selects nothing: it is the suite in which every grid is a list. A study that ends
with a block `search: {trials: 30, …}` draws one cell at a time from its ranges and choices. Form
only, as benchmark/planning/suite.py, which reads the study once it is filled; no optuna.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from benchmark.planning import document, suite
from benchmark.planning.cell import Cell
from benchmark.planning.suite import Suite, suggest

STUDIES = Path(__file__).resolve().parent
KEYS = ("grid", "low", "high", "log", "step", "choice")
SAMPLERS = ("tpe", "random")
PRUNERS = ("median", "none")

Value = bool | int | float | str
Give = Callable[[str, Mapping[str, Any]], Any]


@dataclass(frozen=True, slots=True)
class Grid:
    """Values that are all tried."""

    values: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Range:
    """Numbers from low to high, both included; whole ones where both are.

    log   even steps of the logarithm
    step  distance of the numbers; None: any, or 1 where they are whole
    """

    low: float
    high: float
    log: bool = False
    step: float | None = None

    @property
    def whole(self) -> bool:
        """Whether the numbers are whole."""
        return isinstance(self.low, int) and isinstance(self.high, int)


@dataclass(frozen=True, slots=True)
class Choice:
    """Values of which one is drawn."""

    values: tuple[Value, ...]


Hole = Grid | Range | Choice


@dataclass(frozen=True, slots=True)
class Search:
    """How a search draws and judges.

    trials      cells to train, finished and pruned ones together
    seed        of the sampler
    sampler     tpe (Optuna's tree-structured Parzen estimator) · random
    pruner      median (stops what is worse than the median of finished trials) · none
    validation  share of each class carved off the training images; trials are judged on it
    final       seeds with which the choice is trained again, without the carve; [] for none
    """

    trials: int
    seed: int = 0
    sampler: str = "tpe"
    pruner: str = "median"
    validation: float = 0.1
    final: tuple[int, ...] = (0, 1, 2)


@dataclass(frozen=True, slots=True)
class Study:
    """A study as written.

    holes    by address, as `--set` writes it: 'head.dl2pa.dim'
    search   None for a grid
    changes  `--set` of the suite's own fields
    closed   values for holes that a change overrides, which are of no account
    """

    name: str
    comment: str
    blocks: tuple[Any, ...]
    holes: Mapping[str, Hole]
    search: Search | None
    changes: tuple[str, ...] = ()
    closed: Mapping[str, Value] = field(default_factory=dict)

    def filled(
        self,
        values: Mapping[str, Value] | None = None,
        *,
        validation: float = 0.0,
        seeds: Sequence[int] | None = None,
    ) -> Suite:
        """The suite without holes: grids as lists, ranges and choices with these values.

        values      by address; a grid needs none
        validation  carved off every data record
        seeds       instead of the blocks' own

        Raises ValueError: whatever `suite.read` says of it.
        """

        def give(address: str, hole: Mapping[str, Any]) -> Any:
            return list(hole["grid"]) if "grid" in hole else given[address]

        given = {**self.closed, **(values or {})}

        blocks = [_walk(block, give) for block in self.blocks]
        changes = list(self.changes)
        if validation:  # last: no other change may take it back
            changes.append(f"data.validation={validation}")
        if seeds is not None:
            changes.append(f"seeds={list(seeds)}")
        text = "".join(f"# {line}".rstrip() + "\n" for line in self.comment.splitlines())
        text += yaml.safe_dump(blocks, sort_keys=False, allow_unicode=True)
        with TemporaryDirectory() as folder:
            path = Path(folder) / f"{self.name}.yaml"
            path.write_text(text, encoding="utf-8")
            return suite.read(str(path), changes)


def names() -> tuple[str, ...]:
    """Studies that come with the benchmark."""
    return tuple(sorted(path.stem for path in STUDIES.glob("*.yaml")))


def read(name: str, changes: Sequence[str] = ()) -> Study:
    """Read a study by name, or by path of a YAML file, with `--set`-style changes.

    changes  as of a suite, and of the search: 'search.trials=10'. A hole that a change closes is
             found when the study is filled: `reached`

    Raises ValueError: one sentence that names the file, the block, and what is wrong.
    """
    path = _find(name)
    blocks, comment = _parsed(path)
    settings = {}
    if blocks and isinstance(blocks[-1], dict) and "search" in blocks[-1]:
        settings = blocks.pop()
    for number, block in enumerate(blocks, start=1):
        if isinstance(block, dict) and "search" in block:
            raise ValueError(
                f"{path.name}, block {number}: 'search' is a block of its own, the last one. "
                "End the file with '- search: {trials: 30}'."
            )
    mine = [each for each in changes if each.split("=")[0].strip().startswith("search.")]
    search = _search(settings, mine, path.name) if settings else None
    if mine and search is None:
        raise ValueError(
            f"--set {mine[0]!r}: study {path.stem} is a grid and does not search. Leave it out."
        )
    rest = tuple(each for each in changes if each not in mine)
    holes = _holes(blocks, path.name, search)
    for each in rest:
        if search and each.partition("=")[0].strip() == "data.validation":
            raise ValueError(
                f"--set {each!r}: a search carves off its validation images itself, for its "
                "trials only. Use --set search.validation=0.1."
            )
    return Study(path.stem, comment, tuple(blocks), holes, search, rest)


def reached(cell: Cell, address: str, default: Callable[[str, str], Any]) -> Any:
    """What a cell has at an address such as 'head.dl2pa.dim'; None where it has no such thing.

    default  gives the default of a head's option, which a canonical cell leaves out
    """
    room, *path = address.split(".")
    if room == "head":
        name, option = path
        for stage in cell.stages:
            if stage.head == name:
                return dict(stage.hyper).get(option, default(name, option))
        return None
    where = {"data": cell.data, "backbone": cell.backbone, "recipe": cell.stages[0].recipe}
    return dict(where[room]).get(path[0])


def _find(name: str) -> Path:
    if name.endswith((".yaml", ".yml")):
        path = Path(name)
        try:
            there = path.is_file()
        except (OSError, ValueError):  # a name that no file can have
            there = False
        if not there:
            raise ValueError(f"no study file {name[:160]!r}. Give the path of a YAML file.")
        return path
    if name not in names():
        raise ValueError(
            f"unknown study {name[:160]!r}. {suggest(name, names())}"
            f"Studies: {', '.join(names())}; or the path of a YAML file."
        )
    return STUDIES / f"{name}.yaml"


def _parsed(path: Path) -> tuple[list[Any], str]:
    """The blocks of a file, and the comment on top."""
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(document.LONGEST + 1)  # more is refused, however much it is
        blocks = document.load(text)
    except Exception as error:  # beside YAMLError its constructors raise KeyError, ValueError, …
        raise ValueError(
            f"{path.name}{document.line(error)} is not YAML that can be used: "
            f"{document.problem(error)}. "
            "Mend the file; docs/studies.md shows the grammar."
        ) from None
    if not isinstance(blocks, list) or not blocks:
        raise ValueError(
            f"{path.name} must be a list of blocks ('- data: …'). Start the first with '- data:'."
        )
    lines = [line.lstrip("#").strip() for line in text.splitlines() if line.startswith("#")]
    return blocks, "\n".join(lines)


def _search(block: Mapping[str, Any], changes: Sequence[str], file: str) -> Search:
    where = f"{file}: search"
    values = block["search"]
    if len(block) > 1 or not isinstance(values, dict):
        raise ValueError(f"{where} is a block of its own. Write '- search: {{trials: 30}}'.")
    for change in changes:
        name, _, text = change.partition("=")
        try:
            value = document.load(text)
        except Exception:  # as for a whole file
            value = text  # said below: no setting is such a word
        values = {**values, name.strip().removeprefix("search."): value}
    known = [each.name for each in fields(Search)]
    for key in values:
        if key not in known:
            raise ValueError(
                f"{where}: unknown key {key!r}. {suggest(str(key), known)}Keys: {', '.join(known)}."
            )
    if "trials" not in values:
        raise ValueError(f"{where}: 'trials' is missing. Say how many: {{trials: 30}}.")
    checks: dict[str, tuple[Callable[[Any], bool], str]] = {
        "trials": (lambda v: _is_whole(v) and v >= 1, "a whole number from 1"),
        "seed": (lambda v: _is_whole(v) and v >= 0, "a whole number from 0"),
        "sampler": (lambda v: v in SAMPLERS, f"one of {', '.join(SAMPLERS)}"),
        "pruner": (lambda v: v in PRUNERS, f"one of {', '.join(PRUNERS)}"),
        "validation": (lambda v: _is_number(v) and 0 < v < 1, "a share between 0 and 1"),
        "final": (
            lambda v: isinstance(v, list) and all(_is_whole(s) and s >= 0 for s in v),
            "a list of seeds",
        ),
    }
    for key, value in values.items():
        fine, what = checks[key]
        if not fine(value):
            raise ValueError(f"{where}.{key} must be {what}, got {value!r}. Change the value.")
    if "final" in values:
        values = {**values, "final": tuple(values["final"])}
    return Search(**values)


def _holes(blocks: Sequence[Any], file: str, search: Search | None) -> dict[str, Hole]:
    holes: dict[str, Hole] = {}
    for number, block in enumerate(blocks, start=1):

        def give(address: str, mapping: Mapping[str, Any], number: int = number) -> Any:
            where = f"{file}, block {number}: {address}"
            hole = _hole(mapping, where)
            if search is None and not isinstance(hole, Grid):
                raise ValueError(
                    f"{where} is drawn, but nothing says how many trials. Write a grid, "
                    "{grid: [1, 2]}, or end the file with '- search: {trials: 30}'."
                )
            if search is not None and isinstance(hole, Grid):
                raise ValueError(
                    f"{where} is a grid, and a search draws. Write {{choice: [1, 2]}} or "
                    "{low: 1, high: 2}, or leave out the search."
                )
            known = holes.get(address)
            if search is not None and known is not None:
                raise ValueError(
                    f"{where} is the second hole of that name. A search draws one value for each "
                    "name: leave one of them."
                )
            if isinstance(hole, Grid) and isinstance(known, Grid):
                hole = Grid(tuple(dict.fromkeys([*known.values, *hole.values])))
            holes[address] = hole
            return None

        _walk(block, give)
        if search is not None and any("validation" in each for each in _records(block)):
            raise ValueError(
                f"{file}, block {number}: a search carves off its validation images itself. "
                "State `validation` in the block `search`."
            )
    if not holes:
        raise ValueError(
            f"{file} has no hole. Put {{grid: [1, 2]}} where a value stands, "
            "or run it with `run --suite`."
        )
    return holes


def _hole(mapping: Mapping[str, Any], where: str) -> Hole:
    for key in mapping:
        if key not in KEYS:
            raise ValueError(
                f"{where}: a hole has no key {key!r}. {suggest(str(key), KEYS)}Write "
                "{grid: [1, 2]}, {low: 1, high: 2, log: true, step: 1} or {choice: [a, b]}."
            )
    for key, kind in (("grid", Grid), ("choice", Choice)):
        if key in mapping:
            values = mapping[key]
            if len(mapping) > 1 or not isinstance(values, list) or not values:
                raise ValueError(
                    f"{where}: {key} stands alone with a list of values, got {dict(mapping)}. "
                    f"Write {{{key}: [1, 2]}}."
                )
            if not all(isinstance(value, Value) for value in values):
                raise ValueError(
                    f"{where}: {key} holds numbers, words, true or false, got {values}. "
                    "Change the values."
                )
            return kind(tuple(dict.fromkeys(values)))
    low: Any = mapping.get("low")
    high: Any = mapping.get("high")
    step: Any = mapping.get("step")
    log = mapping.get("log", False)
    for key, value in (("low", low), ("high", high), ("step", 1 if step is None else step)):
        if not _is_number(value):
            raise ValueError(
                f"{where}: {key} must be a number, got {value!r}. "
                "Write {low: 1, high: 2}; YAML reads 1e-4 as a word, 1.0e-4 as a number."
            )
    if not isinstance(log, bool):
        raise ValueError(f"{where}: log is true or false, got {log!r}. Change the value.")
    if not low < high:
        raise ValueError(f"{where}: low must be below high, got {low} and {high}. Swap them.")
    if log and (low <= 0 or step is not None):
        raise ValueError(
            f"{where}: log needs low above 0 and no step, got {dict(mapping)}. Leave out the log."
        )
    if step is not None and (step <= 0 or not _divides(step, high - low)):
        raise ValueError(
            f"{where}: high must be some steps above low, got {dict(mapping)}. Change the step."
        )
    hole = Range(low, high, log, step)
    if hole.whole and step is not None and not _is_whole(step):
        raise ValueError(
            f"{where}: whole numbers have a whole step, got {step}. Write low as {low}.0."
        )
    return hole if hole.whole else Range(float(low), float(high), log, step)


def _walk(block: Any, give: Give) -> Any:
    """A block with every hole replaced by what `give` gives for (address, hole).

    A mapping where a plain value would stand is a hole. What has no form is left for `suite.read`.
    """
    if not isinstance(block, dict):
        return block
    new = dict(block)
    for key, walk in (("data", _record), ("backbone", _named), ("recipe", _named)):
        if key in block:
            new[key] = _each(block[key], lambda item, key=key, walk=walk: walk(item, key, give))
    if "head" in block:
        new["head"] = _each(
            block["head"],
            lambda item: _each(item, lambda stage: _named(stage, "head", give)),
        )
    return new


def _each(value: Any, do: Callable[[Any], Any]) -> Any:
    return [do(item) for item in value] if isinstance(value, list) else do(value)


def _record(item: Any, address: str, give: Give) -> Any:
    if not isinstance(item, dict):
        return item
    return {
        key: give(f"{address}.{key}", value) if isinstance(value, dict) else value
        for key, value in item.items()
    }


def _named(item: Any, key: str, give: Give) -> Any:
    """{name: {option: value}}, or whatever else stands there."""
    if not isinstance(item, dict):
        return item
    filled = {}
    for name, options in item.items():
        own = f"{key}.{str(name).partition('@')[0]}" if key == "head" else key
        filled[name] = _record(options, own, give)
    return filled


def _records(block: Any) -> list[dict[str, Any]]:
    data = block.get("data") if isinstance(block, dict) else None
    found = data if isinstance(data, list) else [data]
    return [each for each in found if isinstance(each, dict)]


def _divides(step: float, length: float) -> bool:
    return math.isclose(round(length / step) * step, length)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return _is_whole(value) or (isinstance(value, float) and math.isfinite(value))
