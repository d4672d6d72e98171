"""Everything at once: a frame of finished cells -> a folder of findings.

    index.html        the page                      all.tex           all of it, compilable
    tables/*.tex      fragments to input            figures/*.tex     likewise
    tables/*.csv      the numbers behind them       figures/*.csv     likewise
    numbers.tex       a macro for every number      figures/*.pdf     for print, *.png for slides
    cells.csv         everything measured           cost.csv          time, memory, dates, run ids
    cells.parquet     the same, with types          cost/             what costs are drawn from
    manifest.json     what we wrote, with digests, and which exhibit is in which file

The same frame gives the same bytes. What a machine adds when it trains a cell again is in cost.csv,
under cost/, and in the cost columns and articles of the page.

SCHEMA is the version of cells.csv, cells.parquet, cost.csv and of the exhibits' CSV: it is raised
where a column changes its name or its meaning, or goes. It stands in the manifest as `schema`, and
in the Parquet file as `DataFrame.attrs["schema"]`, which pandas keeps in the file's metadata under
PANDAS_ATTRS (pyarrow.parquet.read_schema(path).metadata).

    1   cells.csv, cost.csv
    2   exhibits: id first, keys last, cells, bound; cells.parquet; cost.csv with run
"""

import hashlib
import io
import json
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from pandas import DataFrame

from reports import dossier, latex, trace
from reports.evidence import Evidence
from reports.exhibits import Exhibit, dl2pa, prototype_classifier
from reports.exhibits.alignment import prototype_geometry
from reports.exhibits.calibration import reliability
from reports.exhibits.claims import claims
from reports.exhibits.collapse import collapse
from reports.exhibits.comparison import differences, groups
from reports.exhibits.confusion import confusion
from reports.exhibits.critical import critical_difference
from reports.exhibits.curves import accuracy_against_dim, accuracy_against_ratio
from reports.exhibits.frequency import per_class
from reports.exhibits.moves import moves
from reports.exhibits.prediction import predictions
from reports.exhibits.profiles import profiles
from reports.exhibits.seeds import components, needed
from reports.exhibits.sphere import sphere
from reports.exhibits.table import accuracy_table, group_table
from reports.frames import COLUMNS, COST, Setting, geometric, searches, settings, tidy
from reports.page import page
from reports.press import asked, pressed, prints
from reports.printed import printed
from reports.variance import crossed

MANIFEST = "manifest.json"

SCHEMA = 2

OF_A_SETTING: tuple[tuple[Callable[[DataFrame, str, Evidence | None], list[Exhibit]], str], ...] = (
    (accuracy_table, ""),
    (group_table, "no table by class frequency: every ratio is 1."),
    (accuracy_against_ratio, "no accuracy curve: no seed finished."),
    (
        accuracy_against_dim,
        "no curve against embedding length: all cells share one, or no seed finished.",
    ),
    (differences, "no paired differences: one head, or no seed that two share."),
    (groups, ""),
    (per_class, "no accuracy by class: no finished cell kept it."),
    (confusion, "no confusion: no finished cell kept it."),
    (reliability, "no reliability diagram: its cells are older than these are kept."),
    (collapse, ""),
    (prototype_geometry, ""),
    (sphere, "no circle or sphere: no features of length 2 or 3 were kept."),
    (moves, "no moves of labels: no head has an assignment that moves."),
)
"""f(runs of one setting, name that files begin with, evidence) -> exhibits, and what to say of a
setting where there are none, '' for nothing."""

ACROSS: tuple[tuple[str, Callable[[DataFrame, Evidence | None], list[Exhibit]], str], ...] = (
    (
        "Across settings",
        critical_difference,
        "no critical-difference diagram: it needs three heads in two settings.",
    ),
    ("Across settings", profiles, ""),
    ("What it cost", predictions, ""),
)
"""Heading, f(runs of all settings, evidence) -> exhibits, and what to say where there are none.
Neighbours with one heading share a section."""

CITED = 500
"""Rows of a figure's CSV, at most, that have macros; ours: TeX stores some 100,000 numbers."""

