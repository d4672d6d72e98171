"""Exhibits -> one HTML page that needs nothing but itself: no network, no script to be readable."""

import base64
import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape

import pandas as pd
from pandas import DataFrame, Series

from reports import ink, style
from reports.exhibits import Exhibit
from reports.frames import COST, LATER, geometric

TITLE = "Classifier heads, compared"
TAGS = {"bold": "strong", "underline": "u"}

PROTOCOL = (
    "Every number is taken at the last epoch, on the test set, with one view of each image.",
    "Nothing is selected on the test set. Best test epoch (oracle) and flip-averaged accuracy are "
    "listed per cell so that published figures can be matched; they are never the result.",
    "Cells share a table only if data set, backbone, recipe, epochs, imbalance profile, largest "
    "class and group rule agree. At one seed, all heads see the same initial backbone and batches.",
    "± is the standard deviation over seeds (n − 1); intervals are 95 % t intervals of the mean.",
    "A seed that diverged or failed is neither dropped nor counted as zero: its cell shows † with "
    "finished/planned seeds, and is never marked as best.",
)

# heading, column, how it is shown; cost columns belong to the machine
CELLS = (
    ("cell", "label", str),
    ("state", "state", str),
    ("accuracy %", "accuracy", ink.percent),
    ("many %", "many", ink.percent),
    ("medium %", "medium", ink.percent),
    ("few %", "few", ink.percent),
    ("top-5 %", "top5", ink.percent),
    ("ECE %", "ece", ink.percent),
    ("NC1", "nc1", "{:.3g}".format),
    ("NC2", "nc2", "{:.3g}".format),
    ("NC3", "nc3", "{:.3g}".format),
    ("NC4", "nc4", "{:.3g}".format),
    ("d", "dim", "{:d}".format),
    ("parameters", "parameters", "{:,.0f}".format),
    ("MFLOPs", "flops", lambda flops: f"{flops / 1e6:,.1f}"),
    ("feature width", "width", "{:d}".format),
    ("minutes", "seconds", lambda seconds: f"{seconds / 60:.1f}"),
    ("images/s", "images_per_second", "{:,.0f}".format),
    ("peak memory, MB", "peak_memory_mb", "{:,.0f}".format),
    ("finished", "finished", str),
    ("oracle %: best test epoch, not a result", "oracle", ink.percent),
    ("flip-averaged %, not a result", "flip", ink.percent),
    ("validation %: of searches", "validation", ink.percent),
    ("largest cosine of class vectors", "cosine_max", "{:.4f}".format),
    ("one assignment, s", "assignment_seconds", "{:.3g}".format),
    ("key", "key", str),
)


def page(
    sections: Sequence[tuple[str, Sequence[Exhibit | str]]],
    runs: DataFrame,
    papers: Mapping[str, str | Sequence[str]],
    *,
    about: Mapping[str, str] | None = None,
    notes: Sequence[str] = (),
) -> str:
    """The whole page, as HTML text.

    sections: heading and exhibits of each setting, or sentences in their place.
    runs: tidy frame, for the table of cells.
    papers: head name -> citation (or its parts); heads not in the frame are left out.
    about: suite name -> what it asks, in plain text. notes: what was left out and why.
    """
    body = [
        f"<header><h1>{TITLE}</h1>{_summary(runs)}{_suites(runs, about or {})}</header>",
        _contents([heading for heading, _ in sections]),
        *(
            f'<section id="s{i}"><h2>{_safe(heading)}</h2>{"".join(map(_exhibit, exhibits))}'
            "</section>"
            for i, (heading, exhibits) in enumerate(sections)
        ),
        _listing("notes", "Left out", notes) if notes else "",
        _listing("protocol", "Protocol", PROTOCOL),
        _papers(runs, papers),
        _cells(runs),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{TITLE}</title><style>\n{STYLE}</style></head><body><main>\n"
        + "\n".join(part for part in body if part)
        + f"\n</main><script>\n{SCRIPT}</script></body></html>\n"
    )


def _safe(text: object) -> str:
    """Escaped text, and never an address: a page that is offline points nowhere."""
    return escape(re.sub(r"\b[a-z][a-z0-9+.-]*://", "", str(text), flags=re.IGNORECASE))


def _summary(runs: DataFrame) -> str:
    states = runs["state"].value_counts()
    told = [f"{states.get('done', 0)} of {len(runs)} cells finished"]
    told += [f"{states[s]} {s}" for s in ("diverged", "failed") if s in states]
    data = ", ".join(sorted(runs["data"].unique()))
    return (
        "<p>In each table one backbone, one subset and one recipe for every head. "
        f"{_safe(', '.join(told))}; "
        f"{runs['head'].nunique()} heads, {runs['seed'].nunique()} seeds, on {_safe(data)}.</p>"
    )


