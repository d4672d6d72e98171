"""Exhibits -> one HTML page that needs nothing but itself: no network, no script to be readable.

Its own policy lets the browser load nothing and run only the script that comes with it, so that a
name from somebody's suite can at worst look odd.
"""

import base64
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd
from pandas import DataFrame

from reports import dossier, ink, style
from reports.exhibits import Exhibit
from reports.frames import geometric
from reports.press import prints

TITLE = "Classifier heads, compared"
TAGS = {"bold": "strong", "underline": "u"}
LONG = 36
"""Characters beyond which a table's column breaks its lines; about a third of a page. Ours."""

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

# heading, column, how it is shown; what belongs to the machine is in reports.dossier
CELLS: tuple[tuple[str, str, Callable[[Any], str]], ...] = (
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
    ("oracle %: best test epoch, not a result", "oracle", ink.percent),
    ("flip-averaged %, not a result", "flip", ink.percent),
    ("validation %: of searches", "validation", ink.percent),
    ("largest cosine of class vectors", "cosine_max", "{:.4f}".format),
    ("diverged at step", "diverged_step", "{:.0f}".format),
    ("key", "key", str),
)

TONES = {
    "good": ("supported", "reproduced", "adds up"),
    "bad": ("refuted", "off"),
    "aside": ("above", "below"),
    "open": ("undecided", "no verdict"),
    "faint": ("untested", "not run", "not comparable"),
}
"""How a verdict looks beside its word; any other verdict is open."""

JUDGED = re.compile(
    r"([+−0-9].* )?(reproduced|no verdict|not comparable|not run)|([+−0-9].* )(above|below)"
)
"""A place in a table that is a verdict, or a number with its verdict."""


def page(
    sections: Sequence[tuple[str, Sequence[Exhibit | str]]],
    runs: DataFrame,
    papers: Mapping[str, str | Sequence[str]],
    *,
    about: Mapping[str, str] | None = None,
    notes: Sequence[str] = (),
    known: dossier.Known | None = None,
) -> str:
    """The whole page, as HTML text.

    sections: heading and exhibits of each setting, or sentences in their place.
    runs: tidy frame, for the table of cells.
    papers: head name -> citation (or its parts); heads not in the frame are left out.
    about: suite name -> what it asks, in plain text. notes: what was left out and why.
    known: settings, curves, classes, cost and origin of the cells; without it a cell shows the
    numbers of its row. Costs lie in the element `cost` and in the articles of that class.
    """
    script, looks = (_source("page.js", "panel.js"), _source("page.css"))
    exhibits = [each for _, parts in sections for each in parts if isinstance(each, Exhibit)]
    known = known or dossier.known(runs, None)
    rows = [dossier.rows([e for e in exhibits if e.cost == cost], runs) for cost in (False, True)]
    data = _data("measured", {**known.measured, "exhibits": rows[0]})
    data += _data("cost", {**known.cost, "exhibits": rows[1]})
    cells = _cells(runs)
    body = [
        f"<header><h1>{TITLE}</h1>{_summary(runs)}{_suites(runs, about or {})}</header>",
        *(
            f'<section id="s{i}"><h2>{_safe(heading)}</h2>'
            f"{''.join(_exhibit(part) for part in parts)}</section>"
            for i, (heading, parts) in enumerate(sections)
        ),
        _listing("notes", "Left out", notes) if notes else "",
        _listing("protocol", "Protocol", PROTOCOL),
        _papers(runs, papers),
        cells,
    ]
    policy = (
        f"default-src 'none'; img-src data:; script-src '{_digest(script)}'; "
        f"style-src '{_digest(looks)}'; base-uri 'none'; form-action 'none'"
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{TITLE}</title><style>{looks}</style></head><body>\n"
        + _contents([heading for heading, _ in sections], bool(notes))
        + "<main>\n"
        + "\n".join(part for part in body if part)
        + "\n</main>\n"
        + data
        + f"<script>{script}</script></body></html>\n"
    )


def _source(*names: str) -> str:
    return "\n" + "".join(Path(__file__).with_name(name).read_text("utf-8") for name in names)


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _data(name: str, values: Mapping[str, Any]) -> str:
    """Values as JSON that no name can break out of, and that holds no address to the letter."""
    text = json.dumps(values, separators=(",", ":"), allow_nan=False)  # ASCII: no U+2028 either
    text = text.replace("<", "\\u003c").replace("://", ":\\/\\/")
    return f'<script type="application/json" id="{name}">{text}</script>\n'


def _safe(text: object) -> str:
    """Escaped text, and never an address: a page that is offline points nowhere."""
    return escape(re.sub(r"\b[a-z][a-z0-9+.-]*://", "", str(text), flags=re.IGNORECASE))


