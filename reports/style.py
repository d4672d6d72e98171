"""One colour, one marker, one dash and one place per head, in every exhibit.

Colours: Okabe and Ito, "Color Universal Design", 2008, as printed in Wong, "Points of view: Color
blindness", Nature Methods 8:441, 2011; without its yellow (lost on white), plus a grey.
Markers and dashes tell the same story to those who print in grey.
"""

import hashlib
import io
import re
from collections.abc import Iterable
from dataclasses import dataclass

import matplotlib
from matplotlib.figure import Figure

COLOURS = {
    "black": "#000000",
    "orange": "#E69F00",
    "sky": "#56B4E9",
    "green": "#009E73",
    "blue": "#0072B2",
    "red": "#D55E00",
    "pink": "#CC79A7",
    "grey": "#777777",
}
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p", "<", ">", "h", "d")
DASHES = ("-", "--", "-.", ":")
FILLS = ("full", "none", "left", "right", "bottom", "top")
"""Of the marker: tells the embedding lengths of one head apart, longest first."""


@dataclass(frozen=True, slots=True)
class Look:
    """How a head is drawn: colour (hex), marker and dashes (matplotlib's words)."""

    colour: str
    marker: str
    dashes: str


# The order is the order of rows and legends: learned, fixed, assigned, re-weighted, second stages.
KNOWN = {
    "psc": Look(COLOURS["black"], "o", "-"),
    "psc uniformity=0.01": Look(COLOURS["orange"], "s", "--"),  # stands for any weight
    "focal": Look(COLOURS["grey"], "v", "--"),
    "etf": Look(COLOURS["blue"], "s", "-"),
    "hpn": Look(COLOURS["green"], "^", "-"),
    "hpn placement=released": Look(COLOURS["green"], "v", "--"),
    "word2vec": Look(COLOURS["sky"], "v", "-."),
    "one_hot": Look(COLOURS["grey"], "p", ":"),
    "fixed": Look(COLOURS["sky"], "h", "--"),
    "fixed points=separation": Look(COLOURS["green"], "h", "-."),
    "fixed points=average_angle": Look(COLOURS["orange"], "v", "-."),
    "fixed points=random": Look(COLOURS["grey"], "o", ":"),
    "ebv": Look(COLOURS["green"], "X", ":"),
    "kasarla": Look(COLOURS["pink"], "<", "-."),
    "dl2pa": Look(COLOURS["red"], "D", "-"),
    "dl2pa assignment=fixed": Look(COLOURS["orange"], "d", "--"),
    "dl2pa prototypes=psc": Look(COLOURS["pink"], "d", "-"),
    "dnc": Look(COLOURS["pink"], "p", "-"),
    "goto": Look(COLOURS["blue"], "h", ":"),
    "logit_adjustment": Look(COLOURS["sky"], "P", "-"),
    "balanced_softmax": Look(COLOURS["orange"], "P", ":"),
    "ldam": Look(COLOURS["pink"], "^", "--"),
    "paco": Look(COLOURS["green"], "<", "--"),
    "ride": Look(COLOURS["red"], "X", "-."),
    "ncm": Look(COLOURS["grey"], "s", "-."),
    "psc > ncm": Look(COLOURS["pink"], "v", "-"),
    "psc > crt": Look(COLOURS["sky"], "D", "--"),
    "psc > tau_norm": Look(COLOURS["blue"], "P", "-."),
    "psc > prototypes": Look(COLOURS["green"], "o", "--"),
    "psc > max_norm": Look(COLOURS["orange"], ">", "-"),
    "psc > disalign": Look(COLOURS["red"], "<", ":"),
    "psc >> dro_lt > crt": Look(COLOURS["grey"], "X", "-"),
}

SETTINGS = {
    "pdf.fonttype": 42,  # TrueType: text in the figure stays text
    "svg.hashsalt": "classifier-heads-benchmark",
    "font.family": "DejaVu Sans",  # comes with matplotlib, so every machine draws the same
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.labelsize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "lines.linewidth": 1.3,
    "lines.markersize": 5.5,
    "savefig.dpi": 200,
    "figure.autolayout": False,  # a figure says itself how it is laid out
    "figure.constrained_layout.use": False,
}


def look(head: str) -> Look:
    """The look of a head, from its name alone; unknown names get one by hash, always the same.

    Black is left to psc, the baseline.
    """
    if head in KNOWN:
        return KNOWN[head]
    spot = int.from_bytes(hashlib.sha256(head.encode()).digest()[:8])
    spot, colour = divmod(spot, len(COLOURS) - 1)
    spot, marker = divmod(spot, len(MARKERS))
    return Look([*COLOURS.values()][1 + colour], MARKERS[marker], DASHES[spot % len(DASHES)])


def rank(head: str) -> tuple[int, bool, str]:
    """Sort key: the order of KNOWN, an unknown variant after its plain head, the others by name."""
    known = list(KNOWN)
    bare = re.sub(r"( >> | > |^)(\S+)[^>]*?(?= >> | > |$)", r"\1\2", head)
    near = next((name for name in (head, bare, head.split(" ")[0]) if name in KNOWN), "")
    return (known.index(near) if near in KNOWN else len(known), near != head, head)


def order(heads: Iterable[str]) -> list[str]:
    """The heads, each once, in the order that every table and legend keeps."""
    return sorted(set(heads), key=rank)


def plain(text: str) -> str:
    """Text that matplotlib draws as it stands: no mathematics in `$`, no label hidden by `_`."""
    text = text.replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text


def pdf(figure: Figure) -> bytes:
    """The figure as PDF, without date or program name: equal figures give equal bytes."""
    return _print(figure, "pdf", ("CreationDate", "Creator", "Producer"))


def png(figure: Figure) -> bytes:
    """The figure as PNG at 200 dots per inch, without the program's name."""
    return _print(figure, "png", ("Software",))


def _print(figure: Figure, form: str, unsaid: tuple[str, ...]) -> bytes:
    sink = io.BytesIO()
    with matplotlib.rc_context(SETTINGS):
        if figure.get_layout_engine() is not None:
            # laid out once: a constrained layout starts from the one before it, so that a second
            # print would differ; and none is left, not even "none", for which savefig draws twice
            figure.draw_without_rendering()
            figure.set_layout_engine(None)
        figure.savefig(sink, format=form, metadata=dict.fromkeys(unsaid))
    return sink.getvalue()
