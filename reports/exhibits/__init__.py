"""One function per table or figure: tidy frame of one setting -> Exhibit."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from matplotlib.figure import Figure
from pandas import DataFrame

from reports.evidence import Evidence


@dataclass(frozen=True, slots=True)
class Prints:
    """A figure as it is printed: the bytes of a PNG and of a PDF."""

    png: bytes
    pdf: bytes


@dataclass(frozen=True, slots=True, eq=False)
class Exhibit:
    """A finding, ready for print, page, terminal and re-use.

    name     file name without ending: lower-case letters, digits, hyphens
    title    what it shows
    look     one sentence saying what to look for
    table    display strings, per cent, as they are printed; None for a figure
    latex    the table as a fragment to input after booktabs and graphicx; None for a figure
    csv      the same numbers as plain CSV, fractions in [0, 1]: `id` first, the cells' `keys` last
    figure   the figure, or its prints where it was made elsewhere; None for a table
    caption  protocol, number of seeds, what ± and the marks mean; plain text
    marks    same shape as table: '', 'bold' or 'underline' for the first word of a cell
    block    column of the table whose values part it into blocks of rows
    cost     shows what belongs to the machine, so that it differs where cells are trained again
    percent  columns of the csv that print has in per cent -> with how many decimals
    ids      same shape as table: the id of the row of the csv that each cell shows, '' for none
    """

    name: str
    title: str
    look: str
    table: DataFrame | None
    latex: str | None
    csv: str
    figure: Figure | Prints | None
    caption: str = ""
    marks: DataFrame | None = None
    block: str = "ratio"
    cost: bool = False
    percent: Mapping[str, int] = field(default_factory=dict)
    ids: DataFrame | None = None


@dataclass(frozen=True, slots=True)
class Item:
    """One table or figure of a paper.

    name     as in print: 'Table 1', 'Figure 2a'
    section  of the paper that discusses it
    what     what it shows
    command  what makes its cells
    make     (runs, printed, evidence) -> exhibits, none where cells are lacking
    """

    name: str
    section: str
    what: str
    command: str
    make: Callable[[DataFrame, DataFrame, Evidence | None], list[Exhibit]]


def numbered(found: list[Exhibit]) -> list[Exhibit]:
    """The exhibits with names that are unique: the second of a name is '…-2'."""
    names = [exhibit.name for exhibit in found]
    times = [names[:nth].count(name) for nth, name in enumerate(names)]
    return [
        replace(exhibit, name=f"{exhibit.name}-{before + 1}") if before else exhibit
        for exhibit, before in zip(found, times, strict=True)
    ]