def _said(text: str) -> str:
    """A sentence, safe, with `commands` set as such."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", _safe(text))


def _summary(runs: DataFrame) -> str:
    states = runs["state"].value_counts()
    told = [f"{states.get('done', 0)} of {len(runs)} cells finished"]
    told += [f"{states[s]} {s}" for s in ("diverged", "failed") if s in states]
    data = ", ".join(sorted(runs["data"].unique()))
    return (
        '<p class="lead">In each table one backbone, one subset and one recipe for every head. '
        f"{_safe(', '.join(told))}; "
        f"{runs['head'].nunique()} heads, {runs['seed'].nunique()} seeds, on {_safe(data)}.</p>"
    )


def _suites(runs: DataFrame, about: Mapping[str, str]) -> str:
    """What each suite asks; those that say nothing are named together."""
    names = sorted({n.strip() for text in runs["suites"] for n in text.split(",") if n.strip()})
    rows = [
        f"<dt>{_safe(name)}</dt><dd>{_safe(about[name]).replace(chr(10), '<br>')}</dd>"
        for name in names
        if about.get(name)
    ]
    silent = ", ".join(name for name in names if not about.get(name))
    told = f'<dl class="suites">{"".join(rows)}</dl>' if rows else ""
    return told + (f'<p class="look">Suites without a comment: {_safe(silent)}.</p>' * bool(silent))


def _contents(headings: Iterable[str], notes: bool) -> str:
    links = [f'<a href="#s{i}">{_safe(heading)}</a>' for i, heading in enumerate(headings)]
    links += ['<a href="#notes">Left out</a>'] if notes else []
    links += [
        '<a href="#protocol">Protocol</a>',
        '<a href="#papers">Papers</a>',
        '<a href="#cells">Every cell</a>',
    ]
    return f'<nav aria-label="Contents">{"".join(links)}</nav>'


def _exhibit(exhibit: Exhibit | str) -> str:
    if isinstance(exhibit, str):
        return f'<p class="look">{_said(exhibit)}</p>'
    if exhibit.figure is not None:
        image = base64.b64encode(prints(exhibit.figure).png).decode()
        shown = f'<img alt="{_safe(exhibit.title)}" src="data:image/png;base64,{image}">'
    else:
        shown = _table(exhibit)
    kind = ' class="cost"' if exhibit.cost else ""
    return (
        f'<article id="{_safe(exhibit.name)}"{kind}><h3>{_safe(exhibit.title)}</h3>'
        f'<p class="look">{_said(exhibit.look)}</p>'
        f"<figure>{shown}<figcaption>{_said(exhibit.caption)}</figcaption></figure></article>"
    )


def _table(exhibit: Exhibit) -> str:
    table, marks = exhibit.table, exhibit.marks
    texts = table.astype(str)
    wordy = [' class="words"' if texts[n].str.len().max() > LONG else "" for n in texts]
    judged = [str(name).lower() == "verdict" for name in table.columns]
    inks = [[""] * len(judged)] * len(texts) if marks is None else marks.to_numpy().tolist()
    blocks = list(table[exhibit.block]) if exhibit.block in table else [None] * len(texts)
    head = "".join(f'<th scope="col">{_safe(name)}</th>' for name in table.columns)
    rows = []
    for nth, (row, marked) in enumerate(zip(texts.to_numpy().tolist(), inks, strict=True)):
        opens = ' class="block"' if nth and blocks[nth] != blocks[nth - 1] else ""
        cells = (
            f"<td{wide}>{_verdict(text) if verdict else _marked(text, mark)}</td>"
            for text, mark, wide, verdict in zip(row, marked, wordy, judged, strict=True)
        )
        rows.append(f"<tr{opens}>{''.join(cells)}</tr>")
    return (
        f'<div class="wide" tabindex="0" role="region" aria-label="{_safe(exhibit.title)}">'
        f'<table class="exhibit{" judged" * any(judged)}">'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _marked(text: str, mark: str) -> str:
    found = JUDGED.fullmatch(text)
    if found:  # a difference and what it comes to: '+0.4 [−0.1, +0.9] reproduced'
        number, word = found[1] or found[3] or "", found[2] or found[4]
        return _safe(number) + _verdict(word)
    if not mark:
        return _said(text)
    first, space, rest = text.partition(" ")
    return f"<{TAGS[mark]}>{_safe(first)}</{TAGS[mark]}>{space}{_safe(rest)}"


def _verdict(text: str) -> str:
    """'not comparable: other epochs' -> its word in a frame, and what is said beside it."""
    word, mark, rest = re.match(r"([^:;,(]*)([:;,]?)(.*)", text, re.DOTALL).groups()
    word = word.strip()
    if not word or word == ink.NOTHING:
        return _said(text)
    known = (tone for tone, words in TONES.items() if word.lower().startswith(words))
    told = f" {_said(rest.strip())}" if rest.strip() else ""
    return f'<span class="verdict {next(known, "open")}">{_safe(word)}</span>{told}'


def _listing(name: str, heading: str, sentences: Sequence[str]) -> str:
    items = "".join(f"<li>{_said(sentence)}</li>" for sentence in sentences)
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
    unsaid = geometric(runs) | (runs["state"] != "done")
    runs = runs.assign(accuracy=runs["accuracy"].mask(unsaid))
    shown = [each for each in CELLS if runs[each[1]].notna().any()]
    head = "".join(
        f'<th scope="col"{" class=wordy" * (len(heading) > 20)}>{_safe(heading)}</th>'
        for heading, _, _ in shown
    )
    columns = [[_value(v, column, show) for v in runs[column]] for _, column, show in shown]
    rows = "".join(
        f'<tr id="cell-{key}"><td><a href="#cell-{key}">{_safe(label)}</a></td>{"".join(texts)}'
        "</tr>\n"
        for key, label, texts in zip(
            map(_safe, runs["key"]), runs["label"], zip(*columns, strict=True), strict=True
        )
    )
    return (
        '<section id="cells"><h2>Every cell</h2><p class="look">One row is one training. Open a '
        "cell for its settings, curves, accuracy by class, cost and origin.</p><noscript>"
        '<p class="look">Without script this table stands as it is; costs are in cost.csv.</p>'
        '</noscript><div class="wide" tabindex="0" role="region" aria-label="Every cell">'
        '<table class="cells"><thead><tr>'
        f'<th scope="col">cell</th>{head}</tr>'
        f"</thead><tbody>\n{rows}</tbody></table></div></section>"
    )


def _value(value: Any, column: str, show: Callable[[Any], str]) -> str:
    if pd.isna(value) or value == "":
        return f"<td>{ink.NOTHING}</td>"
    return f"<td>{_safe(show(value))}</td>"
