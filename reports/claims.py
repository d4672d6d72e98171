"""What the papers claim, each as a test on finished cells: the grammar of `claims.yaml`.

A claim compares terms (a head at a place, an embedding length, a ratio, a metric) in one of six
tests, in one or several settings:

    above   a − b                                  beyond the margin
    gain    (a − b) there − (a − b) here           beyond the margin
    order   each term less the one before it       all beyond the margin
    best    the first term less each other         all beyond the margin
    equal   a − b                                  within ± the margin
    level   a − value                              within ± the margin

Everything is in the unit of print: points for accuracies and other shares, plain numbers for
cosines, norms and collapse. `docs/claims.md` has the keys and how to add a claim.
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import yaml

from reports import ink
from reports.frames import GEOMETRY, slug
from reports.methods import DEFAULTS
from reports.printed import FILES
from reports.quantities import MEASURED, READINGS, WAYS

FILE = Path(__file__).with_name("claims.yaml")

SHARES = ("accuracy", "many", "medium", "few", "top5", "ece")
COLUMNS = (*SHARES, "nc1", "nc2", "nc3", "nc4", *GEOMETRY)
"""Columns of the frame that a claim may be about; SHARES are counted in points."""

HEADS = (*DEFAULTS, "crt", "dro_lt", "paco", "ride", "dnc", "goto", "kasarla", "ebv")
TESTS = {"above": 2, "gain": 2, "order": 0, "best": 0, "equal": 2, "level": 1}
"""Test -> how many terms it has; 0: two or more."""

RULES = ("every", "most", "mean")
AXES = ("at", "ratio", "dim", "metric")
TERM = ("head", *AXES)
PLACE = ("data", "ratio", "networks", "recipes", "largest", "later")
DEMANDED = ("id", "paper", "where", "text", "test", "of", "at", "margin", "print", "command")
CLAIM = (*DEMANDED, "ratio", "dim", "metric", "from", "to", "value", "judge", "why", "small")
CLAIM += ("note",)
COMMAND = re.compile(r"(run --suite|study) [a-z0-9_]+")


@dataclass(frozen=True, slots=True)
class Place:
    """Where print has its numbers, as our columns.

    networks  those that count as print's; any other is a deviation, told in the scope
    recipes   names of recipes of the first stage, alike
    largest   images of the largest class in print; 0: not stated
    later     recipes of later stages that are as good as the one that bears their head's name
    """

    name: str
    data: str
    ratio: float | None
    networks: tuple[str, ...]
    recipes: tuple[str, ...]
    largest: int
    later: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Term:
    """Cells of one head in one setting, and what is read off them.

    patterns  of heads, nearest to print first
    dim       None: the width of the features
    """

    name: str
    patterns: tuple[str, ...]
    place: Place
    ratio: float
    dim: int | None
    metric: str


@dataclass(frozen=True, slots=True)
class Part:
    """One effect and the open region where the claim has it: Σ weights · terms + constant.

    printed  the effect in print, NaN where print has no numbers
    """

    label: str
    terms: tuple[Term, ...]
    weights: tuple[int, ...]
    constant: float
    low: float
    high: float
    printed: float


@dataclass(frozen=True, slots=True)
class Setting:
    """One place, length, ratio or metric of a claim; all its parts have to hold."""

    label: str
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Claim:
    """One claim of a paper; `small` makes enough cells for a shortened trial of it, or ''."""

    id: str
    paper: str
    where: str
    text: str
    test: str
    judge: str
    settings: tuple[Setting, ...]
    said: str
    why: str
    note: str
    command: str
    small: str

    @property
    def unit(self) -> str:
        """'points' for shares, '' for plain numbers."""
        return "points" if share(self.settings[0].parts[0].terms[0].metric) else ""


def share(metric: str) -> bool:
    """Whether a metric is a fraction that print has in per cent."""
    return metric in SHARES or metric.endswith(" head/moved")


def read(path: Path = FILE, heads: Iterable[str] = ()) -> tuple[Claim, ...]:
    """The claims of a file, in its order.

    heads: names of heads beyond those that come with the benchmark.
    Raises ValueError, in one sentence, for whatever is not of the grammar.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        told = " ".join(str(getattr(error, "problem", None) or error).split())
        raise ValueError(f"{path.name} is not YAML ({told}). Mend it.") from None
    content = _record(content, path.name, ("heads", "places", "claims"))
    names = {*HEADS, *heads}
    known = _record(content.get("heads"), f"{path.name}: heads")
    patterns = {name: _patterns(name, each, names) for name, each in known.items()}
    places = {
        name: _place(name, each)
        for name, each in _record(content.get("places"), f"{path.name}: places").items()
    }
    if not isinstance(content.get("claims"), list):
        raise ValueError(f"{path.name}: claims must be a list of records. Begin each with '- id:'.")
    claims = [_claim(each, patterns, places) for each in content["claims"]]
    ids = [claim.id for claim in claims]
    for name in ids:
        if ids.count(name) > 1:
            raise ValueError(f"claim {name!r} is there twice. Give each claim an id of its own.")
    return tuple(claims)


