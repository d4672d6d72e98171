"""Tables as LaTeX for any installation: booktabs and graphicx, ASCII, every name escaped.

What is written is read back: `contradictions` holds the numbers of a fragment against the data.
"""

import io
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence

import pandas as pd
from pandas import DataFrame, Series
from pandas.api.types import is_bool, is_number

from reports.exhibits import Exhibit

ESCAPES = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "_": r"\_",
    "%": r"\%",
    "&": r"\&",
    "#": r"\#",
    "$": r"\$",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    ">": "$>$",
    "<": "$<$",
    "|": "$|$",
    '"': "''",
    "±": r"$\pm$",
    "·": r"$\cdot$",
    "×": r"$\times$",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
    "→": r"$\to$",
    "†": r"$\dagger$",
    "−": "$-$",
    "–": "--",
    "—": "---",
    "’": "'",
    "‘": "`",
    "“": "``",
    "”": "''",
    "…": r"\ldots{}",
    "\n": " ",
}

MARKS = {"bold": r"\textbf{%s}", "underline": r"\underline{%s}"}

DOCUMENT = r"""\documentclass{article}
\usepackage{booktabs}
\usepackage{graphicx}
\usepackage{longtable}
\InputIfFileExists{numbers.tex}{}{}
\InputIfFileExists{cost/numbers.tex}{}{}
\begin{document}
%s
\end{document}
"""

MACROS = r"""% Every number of this report by its id, as it stands in print: accuracies in per cent.
%
%   \input{numbers.tex}                                      once, in the preamble
%   \finding{NAME-OF-EXHIBIT/ROW.COLUMN}                     in the text: the number
%
% The ids are those of the CSV files in tables/ and figures/: ROW is in their column id. An id that
% is not here is an error that names it. What belongs to a machine is in cost/numbers.tex. From a
% number to its cells:  python -m benchmark report --trace NAME-OF-EXHIBIT/ROW.COLUMN
\ifdefined\findingsof\else\newcount\findingsof\fi
\def\finding#1{\findingat#1//\relax}
\def\findingat#1/#2/#3\relax{\ifcsname\findingname{#1}{#2}\endcsname
  \csname\findingname{#1}{#2}\endcsname\else
  \PackageError{findings}{There is no finding '#1/#2'}{Its id is in the CSV files.}\fi}
\def\findingname#1#2{finding\ifcsname findings:#1\endcsname\csname findings:#1\endcsname\fi/#2}
\def\findings#1{\advance\findingsof 1
  \expandafter\edef\csname findings:#1\endcsname{\the\findingsof}}
\def\findingis#1#2{\expandafter\def\csname finding\the\findingsof/#1\endcsname{#2}}
"""


def escape(text: str) -> str:
    """Any text as LaTeX text in ASCII.

    Accents are dropped; a character that has no ASCII relative becomes a question mark.
    """
    return "".join(ESCAPES[c] if c in ESCAPES else _ascii(c) for c in text)


