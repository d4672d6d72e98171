"""Every number leads back: rows with names, and the cells that each row's numbers come from.

    digits-small-cnn-quick-20-accuracy/psc-d64-1-20.mean
    exhibit                            id           column

An exhibit's CSV begins with `id` and ends with `keys`, the cells' keys with a space between. A row
may say in a column `metric` which measure of its cells it is about.
"""

import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import pandas as pd
from pandas import DataFrame
from pandas.api.types import is_bool_dtype, is_numeric_dtype

from reports import ink
from reports.exhibits import Exhibit
from reports.frames import slug

DIMS = ("dim", "our_dim", "other_dim")
"""Columns that hold an embedding length: 64 is 'd64' in an id."""


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """What an id leads to, as texts of the CSV files.

    exhibit, title, file   of the exhibit; file: of its CSV
    rows                   of the CSV: all where the id names the exhibit alone, else one
    column                 which number of the row, '' where the id names no column
    metric                 the measure that the row is about, '' if the cells have no such column
    cells                  key, label, state, the metric and run (MLflow's id, where it is known)
    """

    exhibit: str
    title: str
    file: Path
    rows: DataFrame
    column: str
    metric: str
    cells: DataFrame


def identified(long: DataFrame, by: Sequence[str]) -> DataFrame:
    """The rows with a first column `id`: the columns `by` as one slug, unknown and empty ones out.

    'psc', 64, 20 by head, dim, ratio -> 'psc-d64-1-20'; 0.01 -> '0-01'. Whatever comes a second
    time gets '-2', a third time '-3'.
    """
    taken: set[str] = set()
    ids = []
    for values in long[list(by)].itertuples(index=False, name=None):
        words = [_word(name, value) for name, value in zip(by, values, strict=True)]
        plain = name = slug(*(word for word in words if word)) if any(words) else "all"
        times = 1
        while name in taken:
            times += 1
            name = f"{plain}-{times}"
        taken.add(name)
        ids.append(name)
    named = long.drop(columns="id", errors="ignore")
    named.insert(0, "id", pd.Series(ids, index=named.index, dtype=object))
    return named


def keys_of(part: DataFrame) -> str:
    """The keys of a frame's cells, each once, sorted, with one space between.

    part: its column key may hold several keys in one place, as of a pair.
    """
    return " ".join(sorted(set(" ".join(part["key"]).split())))


def csv(named: DataFrame) -> str:
    """A frame of `identified` as the CSV of an exhibit: `keys` last, empty where there are none."""
    plain = named.rename(columns={"n_diverged": "diverged", "n_failed": "failed"})
    keys = plain.pop("keys") if "keys" in plain else ""
    return str(plain.assign(keys=keys).to_csv(index=False, lineterminator="\n"))


def printed(exhibit: Exhibit) -> dict[str, str]:
    """Every number of an exhibit as it stands in print, by ROW.COLUMN; unknown ones left out."""
    data = pd.read_csv(io.StringIO(exhibit.csv), dtype={"id": str, "keys": str})
    found = {}
    for column in data.columns:
        if not is_numeric_dtype(data[column]) or is_bool_dtype(data[column]):
            continue
        known = data.loc[data[column].notna(), ["id", column]]
        for name, value in known.itertuples(index=False, name=None):
            text = ink.written(value, exhibit.percent.get(column))
            found[f"{name}.{column}"] = text
    return found


def find(out: Path, number: str) -> Found:
    """Where a number of a folder of findings comes from.

    number: EXHIBIT/ID.COLUMN; less of it leads to less. Raises ValueError where there are no
    findings, or none with that id.
    """
    try:
        exhibits = json.loads((out / "manifest.json").read_text())["exhibits"]
        measured, cost = (_texts(out / f"{name}.csv") for name in ("cells", "cost"))
    except (OSError, ValueError, KeyError, TypeError):
        raise ValueError(
            f"there are no findings in {out} that could be traced; "
            f"python -m benchmark report --out {out} writes them."
        ) from None
    name, _, rest = number.partition("/")
    _known("exhibit", name, exhibits)
    file = out / exhibits[name]["csv"]
    rows = _texts(file)
    column = ""
    if rest:
        row, dot, tail = rest.rpartition(".")
        row, column = (row, tail) if dot else (rest, "")
        _known(f"row of {name}", row, rows["id"])
        if column:
            _known(f"column of {name}", column, rows.columns)
        rows = rows[rows["id"] == row]
    cells = measured.merge(cost.drop(columns="label"), on="key", how="left")
    metric = _metric(rows, column, cells.columns)
    cells = cells[cells["key"].isin(" ".join(rows["keys"]).split())]
    shown = ["key", "label", "state", metric, "run"]
    cells = cells[[each for each in shown if each in cells]].reset_index(drop=True)
    return Found(name, exhibits[name]["title"], file, rows, column, metric, cells)


def _texts(path: Path) -> DataFrame:
    return pd.read_csv(path, dtype=str, keep_default_na=False)


def _known(what: str, name: str, names: Iterable[str]) -> None:
    if name not in set(names):
        near = get_close_matches(name, list(names), n=1, cutoff=0)
        hint = f" The nearest is {near[0]!r}." if near else ""
        raise ValueError(f"there is no {what} {name!r}.{hint}")


def _metric(rows: DataFrame, column: str, known: Iterable[str]) -> str:
    """The measure of cells behind a row: its column where cells have that, else what it says."""
    metrics = set(rows["metric"]) if "metric" in rows else {"accuracy"}
    about = column if column in set(known) - {"key", "label", "state"} else "".join(metrics)
    return about if about in set(known) else ""


def _word(column: str, value: object) -> str:
    if isinstance(value, str):
        return value
    if pd.isna(value):
        return ""
    if column == "ratio":
        return ink.ratio(float(value))
    text = f"{value:.10g}" if isinstance(value, float) else str(value)
    return f"d{text}" if column in DIMS else text