def contents(path: Path = FILE) -> list[tuple[str, str, str]]:
    """The table of contents: id, paper and place in it, text of each claim."""
    return [(each.id, f"{each.paper} · {each.where}", each.text) for each in read(path)]


def _claim(each: Any, heads: Mapping[str, tuple[str, ...]], places: Mapping[str, Place]) -> Claim:
    each = _record(each, "a claim", CLAIM)
    name = str(each.get("id", ""))
    what = f"claim {name!r}" if name else "a claim"
    for key in DEMANDED:
        if key not in each:
            raise ValueError(f"{what}: {key!r} is missing. Add it.")
    if slug(name) != name:
        raise ValueError(f"{what}: an id is lower-case letters, digits and hyphens. Rename it.")
    paper = _known(each["paper"], FILES, f"{what}: paper")
    test = _known(each["test"], TESTS, f"{what}: test")
    rule = _known(each.get("judge", "every"), RULES, f"{what}: judge")
    for key in ("command", "small"):
        if key in each and not COMMAND.fullmatch(str(each[key])):
            raise ValueError(
                f"{what}: {key} is 'run --suite NAME' or 'study NAME', got {each[key]!r}. Write "
                "what comes after `python -m benchmark`."
            )
    of = _list(each["of"])
    if len(of) != TESTS[test] and (TESTS[test] or len(of) < 2):
        raise ValueError(
            f"{what}: test {test!r} has {TESTS[test] or 'two or more'} terms, got {len(of)}. "
            "Change `of`."
        )
    for key, owner in (("value", "level"), ("from", "gain"), ("to", "gain")):
        if (key in each) != (test == owner):
            raise ValueError(f"{what}: {key!r} belongs to test {owner!r} alone. Mend the claim.")
    if each["margin"] not in ("half", 0) and not each.get("why"):
        raise ValueError(f"{what}: 'why' is missing: say where the margin comes from.")
    settings = _settings(each, what, of, partial(_term, heads=heads, places=places))
    if rule == "mean" and any(len(setting.parts) > 1 for setting in settings):
        raise ValueError(
            f"{what}: a mean over settings needs one effect in each, {test!r} has several. Judge "
            "by 'every' or 'most'."
        )
    said = each["print"] if isinstance(each["print"], str) else ""
    words = [str(each.get(key, "")) for key in ("why", "note", "command", "small")]
    where, text = str(each["where"]), " ".join(str(each["text"]).split())
    return Claim(name, paper, where, text, test, rule, settings, said, *words)