LEADING = ("-accuracy", "-groups")
"""How the names of those exhibits end that come first where not all are wanted."""

PAPERS = {"dl2pa": dl2pa.ITEMS, "prototype_classifier": prototype_classifier.ITEMS}
"""Papers whose exhibits can be asked for, in the order in which they discuss them."""


@dataclass(frozen=True, slots=True, eq=False)
class Built:
    """What a build wrote, absolute or relative as `out` was; notes say what was skipped and why.

    fragments: LaTeX of tables and figures, to be input. leading: what to show first, on a terminal.
    """

    fragments: tuple[Path, ...]
    csvs: tuple[Path, ...]
    figures: tuple[Path, ...]
    page: Path
    exhibits: tuple[Exhibit, ...]
    leading: tuple[Exhibit, ...]
    notes: tuple[str, ...]


def build(
    runs: DataFrame,
    out: Path,
    papers: Mapping[str, str | Sequence[str]],
    *,
    about: Mapping[str, str] | None = None,
    paper: str | None = None,
    evidence: Evidence | None = None,
    seeds: bool = False,
    pool: Executor | None = None,
) -> Built:
    """Write all findings of a frame to a folder, which is created.

    runs: rows of the ledger; a column run_id, MLflow's ids, goes to cost.csv. papers: head name ->
    citation. about: suite name -> what it asks.
    paper: one of PAPERS; its exhibits then stand beside its published numbers, in place of those
    by setting, and each that lacks its cells is noted with the command that makes them.
    evidence: what cells kept beside their numbers, for figures that need it.
    seeds: in place of the findings, how many seeds it takes, and where the variance comes from.
    pool: of processes that make and print while the rest is made; see `reports.press`.
    Each file is replaced at once or not at all. Files of an earlier build that this one does not
    write are removed, if they are in its manifest and unchanged; nothing else is ever removed.
    Raises ValueError, before anything is written, if the frame is empty or malformed, the paper
    unknown, or a table that would be printed at odds with its data.
    """
    if paper is not None and paper not in PAPERS:
        near = get_close_matches(paper, PAPERS, n=1)
        hint = f"Did you mean {near[0]!r}? " if near else ""
        raise ValueError(f"unknown paper {paper!r}. {hint}Papers: {', '.join(sorted(PAPERS))}.")
    ids = dict(zip(runs["key"], runs["run_id"], strict=True)) if "run_id" in runs else {}
    runs = tidy(runs)
    ask = partial(asked, pool)
    known = ask(dossier.known, runs, evidence)
    if paper:
        sections, notes = _of_paper(runs, paper, evidence, ask)
    elif seeds:
        sections, notes = _of_seeds(runs, evidence, ask)
    else:
        sections, notes = _by_setting(runs, evidence, ask)
    shown = [exhibit for _, parts in sections for exhibit in parts]
    every = tuple(each for each in shown if isinstance(each, Exhibit))
    _check(every)
    files = _files(every) | _frames(runs, ids)
    written = page(sections, runs, papers, about=about, notes=notes, known=known())
    files["index.html"] = written.encode()
    files |= _figures(every)
    _write_all(out, files, every)

    def paths(folder: str, *endings: str) -> tuple[Path, ...]:
        return tuple(out / n for n in files if n.startswith(folder) and n.endswith(endings))

    return Built(
        fragments=tuple(out / name for each in every for name in _fragment(each)),
        csvs=paths("", ".csv"),
        figures=paths("", ".pdf", ".png"),
        page=out / "index.html",
        exhibits=every,
        leading=every if paper or seeds else tuple(e for e in every if e.name.endswith(LEADING)),
        notes=tuple(notes),
    )


def contents() -> list[tuple[str, str]]:
    """Every exhibit that there can be: its name, and what it shows."""
    makers = [make for make, _ in OF_A_SETTING] + [make for _, make, _ in ACROSS]
    makers += [needed, components]
    rows = [
        (make.__name__, (make.__doc__ or "").strip().split("\n\n")[0].replace("\n", " "))
        for make in makers
    ]
    for paper, items in PAPERS.items():
        rows += [(f"{paper} {item.name}", f"{item.what}. {item.command}") for item in items]
    return [(name, " ".join(text.split())) for name, text in rows]