def _suites(runs: DataFrame, about: Mapping[str, str]) -> str:
    names = sorted({n.strip() for text in runs["suites"] for n in text.split(",") if n.strip()})
    if not names:
        return ""
    rows = [
        f"<dt>{_safe(name)}</dt><dd>{_safe(about.get(name, '')).replace(chr(10), '<br>')}</dd>"
        for name in names
    ]
    return f'<dl class="suites">{"".join(rows)}</dl>'


def _contents(headings: Iterable[str]) -> str:
    links = [f'<a href="#s{i}">{_safe(heading)}</a>' for i, heading in enumerate(headings)]
    links += [
        '<a href="#protocol">Protocol</a>',
        '<a href="#papers">Papers</a>',
        '<a href="#cells">Every cell</a>',
    ]
    return f"<nav>{''.join(links)}</nav>"


def _exhibit(exhibit: Exhibit | str) -> str:
    if isinstance(exhibit, str):
        return f'<p class="look">{_safe(exhibit)}</p>'
    told = f'<p class="look">{_safe(exhibit.look)}</p>'
    if exhibit.figure is not None:
        image = base64.b64encode(style.png(exhibit.figure)).decode()
        shown = (
            f'<figure><img alt="{_safe(exhibit.title)}" src="data:image/png;base64,{image}">'
            f"<figcaption>{_safe(exhibit.caption)}</figcaption></figure>"
        )
    else:
        shown = _table(exhibit)
    kind = ' class="cost"' if exhibit.cost else ""
    return (
        f'<article id="{exhibit.name}"{kind}><h3>{_safe(exhibit.title)}</h3>{told}{shown}</article>'
    )


def _table(exhibit: Exhibit) -> str:
    table, marks = exhibit.table, exhibit.marks
    head = "".join(f'<th scope="col">{_safe(name)}</th>' for name in table.columns)
    rows = []
    before = None
    for (_, row), (_, ink_row) in zip(table.iterrows(), marks.iterrows(), strict=True):
        block = row.get(exhibit.block)
        opens = ' class="block"' if before is not None and block != before else ""
        before = block
        cells = "".join(f"<td>{_marked(str(t), m)}</td>" for t, m in zip(row, ink_row, strict=True))
        rows.append(f"<tr{opens}>{cells}</tr>")
    return (
        '<figure><div class="wide"><table class="exhibit">'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
        f"<figcaption>{_safe(exhibit.caption)}</figcaption></figure>"
    )


def _marked(text: str, mark: str) -> str:
    if not mark:
        return _safe(text)
    first, space, rest = text.partition(" ")
    return f"<{TAGS[mark]}>{_safe(first)}</{TAGS[mark]}>{space}{_safe(rest)}"


def _listing(name: str, heading: str, sentences: Sequence[str]) -> str:
    items = "".join(f"<li>{_safe(sentence)}</li>" for sentence in sentences)
    return f'<section id="{name}"><h2>{heading}</h2><ul>{items}</ul></section>'


def _papers(runs: DataFrame, papers: Mapping[str, str | Sequence[str]]) -> str:
    """The papers of the heads in the frame; 'psc > ncm' stands for both psc and ncm."""
    used = {
        stage.split()[0].split("@")[0]
        for text in runs["head"].unique()
        for stage in text.split(">")
        if stage.strip()
    }
    rows = []
    for head in style.order(used):
        paper = papers.get(head, "no paper named")
        told = paper if isinstance(paper, str) else ", ".join(paper)
        rows.append(f"<dt>{_safe(head)}</dt><dd>{_safe(told)}</dd>")
    return f'<section id="papers"><h2>Papers</h2><dl>{"".join(rows)}</dl></section>'


def _cells(runs: DataFrame) -> str:
    runs = runs.assign(accuracy=runs["accuracy"].mask(geometric(runs)))
    cells = [each for each in CELLS if each[1] not in LATER or runs[each[1]].notna().any()]
    head = "".join(
        f'<th scope="col"{_kind(column)}><button type="button">{_safe(heading)}</button></th>'
        for heading, column, _ in cells
    )
    rows = "".join(
        f"<tr>{''.join(_value(row, column, show) for _, column, show in cells)}</tr>\n"
        for _, row in runs.iterrows()
    )
    return (
        '<section id="cells"><h2>Every cell</h2><p class="look">Select a heading to sort by it. '
        "Minutes, images per second, memory and date belong to the machine, not to the head.</p>"
        f'<div class="wide"><table class="sortable"><thead><tr>{head}</tr></thead>'
        f"<tbody>\n{rows}</tbody></table></div></section>"
    )


