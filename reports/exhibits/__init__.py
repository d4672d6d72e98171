"""One function per table or figure: tidy frame of one setting -> Exhibit."""

from dataclasses import dataclass

from matplotlib.figure import Figure
from pandas import DataFrame


@dataclass(frozen=True, slots=True, eq=False)
class Exhibit:
    """A finding, ready for print, page, terminal and re-use.

    name     file name without ending: lower-case letters, digits, hyphens
    title    what it shows
    look     one sentence saying what to look for
    table    display strings, per cent, as they are printed; None for a figure
    latex    the table as a fragment to input after booktabs and graphicx; None for a figure
    csv      the same numbers as plain CSV, fractions in [0, 1]
    figure   the figure; None for a table
    caption  protocol, number of seeds, what ± and the marks mean; plain text
    marks    same shape as table: '', 'bold' or 'underline' for the first word of a cell
    block    column of the table whose values part it into blocks of rows
    cost     shows what belongs to the machine, so that it differs where cells are trained again
    """

    name: str
    title: str
    look: str
    table: DataFrame | None
    latex: str | None
    csv: str
    figure: Figure | None
    caption: str = ""
    marks: DataFrame | None = None
    block: str = "ratio"
    cost: bool = False