Sections = list[tuple[str, list[Exhibit | str]]]
Ask = Callable[..., Callable[[], Any]]
"""`asked` of a pool."""


def _by_setting(runs: DataFrame, evidence: Evidence | None, ask: Ask) -> tuple[Sections, list[str]]:
    """The same exhibits for each data set and protocol, then those across; what is left out."""
    aside, points, apart = searches(runs), geometric(runs), crossed(runs)
    sections: Sections = []
    notes: list[str] = []
    shown = runs[~aside & ~points & ~apart]
    begun = [
        (
            setting,
            [ask(pressed, make, setting.runs, setting.slug, evidence) for make, _ in OF_A_SETTING],
        )
        for setting in settings(shown)
    ]
    begun_across = [ask(pressed, draw, shown, evidence) for _, draw, _ in ACROSS if len(shown)]
    for setting, answers in begun:
        made: list[Exhibit | str] = []
        for (_, otherwise), answer in zip(OF_A_SETTING, answers, strict=True):
            found = answer()
            made += found
            notes += [f"{_heading(setting)}: {otherwise}"] if otherwise and not found else []
        sections.append((_heading(setting), made))
    across: dict[str, list[Exhibit | str]] = {}
    for (heading, _, otherwise), answer in zip(ACROSS, begun_across, strict=False):
        found = answer()
        if found:
            across.setdefault(heading, []).extend(found)
        notes += [f"{heading}: {otherwise}"] if otherwise and not found else []
    sections += across.items()
    if aside.any():
        notes.append(f"{aside.sum()} cells of searches are in no table: they never saw the test.")
    if points.any():
        notes.append(
            f"{points.sum()} cells are about points on the sphere and have no accuracy to show: "
            "python -m benchmark report --paper dl2pa"
        )
    if apart.any():
        notes.append(
            f"{apart.sum()} cells have their seeds varied apart and are no independent seeds: "
            "python -m benchmark report --seeds"
        )
    return sections, notes


def _of_seeds(runs: DataFrame, evidence: Evidence | None, ask: Ask) -> tuple[Sections, list[str]]:
    """What the seeds seen say about seeds to come."""
    shown = runs[~searches(runs) & ~geometric(runs)]
    sections: Sections = []
    notes: list[str] = []
    begun = [
        (setting, ask(pressed, needed, setting.runs, setting.slug, evidence))
        for setting in settings(shown[~crossed(shown)])
    ]
    apart = ask(pressed, components, shown, evidence)
    for setting, answer in begun:
        if found := answer():
            sections.append((_heading(setting), [*found]))
        else:
            notes.append(f"{_heading(setting)}: no two heads share two seeds.")
    if found := apart():
        sections.append(("Where the variance comes from", [*found]))
    else:
        notes.append(
            "No cells have their seeds varied apart, which tells where the variance comes from: "
            "python -m benchmark run --suite crossed"
        )
    return sections, notes


def _of_paper(
    runs: DataFrame, paper: str, evidence: Evidence | None, ask: Ask
) -> tuple[Sections, list[str]]:
    """A paper's exhibits by its own sections; a sentence with a command where cells lack."""
    numbers = printed(paper)
    sections: dict[str, list[Exhibit | str]] = {}
    notes = []
    begun = [ask(pressed, item.make, runs, numbers, evidence) for item in PAPERS[paper]]
    judged = ask(pressed, claims, paper, runs, evidence)
    for item, answer in zip(PAPERS[paper], begun, strict=True):
        made = answer()
        parts = sections.setdefault(f"{paper} · {item.section}", [])
        parts += made
        if not made:
            note = f"{item.name}, {item.what}: no cells yet. {item.command}"
            parts.append(note)
            notes.append(note)
    sections[f"{paper} · claims"] = [*judged()]
    return list(sections.items()), notes


