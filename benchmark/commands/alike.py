"""Whether two trainings of the same cells left the same: records, findings, and nothing beside."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.records.files import digest
from benchmark.records.record import Record, Torn

ASIDE = ("cost", "commit", "warnings", "files")
"""Of a result: what belongs to the machine and the moment; files are compared one by one."""

COST = re.compile(rb'<(\w+)\b[^>]*\b(?:id|class)="cost"[^>]*>.*?</\1>', re.DOTALL)
"""Of the page: the element with the costs, and columns and articles that show some."""

COSTLY = ("cost.csv", "manifest.json")  # the manifest has the digests of all others, cost too


def records(one: Path, other: Path, cells: Mapping[str, str]) -> Iterator[str]:
    """What differs between two folders of records; cells: key -> label of all that is planned."""
    for folder in (one, other):
        found = {path.name for path in folder.iterdir() if path.is_dir()}
        yield from (f"{folder / key}: nobody planned this cell" for key in sorted(found - {*cells}))
    for key, label in cells.items():
        old, new = Record(one / key), Record(other / key)
        try:
            missing = [record.folder for record in (old, new) if record.result() is None]
            if missing:
                yield f"{label}: no result in {missing[0]}"
                continue
            told = [*_differences(old, new)]
        except (Torn, OSError) as error:
            yield f"{label}: {error}"
        else:
            yield from (f"{label}: {sentence}" for sentence in told)


def retrained(seals: Mapping[str, str], runs: Path, cells: Mapping[str, str]) -> Iterator[str]:
    """Cells whose result is not the one that was there first; seals: digest of that, by key."""
    for key, seal in seals.items():
        path = runs / key / "result.json"
        if not path.is_file():
            yield f"{cells[key]}: its result was there, and is lost"
        elif digest(path.read_bytes()) != seal:
            yield f"{cells[key]}: it had a result, and was trained again"


def leftovers(one: Path, other: Path) -> Iterator[str]:
    """Files that the undisturbed first run does not have, beside its records too; held cells."""
    usual = {path.relative_to(one) for path in _lasting(one)}
    for path in _lasting(other):
        if path.relative_to(other) not in usual:
            yield f"left behind: {path}"
    for folder in sorted(path for path in (other / "runs").iterdir() if path.is_dir()):
        if Record(folder).held:
            yield f"still held: {folder}"


def _lasting(place: Path) -> list[Path]:
    """What a run leaves; of MLflow's artifacts the folder alone, for they are named by chance."""
    return sorted([*place.glob("*"), *(place / "runs").rglob("*")])


def findings(one: Path, other: Path) -> Iterator[str]:
    """Files of two folders of findings that differ in what was measured."""
    old, new = _files(one), _files(other)
    if not old or not new:
        yield f"no findings in {other if old else one}"
    for name in sorted(old.keys() ^ new.keys()):
        yield f"findings: {name} is in {one if name in old else other} only"
    for name in sorted(old.keys() & new.keys()):
        before, now = old[name].read_bytes(), new[name].read_bytes()
        if name == "index.html":
            before, now = COST.sub(b"", before), COST.sub(b"", now)
        if before != now:
            yield f"findings: {name} differs{_where(before, now)}"


def _differences(old: Record, new: Record) -> Iterator[str]:
    before, now = _measured(old.result()), _measured(new.result())
    for name in sorted(before.keys() | now.keys()):
        if repr(before.get(name)) != repr(now.get(name)):  # repr: nan is equal to nan
            yield f"{name} is {_short(now.get(name))}, undisturbed {_short(before.get(name))}"
    if old.cell() != new.cell():
        yield "another cell is stated"
    if old.suites() != new.suites():
        yield f"suites are {new.suites()}, undisturbed {old.suites()}"
    if repr(_timeless(old)) != repr(_timeless(new)):
        yield "curves differ"
    yield from _arrays("arrays", old.arrays(), new.arrays())
    yield from _arrays("weights", old.weights(), new.weights())


def _measured(result: Mapping[str, Any] | None) -> dict[str, Any]:
    found = {name: value for name, value in (result or {}).items() if name not in ASIDE}
    return found | {f"metrics.{name}": v for name, v in dict(found.pop("metrics", {})).items()}


def _timeless(record: Record) -> list[dict[str, Any]]:
    return [{k: row[k] for k in sorted(row) if k != "time"} for row in record.curves()]


def _arrays(what: str, old: Mapping[str, np.ndarray], new: Mapping[str, np.ndarray]):
    names = old.keys() & new.keys()
    apart = [name for name in names if not _same(old[name], new[name])]
    apart += old.keys() ^ new.keys()
    if apart:
        yield f"{what}: {len(apart)} of {len(old)} differ: {', '.join(sorted(apart)[:3])}"


def _same(old: np.ndarray, new: np.ndarray) -> bool:
    """To the last bit: 0.0 is not -0.0."""
    return (old.dtype, old.shape) == (new.dtype, new.shape) and old.tobytes() == new.tobytes()


def _files(out: Path) -> dict[str, Path]:
    """What was measured of a folder of findings, by name."""
    found = {path.relative_to(out).as_posix(): path for path in out.rglob("*") if path.is_file()}
    return {n: p for n, p in found.items() if n not in COSTLY and not n.startswith("cost/")}


def _where(before: bytes, now: bytes) -> str:
    """The first line that differs, of a text."""
    if b"\0" in before + now:
        return ""
    pairs = zip(before.splitlines(), now.splitlines(), strict=False)
    for number, (old, new) in enumerate(pairs, 1):
        if old != new:
            return f" from line {number} on: {_short(new)}, undisturbed {_short(old)}"
    return ": one ends earlier"


def _short(value: object) -> str:
    text = value.decode(errors="replace") if isinstance(value, bytes) else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