def _kind(column: str) -> str:
    """Cost belongs to the machine, the oracle and flip averages stand aside: never results."""
    if column in COST:
        return ' class="cost"'
    return ' class="aside"' if column in ("oracle", "flip") else ""


def _value(row: Series, column: str, show: object) -> str:
    value = row[column]
    if pd.isna(value) or value == "":
        return f"<td{_kind(column)}>{ink.NOTHING}</td>"
    if column == "accuracy" and row["state"] != "done":
        return f"<td>{ink.NOTHING}</td>"
    number = "" if isinstance(value, str) else f' data-value="{float(value):.9g}"'
    return f"<td{_kind(column)}{number}>{_safe(show(value))}</td>"


STYLE = """\
:root { color-scheme: light dark; --ink: #1b1b1f; --paper: #fdfdfb; --faint: #6a6a72;
  --line: #d9d9de; --accent: #0b5cad; --band: #f3f3ef; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e4e8; --paper: #17181b; --faint: #a0a0aa;
  --line: #3a3b42; --accent: #7db7f0; --band: #202126; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, "Segoe UI", "DejaVu Sans", sans-serif; }
main { max-width: 62rem; margin: 0 auto; padding: 2rem 1.1rem 5rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .6rem; }
h2 { font-size: 1.3rem; margin: 3rem 0 .5rem; padding-top: .8rem; border-top: 1px solid var(--line);
  overflow-wrap: anywhere; }
h3 { font-size: 1.05rem; margin: 2.2rem 0 .2rem; }
p { max-width: 46rem; margin: .4rem 0; }
.look { color: var(--faint); }
nav { display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; margin: 1.4rem 0 0; font-size: .92rem; }
a { color: var(--accent); overflow-wrap: anywhere; }
dl { display: grid; grid-template-columns: minmax(6rem, max-content) 1fr; gap: .3rem 1.2rem;
  margin: .8rem 0; }
dt { font-weight: 600; overflow-wrap: anywhere; }
dd { margin: 0; overflow-wrap: anywhere; }
li { max-width: 46rem; margin: .3rem 0; }
.wide { overflow-x: auto; margin: .6rem 0; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .93rem; }
.exhibit { border-top: 2px solid var(--ink); border-bottom: 2px solid var(--ink); min-width: 50%; }
th { text-align: left; font-weight: 600; }
th, td { padding: .28rem .8rem .28rem 0; white-space: nowrap; }
thead th { border-bottom: 1px solid var(--ink); vertical-align: bottom; }
tr.block td { border-top: 1px solid var(--line); }
u { text-underline-offset: .18em; }
figure { margin: .6rem 0; }
figure img { display: block; max-width: 100%; height: auto; background: #fff; border-radius: 4px; }
figcaption { color: var(--faint); font-size: .85rem; line-height: 1.45; padding-top: .3rem;
  max-width: 46rem; }
.sortable { font-size: .8rem; }
.sortable th { min-width: 3.6rem; white-space: normal; }
.sortable th.aside { min-width: 9rem; }
.sortable th:first-child, .sortable td:first-child { position: sticky; left: 0;
  background: var(--paper); padding-left: .3rem; }
.sortable tbody tr:nth-child(even) td { background: var(--band); }
.sortable td[data-value], .sortable td:not(:first-child) { padding-left: .3rem; }
.sortable button { all: unset; cursor: pointer; font-weight: 600; }
.sortable button:focus-visible { outline: 2px solid var(--accent); }
th[aria-sort=ascending] button::after { content: " \\2191"; }
th[aria-sort=descending] button::after { content: " \\2193"; }
@media (max-width: 40rem) { main { padding: 1.2rem .8rem 3rem; } h1 { font-size: 1.5rem; }
  dl { grid-template-columns: 1fr; } dd { margin-bottom: .5rem; }
  .sortable th:first-child, .sortable td:first-child { position: static; } }
@media print { nav, script { display: none; } main { max-width: none; } }
"""

SCRIPT = """\
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.querySelectorAll("th")];
  heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
    const up = head.getAttribute("aria-sort") === "descending" ? 1 : -1;
    heads.forEach(other => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", up === 1 ? "ascending" : "descending");
    const body = table.tBodies[0];
    const value = row => {
      const cell = row.cells[column];
      return cell.dataset.value === undefined ? cell.textContent : Number(cell.dataset.value);
    };
    const rows = [...body.rows].map(row => [value(row), row]);
    rows.sort(([a], [b]) => {
      if (a === "\\u2013" || b === "\\u2013") return (a === "\\u2013") - (b === "\\u2013");
      return up * (typeof a === "number" ? a - b : a.localeCompare(b, "en", {numeric: true}));
    });
    body.append(...rows.map(([, row]) => row));
  }));
}
"""