def _heading(setting: Setting) -> str:
    return f"{setting.data} · {setting.backbone} · {setting.recipe}"


def _check(exhibits: Sequence[Exhibit]) -> None:
    twice = [name for name, times in Counter(each.name for each in exhibits).items() if times > 1]
    told = [f"two exhibits are named {name}" for name in twice]
    told += [sentence for each in exhibits for sentence in latex.contradictions(each)]
    if told:
        raise ValueError(f"a mistake of the report, not of the cells, please tell us: {told[0]}.")


def _folder(exhibit: Exhibit) -> str:
    return "cost" if exhibit.cost else "tables" if exhibit.figure is None else "figures"


def _fragment(exhibit: Exhibit) -> list[str]:
    """The name of its LaTeX file; none for what is neither a figure nor has a table in LaTeX."""
    if exhibit.latex is None and exhibit.figure is None:
        return []
    return [f"{_folder(exhibit)}/{exhibit.name}.tex"]


def _cited(exhibit: Exhibit) -> bool:
    """Whether its numbers have macros: tables, and figures of no more rows than one would cite."""
    return exhibit.figure is None or exhibit.csv.count("\n") <= CITED


def _files(exhibits: Sequence[Exhibit]) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    for exhibit in exhibits:
        stem = f"{_folder(exhibit)}/{exhibit.name}"
        files[f"{stem}.csv"] = exhibit.csv.encode()
        if exhibit.latex is not None:
            files[f"{stem}.tex"] = exhibit.latex.encode()
        if exhibit.figure is not None:
            drawn = latex.figure(f"{stem}.pdf", exhibit.caption, exhibit.name)
            files[f"{stem}.tex"] = drawn.encode()
    for name, cost in (("numbers.tex", False), ("cost/numbers.tex", True)):
        mine = [exhibit for exhibit in exhibits if exhibit.cost == cost]
        if mine:
            printed = {each.name: trace.printed(each) for each in mine if _cited(each)}
            files[name] = latex.macros(printed).encode()
    parts = [rf"\input{{{name}}}" for each in exhibits for name in _fragment(each)]
    files["all.tex"] = latex.document(parts).encode()
    return files


def _figures(exhibits: Sequence[Exhibit]) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    for exhibit in exhibits:
        if exhibit.figure is not None:
            stem = f"{_folder(exhibit)}/{exhibit.name}"
            both = prints(exhibit.figure)
            files |= {f"{stem}.png": both.png, f"{stem}.pdf": both.pdf}
    return files


def _frames(runs: DataFrame, ids: Mapping[str, str]) -> dict[str, bytes]:
    """The cells as CSV and Parquet; ids: of their runs, by key."""
    measured = runs[[name for name in COLUMNS if name not in COST]]
    cost = runs[["key", "label", *COST]].assign(run=[ids.get(key, "") for key in runs["key"]])
    sink = io.BytesIO()
    typed = measured.copy()
    typed.attrs = {"schema": SCHEMA}
    typed.to_parquet(sink, engine="pyarrow", index=False)
    return {
        "cells.csv": measured.to_csv(index=False, lineterminator="\n").encode(),
        "cells.parquet": sink.getvalue(),
        "cost.csv": cost.to_csv(index=False, lineterminator="\n").encode(),
    }


def _write_all(out: Path, files: Mapping[str, bytes], exhibits: Sequence[Exhibit]) -> None:
    out.mkdir(parents=True, exist_ok=True)
    before = _known(out)
    for name, content in files.items():
        write(out / name, content)
    for name, digest in before.items():
        if name not in files:
            _remove(out, name, digest)
    listed = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    told = {
        each.name: {"title": each.title, "csv": f"{_folder(each)}/{each.name}.csv"}
        for each in exhibits
    }
    manifest = {"schema": SCHEMA, "exhibits": told, "files": listed}
    text = json.dumps(manifest, indent=1, sort_keys=True, ensure_ascii=False)
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
