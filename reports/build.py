"""Everything at once: a frame of finished cells -> a folder of findings.

    index.html        the page                      all.tex           all of it, compilable
    tables/*.tex      fragments to input            figures/*.pdf     for print
    tables/*.csv      the numbers behind them       figures/*.png     for slides
    cells.csv         everything measured           cost.csv          time, memory, dates
    manifest.json     what we wrote, with digests   cost/             figures of costs, and csv

The same frame gives the same bytes. What a machine adds when it trains a cell again is in cost.csv,
under cost/, and in the cost columns and articles of the page.
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path, PurePosixPath

from pandas import DataFrame

from reports import latex, style
from reports.evidence import Evidence
from reports.exhibits import Exhibit, dl2pa, prototype_classifier
from reports.exhibits.curves import accuracy_against_dim, accuracy_against_ratio
from reports.exhibits.table import accuracy_table, group_table
from reports.frames import COLUMNS, COST, Setting, geometric, searches, settings, tidy
from reports.page import page
from reports.printed import printed

MANIFEST = "manifest.json"

MAKERS = (
    ("accuracy", accuracy_table, ""),
    ("groups", group_table, "no table by class frequency: every ratio is 1."),
    ("against-ratio", accuracy_against_ratio, "no accuracy curve: no seed finished."),
    (
        "against-dim",
        accuracy_against_dim,
        "no curve against embedding length: all cells share one, or no seed finished.",
    ),
)
"""File name, function, and what to say where the function returns None."""

PAPERS = {"dl2pa": dl2pa.ITEMS, "prototype_classifier": prototype_classifier.ITEMS}
"""Papers whose exhibits can be asked for, in the order in which they discuss them."""


@dataclass(frozen=True, slots=True, eq=False)
class Built:
    """What a build wrote, absolute or relative as `out` was; notes say what was skipped and why."""

    tables: tuple[Path, ...]
    csvs: tuple[Path, ...]
    figures: tuple[Path, ...]
    page: Path
    exhibits: tuple[Exhibit, ...]
    notes: tuple[str, ...]


def build(
    runs: DataFrame,
    out: Path,
    papers: Mapping[str, str | Sequence[str]],
    *,
    about: Mapping[str, str] | None = None,
    paper: str | None = None,
    evidence: Evidence | None = None,
) -> Built:
    """Write all findings of a frame to a folder, which is created.

    runs: rows of the ledger. papers: head name -> citation. about: suite name -> what it asks.
    paper: one of PAPERS; its exhibits then stand beside its published numbers, in place of those
    by setting, and each that lacks its cells is noted with the command that makes them.
    evidence: what cells kept beside their numbers, for figures that need it.
    Each file is replaced at once or not at all. Files of an earlier build that this one does not
    write are removed, if they are in its manifest and unchanged; nothing else is ever removed.
    Raises ValueError, before anything is written, if the frame is empty or malformed, or the paper
    unknown.
    """
    if paper is not None and paper not in PAPERS:
        near = get_close_matches(paper, PAPERS, n=1)
        hint = f"Did you mean {near[0]!r}? " if near else ""
        raise ValueError(f"unknown paper {paper!r}. {hint}Papers: {', '.join(sorted(PAPERS))}.")
    runs = tidy(runs)
    sections, notes = _of_paper(runs, paper, evidence) if paper else _by_setting(runs)
    shown = [exhibit for _, parts in sections for exhibit in parts]
    every = tuple(each for each in shown if isinstance(each, Exhibit))
    files = _files(every) | _frames(runs)
    files["index.html"] = page(sections, runs, papers, about=about, notes=notes).encode()
    _write_all(out, files)

    def paths(folder: str, *endings: str) -> tuple[Path, ...]:
        return tuple(out / n for n in files if n.startswith(folder) and n.endswith(endings))

    return Built(
        tables=paths("tables/", ".tex"),
        csvs=paths("", ".csv"),
        figures=paths("", ".pdf", ".png"),
        page=out / "index.html",
        exhibits=every,
        notes=tuple(notes),
    )


Sections = list[tuple[str, list[Exhibit | str]]]


def _by_setting(runs: DataFrame) -> tuple[Sections, list[str]]:
    """The same exhibits for each data set and protocol; what is left out, and why."""
    aside, points = searches(runs), geometric(runs)
    sections: Sections = []
    notes: list[str] = []
    for setting in settings(runs[~aside & ~points]):
        exhibits, skipped = _exhibits(setting)
        sections.append((_heading(setting), exhibits))
        notes += skipped
    if aside.any():
        notes.append(f"{aside.sum()} cells of searches are in no table: they never saw the test.")
    if points.any():
        notes.append(
            f"{points.sum()} cells are about points on the sphere and have no accuracy to show: "
            "python -m benchmark report --paper dl2pa"
        )
    return sections, notes


def _of_paper(runs: DataFrame, paper: str, evidence: Evidence | None) -> tuple[Sections, list[str]]:
    """A paper's exhibits by its own sections; a sentence with a command where cells lack."""
    numbers = printed(paper)
    sections: dict[str, list[Exhibit | str]] = {}
    notes = []
    for item in PAPERS[paper]:
        made = item.make(runs, numbers, evidence)
        parts = sections.setdefault(f"{paper} · {item.section}", [])
        parts += made
        if not made:
            note = f"{item.name}, {item.what}: no cells yet. {item.command}"
            parts.append(note)
            notes.append(note)
    return list(sections.items()), notes