def _settings(
    each: Mapping[str, Any], what: str, of: Sequence[Any], term: Callable[..., Term | float]
) -> tuple[Setting, ...]:
    axes = {key: _list(each[key]) for key in AXES if key in each}
    combined = [dict(zip(axes, values, strict=True)) for values in product(*axes.values())]
    printed: list[Any] = [None] * len(combined)
    if not isinstance(each["print"], str):
        printed = _list(each["print"])
        if len(combined) == 1 and not any(isinstance(numbers, list) for numbers in printed):
            printed = [printed]
        if len(printed) != len(combined):
            raise ValueError(
                f"{what}: print has numbers of {len(printed)} settings where there are "
                f"{len(combined)}. Give one list for each, in the order of {', '.join(axes)}."
            )
    several = [key for key in axes if len(axes[key]) > 1]
    settings = []
    for values, numbers in zip(combined, printed, strict=True):
        make = partial(_part, what=what, margin=each["margin"], test=each["test"])
        label = ", ".join(_label(key, values[key]) for key in several)
        settings.append(Setting(label, _parts(each, what, of, values, numbers, term, make)))
    return tuple(settings)


def _parts(
    each: Mapping[str, Any],
    what: str,
    of: Sequence[Any],
    values: Mapping[str, Any],
    numbers: Any,
    term: Callable[..., Term | float],
    make: Callable[..., Part],
) -> tuple[Part, ...]:
    """The effects of one setting; numbers: what print has for its terms, in order, or None."""
    test = each["test"]
    if test == "gain":
        places = [
            dict(values) | _record(each[key], f"{what}: {key}", AXES) for key in ("to", "from")
        ]
        terms = [term(one, place, what) for place in places for one in of]
    else:
        terms = [term(one, values, what) for one in of]
    if len({share(one.metric) for one in terms if isinstance(one, Term)}) != 1:
        raise ValueError(f"{what}: its terms have different units. Compare like with like.")
    told = numbers
    if numbers is None:
        told = [math.nan] * len(terms)
    if not isinstance(told, list) or len(told) != len(terms):
        raise ValueError(f"{what}: print has {told!r} for {len(terms)} terms. Give one for each.")
    told = [math.nan if number is None else float(number) for number in told]
    if test == "gain":
        label = f"{_side(each['to'])} over {_side(each['from'])}"
        return (make(label, terms, told, (1, -1, -1, 1)),)
    if test == "level":
        value = float(each["value"])
        return (make(f"less {value:g}" if value else "", terms, told, (1,), value),)
    if test in ("above", "equal"):
        # an effect over a number that is not 0 has to say so
        number = terms[1] if not isinstance(terms[1], Term) else 0
        return (make(f"less {number:g}" if number else "", terms, told, (1, -1)),)
    sequence = list(zip(terms, told, _names(of), strict=True))
    pairs = (
        [(after, before) for before, after in pairwise(sequence)]
        if test == "order"
        else [(sequence[0], other) for other in sequence[1:]]
    )
    return tuple(make(f"{a[2]} over {b[2]}", [a[0], b[0]], [a[1], b[1]], (1, -1)) for a, b in pairs)


def _part(
    label: str,
    terms: Sequence[Any],
    told: Sequence[float],
    weights: Sequence[int],
    value: float = 0.0,
    *,
    what: str,
    margin: Any,
    test: str,
) -> Part:
    printed = sum(w * number for w, number in zip(weights, told, strict=True)) - value
    band = test in ("equal", "level")
    if margin == "half":
        if math.isnan(printed) or band:
            raise ValueError(f"{what}: half of what? Give the margin as a number, and why.")
        margin = max(printed / 2, 0.0)
    if isinstance(margin, bool) or not isinstance(margin, int | float) or (band and margin <= 0):
        raise ValueError(
            f"{what}: a margin is 'half' or a number{' above 0' if band else ''}, got {margin!r}. "
            "Change it."
        )
    plain = [(w, term) for w, term in zip(weights, terms, strict=True)]
    constant = sum(w * term for w, term in plain if not isinstance(term, Term)) - value
    real = [(w, term) for w, term in plain if isinstance(term, Term)]
    return Part(
        label,
        tuple(term for _, term in real),
        tuple(w for w, _ in real),
        float(constant),
        -float(margin) if band else float(margin),
        float(margin) if band else math.inf,
        round(printed, 9),
    )