def fragment(
    table: DataFrame, marks: DataFrame, caption: str, label: str, *, block: str = ""
) -> str:
    r"""A table as a fragment to \input, after booktabs and graphicx.

    table: display strings, one column per column of print. marks: same shape, '', 'bold' or
    'underline', for the first word of a cell. caption: plain text. label: of \label, after 'tab:'.
    block: a column whose value opens a block of rows; it is printed once per block.
    """
    names = [*map(str, table.columns)]
    align = "".join("r" if name == "d" else "l" if i < 2 else "c" for i, name in enumerate(names))
    lines = [
        r"\begin{table}[htbp]",
        r"\centering",
        r"\setlength{\belowcaptionskip}{6pt}",  # the class expects captions below
        rf"\caption{{{escape(caption)}}}",
        rf"\label{{tab:{label}}}",
        r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
        rf"\begin{{tabular}}{{{align}}}",
        r"\toprule",
        _line(["$d$" if name == "d" else escape(name) for name in names]),
        r"\midrule",
        *_rows(table, marks, block),
        r"\bottomrule",
        r"\end{tabular}}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def figure(path: str, caption: str, label: str) -> str:
    r"""A figure float around a file that \includegraphics finds; caption is plain text."""
    lines = [
        r"\begin{figure}[htbp]",
        r"\centering",
        rf"\includegraphics[width=\linewidth]{{{path}}}",
        rf"\caption{{{escape(caption)}}}",
        rf"\label{{fig:{label}}}",
        r"\end{figure}",
    ]
    return "\n".join(lines) + "\n"


def document(parts: Sequence[str]) -> str:
    r"""A complete document around fragments; \clearpage keeps LaTeX's store of floats small."""
    return DOCUMENT % "\n\\clearpage\n".join(parts)


def macros(numbers: Mapping[str, Mapping[str, str]]) -> str:
    r"""A file that defines \finding{EXHIBIT/ROW.COLUMN} for every number.

    numbers: exhibit -> ROW.COLUMN -> the number as in print. TeX holds the letters of all names in
    a store of some six millions, so each exhibit's is written once.
    """
    lines = []
    for exhibit, mine in numbers.items():
        lines.append(rf"\findings{{{exhibit}}}")
        lines += [rf"\findingis{{{name}}}{{{escape(text)}}}" for name, text in mine.items()]
    return MACROS + "\n".join(lines) + "\n"


def numbers(fragment: str) -> list[list[tuple[str, ...]]]:
    """The numbers in the cells of a table, read back from its LaTeX: '62.1', '-0.35'.

    Rows of cells, headings left out; the names of heads and data hold numbers too.
    """
    body = fragment.split(r"\midrule", 1)[1].split(r"\bottomrule")[0]
    lines = [line for line in body.splitlines() if line.endswith(r" \\")]
    return [
        [_numbers(cell.replace("$-$", "−")) for cell in line.removesuffix(r" \\").split(" & ")]
        for line in lines
    ]


def contradictions(exhibit: Exhibit) -> list[str]:
    """Where the LaTeX of a table says other numbers than its display strings or its data.

    One sentence each, none if all is well. Every cell is held against the display string, and where
    the exhibit says which row of its data a cell shows, each number in it must be one of that row,
    but for what rounding hides.
    """
    if exhibit.latex is None or exhibit.table is None:
        return []
    table, found = exhibit.table, numbers(exhibit.latex)
    if len(found) != len(table) or {len(row) for row in found} - {len(table.columns)}:
        return [f"{exhibit.name} has {len(table)} rows, its LaTeX {len(found)} or torn ones"]
    data = pd.read_csv(io.StringIO(exhibit.csv), dtype={"id": str}).set_index("id")
    texts = table.to_numpy(object)
    ids = None if exhibit.ids is None else exhibit.ids.to_numpy(object)
    known: dict[str, list[float]] = {}
    told = []
    for row, read in enumerate(found):
        for column, mine in enumerate(read):
            text = str(texts[row, column])
            named = f"{exhibit.name}, row {row + 1}, column {table.columns[column]}"
            blank = table.columns[column] == exhibit.block and not mine  # printed once per block
            if not blank and mine != _numbers("".join(c if c == "−" else _ascii(c) for c in text)):
                told.append(f"{named}: {' '.join(mine)} in LaTeX where {text!r} is meant")
            name = "" if ids is None else ids[row, column]
            if name and name not in known:
                known[name] = _values(data.loc[name], exhibit.percent)
            for number in mine if name else ():
                if not _among(number, known[name]):
                    told.append(f"{named}: {number} is no number of {name}")
    return told


def _numbers(text: str) -> tuple[str, ...]:
    # a hyphen is no sign: ink writes −
    form = r"−?[0-9]+(?:\.[0-9]+)?(?:e[−+]?[0-9]+)?"
    return tuple(n.replace("−", "-") for n in re.findall(form, text))


def _values(row: Series, percent: Mapping[str, int]) -> list[float]:
    """What print may show of a row of the data."""
    known = [(n, v) for n, v in row.items() if is_number(v) and not is_bool(v) and not pd.isna(v)]
    return [100 * value if name in percent else float(value) for name, value in known]


def _among(number: str, values: Iterable[float]) -> bool:
    digits, _, power = number.partition("e")
    half = 0.5 * 10.0 ** (int(power or 0) - len(digits.partition(".")[2]))
    return any(abs(float(number) - value) <= half * (1 + 1e-6) for value in values)


def _rows(table: DataFrame, marks: DataFrame, block: str) -> list[str]:
    lines: list[str] = []
    before = None
    for (_, row), (_, ink) in zip(table.iterrows(), marks.iterrows(), strict=True):
        cells = [_cell(str(text), mark) for text, mark in zip(row, ink, strict=True)]
        if block:
            place = table.columns.get_loc(block)
            if row[block] == before:
                cells[place] = ""
            elif before is not None:
                lines.append(r"\midrule")
            before = row[block]
        lines.append(_line(cells))
    return lines


def _cell(text: str, mark: str) -> str:
    if not mark:
        return escape(text)
    first, space, rest = text.partition(" ")
    return MARKS[mark] % escape(first) + space + escape(rest)


def _line(cells: Sequence[str]) -> str:
    # a cell that starts with [ would be read as the optional argument of the \\ before it
    return " & ".join(f"{{}}{cell}" if cell.startswith("[") else cell for cell in cells) + r" \\"


def _ascii(character: str) -> str:
    if " " <= character <= "~":
        return character
    bare = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
    return "".join(ESCAPES.get(c, c) for c in bare if c.isprintable()) or "?"
