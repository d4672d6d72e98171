"""Tables as LaTeX for any installation: booktabs and graphicx, ASCII, every name escaped."""

import unicodedata
from collections.abc import Sequence

from pandas import DataFrame

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
\begin{document}
%s
\end{document}
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