def _term(
    one: Any,
    values: Mapping[str, Any],
    what: str,
    *,
    heads: Mapping[str, tuple[str, ...]],
    places: Mapping[str, Place],
) -> Term | float:
    if isinstance(one, int | float) and not isinstance(one, bool):
        return float(one)
    own = {"head": one} if isinstance(one, str) else _record(one, f"{what}: a term", TERM)
    facts = {"metric": "accuracy", "dim": "width"} | dict(values) | own
    name = _known(facts.get("head"), heads, f"{what}: head")
    place = places[_known(facts.get("at"), places, f"{what}: place")]
    ratio = facts.get("ratio", place.ratio)
    if not isinstance(ratio, int | float):
        raise ValueError(f"{what}: no ratio at {place.name}. Give `ratio`, 1 for balanced classes.")
    dim = facts["dim"]
    if dim != "width" and (isinstance(dim, bool) or not isinstance(dim, int)):
        raise ValueError(f"{what}: dim is a whole number or 'width', got {dim!r}. Change it.")
    length = None if dim == "width" else dim
    return Term(name, heads[name], place, float(ratio), length, _metric(facts["metric"], what))


def _metric(metric: Any, what: str) -> str:
    how, _, series = str(metric).partition(" ")
    if series and how in WAYS:
        _known(series, READINGS, f"{what}: reading")
        return str(metric)
    known = (*COLUMNS, *MEASURED, *(f"{way} head/moved" for way in WAYS))
    return _known(metric, known, f"{what}: metric")


def _patterns(name: str, each: Any, names: Iterable[str]) -> tuple[str, ...]:
    patterns = tuple(map(str, _list(each)))
    for pattern in patterns:
        for stage in re.split(r" >>? ", pattern):
            _known(stage.split(" ")[0], names, f"head {name!r}, pattern {pattern!r}")
    return patterns


def _place(name: str, each: Any) -> Place:
    what = f"place {name!r}"
    each = _record(each, what, PLACE)
    for key in ("data", "networks", "recipes"):
        if key not in each:
            raise ValueError(f"{what}: {key!r} is missing. Add it.")
    lists = {key: tuple(map(str, _list(each.get(key, [])))) for key in PLACE[2:] if key != PLACE[4]}
    largest = each.get("largest", 0)
    return Place(name, str(each["data"]), each.get("ratio"), largest=largest, **lists)


def _record(value: Any, what: str, keys: Sequence[str] = ()) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{what} must be a record, got {type(value).__name__}. Write KEY: VALUE.")
    for key in value if keys else ():
        _known(key, keys, f"{what if 'id' not in value else value['id']}: key")
    return value


def _known(word: Any, known: Iterable[str], what: str) -> str:
    if word in (names := [*known]):
        return str(word)
    near = get_close_matches(str(word), names, n=1)
    hint = f"Did you mean {near[0]!r}? " if near else ""
    raise ValueError(f"{what}: unknown {word!r}. {hint}Known: {', '.join(sorted(names))}.")


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _names(of: Sequence[Any]) -> list[str]:
    """What tells the terms apart: their heads, or else where they stand."""
    named = [{"head": one} if isinstance(one, str) else one for one in of]
    alike = len({one.get("head") for one in named}) == 1
    words = [str(one["head"]).replace("_", " ") for one in named]
    if alike:
        return [_side(one) for one in named]
    return [
        f"{word} ({_side(one)})" if words.count(word) > 1 else word
        for word, one in zip(words, named, strict=True)
    ]


def _side(values: Mapping[str, Any]) -> str:
    return ", ".join(_label(key, values[key]) for key in AXES if key in values)


def _label(key: str, value: Any) -> str:
    if key == "ratio":
        return ink.ratio(value)
    if key == "dim":
        return f"d = {value}"
    return str(value).replace("head/", "").replace("_", " ")