def _exhibits(setting: Setting) -> tuple[list[Exhibit | str], list[str]]:
    made: list[Exhibit | str] = []
    skipped = []
    for name, make, otherwise in MAKERS:
        exhibit = make(setting.runs, f"{setting.slug}-{name}")
        if exhibit is None:
            skipped.append(f"{_heading(setting)}: {otherwise}")
        else:
            made.append(exhibit)
    return made, skipped


def _heading(setting: Setting) -> str:
    return f"{setting.data} · {setting.backbone} · {setting.recipe}"


def _files(exhibits: Sequence[Exhibit]) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    parts: list[str] = []
    for exhibit in exhibits:
        folder = "tables" if exhibit.figure is None else "cost" if exhibit.cost else "figures"
        files[f"{folder}/{exhibit.name}.csv"] = exhibit.csv.encode()
        if exhibit.latex is not None:
            files[f"tables/{exhibit.name}.tex"] = exhibit.latex.encode()
            parts.append(rf"\input{{tables/{exhibit.name}.tex}}")
        if exhibit.figure is not None:
            files[f"{folder}/{exhibit.name}.png"] = style.png(exhibit.figure)
            path = f"{folder}/{exhibit.name}.pdf"
            files[path] = style.pdf(exhibit.figure)
            parts.append(latex.figure(path, exhibit.caption, exhibit.name))
    files["all.tex"] = latex.document(parts).encode()
    return files


def _frames(runs: DataFrame) -> dict[str, bytes]:
    measured = runs[[name for name in COLUMNS if name not in COST]]
    cost = runs[["key", "label", *COST]]
    return {
        "cells.csv": measured.to_csv(index=False, lineterminator="\n").encode(),
        "cost.csv": cost.to_csv(index=False, lineterminator="\n").encode(),
    }


def _write_all(out: Path, files: Mapping[str, bytes]) -> None:
    out.mkdir(parents=True, exist_ok=True)
    before = _known(out)
    for name, content in files.items():
        write(out / name, content)
    for name, digest in before.items():
        if name not in files:
            _remove(out, name, digest)
    listed = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    text = json.dumps({"schema": 1, "files": listed}, indent=1, sort_keys=True)
    write(out / MANIFEST, text.encode() + b"\n")


def write(path: Path, content: bytes) -> None:
    """Replace a file at once: a reader sees the old content or the new, never half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as sink:
            sink.write(content)
            sink.flush()
            os.fsync(sink.fileno())
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _known(out: Path) -> dict[str, str]:
    """Name -> digest of what an earlier build wrote; empty if its manifest cannot be read."""
    try:
        files = json.loads((out / MANIFEST).read_text())["files"]
        return {str(name): str(digest) for name, digest in files.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _remove(out: Path, name: str, digest: str) -> None:
    """Remove a stale file, unless its name leads elsewhere or its content is no longer ours."""
    inner = PurePosixPath(name)
    path = out / name
    if inner.is_absolute() or ".." in inner.parts or path.is_symlink() or not path.is_file():
        return
    if hashlib.sha256(path.read_bytes()).hexdigest() == digest:
        path.unlink()
